"""Control vectors are a GGUF file that says exactly the mlp direction, as llama.cpp reads it."""

import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from thinkedit.artifacts.gguf import control_vectors, write_control_vectors
from thinkedit.errors import UsageError


def read_gguf(path):
    """Metadata and tensors by the format's specification."""
    data = path.read_bytes()
    assert data[:4] == b"GGUF"
    version, tensors, values = struct.unpack_from("<IQQ", data, 4)
    assert version == 3
    at = 24

    def text():
        nonlocal at
        size = struct.unpack_from("<Q", data, at)[0]
        at += 8 + size
        return data[at - size : at].decode()

    metadata, infos = {}, []
    for _ in range(values):
        key, kind = text(), struct.unpack_from("<I", data, at)[0]
        at += 4
        if kind == 8:
            metadata[key] = text()
        else:
            assert kind == 4
            metadata[key] = struct.unpack_from("<I", data, at)[0]
            at += 4
    for _ in range(tensors):
        name, (dimensions, size, kind, offset) = text(), struct.unpack_from("<IQIQ", data, at)
        assert (dimensions, kind) == (1, 0)
        assert offset % 32 == 0
        infos.append((name, size, offset))
        at += 24
    start = -(-at // 32) * 32
    return metadata, {name: np.frombuffer(data, "<f4", size, start + offset) for name, size, offset in infos}


def test_every_layer_but_the_first_is_a_direction(tmp_path):
    vectors = torch.randn(5, 37)
    write_control_vectors(tmp_path / "x.gguf", control_vectors(vectors, list(range(5))), "qwen2", 5)
    metadata, tensors = read_gguf(tmp_path / "x.gguf")
    assert metadata["general.architecture"] == "controlvector"
    assert metadata["controlvector.model_hint"] == "qwen2"
    assert metadata["controlvector.layer_count"] == 5
    assert list(tensors) == [f"direction.{layer}" for layer in range(1, 5)]
    for layer in range(1, 5):
        assert np.array_equal(tensors[f"direction.{layer}"], vectors[layer].numpy())


def test_the_gguf_package_reads_it(tmp_path):
    gguf = pytest.importorskip("gguf")
    vectors = torch.randn(3, 40)
    write_control_vectors(tmp_path / "x.gguf", control_vectors(vectors, [1, 2]), "llama", 3)
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.2"]
    assert np.array_equal(reader.tensors[1].data, vectors[2].numpy())


def test_layer_zero_alone_has_no_place():
    with pytest.raises(UsageError, match="layer 0"):
        control_vectors(torch.ones(3, 4), [0])


def test_the_command_says_what_it_leaves_out(checkpoint, thinkedit, tmp_path):
    base = checkpoint("llama")
    for control in ("attn", "mlp"):
        save_file({"direction": torch.randn(3, 64)}, tmp_path / f"{control}.safetensors", {"control": control})
    where = ("--model", base, "--out", tmp_path / "run")
    done = thinkedit("export", "--gguf", *where, "--direction", tmp_path / "mlp.safetensors", "--to", tmp_path / "x.gguf")
    assert done.code == 0, done.error
    assert "layer 0 is left out" in done.out
    assert list(read_gguf(tmp_path / "x.gguf")[1]) == ["direction.1", "direction.2"]
    refused = thinkedit("export", "--gguf", *where, "--control", "attn", "--direction", tmp_path / "attn.safetensors")
    assert refused.code == 2
    assert "between attention and MLP" in refused.error
    only = thinkedit("export", "--gguf", *where, "--layers", 0, "--direction", tmp_path / "mlp.safetensors")
    assert only.code == 2
