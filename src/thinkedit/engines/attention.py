"""Attention over a key-value cache in which every row has a length of its own.

Registered with transformers under the name ATTENTION; the cache travels to it as the keyword `cache` of the model's
forward. Without one it is ordinary causal attention, rows padded on the right.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from thinkedit.engines.groups import Group

ATTENTION = "thinkedit"
Block = tuple[slice, int, Tensor]  # rows, positions, mask


class KeyValueCache:
    """Keys and values, a [rows, key_value_heads, capacity, head_dim] tensor each a layer, written in place.

    The rows 0..n-1 are in use. `rows` says which of them the next forward fills with whole prompts (None: it appends
    one token to each of the first `lengths.numel()` rows, at the positions `lengths`).
    """

    def __init__(self, layers: int, rows: int, heads: int, capacity: int, head_dim: int, like: Tensor) -> None:
        shape = (rows, heads, capacity, head_dim)
        self.keys = [like.new_zeros(shape) for _ in range(layers)]
        self.values = [like.new_zeros(shape) for _ in range(layers)]
        self.rows: Tensor | None = None
        self.lengths = torch.zeros(0, dtype=torch.long, device=like.device)
        self.groups: Sequence[Group] = ()
        self._blocks: dict[int | None, list[Block]] = {}

    @property
    def capacity(self) -> int:
        return self.keys[0].shape[2]

    def resize(self, rows: int, capacity: int) -> None:
        """Changes the number of rows or positions, keeping what fits; one layer at a time, so that little is held twice."""
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                new = old.new_zeros(rows, old.shape[1], capacity, old.shape[3])
                r, c = min(rows, old.shape[0]), min(capacity, old.shape[2])
                new[:r, :, :c] = old[:r, :, :c]
                tensors[layer] = new

    def move(self, sources: Tensor, targets: Tensor, span: int) -> None:
        """Copies the first `span` positions of rows `sources` over rows `targets`, all at once."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[targets, :, :span] = tensor[sources, :, :span]

    def fill(self, rows: Tensor) -> None:
        """The next forward stores whole prompts in these rows."""
        self.rows = rows

    def append(self, lengths: Tensor, groups: Sequence[Group]) -> None:
        """The next forward appends one token to each of the first rows, which hold `lengths` tokens so far."""
        self.rows, self.lengths, self.groups = None, lengths, groups
        self._index = torch.arange(lengths.numel(), device=lengths.device)
        self._blocks = {}

    def blocks(self, window: int | None) -> list["Block"]:
        """For each group of rows: which they are, how many positions they look at, and the additive mask
        [rows, 1, 1, span] that leaves each row its own tokens, within the sliding window if there is one."""
        if window not in self._blocks:
            self._blocks[window] = made = []
            row = 0
            for group in self.groups:
                part, span = slice(row, row + group.rows), group.longest + 1
                lengths = self.lengths[part, None]
                positions = torch.arange(span, device=lengths.device)
                hidden = positions > lengths
                if window is not None:
                    hidden |= positions <= lengths - window
                mask = torch.zeros(hidden.shape, dtype=self.keys[0].dtype, device=lengths.device)
                made.append((part, span, mask.masked_fill_(hidden, -torch.inf)[:, None, None]))
                row += group.rows
        return self._blocks[window]


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cache: KeyValueCache | None = None,
    **_unused: object,
) -> tuple[Tensor, None]:
    """`query` [rows, heads, tokens, head_dim], `key` and `value` [rows, key_value_heads, tokens, head_dim]."""
    if cache is not None:
        keys, values = cache.keys[module.layer_idx], cache.values[module.layer_idx]
        if cache.rows is None:
            keys[cache._index, :, cache.lengths] = key[:, :, 0]
            values[cache._index, :, cache.lengths] = value[:, :, 0]
            return _decode(query, keys, values, cache, scaling, sliding_window), None
        keys[cache.rows, :, : key.shape[2]] = key
        values[cache.rows, :, : value.shape[2]] = value
    mask = None
    if sliding_window is not None and query.shape[2] > sliding_window:
        position = torch.arange(query.shape[2], device=query.device)
        distance = position[:, None] - position
        mask = (distance >= 0) & (distance < sliding_window)
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2), None


def _decode(
    query: Tensor, keys: Tensor, values: Tensor, cache: KeyValueCache, scaling: float | None, window: int | None
) -> Tensor:
    """One new token a row. The query heads that share a key-value head become its queries, so nothing is repeated."""
    rows, heads, _, head_dim = query.shape
    shared = query.view(rows, keys.shape[1], heads // keys.shape[1], head_dim)
    out = [
        scaled_dot_product_attention(shared[part], keys[part, :, :span], values[part, :, :span], attn_mask=mask, scale=scaling)
        for part, span, mask in cache.blocks(window)
    ]
    return (out[0] if len(out) == 1 else torch.cat(out)).reshape(rows, 1, heads, values.shape[-1])


AttentionInterface.register(ATTENTION, attention)
