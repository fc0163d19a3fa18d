"""A steered checkpoint is the steered model for any engine: the same logits as steering while it runs, the same ids."""

import json
import shutil

import pytest
import torch
from random_models import make_checkpoint
from safetensors.torch import load_file, save_file
from test_checkpoint import shard
from transformers import AutoModelForCausalLM, AutoTokenizer

from thinkedit.artifacts.steered import write_steered
from thinkedit.artifacts.steered_tokenizer import PROBES
from thinkedit.config import read_shape
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.models import ModelSource

IDS = torch.arange(3, 43)[None] * 5 % 270
LLAMAS = ["llama", "llama-biases", "qwen2", "mistral"]


def source(path):
    return ModelSource(str(path), path)


def biases(path, controls=("attn", "mlp"), layers=(0, 2)):
    generator = torch.Generator().manual_seed(4)
    hidden = read_shape(path).hidden
    return {(layer, c): 0.3 * torch.randn(hidden, generator=generator).double() for layer in layers for c in controls}


@torch.no_grad()
def steered_logits(path, chosen):
    engine = TransformersEngine(source(path), [256], device="cpu")
    engine.steer(chosen)
    return engine.model(IDS, use_cache=False).logits


@torch.no_grad()
def logits(path):
    model, info = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()(IDS, use_cache=False).logits


@pytest.mark.parametrize("controls", [("attn",), ("mlp",), ("attn", "mlp")], ids="+".join)
@pytest.mark.parametrize("architecture", LLAMAS)
def test_it_gives_the_logits_of_the_steered_engine(checkpoint, tmp_path, architecture, controls):
    base = checkpoint(architecture)
    chosen = biases(base, controls)
    write_steered(source(base), chosen, tmp_path / "out")
    wanted = steered_logits(base, chosen)
    assert (wanted - steered_logits(base, None)).abs().max() > 0.05
    torch.testing.assert_close(logits(tmp_path / "out"), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", LLAMAS)
def test_the_ids_are_those_of_the_base_by_autotokenizer(checkpoint, tmp_path, architecture):
    base = checkpoint(architecture)
    write_steered(source(base), biases(base), tmp_path / "out", link=True)
    one, two = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in [*PROBES, "The 3 barrels' weight: 12,345.67kg\n\n<think>so</think>"]:
        assert one.encode(text) == two.encode(text)
    chat = [{"role": "user", "content": "What is 1 + 1?"}]
    assert one.apply_chat_template(chat, tokenize=False) == two.apply_chat_template(chat, tokenize=False)
    assert one.eos_token_id == two.eos_token_id


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "Qwen2TokenizerFast", "LlamaTokenizerFast", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_so_they_are_whatever_class_the_base_names(tmp_path, architecture, kind):
    base = make_checkpoint(tmp_path / "base", architecture)
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": kind}))
    write_steered(source(base), biases(base), tmp_path / "out")
    one, two = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in PROBES:
        assert one.encode(text) == two.encode(text)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "llama-biases"])
def test_links_cost_kilobytes_and_the_base_is_never_written(tmp_path, architecture, sharded):
    base = make_checkpoint(tmp_path / "base", architecture)
    if sharded:
        shard(base)
    before = {path.name: path.read_bytes() for path in base.iterdir()}
    chosen = biases(base)
    write_steered(source(base), chosen, tmp_path / "out", link=True)
    assert {path.name: path.read_bytes() for path in base.iterdir()} == before
    weights = [path for path in (tmp_path / "out").glob("*.safetensors") if path.name != "model-steering.safetensors"]
    if architecture == "llama":  # nothing of the base's is overwritten
        assert all(path.stat().st_nlink == 2 for path in weights)
    torch.testing.assert_close(logits(tmp_path / "out"), steered_logits(base, chosen), atol=1e-5, rtol=1e-5)
    names = [name for path in (tmp_path / "out").glob("*.safetensors") for name in load_file(path)]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert sorted(names) == sorted(index["weight_map"])  # every tensor once


