"""The compiled parts of a decoding step (kernels.c), and the cache that they work on. CPU and float32 alone.

Where the package was installed without a compiler, or a head has a size that the tiles do not fit, `fits` says no and
torch does the same work.
"""

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from thinkedit.engines.attention import KeyValueCache

LANES = 16  # positions in a block of keys
WIDEST = 256  # head_dim at most


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not built."""
    files = [Path(__file__).with_name(f"_kernels{suffix}") for suffix in EXTENSION_SUFFIXES]
    try:
        found = ctypes.CDLL(str(next(file for file in files if file.is_file())))
    except (StopIteration, OSError):
        return None
    size, number, pointer = ctypes.c_long, ctypes.c_float, ctypes.c_void_p
    found.attend.argtypes = [*[size] * 6, number, *[pointer] * 8]
    found.norm.argtypes = [size, size, number, *[pointer] * 3]
    found.gate.argtypes = [size, size, *[pointer] * 2]
    found.step.argtypes = [pointer, pointer, ctypes.c_int, size, size, *[pointer] * 7]
    for function in (found.attend, found.norm, found.gate, found.step):
        function.restype = None
    return found


def fits(like: Tensor, head_dim: int) -> bool:
    """Whether a decoder with weights like this one can be run by the compiled part."""
    return (
        like.device.type == "cpu"
        and like.dtype == torch.float32
        and head_dim % LANES == 0
        and head_dim <= WIDEST
        and library() is not None
    )


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm of `x` [rows, size], contiguous."""
    out = torch.empty_like(x)
    call("norm", x.shape[0], x.shape[1], eps, x, weight, out)
    return out


def gate(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, of [rows, 2 size], contiguous."""
    rows, size = gate_up.shape
    out = gate_up.new_empty(rows, size // 2)
    call("gate", rows, size // 2, gate_up, out)
    return out


class BlockedCache(KeyValueCache):
    """Keys in blocks of LANES positions, [rows, key_value_heads, blocks, head_dim, LANES] a layer.

    A row has a slot of its own in `keys` and `values`, `slots` [rows], and keeps it when it changes its number.
    """

    step = LANES

    def __init__(self, layers: int, rows: int, heads: int, head_dim: int, like: Tensor) -> None:
        super().__init__(layers, rows, heads, head_dim, like)
        self.slots = torch.arange(rows)

    def resize(self, rows: int, capacity: int) -> None:
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                tensors[layer] = old[self.slots[:rows]]
        super().resize(rows, capacity)
        self.slots = torch.arange(rows)

    def move(self, sources: Tensor, targets: Tensor, span: int) -> None:
        """Rows change numbers, not places: those that fall vacant get the slots of those that were written over."""
        before = self.slots.clone()
        self.slots[targets] = before[sources]
        self.slots[sources[~torch.isin(sources, targets)]] = before[targets[~torch.isin(targets, sources)]]

    def fill(self, rows: Tensor, sizes: Tensor) -> None:
        super().fill(self.slots[rows], sizes)

    def store_keys(self, layer: int, rows: Tensor, key: Tensor) -> None:
        blocks = -(-key.shape[2] // LANES)
        padded = pad(key, (0, 0, 0, blocks * LANES - key.shape[2]))
        self.keys[layer][rows, :, :blocks] = padded.unflatten(2, (blocks, LANES)).transpose(3, 4)

    def attend_turned(self, layer: int, qkv: Tensor, turns: Tensor, heads: int, scaling: float, window: int | None) -> Tensor:
        """What `attend` does for one new token a row, from `qkv` [rows, heads + 2 key_value_heads, head_dim] before the
        rotation; `turns` [2, positions, 1, head_dim] are its cosines and signed sines. Gives [rows, heads, head_dim]."""
        rows, _, head_dim = qkv.shape
        keys, values = self.keys[layer], self.values[layer]
        out = qkv.new_empty(rows, heads, head_dim)
        sizes = rows, heads, values.shape[1], head_dim, values.shape[2], window or 0
        call("attend", *sizes, scaling, qkv, turns[0], turns[1], keys, values, self.slots, self.lengths, out)
        return out


def call(name: str, *arguments: Any) -> None:
    """Calls a compiled function; tensors go as pointers to their numbers."""
    getattr(library(), name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))
