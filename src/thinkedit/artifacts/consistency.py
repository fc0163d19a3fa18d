"""Whether a checkpoint's tensors are those that its config describes, and whether they hold numbers.

Loaded without this, a layer that is missing would be made up at random and a size that lies would be allocated.
"""

import re
from collections.abc import Iterator

import numpy as np

from thinkedit.artifacts.checkpoint import Checkpoint
from thinkedit.config import read_config, read_shape
from thinkedit.errors import ThinkEditError

LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.(self_attn|mlp)\.(\w+)\.weight$")
CHUNK = 1 << 24  # bytes
# Bits of the exponent, all of them set in infinities and NaN, by format: (how the numbers are read, mask).
EXPONENTS = {
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


def faults(checkpoint: Checkpoint) -> list[str]:
    """What of the checkpoint is not as its config says, a line each. Empty too where it is quantised or built otherwise."""
    if not checkpoint.o_proj or checkpoint.quantisation():
        return []
    shape, config = read_shape(checkpoint.directory), read_config(checkpoint.directory)
    text = config.get("text_config") or config
    inner, keys, wide = shape.heads * shape.head_dim, shape.key_value_heads * shape.head_dim, text.get("intermediate_size")
    wanted = {
        ("self_attn", "o_proj"): (shape.hidden, inner),
        ("self_attn", "q_proj"): (inner, shape.hidden),
        ("self_attn", "k_proj"): (keys, shape.hidden),
        ("self_attn", "v_proj"): (keys, shape.hidden),
        ("mlp", "down_proj"): (shape.hidden, wide),
        ("mlp", "up_proj"): (wide, shape.hidden),
    }
    found = []
    for name, place in checkpoint.tensors.items():
        match = LAYER.search(name)
        size = wanted.get((match[2], match[3])) if match else None
        if match and int(match[1]) >= shape.layers:
            found.append(f"it holds {name}, but the config says that there are {shape.layers} layers")
        elif name.endswith("embed_tokens.weight"):
            size = (shape.vocabulary, shape.hidden)
        if size and None not in size and place.shape != size:
            found.append(f"{name} is {'x'.join(map(str, place.shape))}, but the config says {size[0]}x{size[1]}")
    missing = sorted(set(range(shape.layers)) - set(checkpoint.o_proj))
    if missing:
        found.append(f"self_attn.o_proj.weight is missing in {len(missing)} of {shape.layers} layers (first: {missing[0]})")
    names = [name.rpartition("lm_head.")[2] for name in checkpoint.tensors if "lm_head." in name]
    if text.get("tie_word_embeddings", config.get("tie_word_embeddings")) is False and "weight" not in names:
        found.append("lm_head.weight is missing, and the config does not tie it to the embedding")
    return found


def check_whole(checkpoint: Checkpoint) -> None:
    """Raises ThinkEditError with the first fault."""
    if wrong := faults(checkpoint):
        more = f"\nand {len(wrong) - 1} more such faults" if len(wrong) > 1 else ""
        raise ThinkEditError(f"The weights in {checkpoint.directory} do not fit their config.json: {wrong[0]}.{more}")


def not_finite(checkpoint: Checkpoint) -> Iterator[tuple[str, int]]:
    """Tensors that hold infinities or NaN, and how many, read in pieces."""
    for name, place in checkpoint.tensors.items():
        if place.dtype in EXPONENTS:
            kind, mask = EXPONENTS[place.dtype]
            pieces = (np.frombuffer(piece, kind) for piece in checkpoint.chunks(name, CHUNK))
            count = sum(int(np.count_nonzero((piece & mask) == mask)) for piece in pieces)
            if count:
                yield name, count
