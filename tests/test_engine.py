"""The engine gives what transformers gives, whatever else is in the batch; steering is a bias, an edit undoes itself."""

from collections import deque

import pytest
import reference
import torch
from random_models import ARCHITECTURES

from thinkedit.edit import make_edit
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import ThinkEditError
from thinkedit.models import ModelSource

END = 256


def engine_for(path, **options) -> TransformersEngine:
    return TransformersEngine(ModelSource(path.name, path), [END], device="cpu", **options)


def requests(count: int = 12) -> list[Request]:
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(2, 40, (count,), generator=generator).tolist()
    return [Request(i, tuple(torch.randint(0, 256, (n,), generator=generator).tolist()), i) for i, n in enumerate(sizes)]


def answers(engine, reqs, sampling) -> dict:
    return {c.key: (c.token_ids, c.finish_reason) for c in engine.generate(reqs, sampling)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_output_is_that_of_generate(checkpoint, architecture):
    path = checkpoint(architecture)
    model = reference.load(path, torch.float32)
    found = answers(engine_for(path, batch_size=5), requests(), Sampling(40, temperature=0))
    for request in requests():
        prompt = torch.tensor([request.prompt_ids])
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False)
        assert found[request.key][0] == out[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_a_completion_depends_on_its_own_request_alone(checkpoint, architecture):
    engine = engine_for(checkpoint(architecture))
    sampling = Sampling(60, temperature=1.0, top_p=0.95, top_k=50, repetition_penalty=1.1)
    together = answers(engine, requests(), sampling)
    engine.batch_size = 3
    assert answers(engine, requests()[::-1], sampling) == together
    alone = requests()[7]
    assert answers(engine, [alone], sampling)[7] == together[7]


def test_ends_are_told_apart(checkpoint):
    engine = engine_for(checkpoint("llama"))
    found = answers(engine, requests(40), Sampling(30, temperature=1.0, top_p=1.0))
    assert {reason for _, reason in found.values()} == {"stop", "length"}
    for tokens, reason in found.values():
        assert (tokens[-1] == END) == (reason == "stop")
        assert END not in tokens[:-1]
        assert len(tokens) == 30 or reason == "stop"
    ignoring = answers(engine, requests(40), Sampling(30, temperature=1.0, top_p=1.0, ignore_eos=True))
    assert all(len(tokens) == 30 for tokens, _ in ignoring.values())


def test_a_sliding_window_is_obeyed(tmp_path):
    from random_models import SIZES, byte_tokenizer
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    model = reference.load(tmp_path, torch.float32)
    found = answers(engine_for(tmp_path), requests(), Sampling(20, temperature=0, ignore_eos=True))
    for request in requests():
        ids = torch.tensor([[*request.prompt_ids, *found[request.key][0]]])
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0, len(request.prompt_ids) - 1 : -1]
        assert logits.argmax(-1).tolist() == found[request.key][0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("control", ["attn", "mlp"])
def test_steering_equals_a_hook_that_adds_the_vector(checkpoint, architecture, control):
    path = checkpoint(architecture)
    engine, model = engine_for(path), reference.load(path, torch.float32)
    vectors = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    ids = torch.tensor([requests()[3].prompt_ids])
    plain = model(ids).logits
    hooks = [
        (layer.self_attn if control == "attn" else layer.mlp).register_forward_hook(
            lambda _m, _a, out, v=vectors[i]: (out[0] + 0.7 * v, *out[1:]) if isinstance(out, tuple) else out + 0.7 * v
        )
        for i, layer in enumerate(model.model.layers)
    ]
    wanted = model(ids).logits
    for hook in hooks:
        hook.remove()
    engine.steer({(layer, control): 0.7 * vectors[layer] for layer in range(3)})
    assert torch.allclose(engine.model(ids, use_cache=False).logits, wanted, atol=1e-5)
    assert not torch.allclose(wanted, plain, atol=1e-2)
    engine.steer(None)
    assert torch.allclose(engine.model(ids, use_cache=False).logits, plain, atol=1e-5)


def test_an_edit_switches_on_and_off_without_a_trace(checkpoint):
    engine = engine_for(checkpoint("qwen2"))
    before = {name: value.clone() for name, value in engine.model.state_dict().items()}
    edit = make_edit([(0, 1), (2, 0), (2, 3)], torch.randn(3, 64), 16)
    engine.apply(edit)
    changed = {name for name, value in engine.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"model.layers.{layer}.self_attn.o_proj.weight" for layer in (0, 2)}
    engine.apply(make_edit([(1, 1)], torch.randn(3, 64), 16))
    engine.apply(None)
    assert all(torch.equal(value, before[name]) for name, value in engine.model.state_dict().items())


@pytest.mark.parametrize("start", [0, 5, 20, 25])
def test_out_of_memory_at_any_step_halves_the_batch_and_changes_nothing(checkpoint, monkeypatch, start):
    engine = engine_for(checkpoint("llama"), batch_size=8)
    sampling = Sampling(40, temperature=1.0)
    wanted = answers(engine, requests(), sampling)
    forward, calls = engine.forward, []

    class Starved:
        cache_type = forward.cache_type

        def __call__(self, ids, positions, cache):
            calls.append(ids.shape[0])
            if ids.shape[0] > 3 and len(calls) > start:
                raise torch.OutOfMemoryError("no more than three rows fit")
            return forward(ids, positions, cache)

    monkeypatch.setattr(engine, "forward", Starved())
    assert answers(engine, requests(), sampling) == wanted


def test_prompts_beyond_the_context_are_refused(checkpoint):
    engine = engine_for(checkpoint("llama"))
    with pytest.raises(ThinkEditError, match="context ends at 16384"):
        list(engine.generate([Request("long", (1,) * 16384, 0)], Sampling(5)))
    with pytest.raises(ThinkEditError, match="empty"):
        list(engine.generate([Request("none", (), 0)], Sampling(5)))


def test_requests_that_are_added_while_completions_come_are_answered_too(checkpoint):
    """That is how a cut thought gets its forced answer; what was asked first comes out the same."""
    engine = engine_for(checkpoint("llama"), batch_size=4)
    sampling = Sampling(30, temperature=1.0)
    alone = answers(engine, requests(), sampling)
    queue, found = deque(requests()), {}
    for done in engine.generate(queue, sampling):
        found[done.key] = (done.token_ids, done.finish_reason)
        if isinstance(done.key, int):
            queue.appendleft(Request(f"after {done.key}", (1, 2, 3, *done.token_ids), done.key, max_tokens=5))
    assert {key: value for key, value in found.items() if isinstance(key, int)} == alone
    later = {key: value for key, value in found.items() if isinstance(key, str)}
    assert len(later) == len(alone)
    assert all(len(tokens) == 5 or reason == "stop" for tokens, reason in later.values())


def test_rows_that_end_before_the_first_step_leave_their_neighbours_alone(checkpoint):
    """Their places are closed before the cache has seen a step; long prompts that came in with them are moved whole."""
    engine = TransformersEngine(ModelSource("random", checkpoint("llama")), [256], "cpu")
    short = [Request(n, (1, 2, 3), n, max_tokens=1 + n % 3) for n in range(12)]
    long = [Request(100 + n, tuple((7 * n + at) % 250 for at in range(120 + n)), n, max_tokens=8) for n in range(8)]
    found = []
    for rows in (1, 5, 20):
        engine.batch_size = rows
        found.append({done.key: done.token_ids for done in engine.generate([*short, *long], Sampling(8, temperature=0.0))})
    assert found[0] == found[1] == found[2]
