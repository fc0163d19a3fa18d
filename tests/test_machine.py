"""Which engine runs a model, and what is refused before anything loads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkedit.config import Shape
from thinkedit.errors import UsageError
from thinkedit.pipeline.machine import check_parallel, parallel_sizes


def shape(heads, key_values, layers=28):
    return Shape(layers, 1536, heads, key_values, 128, 151936, 131072)


@given(st.integers(1, 64), st.integers(1, 8))
def test_every_size_that_is_named_splits_the_heads_evenly(groups, key_values):
    sizes = parallel_sizes(shape(groups * key_values, key_values))
    assert 1 in sizes
    for size in sizes:
        assert (groups * key_values) % size == 0
        assert key_values % size == 0 or size % key_values == 0


def test_a_size_that_does_not_fit_names_those_that_do():
    with pytest.raises(UsageError, match=r"12 heads.*these sizes work: 1, 2, 4, 6, 12"):
        check_parallel(shape(12, 2), 8, 1)
    with pytest.raises(UsageError, match="1 to 28"):
        check_parallel(shape(12, 2), 2, 29)
    check_parallel(shape(40, 8), 8, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "openai"], "--base-url"),
        (["--served-model", "x"], "--engine openai"),
        (["--engine", "transformers", "--tensor-parallel-size", "2"], "--engine vllm"),
        (["--vllm", "--tensor-parallel-size", "3"], "these sizes work"),
        (["--engine", "sglang"], "sglang"),
    ],
)
def test_options_that_do_not_go_together(thinkedit, tmp_path, arguments, words):
    done = thinkedit("generate", "--limit", "1", "--out", str(tmp_path / "run"), *arguments)
    assert done.code == 2
    assert words in done.error
    assert not (tmp_path / "run").exists()


def test_vllm_that_is_not_installed_says_how_to_get_it(thinkedit, tmp_path):
    pytest.importorskip("torch")
    from importlib.util import find_spec

    if find_spec("vllm"):
        pytest.skip("it is installed")
    done = thinkedit("generate", "--limit", "1", "--vllm", "--out", str(tmp_path / "run"))
    assert done.code == 1
    assert "pip install" in done.error


@pytest.mark.parametrize("command", ["steer", "run"])
def test_a_server_is_not_steered(thinkedit, tmp_path, command):
    done = thinkedit(command, "--base-url", "http://127.0.0.1:9/v1", "--out", str(tmp_path / "run"))
    assert done.code == 2
    assert "--engine vllm" in done.error
    assert "thinkedit export --steer" in done.error
    assert not (tmp_path / "run").exists()
