"""The short forward pass gives the numbers of the model's own code; its compiled parts those of plain loops in float64."""

import math

import pytest
import reference
import torch
from random_models import ARCHITECTURES, SIZES

from thinkedit.architecture import Decoder
from thinkedit.engines import kernels, step
from thinkedit.engines.attention import KeyValueCache
from thinkedit.engines.forward import OwnForward, ShortForward, make_forward
from thinkedit.engines.groups import Group, close_gaps
from thinkedit.loading import load_model
from thinkedit.models import ModelSource

compiled = pytest.mark.skipif(kernels.library() is None, reason="the package was installed without a compiler")


def decoder_of(path) -> Decoder:
    return Decoder(load_model(ModelSource(path.name, path), torch.device("cpu")))


def hidden_states(forward, rows: list[list[int]], prompts: list[int]) -> torch.Tensor:
    """The last hidden state of every row, its prompt read at once and the rest token by token."""
    heads, size = SIZES["num_key_value_heads"], 32
    lengths = torch.tensor(prompts)
    cache = forward.cache_type(SIZES["num_hidden_layers"], len(rows), heads, forward_head_dim(forward, size), torch.zeros(1))
    cache.resize(len(rows), max(map(len, rows)))
    ids = torch.zeros(len(rows), max(prompts), dtype=torch.long)
    for row, (tokens, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[row, :prompt] = torch.tensor(tokens[:prompt])
    cache.fill(torch.arange(len(rows)), lengths)
    forward(ids, torch.arange(max(prompts))[None], cache)
    hidden = torch.zeros(0)
    while bool((lengths < torch.tensor([len(tokens) for tokens in rows])).all()):
        cache.append(lengths, [Group(len(rows), int(lengths.max()))])
        last = torch.tensor([[tokens[at]] for tokens, at in zip(rows, lengths.tolist(), strict=True)])
        hidden = forward(last, lengths[:, None], cache)
        lengths = lengths + 1
    return hidden[:, 0]


def forward_head_dim(forward, default: int) -> int:
    return forward.layers[0].head_dim if isinstance(forward, ShortForward) else default


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("way", ["in one call", "layer by layer", "without a compiler"])
@torch.inference_mode()
def test_the_short_pass_gives_the_models_own_numbers(checkpoint, architecture, way, monkeypatch):
    if way == "layer by layer":
        monkeypatch.setattr(step, "SMALL", 0)
    if way == "without a compiler":
        monkeypatch.setattr(kernels, "library", lambda: None)
    path = checkpoint(architecture)
    model = reference.load(path, torch.float32)
    forward = make_forward(decoder_of(path))
    assert isinstance(forward, ShortForward)
    assert (forward.step is not None) == (way == "in one call" and kernels.library() is not None)
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(250, (length,), generator=generator).tolist() for length in (310, 290, 330)]
    found = hidden_states(forward, rows, [30, 10, 50])
    for row, tokens in enumerate(rows):
        wanted = model.model(torch.tensor([tokens])).last_hidden_state[0, -1]
        assert torch.allclose(found[row], wanted, atol=2e-4)


@compiled
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
@torch.inference_mode()
def test_in_one_call_a_rows_numbers_do_not_depend_on_the_rows_beside_it(checkpoint, architecture):
    forward = make_forward(decoder_of(checkpoint(architecture)))
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(20, 90, (75,), generator=generator).tolist()
    rows = [torch.randint(250, (size + 5,), generator=generator).tolist() for size in sizes]
    together = hidden_states(forward, rows, sizes)
    for row in (0, 1, 31, 32, 74):
        assert torch.equal(hidden_states(forward, rows[row : row + 1], sizes[row : row + 1])[0], together[row])


def test_the_modules_keep_their_weights_as_views(checkpoint):
    path = checkpoint("qwen2")
    decoder = decoder_of(path)
    before = {name: value.clone() for name, value in decoder.model.state_dict().items()}
    forward = make_forward(decoder)
    assert isinstance(forward, ShortForward)
    after = decoder.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    stacked = forward.layers[0].qkv_weight
    assert {getattr(decoder.layers[0].self_attn, f"{name}_proj").weight.untyped_storage().data_ptr() for name in "qkv"} == {
        stacked.untyped_storage().data_ptr()
    }


@pytest.mark.parametrize("change", ["rope", "activation"])
def test_a_decoder_that_differs_runs_its_own_code(checkpoint, change):
    decoder = decoder_of(checkpoint("llama"))
    if change == "rope":
        decoder.body.rotary_emb.rope_type = "dynamic"
    else:
        decoder.layers[1].mlp.act_fn = torch.nn.GELU()  # the configuration still says silu: only the numbers show it
    assert isinstance(make_forward(decoder), OwnForward)


