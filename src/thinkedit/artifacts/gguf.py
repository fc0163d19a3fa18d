"""Directions as llama.cpp control vectors: a GGUF file (version 3) of the architecture `controlvector`.

llama.cpp adds `scale * direction.N` to the residual stream at the end of the 0-based layer N, which is what steering
the MLP of layer N by alpha = scale does. It applies none at layer 0. It has no place between attention and MLP, so a
direction for attention cannot be said in this format.

    llama-cli -m model.gguf --control-vector-scaled direction.gguf 0.08

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from thinkedit.errors import UsageError
from thinkedit.files import whole_file

ALIGNMENT = 32
UINT32, STRING = 4, 8  # types of metadata values
F32 = 0  # the type of a tensor


def control_vectors(vectors: Tensor, layers: list[int]) -> dict[str, Tensor]:
    """The tensors of the file for `vectors` [layers, hidden]: those of `layers` that llama.cpp has a place for."""
    named = {f"direction.{layer}": vectors[layer].float().contiguous() for layer in layers if layer > 0}
    if not named:
        raise UsageError(
            "llama.cpp applies no control vector at layer 0, so there is nothing to write. Choose other layers (--layers), "
            "or write a steered checkpoint (thinkedit export --steer ALPHA), which can steer every layer."
        )
    return named


def write_control_vectors(path: Path, tensors: Mapping[str, Tensor], model_type: str, layer_count: int) -> None:
    """Writes `tensors` (float32 [hidden], named direction.N) with the model type and the number of layers as hints."""
    values = [
        _text("general.architecture") + _number(STRING) + _text("controlvector"),
        _text("controlvector.model_hint") + _number(STRING) + _text(model_type),
        _text("controlvector.layer_count") + _number(UINT32) + _number(layer_count),
        _text("general.alignment") + _number(UINT32) + _number(ALIGNMENT),
    ]
    infos, data = b"", b""
    for name, tensor in tensors.items():
        infos += _text(name) + _number(1) + struct.pack("<QIQ", tensor.numel(), F32, len(data))
        data += tensor.numpy().astype("<f4").tobytes()
        data += b"\0" * (-len(data) % ALIGNMENT)
    head = b"GGUF" + _number(3) + struct.pack("<QQ", len(tensors), len(values)) + b"".join(values) + infos
    with whole_file(path) as temporary:
        temporary.write_bytes(head + b"\0" * (-len(head) % ALIGNMENT) + data)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _number(value: int) -> bytes:
    return struct.pack("<I", value)