def test_bfloat16_checkpoints_keep_the_vectors_unrounded(tmp_path):
    base = make_checkpoint(tmp_path / "base", "qwen2", dtype=torch.bfloat16)
    chosen = biases(base)
    write_steered(source(base), chosen, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), steered_logits(base, chosen), atol=1e-5, rtol=1e-5)


def change_config(path, **settings):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | settings))
    return path


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 123456.0}, "rms_norm_eps": 1e-3}),
        ("mistral", {"rope_parameters": None, "rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    ],
)
def test_rope_and_norm_settings_are_kept(tmp_path, architecture, settings):
    base = change_config(make_checkpoint(tmp_path / "base", architecture), **settings)
    if settings.get("rope_parameters", 1) is None:
        config = json.loads((base / "config.json").read_text())
        config.pop("rope_parameters")
        (base / "config.json").write_text(json.dumps(config))
    chosen = biases(base)
    write_steered(source(base), chosen, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), steered_logits(base, chosen), atol=1e-5, rtol=1e-5)


class TestRefusals:
    def test_what_is_no_llama_is_pointed_to_the_engine_that_can(self, checkpoint, tmp_path):
        base = checkpoint("qwen3")
        with pytest.raises(UsageError, match="--engine vllm"):
            write_steered(source(base), biases(base), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("architecture", "settings"),
        [("mistral", {"sliding_window": 4096}), ("qwen2", {"use_sliding_window": True, "sliding_window": 4096})],
    )
    def test_an_active_sliding_window(self, tmp_path, architecture, settings):
        base = change_config(make_checkpoint(tmp_path / "base", architecture), **settings)
        with pytest.raises(UsageError, match="sliding window of 4096"):
            write_steered(source(base), biases(base), tmp_path / "out")

    def test_quantised_models_and_foreign_directories(self, tmp_path):
        base = make_checkpoint(tmp_path / "base", "llama")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "precious").touch()
        with pytest.raises(ThinkEditError, match="not overwritten"):
            write_steered(source(base), biases(base), tmp_path / "mine")
        change_config(base, quantization_config={"quant_method": "awq"})
        with pytest.raises(ThinkEditError, match="awq"):
            write_steered(source(base), biases(base), tmp_path / "out")


class TestTheCommand:
    def files(self, base, path):
        shape = read_shape(base)
        vectors = torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(1))
        for control in ("attn", "mlp"):
            save_file({"direction": vectors}, path / f"{control}.safetensors", {"control": control})
        return vectors

    def test_it_writes_alpha_times_the_direction(self, checkpoint, thinkedit, tmp_path):
        base = checkpoint("qwen2")
        vectors = self.files(base, tmp_path)
        where = ("--model", base, "--out", tmp_path / "run", "--direction", tmp_path / "attn.safetensors")
        done = thinkedit("export", *where, "--steer", -0.25, "--control", "attn", "--layers", "1-2", "--to", tmp_path / "out")
        assert done.code == 0, done.error
        wanted = steered_logits(base, {(layer, "attn"): -0.25 * vectors[layer].double() for layer in (1, 2)})
        torch.testing.assert_close(logits(tmp_path / "out"), wanted, atol=1e-5, rtol=1e-5)
        assert json.loads((tmp_path / "out" / "steering.json").read_text())["alpha"] == -0.25
        assert "Steered" in (tmp_path / "out" / "README.md").read_text()
        again = thinkedit("export", *where, "--steer", 1, "--to", tmp_path / "out", "--link")
        assert again.code == 0, again.error

    @pytest.mark.parametrize(
        "options", [(), ("--gguf", "--steer", "1"), ("--steer", "1", "--layers", "each"), ("--gguf", "--link")]
    )
    def test_what_makes_no_sense_is_refused(self, checkpoint, thinkedit, tmp_path, options):
        base = checkpoint("qwen2")
        self.files(base, tmp_path)
        done = thinkedit(
            "export", "--model", base, "--out", tmp_path / "run", "--direction", tmp_path / "attn.safetensors", *options
        )
        assert done.code == 2, done.out


def test_the_genuine_tokenizer_is_left_as_it_is(checkpoint, tmp_path):
    base = shutil.copytree(checkpoint("llama"), tmp_path / "base")
    write_steered(source(base), biases(base), tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
