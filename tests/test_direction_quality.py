"""A direction that points nowhere is flagged with a number, at the rate that is promised, and one that is there is not."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from thinkedit.direction_quality import LEVEL, SHUFFLES, direction_quality, warning
from thinkedit.directions import Split


def sides(short, long):
    return Split(np.arange(short), np.arange(short, short + long), "")


def made(short, long, shift=0.0, scatter=1.0, layers=2, hidden=48, seed=0):
    """Activations [examples, layers, hidden] far from zero: the short ones scatter `scatter` times as much, the long ones
    lie `shift` away along one axis."""
    generator = np.random.default_rng(seed)
    means = generator.standard_normal((short + long, layers, hidden)) + 100
    means[:short] = 100 + (means[:short] - 100) * scatter
    means[short:, :, 0] += shift
    return means.astype(np.float32)


def lengths(short, long):
    return np.concatenate([np.full(short, 50), np.full(long, 2000)])


def quality(short, long, **how):
    return direction_quality(made(short, long, **how), sides(short, long), lengths(short, long))


def test_a_planted_direction_is_not_flagged():
    found = quality(40, 60, shift=4.0)
    assert found.flags == []
    assert warning(found.about(), "attn") is None
    assert found.p == 1 / (SHUFFLES + 1)
    assert found.times_noise > 2
    assert found.agreement > 0.7
    assert found.separation > 0.9


@pytest.mark.parametrize(("short", "long", "scatter"), [(30, 30, 1), (20, 120, 3), (120, 20, 3)])
def test_noise_passes_as_often_as_promised_however_the_sides_scatter(short, long, scatter):
    """Exactly LEVEL of the time, up to what 300 draws can tell: a binomial 4 standard deviations wide."""
    draws = 300
    passed = 0
    for seed in range(draws):
        means = made(short, long, scatter=scatter, seed=seed)
        passed += direction_quality(means, sides(short, long), lengths(short, long), shuffles=59).p <= LEVEL
    spread = 4 * np.sqrt(LEVEL * (1 - LEVEL) / draws)
    assert LEVEL - spread < passed / draws < LEVEL + spread


def test_noise_is_flagged_with_its_numbers():
    found = quality(30, 30, seed=1)
    assert any("no longer than noise" in flag and f"p = {found.p:.2g}" in flag for flag in found.flags)
    assert 0.8 < found.times_noise < 1.2
    assert abs(found.agreement) < 0.5
    assert 0.3 < found.separation < 0.7
    assert "the mlp direction is doubtful" in warning(found.about(), "mlp")


def test_it_is_the_same_every_time():
    assert quality(25, 35, shift=1.0) == quality(25, 35, shift=1.0)


def test_too_few_examples_are_flagged_and_single_ones_have_no_figures():
    few = quality(5, 60, shift=5.0)
    assert few.flags == ["only 5 short examples (20 are wanted)"]
    assert few.p is not None
    one = quality(60, 1, shift=5.0)
    assert one.flags == ["only 1 long example (20 are wanted)"]
    assert one.p is None
    assert json.loads(one.about()["quality"]) == {"short": 60, "long": 1}


def test_sides_that_overlap_or_are_alike_are_flagged():
    means, split = made(40, 40, shift=5.0), Split(np.arange(45), np.arange(40, 80), "")
    assert "5 examples count as both short and long" in direction_quality(means, split, lengths(40, 40)).flags
    alike = np.concatenate([np.full(40, 95), np.full(40, 105)])
    assert any("95 and 105 tokens" in flag for flag in direction_quality(means, sides(40, 40), alike).flags)


def test_layers_without_a_difference_are_named():
    means = made(30, 30, shift=5.0, layers=3)
    means[:, 1] = 7.0
    found = direction_quality(means, sides(30, 30), lengths(30, 30))
    assert found.flags == ["layer 1 without any difference"]
    assert found.layer_times_noise[1] == 1


def test_a_doubtful_direction_is_told_of_wherever_it_is_used(checkpoint, thinkedit, tmp_path):
    rows = [{"question": f"What is {i} + {i}?", "response": "so " * (3 + i) + "</think> 4"} for i in range(30)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = ("--model", checkpoint("qwen2"), "--out", tmp_path / "run")
    doubt = "the attn direction is doubtful: only 3 short examples"
    for command in (
        ("extract", "--responses", tmp_path / "r.jsonl"),
        ("steer", "--control", "attn", "--direction-weight", "0.5", "--dataset", "tiny", "--limit", 1, "--max-tokens", 4),
        ("heads",),
        ("edit", "--n-heads", 1),
        ("analyze",),
    ):
        done = thinkedit(command[0], *where, *command[1:])
        assert done.code == 0, done.error
        assert (doubt in " ".join(done.out.split())) == (command[0] != "analyze"), command
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["steps"]["extract"]["quality"]["attn"]
    assert kept["flags"][0] == "only 3 short examples (20 are wanted)"
    assert kept["p"] is not None
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["direction"]["quality"]["attn"] == kept
    with safe_open(tmp_path / "run" / "direction-attn.safetensors", "np") as file:
        assert "only 3 short examples" in file.metadata()["flags"]
