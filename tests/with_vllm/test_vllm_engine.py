"""vLLM against the transformers engine: the same greedy tokens, plain, steered and edited, with one load of the model."""

import pytest

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make vllm-env, then make test-vllm")

import torch
from random_models import SIZES, make_checkpoint
from transformers import Olmo2Config, Olmo2ForCausalLM

from thinkedit.artifacts.steered import write_steered
from thinkedit.config import read_shape
from thinkedit.edit import make_edit
from thinkedit.engines.base import Request, Sampling
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.engines.vllm import VllmEngine
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.models import ModelSource, find_model

MODELS = ("tiny", "llama", "llama-biases", "qwen2", "qwen3", "mistral")
GREEDY = Sampling(max_tokens=32, temperature=0.0, top_p=1.0)
PROMPTS = 64


@pytest.fixture(scope="module", params=MODELS)
def source(request, tmp_path_factory):
    if request.param == "tiny":
        return find_model("tiny")
    sizes = {"hidden_size": 128, "head_dim": 32}  # vLLM's CPU attention takes no smaller heads
    path = make_checkpoint(tmp_path_factory.mktemp("models") / request.param, request.param, sizes=sizes)
    return ModelSource(str(path), path)


def prompts(source):
    generator = torch.Generator().manual_seed(3)
    vocabulary = read_shape(source.path).vocabulary - 3
    return [
        Request(i, tuple((3 + torch.randint(vocabulary, (5 + i % 20,), generator=generator)).tolist()), seed=i)
        for i in range(PROMPTS)
    ]


def answers(engine, source, sampling=GREEDY):
    return {done.key: done.token_ids for done in engine.generate(prompts(source), sampling)}


def direction(source):
    shape = read_shape(source.path)
    return torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def same(left, right):
    return sum(left[key] == right[key] for key in left)


@pytest.fixture(scope="module")
def plain(source):
    return TransformersEngine(source, [])


@pytest.fixture(scope="module")
def base(plain, source):
    return answers(plain, source)


def steerings(source):
    v = direction(source)
    layers = range(v.shape[0])
    scale = 0.3 if source.name == "tiny" else 1.0
    return {
        "attn": {(layer, "attn"): scale * v[layer] for layer in layers},
        "attn backwards": {(layer, "attn"): -scale * v[layer] for layer in layers},
        "mlp": {(layer, "mlp"): scale * v[layer] for layer in layers},
        "one layer": {(1, "attn"): 3 * scale * v[1]},
    }


def test_greedy_tokens_equal_the_transformers_engines_unsteered_and_steered(source, plain, base):
    engine = VllmEngine(source, [], abilities=frozenset({"steering"}))
    try:
        assert same(answers(engine, source), base) >= PROMPTS - 1
        for name, biases in steerings(source).items():
            plain.steer(biases)
            wanted = answers(plain, source)
            engine.steer(biases)
            found = answers(engine, source)
            assert same(found, wanted) >= PROMPTS - 1, name
            assert same(found, base) <= PROMPTS // 2, name
        engine.steer(None)
        assert same(answers(engine, source), base) >= PROMPTS - 1
    finally:
        plain.steer(None)
        engine.close()


@pytest.mark.parametrize("edit_as", ["adapter", "checkpoint"])
def test_edits_and_doses_in_one_load_equal_the_transformers_engines(source, plain, base, edit_as):
    shape = read_shape(source.path)
    heads = [(layer, head) for layer in range(shape.layers) for head in range(shape.heads)]
    doses = [
        make_edit(heads, direction(source), shape.head_dim, 3.0),
        make_edit(heads[::2], direction(source), shape.head_dim, -6.0),
    ]
    engine = VllmEngine(source, [], abilities=frozenset({"editing"}), edit_as=edit_as)
    try:
        assert same(answers(engine, source), base) >= PROMPTS - 1
        for edit in doses:
            plain.apply(edit)
            wanted = answers(plain, source)
            engine.apply(edit)
            found = answers(engine, source)
            assert same(found, wanted) >= PROMPTS - 1
            assert same(found, base) <= PROMPTS // 2
        engine.apply(None)
        assert same(answers(engine, source), base) >= PROMPTS - 1
    finally:
        plain.apply(None)
        engine.close()


