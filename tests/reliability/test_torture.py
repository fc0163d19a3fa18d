"""A few kills and full disks at some of the steps, as `make torture` and `make full-disk` do many; and the near-ties that
they let pass are near-ties."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from near_ties import noise_between
from torture import ACTIVATIONS, noise_in_activations

from thinkedit.artifacts import tensor_map
from thinkedit.engines.sampling import sample, uniform
from thinkedit.pipeline.generate import generate
from thinkedit.pipeline.run import Run
from thinkedit.records import Record

TORTURE, FULL_DISK = (str(Path(__file__).with_name(name)) for name in ("torture.py", "full_disk.py"))
OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]


def may_mount() -> bool:
    call = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(call, capture_output=True).returncode == 0


def test_killed_steps_end_as_if_nothing_had_happened():
    steps = ["generate", "extract", "edit", "evaluate", "import"]
    call = [sys.executable, TORTURE, "--kills", "2", "--seed", "0", "--steps", *steps]
    done = subprocess.run(call, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(steps)} kills in {len(steps)} steps" in done.stdout.splitlines()[-1]


@pytest.mark.skipif(not may_mount(), reason="no file system may be mounted here")
def test_steps_whose_disk_was_full_say_so_and_end_as_if_nothing_had_happened():
    steps = ["extract", "edit", "analyze"]
    call = [*OWN_MOUNTS, sys.executable, FULL_DISK, "--disks", "3", "--seed", "0", "--steps", *steps]
    done = subprocess.run(call, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^9 disks in 3 steps, [1-9] full,", done.stdout, re.MULTILINE), done.stdout


def test_of_answers_that_differ_only_near_ties_pass(tmp_path):
    """At a place where several tokens are likely: a draw beside the edge between two of them, and one far from any edge."""
    with Run("tiny", tmp_path / "run") as run:
        record = generate(run, limit=3)[1]
        decoder = run.engine("steering", "editing").decoder
        with torch.inference_mode():
            ids = torch.tensor([record.prompt_ids + record.token_ids])
            logits = decoder.head(decoder.body(ids, use_cache=False).last_hidden_state[0, len(record.prompt_ids) - 1 :])
        place = int(torch.softmax(logits / 0.6, -1).amax(-1).argmin())
        seeds = torch.arange(100_000)
        draws, order = uniform(seeds, torch.full_like(seeds, place)).sort()
        tokens = sample(logits[place].expand(len(seeds), -1), order, torch.full_like(order, place), run.sampling(1))
        (edge, *_) = (tokens[1:] != tokens[:-1]).nonzero().flatten().tolist()

        def answer(seed: int, token: int) -> Record:
            return replace(record, seed=int(seed), token_ids=[*record.token_ids[:place], int(token)])

        near, far = order[edge], order[edge // 2]
        assert draws[edge] - draws[edge // 2] > 1e-3
        one, other = answer(near, tokens[edge]), answer(near, tokens[edge + 1])
        assert noise_between(run, one, other) is not None
        assert noise_between(run, answer(far, tokens[edge]), answer(far, tokens[edge + 1])) is None
        assert noise_between(run, one, replace(other, question="another")) is None


@pytest.mark.parametrize(
    ("moved", "about", "passes"), [(1e-7, "x", True), (0, "x", False), (1e-3, "x", False), (1e-7, "y", False)]
)
def test_of_activations_that_differ_only_the_noise_of_a_pass_passes(tmp_path, moved, about, passes):
    numbers = np.random.default_rng(0).standard_normal((5, 2, 8)).astype(np.float32)
    for name, scale, said in (("one", 1, "x"), ("other", 1 + moved, about)):
        path = tmp_path / name / ACTIVATIONS
        path.parent.mkdir(parents=True)
        tensor_map.create(path, {"mid": ("F32", numbers.shape)}, {"model": said})
        arrays, _ = tensor_map.open_arrays(path, writable=True)
        arrays["mid"][:] = numbers * np.float32(scale)
        arrays["mid"].flush()
    assert noise_in_activations(tmp_path / "one", tmp_path / "other") == passes
