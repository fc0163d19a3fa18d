"""All layers of a small model in one compiled call (kernels.c), for prompts and for one more token in every row."""

import ctypes
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from thinkedit.engines.kernels import LANES, BlockedCache, call

# Numbers of all layers' matrices: those that stay in a processor's cache. The products of larger models are torch's, which
# shares even a single row out among all cores.
SMALL = 1 << 23
PORTION = 32  # tokens that one thread takes through all layers: enough to use a weight often, few enough to stay near
SIZES = ("layers", "hidden", "inner", "heads", "key_value_heads", "head_dim", "capacity")
WEIGHTS = (
    *("first_norm", "qkv", "qkv_bias", "q_norm", "k_norm", "o", "o_bias"),
    *("second_norm", "gate_up", "gate_up_bias", "down", "down_bias", "keys", "values"),
)


class _DecoderSizes(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in SIZES),
        ("final_norm", ctypes.c_void_p),
        ("eps", ctypes.c_float),
        ("scaling", ctypes.c_float),
    )


class _LayerWeights(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_void_p) for name in WEIGHTS), ("window", ctypes.c_long))


class Step:
    """Reads the weights where they are, so that edits and steering biases count at once. Use `make_step`."""

    def __init__(self, layers: Sequence[Any], final_norm: Any) -> None:
        first = layers[0]
        self.layers = layers
        hidden, inner, turned = final_norm.weight.numel(), first.down_proj.in_features, first.turned
        sizes = len(layers), hidden, inner, first.heads, turned - first.heads, first.head_dim
        self.sizes = _DecoderSizes(*sizes, 0, final_norm.weight.data_ptr(), final_norm.variance_epsilon, first.scaling)
        self.room = hidden + 2 * turned * first.head_dim + 2 * inner  # numbers of scratch a token
        self.weights = (_LayerWeights * len(layers))()
        for weights, layer in zip(self.weights, layers, strict=True):
            q_norm, k_norm = layer.head_norms or (None, None)
            weights.first_norm, weights.second_norm = layer.first_norm.weight.data_ptr(), layer.second_norm.weight.data_ptr()
            weights.q_norm, weights.k_norm = (None if norm is None else norm.weight.data_ptr() for norm in (q_norm, k_norm))
            weights.qkv, weights.qkv_bias = layer.qkv_weight.data_ptr(), _pointer(layer.qkv_bias)
            weights.gate_up, weights.gate_up_bias = layer.gate_up_weight.data_ptr(), _pointer(layer.gate_up_bias)
            weights.o, weights.down = layer.o_proj.weight.data_ptr(), layer.down_proj.weight.data_ptr()
            weights.window = layer.window or 0

    def append(self, x: Tensor, turns: Tensor, cache: BlockedCache) -> Tensor:
        """One more token in each row. `x` [rows, hidden] are their embeddings, `turns` [2, positions, 1, head_dim] the
        cosines and signed sines of all positions; gives what the last norm gives, in place of `x`."""
        portion = min(PORTION, -(-len(x) // torch.get_num_threads()))
        starts = [*range(0, len(x), portion), len(x)]
        return self._call(x, turns, cache, cache.slots, cache.lengths, starts)

    def read(self, x: Tensor, turns: Tensor, cache: BlockedCache, slots: Tensor) -> Tensor:
        """Whole prompts, of which `x` [tokens, hidden] holds one after the other, each into its slot."""
        sizes = cache.sizes.tolist()
        positions = torch.cat([torch.arange(size) for size in sizes])
        starts = [0]
        for end in accumulate(sizes):
            if end - starts[-1] >= PORTION or end == len(x):
                starts.append(end)
        return self._call(x, turns, cache, slots.repeat_interleave(cache.sizes), positions, starts)

    def _call(
        self, x: Tensor, turns: Tensor, cache: BlockedCache, slots: Tensor, positions: Tensor, starts: list[int]
    ) -> Tensor:
        self.sizes.capacity = cache.capacity
        for number, (weights, layer) in enumerate(zip(self.weights, self.layers, strict=True)):
            weights.o_bias, weights.down_bias = _pointer(layer.o_proj.bias), _pointer(layer.down_proj.bias)
            weights.keys, weights.values = cache.keys[number].data_ptr(), cache.values[number].data_ptr()
        threads, most = torch.get_num_threads(), max(end - start for start, end in pairwise(starts))
        scratch = x.new_empty(threads * most * self.room)
        model, work = (ctypes.byref(self.sizes), ctypes.byref(self.weights)), (len(starts) - 1, most, torch.tensor(starts))
        call("step", *model, threads, *work, x, turns[0], turns[1], slots, positions, scratch)
        return x


def make_step(layers: Sequence[Any], final_norm: Any) -> Step | None:
    """None where the model is too large to gain from it, or has sizes that the tiles do not fit."""
    norms = [norm for layer in layers for norm in (layer.first_norm, layer.second_norm, *(layer.head_norms or ()))]
    matrices = [
        weight
        for layer in layers
        for weight in (layer.qkv_weight, layer.gate_up_weight, layer.o_proj.weight, layer.down_proj.weight)
    ]
    fits = (
        sum(weight.numel() for weight in matrices) <= SMALL
        and all(size % LANES == 0 for weight in matrices for size in weight.shape)
        and all(weight.is_contiguous() for weight in matrices)
        and {norm.variance_epsilon for norm in norms} == {final_norm.variance_epsilon}
        and len({layer.scaling for layer in layers}) == 1
    )
    return Step(layers, final_norm) if fits else None


def _pointer(bias: Tensor | None) -> int | None:
    return None if bias is None else bias.data_ptr()
