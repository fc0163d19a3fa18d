"""An edit on disk touches the bytes of the edited heads and nothing else, and appears whole or not at all."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest
import reference
import torch
from random_models import ARCHITECTURES, SIZES, make_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from thinkedit.artifacts.checkpoint import Checkpoint, write_edited
from thinkedit.artifacts.copying import PAGE, PIECE, copy_bytes, pieces
from thinkedit.config import read_shape
from thinkedit.edit import make_edit
from thinkedit.errors import ThinkEditError


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
    import thinkedit.artifacts.checkpoint as module

    monkeypatch.setattr(module, "share_left", lambda *_: 1 / 0)
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


def lie(weights, how):
    """Changes what the header says of one tensor, and leaves its length and the data."""
    data = weights.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    entry = header["model.layers.1.self_attn.o_proj.weight"]
    first, last = entry["data_offsets"]
    if how == "size":
        entry["shape"][0] //= 2
    else:
        entry["data_offsets"] = [0, last - first] if how == "overlap" else [first, -1]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    weights.write_bytes(data[:8] + text + data[8 + length :])


def broken(path, how):
    weights = path / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif how == "header":
        weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    elif how == "missing shard":
        index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    elif how in ("size", "overlap", "offsets"):
        lie(weights, how)
    elif how == "absent tensor":
        index = {"weight_map": {"a": "model.safetensors"}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    elif how == "strange index":
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": 3}}))
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
        ("absent tensor", "does not hold"),
        ("strange index", "cannot be read"),
        ("size", "the size that its shape says"),
        ("overlap", "on top of another"),
        ("offsets", "reaches outside"),
    ],
)
def test_broken_checkpoints_are_named(tmp_path, how, words):
    base = broken(make_checkpoint(tmp_path / "base", "llama"), how)
    with pytest.raises(ThinkEditError, match=words):
        Checkpoint(base)


def test_the_base_is_never_written(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    with pytest.raises(ThinkEditError, match="base model itself"):
        write_edited(base, an_edit(base), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_weights_are_the_formula_rounded_once(tmp_path, dtype):
    """Head by head and column by column in float64, straight from the paper, then one conversion: bit for bit."""
    base = make_checkpoint(tmp_path / "base", "qwen3", dtype=dtype)
    shape = read_shape(base)
    direction = torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(5))
    edit = make_edit([(0, 3), (2, 0), (2, 1)], direction, shape.head_dim, 0.7)
    write_edited(base, edit, tmp_path / "out")
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out/model.safetensors")
    for layer, heads in {0: [3], 2: [0, 1]}.items():
        name = f"model.layers.{layer}.self_attn.o_proj.weight"
        wanted = reference.edited(before[name], direction[layer], heads, shape.head_dim, 0.7)
        assert torch.equal(after[name], wanted.to(dtype))


QUANTISED = {
    "gptq": {"quantization_config": {"quant_method": "gptq"}},
    "awq": {"quantization_config": {"quant_method": "awq"}},
    "fp8": {"quantization_config": {"quant_method": "fp8"}},
    "bitsandbytes": {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
}


@pytest.mark.parametrize("method", QUANTISED)
def test_quantised_checkpoints_are_refused_by_their_config(tmp_path, method):
    base = make_checkpoint(tmp_path / "base", "llama")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | QUANTISED[method]))
    with pytest.raises(ThinkEditError, match=f"quantised \\({method}.*\n.*--adapter"):
        write_edited(base, an_edit(base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["qweight", "weight_scale_inv", "dtype", "weight.absmax"])
def test_quantised_checkpoints_are_refused_by_their_tensors(tmp_path, kind):
    base = make_checkpoint(tmp_path / "base", "llama")
    tensors = load_file(base / "model.safetensors")
    stem = "model.layers.1.self_attn.o_proj."
    if kind == "dtype":
        tensors[f"{stem}weight"] = tensors[f"{stem}weight"].to(torch.float8_e4m3fn)
    else:
        tensors[f"{stem}{kind}"] = torch.zeros(4)
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ThinkEditError, match="quantised"):
        write_edited(base, an_edit(base), tmp_path / "out")
    assert not Checkpoint(base).plain_o_proj(1)
    assert Checkpoint(base).plain_o_proj(0)


def as_hub_cache(base, cache):
    """The directory as the hub's cache keeps it: a snapshot of links to blobs."""
    blobs, snapshot = cache / "models--o--m" / "blobs", cache / "models--o--m" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(base.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / str(number), snapshot))
    return snapshot


