"""The one pass, the directions, the head scores and the edit against the formulas written out in float64."""

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import ARCHITECTURES

from thinkedit.activations import compute_activations, make_example
from thinkedit.architecture import Decoder
from thinkedit.chat import Thought
from thinkedit.config import read_shape
from thinkedit.directions import Split, published_direction, split_by_length, thinking_direction
from thinkedit.edit import left_along, make_edit, random_direction, random_heads
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.heads import chosen_heads, head_contributions, rank_heads
from thinkedit.loading import load_model
from thinkedit.models import ModelSource

SPLIT = Split(np.array([0, 2, 5]), np.array([1, 3, 4]), "by hand")


def examples(count: int = 6):
    """Thoughts of several lengths behind prompts of several lengths; one opens only after two sampled tokens."""
    generator = torch.Generator().manual_seed(5)
    made = []
    for i in range(count):
        prompt = torch.randint(0, 250, (3 + 2 * i,), generator=generator).tolist()
        tokens = torch.randint(0, 250, (6 + 5 * (i % 4),), generator=generator).tolist()
        thought = Thought("closed", len(tokens) - 1, 2 if i == 4 else 0, len(tokens) - 1)
        made.append(make_example(i, prompt, tokens, thought))
    return made


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.fixture(params=ARCHITECTURES)
def both(request, checkpoint, tmp_path):
    """The fast path's activations beside the reference's states, for one architecture."""
    path = checkpoint(request.param)
    decoder = Decoder(load_model(ModelSource("m", path), torch.device("cpu")))
    activations = compute_activations(decoder, examples(), tmp_path / "activations.safetensors", {})
    model = reference.load(path)
    states = [reference.states(model, example.ids) for example in examples()]
    means = [
        tuple(reference.window_mean(part, example.window.start, example.window.stop) for part in state)
        for example, state in zip(examples(), states, strict=True)
    ]
    return activations, model, means, read_shape(path)


def test_window_means_directions_and_scores_follow_the_formulas(both):
    activations, model, means, shape = both
    short, long = ([means[i] for i in side] for side in (SPLIT.short, SPLIT.long))
    found = {}
    for control, part, array in (("attn", 0, activations.mid), ("mlp", 1, activations.post)):
        for example, mean in enumerate(means):
            assert relative_error(torch.from_numpy(array[example].copy()), mean[part]) < 1e-5
        wanted = reference.direction([m[part] for m in long], [m[part] for m in short])
        found[control] = thinking_direction(array, SPLIT)
        assert relative_error(found[control], wanted) < 1e-5
    v = reference.direction([m[0] for m in long], [m[0] for m in short])
    wanted = reference.contribution(model, [m[2] for m in short], v, shape.head_dim)
    weight = [layer.self_attn.o_proj.weight.detach().float() for layer in model.model.layers]
    scores = head_contributions(activations.heads, SPLIT.short, weight.__getitem__, found["attn"], shape.head_dim)
    assert relative_error(scores, wanted) < 1e-5
    suppressed_long = head_contributions(
        activations.heads, SPLIT.long, weight.__getitem__, found["attn"], shape.head_dim, "long"
    )
    wanted_long = -reference.contribution(model, [m[2] for m in long], v, shape.head_dim)
    assert relative_error(suppressed_long, wanted_long) < 1e-5


def test_the_published_quirks_are_what_the_published_scripts_compute(checkpoint, tmp_path):
    """hidden_states[1:] with the last entry behind the final norm; every mean and the difference rounded to bfloat16."""
    path = checkpoint("qwen2")
    decoder = Decoder(load_model(ModelSource("m", path), torch.device("cpu")))
    found = compute_activations(decoder, examples(), tmp_path / "a.safetensors", {}, final_norm=True)
    model = reference.load(path, torch.float32)
    rows = []
    for example in examples():
        with torch.no_grad():
            states = model(torch.tensor([example.ids]), output_hidden_states=True, use_cache=False).hidden_states[1:]
        rows.append(torch.stack([state[0, example.window].mean(0) for state in states]).bfloat16())
    long, short = (torch.stack([rows[i] for i in side]).mean(0) for side in (SPLIT.long, SPLIT.short))
    wanted = (long - short).float()
    agree = published_direction(found.post, SPLIT) == wanted
    assert agree.float().mean() > 0.98  # the rest sits on a rounding edge of bfloat16
    assert torch.allclose(published_direction(found.post, SPLIT), wanted, atol=0.02)
    plain = thinking_direction(found.post, SPLIT)
    assert not torch.equal(plain, published_direction(found.post, SPLIT))