@compiled
@pytest.mark.parametrize(
    ("heads", "key_value_heads", "head_dim"), [(8, 2, 32), (7, 1, 16), (6, 6, 64), (5, 1, 128), (12, 2, 256)]
)
@pytest.mark.parametrize("window", [None, 1, 40, 300])
def test_compiled_attention_is_attention(heads, key_value_heads, head_dim, window):
    generator = torch.Generator().manual_seed(heads)
    positions = [0, 15, 16, 255, 256, 600]
    rows, capacity = len(positions), 608
    cache = kernels.BlockedCache(1, rows, key_value_heads, head_dim, torch.zeros(1))
    cache.resize(rows, capacity)
    key = torch.randn(rows, key_value_heads, capacity, head_dim, generator=generator)
    value = torch.randn(rows, key_value_heads, capacity, head_dim, generator=generator)
    cache.store_keys(0, torch.arange(rows), key)
    cache.values[0].copy_(value)
    cache.append(torch.tensor(positions), [Group(rows, max(positions))])
    qkv = torch.randn(rows, heads + 2 * key_value_heads, head_dim, generator=generator)
    angles = torch.rand(capacity, head_dim // 2, generator=generator)
    turns = torch.stack([angles.cos().repeat(1, 2), torch.cat([-angles.sin(), angles.sin()], -1)])[:, :, None]
    found = cache.attend_turned(0, qkv, turns, heads, head_dim**-0.5, window)

    def turned(vector, position):
        half, cos, sin = head_dim // 2, angles[position].cos().double(), angles[position].sin().double()
        a, b = vector[:half].double(), vector[half:].double()
        return torch.cat([a * cos - b * sin, b * cos + a * sin])

    for row, position in enumerate(positions):
        for head in range(heads):
            shared = head // (heads // key_value_heads)
            first = 0 if window is None else max(0, position - window + 1)
            keys = key[row, shared, first:position].double()
            keys = torch.cat([keys, turned(qkv[row, heads + shared], position)[None]])
            values = torch.cat([value[row, shared, first:position], qkv[row, heads + key_value_heads + shared][None]]).double()
            query = turned(qkv[row, head], position)
            scores = [float(query @ one) / math.sqrt(head_dim) for one in keys]
            weights = [math.exp(score - max(scores)) for score in scores]
            wanted = sum(weight * one for weight, one in zip(weights, values, strict=True)) / sum(weights)
            assert torch.allclose(found[row, head].double(), wanted, atol=1e-5)


@compiled
def test_compiled_norm_and_gate_are_what_they_say():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(70, 200, generator=generator), torch.randn(200, generator=generator)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    assert torch.allclose(kernels.norm(x, weight, 1e-6).double(), exact, atol=1e-5)
    wide = 30 * torch.randn(70, 202, generator=generator)
    left, right = wide.double().chunk(2, -1)
    assert torch.allclose(kernels.gate(wide).double(), left / (1 + (-left).exp()) * right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache_type", [KeyValueCache, kernels.BlockedCache])
def test_rows_keep_what_they_hold_when_others_end_and_come_and_the_cache_changes_its_size(cache_type):
    """A cache is at all times that of its rows stored anew."""
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(20, 2, 20, 16, generator=generator)

    def store(cache, rows, numbers):
        cache.fill(torch.tensor(list(rows)), torch.full((len(rows),), 20))
        cache.attend(0, *(texts[list(numbers)] * sign for sign in (1, 1, -1)), 1.0, None)

    cache, held, fresh = cache_type(1, 8, 2, 16, torch.zeros(1)), list(range(8)), 8
    cache.resize(8, 20)
    store(cache, held, held)
    for ended, capacity in (([0, 3, 4], 20), ([6, 7], 50), ([1, 2, 5], 50), ([0], 60)):
        sources, targets, _ = close_gaps([Group(len(held), 20)], ended)
        if sources:
            cache.move(torch.tensor(sources), torch.tensor(targets), 20)
        places = dict(enumerate(held)) | {target: held[source] for source, target in zip(sources, targets, strict=True)}
        held = [places[row] for row in range(8 - len(ended))]
        cache.resize(8, capacity)
        store(cache, range(len(held), 8), range(fresh, fresh + 8 - len(held)))
        fresh, held = fresh + 8 - len(held), [*held, *range(fresh, fresh + 8 - len(held))]
    cache.resize(5, 64)
    anew = cache_type(1, 5, 2, 16, torch.zeros(1))
    anew.resize(5, 64)
    store(anew, range(5), held[:5])
    assert torch.equal(cache.keys[0], anew.keys[0])
    assert torch.equal(cache.values[0], anew.values[0])
