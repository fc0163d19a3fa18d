"""Which attention heads write the unwanted end of the thinking-length direction (paper, section 4)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from thinkedit.errors import ThinkEditError
from thinkedit.named_heads import Head

if TYPE_CHECKING:
    from torch import Tensor

Suppress = Literal["short", "long"]


def head_contributions(
    heads: np.ndarray,
    examples: np.ndarray,
    o_proj: Callable[[int], "Tensor"],
    direction: "Tensor",
    head_dim: int,
    suppress: Suppress = "short",
) -> "Tensor":
    """Contribution of every head to the suppressed end, float64 [layers, heads].

    `heads` [examples, layers, heads * head_dim] are window means of o_proj's input, `examples` the rows to average
    over (the short ones, or the long ones where long thinking is suppressed), `o_proj(layer)` the layer's weight,
    `direction` [layers, hidden]. c[l, h] = u_l[h] . zbar[l, h] with u_l = W_o^T (-v_l / |v_l|): linear, so no
    per-token tensor is needed. A layer whose direction is zero contributes nothing.
    """
    import torch

    means = torch.from_numpy(heads[examples].mean(axis=0, dtype=np.float64))
    sign = -1.0 if suppress == "short" else 1.0
    products = torch.zeros_like(means)
    for layer in range(means.shape[0]):
        v = direction[layer].double()
        norm = v.norm()
        if norm > 0:
            products[layer] = sign * (v / norm) @ o_proj(layer).double().cpu() * means[layer]
    if not torch.isfinite(products).all():
        raise ThinkEditError("The head contributions hold infinities or NaN: weights or activations are broken.")
    return products.unflatten(1, (-1, head_dim)).sum(-1)


def rank_heads(contributions: "Tensor") -> list[tuple[Head, float]]:
    """All heads, the largest contribution first."""
    heads = contributions.shape[1]
    order = contributions.flatten().argsort(descending=True, stable=True).tolist()
    return [((i // heads, i % heads), float(contributions.flatten()[i])) for i in order]


def chosen_heads(ranking: Sequence[tuple[Head, float]], count: int) -> list[Head]:
    """The best `count` heads; heads that write nothing towards the suppressed end are never among them."""
    useful = [head for head, contribution in ranking if contribution > 0]
    if not useful:
        raise ThinkEditError("No head writes towards the suppressed end, so there is nothing to edit.")
    return useful[:count]
