"""An edit as an adapter, merged, and as a checkpoint is one and the same model; a quantised o_proj is refused."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from thinkedit.artifacts.adapter import Adapter, write_adapter
from thinkedit.artifacts.checkpoint import Checkpoint, write_edited
from thinkedit.config import read_shape
from thinkedit.edit import make_edit
from thinkedit.errors import ThinkEditError

HEADS = [(0, 1), (2, 0), (2, 3)]


def made(base, strength=0.8):
    shape = read_shape(base)
    direction = torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(2))
    return make_edit(HEADS, direction, shape.head_dim, strength)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_adapter_merged_adapter_and_checkpoint_give_the_same_logits(checkpoint, tmp_path, architecture):
    base = checkpoint(architecture)
    edit = made(base)
    write_edited(base, edit, tmp_path / "edited")
    write_adapter(edit, Checkpoint(base).o_proj_weight, tmp_path / "adapter", str(base))
    ids = torch.arange(3, 43)[None] * 5 % 270

    def load(path):
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()

    with torch.no_grad():
        plain, edited = load(base)(ids).logits, load(tmp_path / "edited")(ids).logits
        adapted = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter")).eval()
        logits = adapted(ids).logits
        merged = adapted.merge_and_unload()(ids).logits
    assert (plain - edited).abs().max() > 0.01
    torch.testing.assert_close(logits, edited, atol=1e-4, rtol=0)
    torch.testing.assert_close(merged, edited, atol=1e-4, rtol=0)


def test_it_is_a_lora_of_rank_one_on_the_edited_layers(checkpoint, tmp_path):
    base = checkpoint("llama")
    write_adapter(made(base), Checkpoint(base).o_proj_weight, tmp_path, "owner/base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    wanted = {"r": 1, "lora_alpha": 1, "target_modules": ["o_proj"], "layers_to_transform": [0, 2], "bias": "none"}
    wanted |= {"layers_pattern": "layers", "base_model_name_or_path": "owner/base", "task_type": "CAUSAL_LM"}
    assert config.items() >= wanted.items()
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert {tuple(t.shape) for n, t in tensors.items() if "lora_A" in n} == {(1, 128)}
    assert {tuple(t.shape) for n, t in tensors.items() if "lora_B" in n} == {(64, 1)}
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    read = Adapter.read(tmp_path)
    assert sorted(read.factors) == [0, 2]
    assert not read.foreign


class TestTheCommand:
    def direction(self, base, path):
        shape = read_shape(base)
        save_file({"direction": torch.randn(shape.layers, shape.hidden)}, path / "d.safetensors", {"control": "attn"})
        return path / "d.safetensors"

    def test_it_writes_adapter_card_and_record(self, checkpoint, thinkedit, tmp_path):
        base = checkpoint("llama")
        given = ("--direction", self.direction(base, tmp_path), "--heads", "0:1,2:3")
        done = thinkedit("edit", "--adapter", "--model", base, "--out", tmp_path / "run", *given)
        assert done.code == 0, done.error
        assert "verify" in done.out
        assert "push" in done.out
        names = {path.name for path in (tmp_path / "run" / "adapter").iterdir()}
        assert names == {"adapter_config.json", "adapter_model.safetensors", "edit.json", "README.md", "reproduce.json"}
        card = (tmp_path / "run" / "adapter" / "README.md").read_text()
        assert "library_name: peft" in card
        assert "0:1, 2:3" in card
        readable = {path.name for path in (tmp_path / "run" / "adapter").iterdir() if path.stat().st_mode & 0o044 == 0o044}
        assert readable == names  # by the server's user too
        assert str(tmp_path) not in card + (tmp_path / "run" / "adapter" / "reproduce.json").read_text()

    def test_a_quantised_o_proj_is_refused_and_a_plain_one_is_not(self, checkpoint, thinkedit, tmp_path):
        base = shutil.copytree(checkpoint("llama"), tmp_path / "base")
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
        tensors = load_file(base / "model.safetensors")
        tensors["model.layers.1.self_attn.o_proj.qweight"] = tensors.pop("model.layers.1.self_attn.o_proj.weight").int()
        save_file(tensors, base / "model.safetensors", {"format": "pt"})
        where = ("--model", base, "--out", tmp_path / "run", "--direction", self.direction(base, tmp_path))
        refused = thinkedit("edit", "--adapter", *where, "--heads", "1:0")
        assert refused.code == 1
        assert "cannot be read exactly" in refused.error
        assert "UNQUANTISED" in refused.error
        assert thinkedit("edit", "--adapter", *where, "--heads", "0:0").code == 0
        plain = thinkedit("edit", *where, "--heads", "0:0")
        assert plain.code == 1
        assert "gptq" in plain.error
        assert "--adapter" in plain.error

    def test_it_has_nothing_to_link(self, checkpoint, thinkedit, tmp_path):
        base = checkpoint("llama")
        given = ("--direction", self.direction(base, tmp_path), "--heads", "0:1", "--model", base, "--out", tmp_path / "run")
        assert thinkedit("edit", "--adapter", "--link", *given).code == 2


def test_what_is_no_lora_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(ThinkEditError, match="no LoRA"):
        Adapter.read(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1}))
    with pytest.raises(ThinkEditError, match=r"no adapter_model\.safetensors"):
        Adapter.read(tmp_path)