@pytest.mark.parametrize("link", [False, True])
def test_the_blobs_of_the_hub_cache_are_never_written(tmp_path, link):
    base = shard(make_checkpoint(tmp_path / "base", "llama"))
    snapshot = as_hub_cache(base, tmp_path / "cache")
    blobs = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("blobs/*")}
    write_edited(snapshot, an_edit(base, heads=((1, 0),)), tmp_path / "out", link=link)
    assert {path: path.read_bytes() for path in blobs} == blobs
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    shared = [path.name for path in (tmp_path / "out").iterdir() if path.stat().st_nlink > 1]
    written = Checkpoint(base).tensors["model.layers.1.self_attn.o_proj.weight"].file.name
    assert (len(shared) > 3 and written not in shared) if link else not shared


def test_unedited_weights_in_other_formats_do_not_travel(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "tools.jinja").write_text("{{ x }}")
    for name in ("consolidated.safetensors", "pytorch_model.bin", "model.gguf"):
        (base / name).write_bytes(b"unedited")
    write_edited(base, an_edit(base), tmp_path / "out")
    out = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert "additional_chat_templates/tools.jinja" in out
    assert not out & {"consolidated.safetensors", "pytorch_model.bin", "model.gguf"}


@pytest.mark.parametrize("past_cache", [True, False])
def test_a_copy_fills_all_but_the_gaps(tmp_path, monkeypatch, past_cache):
    if not past_cache:  # as on systems that have no such thing
        monkeypatch.delattr(os, "O_DIRECT", raising=False)
    content = random.Random(0).randbytes(2 * PIECE + 3 * PAGE + 77)
    gaps = [(PIECE - 3, 10), (5000, 7), (2 * PIECE, PAGE), (2 * PIECE + PAGE + 1, 1)]
    (tmp_path / "source").write_bytes(content)
    with (tmp_path / "target").open("wb") as target:
        target.truncate(len(content))
    for first, last in pieces(gaps, len(content)):
        copy_bytes(tmp_path / "source", tmp_path / "target", first, last)
    wanted = bytearray(content)
    for start, length in gaps:
        wanted[start : start + length] = bytes(length)
    assert (tmp_path / "target").read_bytes() == wanted


def test_a_base_that_shrinks_under_the_copy_is_named(tmp_path):
    (tmp_path / "source").write_bytes(bytes(PAGE))
    (tmp_path / "target").write_bytes(bytes(4 * PAGE))
    with pytest.raises(ThinkEditError, match="became shorter"):
        copy_bytes(tmp_path / "source", tmp_path / "target", 0, 4 * PAGE)


def write_for_ever(base, edit, out, ready):
    ready.set()
    while True:
        write_edited(base, edit, out)


def test_a_kill_at_any_moment_leaves_nothing_that_looks_finished(tmp_path):
    base = make_checkpoint(tmp_path / "base", "llama")
    edit = an_edit(base)
    write_edited(base, edit, tmp_path / "whole")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    place = tmp_path / "killed"
    generator, processes = random.Random(0), multiprocessing.get_context("fork")
    left = 0
    for _ in range(20):
        ready = processes.Event()
        child = processes.Process(target=write_for_ever, args=(base, edit, place / "out", ready))
        child.start()
        assert ready.wait(30)
        time.sleep(generator.uniform(0, 0.04))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        for directory in place.iterdir() if place.exists() else ():
            left += directory.name != "out"
            if (directory / "config.json").is_file():  # what a library would load is whole
                assert {path.name: path.read_bytes() for path in directory.iterdir()} == whole, directory
    assert left  # the kills did hit in the middle
    write_edited(base, edit, place / "out")
    assert [path.name for path in place.iterdir()] == ["out"]
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == whole


def test_the_leftovers_of_a_call_that_still_runs_stay(tmp_path):
    from thinkedit.files import whole_directory

    with whole_directory(tmp_path / "out") as first:
        (first / "a").touch()
        with whole_directory(tmp_path / "out") as second:
            (second / "b").touch()
        assert (first / "a").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_an_edit_on_disk_needs_no_torch():
    """It takes longer to load than a small model to copy, and as much memory as the edit may have."""
    code = "import sys, thinkedit.pipeline.edit, thinkedit.cli.editing; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
