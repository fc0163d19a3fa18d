"""What happened to one o_proj: along which direction its heads changed, how strongly, and whether that is an edit.

The change of an edited layer is the rank-one removal `-s v (v^T W_o)` of its heads, up to the rounding of the number
format. v is the top left singular vector of the change, or a direction that is given; s is what fits best.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# A change is taken for a removal along v where it follows v^T W_o (cosine), where what is left of it is no more than
# rounding (its norm in that of the numbers' spacing: 0.29 for one rounding), and where most of the numbers that changed
# lie within one step of what the removal makes of them, and are exactly that. Recovered directions are a little off.
COSINE, ROUNDING, NEAR, PREDICTED = 0.9, 0.6, 0.85, 0.5
EXACT = 1e-5  # of an adapter's change, which is not rounded to the checkpoint's format


@dataclass(frozen=True, slots=True)
class HeadChange:
    """One changed head, of which `numbers` differ. `size`: norm of the change in that of W_o; `explained`: share of the
    change's energy along v; `left`: what is left of W_o along v."""

    layer: int
    head: int
    numbers: int
    size: float
    explained: float
    strength: float
    left: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Block:
    """The columns of one head: before and the change, float64 [hidden, head_dim]; `after` is in the
    format that it is stored in, None for an adapter, which is not rounded."""

    head: int
    before: Tensor
    change: Tensor
    after: Tensor | None


Blocks = Callable[[], Iterator[Block]]  # the changed heads of a layer, one at a time in memory


def top_direction(blocks: Blocks, rounds: int = 3) -> Tensor:
    """The unit vector [hidden] that the changes of a layer's heads share best: their top left singular vector.

    It is put together of each head's own and then improved by power iteration, so that one head at a time is in memory.
    """
    candidates = []
    for block in blocks():
        _, vectors = torch.linalg.eigh(block.change.T @ block.change)
        candidates.append(block.change @ vectors[:, -1])
    stacked = torch.stack(candidates, 1)
    _, vectors = torch.linalg.eigh(stacked.T @ stacked)
    v = stacked @ vectors[:, -1]
    v = v / v.norm()
    for _ in range(rounds if len(candidates) > 1 else 0):
        moved = torch.stack([block.change @ (block.change.T @ v) for block in blocks()]).sum(0)
        if not moved.norm() > 0:
            break
        v = moved / moved.norm()
    return v


def best_strength(blocks: Blocks, v: Tensor) -> float:
    """The strength s that fits `change = -s v (v^T W)` best over all heads of the layer."""
    above = below = 0.0
    for block in blocks():
        along = v @ block.before
        above -= float((v @ block.change) @ along)
        below += float(along @ along)
    return above / below if below else math.nan


def judge(layer: int, block: Block, v: Tensor, strength: float) -> HeadChange:
    along, moved = v @ block.before, v @ block.change
    energy = float(block.change.square().sum())
    scale = float(along.norm())
    cosine = float(-(moved @ along) / (moved.norm() * along.norm()).clamp_min(1e-300))
    wanted = -strength * torch.outer(v, along)
    return HeadChange(
        layer=layer,
        head=block.head,
        numbers=int(block.change.count_nonzero()),
        size=math.sqrt(energy) / max(float(block.before.norm()), 1e-300),
        explained=float(moved @ moved) / energy if energy else 0.0,
        strength=-float(moved @ along) / scale**2 if scale else math.nan,
        left=float((along + moved).norm()) / scale if scale else math.nan,
        fits=bool(abs(cosine) >= COSINE and _is_rounding(block, wanted)),
    )


def _is_rounding(block: Block, wanted: Tensor) -> bool:
    """Whether the change is `wanted` but for the rounding to the checkpoint's number format."""
    if block.after is None:
        return bool((block.change - wanted).norm() <= EXACT * block.change.norm())
    kind = block.after.dtype
    step = spacing(torch.maximum(block.before.abs(), block.after.double().abs()), kind)
    rest = (block.change - wanted).norm() / step.norm()
    changed = block.change != 0
    near = ((block.change - wanted).abs() <= step)[changed].double().mean()
    predicted = ((block.before + wanted).to(kind) == block.after)[changed].double().mean()
    return bool(rest <= ROUNDING and near >= NEAR and predicted >= PREDICTED)


def spacing(values: Tensor, kind: torch.dtype) -> Tensor:
    """The distance between neighbouring numbers of a format around `values` (float64, not negative)."""
    info = torch.finfo(kind)
    _, exponent = torch.frexp(values.clamp_min(info.tiny))
    return torch.ldexp(torch.full_like(values, info.eps), exponent - 1)
