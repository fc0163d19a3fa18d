"""An edit on disk touches the bytes of the edited heads and nothing else, and appears whole or not at all."""

import json
import shutil

import pytest
import torch
from random_models import ARCHITECTURES, SIZES, make_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from thinkedit.checkpoint import Checkpoint, write_edited
from thinkedit.edit import make_edit
from thinkedit.errors import ThinkEditError
from thinkedit.models import read_shape


def an_edit(path, heads=((0, 1), (2, 0), (2, 3))):
    shape = read_shape(path)
    direction = torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(2))
    return make_edit(heads, direction, shape.head_dim)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_the_edited_columns_change(tmp_path, architecture, dtype):
    base = make_checkpoint(tmp_path / "base", architecture, dtype=dtype)
    edit = an_edit(base)
    left = write_edited(base, edit, tmp_path / "out")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    assert set(left) == {0, 2}
    for name, tensor in before.items():
        layer = int(name.split(".")[2]) if ".o_proj.weight" in name else None
        wanted = edit.edited(layer, tensor) if layer in (0, 2) else tensor
        assert torch.equal(after[name], wanted), name
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.hidden_size == SIZES["hidden_size"]


def shard(path):
    """Splits a checkpoint into two files with an index."""
    tensors = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path / file, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_shards_are_edited_in_place_and_the_others_may_be_linked(tmp_path):
    single = make_checkpoint(tmp_path / "single", "llama")
    shutil.copytree(single, tmp_path / "sharded")
    sharded = shard(tmp_path / "sharded")
    edit = an_edit(single, heads=((1, 1),))
    write_edited(single, edit, tmp_path / "a")
    write_edited(sharded, edit, tmp_path / "b", link=True)
    wanted, found = load_file(tmp_path / "a/model.safetensors"), {}
    for file in (tmp_path / "b").glob("*.safetensors"):
        found |= load_file(file)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    written = Checkpoint(sharded).tensors["model.layers.1.self_attn.o_proj.weight"].file.name
    for file in sharded.iterdir():
        linked = (tmp_path / "b" / file.name).stat().st_ino == file.stat().st_ino
        assert linked == (file.name != written), file.name


def test_fingerprints_tell_checkpoints_apart(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    copy = shutil.copytree(base, tmp_path / "copy")
    assert Checkpoint(base).fingerprint() == Checkpoint(copy).fingerprint()
    write_edited(base, an_edit(base, heads=((0, 0),)), tmp_path / "edited")
    assert Checkpoint(base).fingerprint() != Checkpoint(tmp_path / "edited").fingerprint()


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    base = make_checkpoint(tmp_path / "base", "llama")
    import thinkedit.checkpoint as module

    monkeypatch.setattr(module, "left_along", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_edited(base, an_edit(base), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_directory_of_something_else_is_never_replaced(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").touch()
    for out in (tmp_path / "mine", tmp_path):
        with pytest.raises(ThinkEditError, match="not overwritten"):
            write_edited(base, an_edit(base), out)
    assert (tmp_path / "mine" / "precious").exists()
    write_edited(base, an_edit(base), tmp_path / "out")
    write_edited(base, an_edit(base), tmp_path / "out")


def broken(path, how):
    weights = path / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "header":
        weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    elif how == "missing shard":
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    elif how == "climbing shard":
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    return path


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "reaches outside"),
        ("header", "truncated"),
        ("missing shard", "missing"),
        ("climbing shard", "outside of its directory"),
    ],
)
def test_broken_checkpoints_are_named(tmp_path, how, words):
    base = broken(make_checkpoint(tmp_path / "base", "llama"), how)
    with pytest.raises(ThinkEditError, match=words):
        Checkpoint(base)


def test_the_base_is_never_written_and_quantised_models_are_refused(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    with pytest.raises(ThinkEditError, match="base model itself"):
        write_edited(base, an_edit(base), base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ThinkEditError, match="quantised"):
        write_edited(base, an_edit(base), tmp_path / "out")
