"""Fixtures that several test files share: random checkpoints, the real data, and the command line in this process."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")  # the models are small: more threads only wait for each other

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from random_models import make_checkpoint

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    if not DATA.is_dir():
        pytest.skip("the real data is not beside this checkout")
    return DATA


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A random checkpoint by the name of its architecture; the same directory at every call."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = make_checkpoint(tmp_path_factory.mktemp("models") / architecture, architecture)
        return made[architecture]

    return make


@dataclass
class Outcome:
    code: int
    out: str
    error: str


@pytest.fixture
def thinkedit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs the command line and gives exit code and output."""
    from thinkedit.cli import main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["thinkedit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call
