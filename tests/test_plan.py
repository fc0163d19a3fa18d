"""The planner: sizes from the config alone equal a model's own, layouts fit, and the command needs no torch."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkedit.config import Shape, read_config, read_shape
from thinkedit.errors import UsageError
from thinkedit.pipeline.defaults import REAL
from thinkedit.pipeline.machine import parallel_sizes
from thinkedit.pipeline.plan import read_sizes
from thinkedit.planning import CARDS, Assumptions, Device, asked_for, card_of, disk, layouts, speed, steps
from thinkedit.sizes import sizes_of

TAKE = Assumptions()


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "mistral"])
def test_parameters_and_cache_are_those_of_the_model(checkpoint, architecture):
    from thinkedit.artifacts.checkpoint import Checkpoint

    path = checkpoint(architecture)
    sizes = sizes_of(read_config(path), read_shape(path))
    stored = sum(place.shape[0] * place.shape[1] for place in Checkpoint(path).tensors.values() if len(place.shape) == 2)
    assert sizes.parameters == stored
    assert sizes.width == 4
    assert sizes.cache_bytes == 2 * 3 * 2 * read_shape(path).head_dim * 4


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("deepseek-qwen-1.5b", 1.78),
        ("deepseek-llama3-8b", 8.03),
        ("deepseek-qwen-14b", 14.77),
        ("ThinkEdit-deepseek-qwen-32b", 32.76),
        ("qwen3-1.7b", 1.72),
    ],
)
def test_named_models_have_the_size_that_is_published(name, billions):
    assert read_sizes(name).parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_mixture_of_experts_counts_all_experts_and_uses_few():
    config = {"intermediate_size": 100, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 50}
    sizes = sizes_of(config, Shape(1, 10, 1, 1, 10, 20, None))
    assert sizes.parameters == 10 * 10 * 4 + 3 * 10 * 8 * 50 + 2 * 200
    assert sizes.active == 10 * 10 * 4 + 3 * 10 * 2 * 50 + 200


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.integers(1, 16), st.floats(16e9, 200e9), st.sampled_from(["deepseek-qwen-1.5b", "deepseek-qwen-32b"]))
def test_every_layout_fits_and_the_first_is_the_fastest(gpus, memory, name):
    sizes, device = read_sizes(name), Device(memory, 312e12, 2e12)
    if sizes.weight_bytes + 16384 * sizes.cache_bytes > 0.9 * memory * gpus:
        with pytest.raises(UsageError, match="does not fit"):
            layouts(sizes, gpus, device, 16384, parallel_sizes(sizes.shape), TAKE)
        return
    ways = layouts(sizes, 1 << gpus.bit_length(), device, 16384, parallel_sizes(sizes.shape), TAKE)
    for way in ways:
        assert way.gpus <= 1 << gpus.bit_length()
        cache = way.cache_tokens * sizes.cache_bytes
        assert sizes.weight_bytes + cache <= 0.9 * memory * way.tensor * way.pipeline + 1
        assert way.cache_tokens >= 16384
    assert speed(sizes, ways[0], device, TAKE) == max(speed(sizes, way, device, TAKE) for way in ways)


def test_costs_grow_as_the_documentation_says():
    sizes, device = read_sizes("deepseek-qwen-1.5b"), CARDS["A100"]
    way = layouts(sizes, 1, device, 16384, [1], TAKE)[0]

    def evaluation(**changes):
        asked = asked_for(REAL, sizes.shape, ["gsm8k"], changes.get("questions"), changes.get("samples"), 1)
        return steps(sizes, asked, way, device, TAKE)[-1].gpu_hours

    assert evaluation(samples=20) == pytest.approx(2 * evaluation(samples=10))
    assert evaluation(questions=100) == pytest.approx(evaluation(questions=200) / 2)
    asked = asked_for(REAL, sizes.shape, (), None, None, None)
    assert asked.scanned == 2 * sizes.shape.layers * 100
    assert asked.steered == 2 * 17 * 200
    assert asked.evaluated == 4 * 10 * (1319 + 378 + 437 + 1324 + 500)
    assert disk(sizes, asked, TAKE)["activations"] == 500 * 4 * 28 * 3 * 1536


@pytest.mark.parametrize(
    ("memory", "card"), [(8e9, "T4"), (24e9, "A10"), (47e9, "A100 of 40 GB"), (80e9, "A100"), (200e9, "B200")]
)
def test_a_card_is_named_by_its_memory(memory, card):
    assert card_of(memory) == card


def test_more_gpus_than_key_value_heads_hold_them_several_times():
    sizes = read_sizes("deepseek-qwen-1.5b")  # two key-value heads
    ways = {way.tensor: way for way in layouts(sizes, 4, CARDS["A100"], 16384, [1, 2, 4], TAKE) if way.pipeline == 1}
    assert ways[2].cache_tokens == pytest.approx((0.9 * 160e9 - sizes.weight_bytes) / sizes.cache_bytes, rel=1e-6)
    assert ways[4].cache_tokens == pytest.approx((0.9 * 320e9 - sizes.weight_bytes) / sizes.cache_bytes / 2, rel=1e-6)


def test_as_many_questions_are_steered_as_are_asked_for():
    asked = asked_for(REAL, read_sizes("deepseek-qwen-1.5b").shape, (), 1000, None, None)
    assert asked.steered == 2 * 17 * 1000
    assert asked.scanned == 2 * 28 * 100


def test_the_command_needs_no_torch_and_speaks_json():
    code = (
        "import sys; sys.argv[1:] = ['plan', 'deepseek-qwen-32b', '--gpus', '8', '--gpu-memory', '80', '--json']\n"
        "from thinkedit.cli import main\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["layouts"][0]["tensor"] in (2, 4, 8)
    assert [step["name"] for step in plan["steps"]] == ["probe", "direction", "steering", "layer scan", "evaluation"]


def test_the_page_names_the_command_to_run(thinkedit):
    done = thinkedit("plan", "deepseek-qwen-32b", "--gpus", 8, "--gpu-memory", 80)
    assert done.code == 0
    assert "--tensor-parallel-size" in done.out
    assert "--ray" in done.out
    split = thinkedit("plan", "deepseek-qwen-32b", "--gpus", 8, "--gpu-memory", 24)
    assert "extract --model deepseek-qwen-32b --device cpu" in split.out  # one of these does not hold the weights
    refused = thinkedit("plan", "deepseek-qwen-32b", "--gpus", 1, "--gpu-memory", 24)
    assert refused.code == 2
    assert "does not fit" in refused.error