def test_an_interrupted_pass_goes_on_and_a_moved_threshold_computes_only_what_is_new(checkpoint, tmp_path):
    path = tmp_path / "activations.safetensors"
    decoder = Decoder(load_model(ModelSource("m", checkpoint("llama")), torch.device("cpu")))
    whole = compute_activations(decoder, examples(), tmp_path / "whole.safetensors", {"a": "1"})
    advanced: list[int] = []

    class Killed(Exception):
        pass

    def kill(count: int, *, kept: bool = False) -> None:
        advanced.append(count)
        if len(advanced) == 2:
            raise Killed

    import thinkedit.activations as module

    limit, module.BATCH_TOKENS = module.BATCH_TOKENS, {"cpu": 40}
    try:
        with pytest.raises(Killed):
            compute_activations(decoder, examples(), path, {"a": "1"}, advance=kill)
        assert not path.exists()
        read: list[int] = []
        hook = decoder.body.register_forward_pre_hook(lambda _m, args: read.append(args[0].shape[0]))
        resumed = compute_activations(decoder, examples(), path, {"a": "1"})
        assert 0 < sum(read) < len(examples())
        assert np.allclose(resumed.mid, whole.mid, rtol=1e-5, atol=1e-6)
        read.clear()
        compute_activations(decoder, examples(7), path, {"a": "1"})
        assert sum(read) == 1
        read.clear()
        compute_activations(decoder, examples(7), path, {"a": "2"})
        assert sum(read) == 7, "other settings must not take over old numbers"
        hook.remove()
    finally:
        module.BATCH_TOKENS = limit


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(2, 24),
    st.floats(0.1, 2.0),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.integers(0, 2**31),
)
def test_the_edit_is_the_projector_and_is_rank_one(heads, head_dim, hidden, strength, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(hidden, heads * head_dim, generator=generator).to(dtype)
    v = torch.randn(1, hidden, generator=generator)
    chosen = [h for h in range(heads) if torch.rand(1, generator=generator) < 0.6] or [0]
    edit = make_edit([(0, h) for h in chosen], v, head_dim, strength)
    wanted = reference.edited(weight, v[0], chosen, head_dim, strength)
    found = edit.edited(0, weight)
    ulp = torch.finfo(dtype).eps
    assert torch.allclose(found.double(), wanted, rtol=ulp, atol=1e-12 if dtype == torch.float64 else ulp)
    untouched = [h for h in range(heads) if h not in chosen]
    for h in untouched:
        assert torch.equal(found[:, h * head_dim : (h + 1) * head_dim], weight[:, h * head_dim : (h + 1) * head_dim])
    a, b = edit.low_rank(0, weight)
    assert torch.allclose(weight.double() + b @ a, wanted, atol=1e-12)


def test_a_full_edit_leaves_nothing_along_the_direction():
    weight, v = torch.randn(32, 64), torch.randn(1, 32)
    edit = make_edit([(0, 1), (0, 3)], v, 16)
    assert left_along(edit, 0, weight, edit.edited(0, weight)) < 1e-6
    half = make_edit([(0, 1)], v, 16, 0.5)
    assert left_along(half, 0, weight, half.edited(0, weight)) == pytest.approx(0.5, abs=1e-6)


def test_placebos_match_the_edit_in_number_and_in_norm():
    weights = {layer: torch.randn(32, 64) for layer in range(4)}
    direction = torch.randn(4, 32)
    edit = make_edit([(0, 1), (2, 3), (2, 0)], direction, 16)
    other = random_heads(edit, direction, 4, 4, seed=1)
    assert len(other.heads) == 3
    assert not set(other.heads) & set(edit.heads)
    assert random_heads(edit, direction, 4, 4, seed=1).heads == other.heads
    random = random_direction(edit, weights, seed=1)
    assert random.heads == edit.heads
    for layer in edit.layers:
        change = [float((e.edited(layer, weights[layer].double()) - weights[layer]).norm()) for e in (edit, random)]
        assert change[0] == pytest.approx(change[1], rel=1e-9)
        assert abs(edit.directions[layer] @ random.directions[layer]) < 0.9
    with pytest.raises(UsageError, match="too many"):
        random_heads(make_edit([(0, h) for h in range(4)] + [(1, 0)], direction, 16), direction, 2, 4, 0)


def test_heads_are_ranked_by_contribution_and_useless_ones_are_never_edited():
    ranking = rank_heads(torch.tensor([[0.5, -1.0], [2.0, 0.0]], dtype=torch.float64))
    assert [head for head, _ in ranking] == [(1, 0), (0, 0), (1, 1), (0, 1)]
    assert chosen_heads(ranking, 4) == [(1, 0), (0, 0)]
    with pytest.raises(ThinkEditError, match="nothing to edit"):
        chosen_heads([((0, 0), -1.0)], 1)


class TestSplit:
    def test_the_papers_thresholds_come_first(self):
        lengths = [50] * 25 + [500] * 10 + [1500] * 30
        split = split_by_length(lengths)
        assert (len(split.short), len(split.long)) == (25, 30)
        assert set(np.asarray(lengths)[split.short]) == {50}

    def test_quantiles_where_they_leave_a_side_thin(self):
        split = split_by_length(list(range(101, 301)))
        assert (len(split.short), len(split.long)) == (20, 20)
        assert "10%" in split.rule

    def test_given_thresholds_are_obeyed_or_an_error(self):
        assert len(split_by_length([5, 20, 30], short=10, long=25).long) == 1
        with pytest.raises(ThinkEditError, match="leave 0 short"):
            split_by_length([50, 60], short=10, long=55)
        with pytest.raises(UsageError, match="overlap"):
            split_by_length([50, 60], short=60, long=50)
        with pytest.raises(UsageError, match="not both"):
            split_by_length([50, 60], short=10, short_quantile=0.1)

    def test_no_thoughts_and_equal_thoughts_are_errors(self):
        with pytest.raises(ThinkEditError, match="not one closed"):
            split_by_length([])
        with pytest.raises(ThinkEditError, match="equally long"):
            split_by_length([200] * 50)