@pytest.mark.parametrize("source", [name for name in MODELS if name != "qwen3"], indirect=True)
def test_a_steered_checkpoint_is_the_steered_engine(source, plain, base, tmp_path):
    biases = steerings(source)["attn"] | steerings(source)["mlp"]
    write_steered(source, biases, tmp_path / "steered")
    plain.steer(biases)
    engine = VllmEngine(ModelSource("steered", tmp_path / "steered"), [])
    try:
        wanted, found = answers(plain, source), answers(engine, source)
        assert same(found, wanted) >= PROMPTS - 1
        assert same(found, base) <= PROMPTS // 2
        for request in prompts(source):
            torch.testing.assert_close(prompt_logprobs(engine, request), logprobs_of(plain, request), atol=1e-4, rtol=1e-4)
    finally:
        plain.steer(None)
        engine.close()


@torch.no_grad()
def logprobs_of(plain, request):
    """Log-probability of every token of the prompt but the first."""
    ids = torch.tensor([request.prompt_ids])
    logits = plain.model(ids, use_cache=False).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]


def prompt_logprobs(engine, request):
    """The same from vLLM."""
    from vllm import SamplingParams

    ids = list(request.prompt_ids)
    asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    (made,) = engine.llm.generate([{"prompt_token_ids": ids}], asked, use_tqdm=False)
    pairs = zip(ids[1:], made.prompt_logprobs[1:], strict=True)
    return torch.tensor([at[token].logprob for token, at in pairs])


@pytest.mark.parametrize("ability", ["steering", "editing"])
def test_a_model_whose_projections_do_not_reach_the_residual_stream_is_refused(tmp_path, ability):
    Olmo2ForCausalLM(Olmo2Config(**SIZES)).save_pretrained(tmp_path)  # a norm stands behind o_proj
    with pytest.raises(ThinkEditError, match=r"cannot be steered|built differently"):
        VllmEngine(ModelSource("olmo2", tmp_path), [], abilities=frozenset({ability}))


def test_an_architecture_that_vllm_does_not_know_is_refused(tmp_path):
    path = make_checkpoint(tmp_path / "new", "llama")
    config = (path / "config.json").read_text()
    (path / "config.json").write_text(config.replace("LlamaForCausalLM", "BrandNewForCausalLM"))
    with pytest.raises(ThinkEditError, match=r"BrandNewForCausalLM.*--engine transformers"):
        VllmEngine(ModelSource("new", path), [])


def test_seeds_alone_decide_what_is_sampled_and_caps_and_end_tokens_hold():
    source = find_model("tiny")
    engine = VllmEngine(source, [2])
    try:
        warm = Sampling(max_tokens=20, temperature=1.0)
        first, again = answers(engine, source, warm), answers(engine, source, warm)
        assert first == again
        short = Request("short", prompts(source)[0].prompt_ids, 0, max_tokens=3)
        done = list(engine.generate([short], Sampling(max_tokens=20, temperature=0.0, ignore_eos=True)))
        assert [len(done[0].token_ids), done[0].finish_reason] == [3, "length"]
        for completion in engine.generate(prompts(source), warm):
            assert (completion.token_ids[-1] == 2) == (completion.finish_reason == "stop")
        many = [Request(i, tuple([5] * 60), i) for i in range(200)]  # more than one step reads
        assert len(list(engine.generate(many, warm))) == 200
        too_long = Request("long", (5,) * 600, 0)
        with pytest.raises(ThinkEditError, match="600 tokens"):
            list(engine.generate([too_long], GREEDY))
        with pytest.raises(UsageError, match="steering"):
            engine.steer({(0, "attn"): torch.ones(128)})
    finally:
        engine.close()
