"""The edit as a value: which heads lose which direction from their output projection, and how strongly (paper, section 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.named_heads import Head


@dataclass(frozen=True, slots=True)
class Edit:
    """`W_o[:, h] <- (I - strength v v^T) W_o[:, h]` for every head (layer, h), with v the layer's unit vector.

    `directions` maps a layer to v, float64 [hidden]; `strengths` maps it to its strength (1 is the paper's).
    """

    heads: tuple[Head, ...]
    directions: Mapping[int, Tensor]
    strengths: Mapping[int, float]
    head_dim: int

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.heads})

    def heads_of(self, layer: int) -> list[int]:
        return sorted(head for at, head in self.heads if at == layer)

    def columns(self, layer: int) -> Tensor:
        """Columns of the layer's o_proj that belong to its edited heads, int64."""
        return torch.cat([torch.arange(h * self.head_dim, (h + 1) * self.head_dim) for h in self.heads_of(layer)])

    def low_rank(self, layer: int, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The edit of one layer as `B @ A` with A [1, heads * head_dim] and B [hidden, 1], float64: it is rank one."""
        v, columns = self.directions[layer], self.columns(layer)
        a = torch.zeros(1, weight.shape[1], dtype=torch.float64)
        a[0, columns] = v @ weight[:, columns].double().cpu()
        return a, -self.strengths[layer] * v[:, None]

    def edited_columns(self, layer: int, weight: Tensor) -> Tensor:
        """The new columns [hidden, columns] of the layer's edited heads: float64 inside, rounded once to weight's dtype."""
        v, block = self.directions[layer].to(weight.device), weight[:, self.columns(layer).to(weight.device)].double()
        return (block - self.strengths[layer] * torch.outer(v, v @ block)).to(weight.dtype)

    def edited(self, layer: int, weight: Tensor) -> Tensor:
        """The new o_proj weight [hidden, heads * head_dim]; `weight` stays as it is."""
        result = weight.clone()
        result[:, self.columns(layer).to(weight.device)] = self.edited_columns(layer, weight)
        return result


def make_edit(heads: Sequence[Head], direction: Tensor, head_dim: int, strength: float = 1.0) -> Edit:
    """The paper's edit: `direction` [layers, hidden] need not be normalised."""
    layers = sorted({layer for layer, _ in heads})
    return Edit(
        heads=tuple((int(layer), int(head)) for layer, head in heads),
        directions={layer: unit(direction[layer], layer) for layer in layers},
        strengths=dict.fromkeys(layers, float(strength)),
        head_dim=head_dim,
    )


def unit(vector: Tensor, layer: int) -> Tensor:
    vector = vector.double().cpu()
    norm = vector.norm()
    if not torch.isfinite(norm) or norm == 0:
        raise ThinkEditError(f"The direction of layer {layer} has norm {norm.item():g}: nothing can be removed along it.")
    return vector / norm


def random_heads(edit: Edit, direction: Tensor, layers: int, heads_per_layer: int, seed: int) -> Edit:
    """Placebo: the same number of heads, drawn from those that the edit leaves alone, lose their layers' direction."""
    rest = [(layer, head) for layer in range(layers) for head in range(heads_per_layer)]
    rest = [head for head in rest if head not in set(edit.heads) and direction[head[0]].norm() > 0]
    if len(rest) < len(edit.heads):
        raise UsageError(
            f"The edit takes {len(edit.heads)} of {layers * heads_per_layer} heads, "
            "too many to draw as many others for a placebo. Edit fewer heads or leave the placebos out."
        )
    drawn = np.random.default_rng(seed).choice(len(rest), size=len(edit.heads), replace=False)
    strength = next(iter(edit.strengths.values()))
    return make_edit([rest[i] for i in sorted(drawn)], direction, edit.head_dim, strength)


def random_direction(edit: Edit, weights: Mapping[int, Tensor], seed: int) -> Edit:
    """Placebo: the same heads lose a random direction, scaled in each layer to the Frobenius norm of the edit.

    `weights` maps each edited layer to its o_proj weight. Unscaled, a random direction would remove about 1/hidden of
    what the edit does and lose trivially.
    """
    generator = np.random.default_rng(seed)
    directions, strengths = {}, {}
    for layer in edit.layers:
        v = edit.directions[layer]
        block = weights[layer][:, edit.columns(layer)].double().cpu()
        u = torch.from_numpy(generator.standard_normal(v.shape[0]))
        u /= u.norm()
        directions[layer] = u
        strengths[layer] = edit.strengths[layer] * float((v @ block).norm() / (u @ block).norm())
    return Edit(edit.heads, directions, strengths, edit.head_dim)


def left_along(edit: Edit, layer: int, before: Tensor, after: Tensor) -> float:
    """What is left of the edited heads along v after rounding, as a share of what was there: 0 for a full removal."""
    columns = edit.columns(layer)
    return share_left(edit.directions[layer], before[:, columns], after[:, columns])


def share_left(v: Tensor, before: Tensor, after: Tensor) -> float:
    """The same for columns [hidden, columns] and the unit vector v [hidden]; 0 where there was nothing."""
    there = float((v @ before.double().cpu()).norm())
    return float((v @ after.double().cpu()).norm()) / there if there else 0.0


def edit_record(edit: Edit, **about: object) -> dict[str, object]:
    """What `edit.json` holds; `about` (control, fingerprints, figures) goes beside the heads."""
    strengths = sorted(set(edit.strengths.values()))
    return {
        "heads": [list(head) for head in edit.heads],
        "strength": strengths[0] if len(strengths) == 1 else {str(k): v for k, v in edit.strengths.items()},
        "head_dim": edit.head_dim,
        **about,
    }
