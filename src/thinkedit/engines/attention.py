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

    step = 1  # positions that lie together in `keys`

    def __init__(self, layers: int, rows: int, heads: int, head_dim: int, like: Tensor) -> None:
        together = () if self.step == 1 else (self.step,)
        self.keys = [like.new_zeros(rows, heads, 0, head_dim, *together) for _ in range(layers)]
        self.values = [like.new_zeros(rows, heads, 0, head_dim) for _ in range(layers)]
        self.rows: Tensor | None = None
        self.sizes = torch.zeros(0, dtype=torch.long, device=like.device)
        self.lengths = torch.zeros(0, dtype=torch.long, device=like.device)
        self.groups: Sequence[Group] = ()
        self._blocks: dict[int | None, list[Block]] = {}

    @property
    def capacity(self) -> int:
        return self.values[0].shape[2]

    @property
    def span(self) -> int:
        """Tokens that the longest row holds with the one that is appended."""
        return 1 + max(group.longest for group in self.groups)

    def resize(self, rows: int, capacity: int) -> None:
        """Changes the number of rows or positions, keeping what fits; one layer at a time, so that little is held twice."""
        blocks = -(-capacity // self.step)
        for tensors, size in ((self.keys, blocks), (self.values, blocks * self.step)):
            for layer, old in enumerate(tensors):
                new = old.new_zeros(rows, old.shape[1], size, *old.shape[3:])
                r, c = min(rows, old.shape[0]), min(size, old.shape[2])
                new[:r, :, :c] = old[:r, :, :c]
                tensors[layer] = new

    def move(self, sources: Tensor, targets: Tensor, span: int) -> None:
        """Copies the first `span` positions of rows `sources` over rows `targets`, all at once."""
        for tensors, size in ((self.keys, -(-span // self.step)), (self.values, span)):
            for tensor in tensors:
                tensor[targets, :, :size] = tensor[sources, :, :size]

    def store_keys(self, layer: int, rows: Tensor, key: Tensor) -> None:
        """Keys [rows, key_value_heads, tokens, head_dim] of whole prompts."""
        self.keys[layer][rows, :, : key.shape[2]] = key

    def fill(self, rows: Tensor, sizes: Tensor) -> None:
        """The next forward stores whole prompts in these rows, `sizes` tokens of each."""
        self.rows, self.sizes = rows, sizes

    def append(self, lengths: Tensor, groups: Sequence[Group]) -> None:
        """The next forward appends one token to each of the first rows, which hold `lengths` tokens so far."""
        self.rows, self.lengths, self.groups = None, lengths, groups
        self._index = torch.arange(lengths.numel(), device=lengths.device)
        self._blocks = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """Stores the new keys and values and attends to all of each row: [rows, tokens, heads, head_dim]."""
        keys, values = self.keys[layer], self.values[layer]
        if self.rows is not None:
            self.store_keys(layer, self.rows, key)
            values[self.rows, :, : value.shape[2]] = value
            return causal_attention(query, key, value, scaling, window)
        keys[self._index, :, self.lengths] = key[:, :, 0]
        values[self._index, :, self.lengths] = value[:, :, 0]
        rows, heads, _, head_dim = query.shape
        # The query heads that share a key-value head become its queries, so nothing is repeated.
        shared = query.reshape(rows, keys.shape[1], heads // keys.shape[1], head_dim)
        out = [
            scaled_dot_product_attention(
                shared[part], keys[part, :, :span], values[part, :, :span], attn_mask=mask, scale=scaling
            )
            for part, span, mask in self.blocks(window)
        ]
        return (out[0] if len(out) == 1 else torch.cat(out)).reshape(rows, 1, heads, values.shape[-1])

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
                mask = torch.zeros(hidden.shape, dtype=self.values[0].dtype, device=lengths.device)
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
    """What transformers calls: `query` [rows, heads, tokens, head_dim], `key` and `value` with key_value_heads."""
    if cache is None:
        return causal_attention(query, key, value, scaling, sliding_window), None
    return cache.attend(module.layer_idx, query, key, value, scaling, sliding_window), None


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """Every token looks at those before it, at most `window` with itself. Gives [rows, tokens, heads, head_dim]."""
    mask = None
    if window is not None and query.shape[2] > window:
        position = torch.arange(query.shape[2], device=query.device)
        distance = position[:, None] - position
        mask = (distance >= 0) & (distance < window)
    out = scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


AttentionInterface.register(ATTENTION, attention)
