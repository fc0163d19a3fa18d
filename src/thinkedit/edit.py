"""The edit as a value: which heads lose which direction from their output projection, and how strongly (paper, section 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.named_heads import Head

if TYPE_CHECKING:
    from torch import Tensor

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edit:
    """`W_o[:, h] <- (I - strength v v^T) W_o[:, h]` for every head (layer, h), with v the layer's unit vector.

    `directions` maps a layer to v, float64 [hidden]; `strengths` maps it to its strength (1 is the paper's).
    """

    heads: tuple[Head, ...]
    directions: Mapping[int, Vector]
    strengths: Mapping[int, float]
    head_dim: int

    @property
    def layers(self) -> list[int]:
        return sorted({layer for layer, _ in self.heads})

    def heads_of(self, layer: int) -> list[int]:
        return sorted(head for at, head in self.heads if at == layer)

    def columns(self, layer: int) -> NDArray[np.int64]:
        """Columns of the layer's o_proj that belong to its edited heads."""
        return np.concatenate([np.arange(h * self.head_dim, (h + 1) * self.head_dim) for h in self.heads_of(layer)])

    def edited_block(self, layer: int, block: NDArray[np.float64]) -> NDArray[np.float64]:
        """The new numbers of the edited columns [hidden, columns]: the formula itself."""
        v = self.directions[layer]
        return block - self.strengths[layer] * np.outer(v, v @ block)

    def edited(self, layer: int, weight: "Tensor") -> "Tensor":
        """The new o_proj weight [hidden, heads * head_dim]: float64 inside, rounded once to weight's dtype."""
        import torch

        columns = torch.from_numpy(self.columns(layer)).to(weight.device)
        result = weight.clone()
        result[:, columns] = (
            torch.from_numpy(self.edited_block(layer, _block(weight, columns))).to(weight.dtype).to(weight.device)
        )
        return result

    def low_rank(self, layer: int, weight: "Tensor") -> tuple["Tensor", "Tensor"]:
        """The edit of one layer as `B @ A` with A [1, heads * head_dim] and B [hidden, 1], float64: it is rank one."""
        import torch

        v, columns = self.directions[layer], self.columns(layer)
        a = np.zeros((1, weight.shape[1]))
        a[0, columns] = v @ _block(weight, columns)
        return torch.from_numpy(a), torch.from_numpy(-self.strengths[layer] * v[:, None])


def make_edit(heads: Sequence[Head], direction: ArrayLike, head_dim: int, strength: float = 1.0) -> Edit:
    """The paper's edit: `direction` [layers, hidden], a tensor or an array, need not be normalised."""
    layers = sorted({layer for layer, _ in heads})
    return Edit(
        heads=tuple((int(layer), int(head)) for layer, head in heads),
        directions={layer: unit(_double(direction[layer]), layer) for layer in layers},  # type: ignore[index]
        strengths=dict.fromkeys(layers, float(strength)),
        head_dim=head_dim,
    )


def unit(vector: Vector, layer: int) -> Vector:
    norm = np.sqrt(np.einsum("i,i->", vector, vector))  # BLAS's last bits hang on where the numbers lie in memory
    if not np.isfinite(norm) or norm == 0:
        raise ThinkEditError(f"The direction of layer {layer} has norm {norm:g}: nothing can be removed along it.")
    return vector / norm


def _double(values: Any) -> NDArray[np.float64]:
    """A tensor of any device and format, or an array, in float64."""
    return values.detach().double().cpu().numpy() if hasattr(values, "detach") else np.asarray(values, dtype=np.float64)


def _block(weight: "Tensor", columns: Any) -> NDArray[np.float64]:
    return _double(weight[:, columns])


def random_heads(edit: Edit, direction: "Tensor", layers: int, heads_per_layer: int, seed: int) -> Edit:
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


def random_direction(edit: Edit, weights: Mapping[int, "Tensor"], seed: int) -> Edit:
    """Placebo: the same heads lose a random direction, scaled in each layer to the Frobenius norm of the edit.

    `weights` maps each edited layer to its o_proj weight. Unscaled, a random direction would remove about 1/hidden of
    what the edit does and lose trivially.
    """
    generator = np.random.default_rng(seed)
    directions: dict[int, Vector] = {}
    strengths: dict[int, float] = {}
    for layer in edit.layers:
        v = edit.directions[layer]
        block = _block(weights[layer], edit.columns(layer))
        u = unit(generator.standard_normal(v.shape), layer)
        directions[layer] = u
        strengths[layer] = edit.strengths[layer] * float(np.linalg.norm(v @ block) / np.linalg.norm(u @ block))
    return Edit(edit.heads, directions, strengths, edit.head_dim)


def left_along(edit: Edit, layer: int, before: "Tensor", after: "Tensor") -> float:
    """What is left of the edited heads along v after rounding, as a share of what was there: 0 for a full removal."""
    columns = edit.columns(layer)
    return share_left(edit.directions[layer], _block(before, columns), _block(after, columns))


def share_left(v: Vector, before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """The same for columns [hidden, columns] and the unit vector v [hidden]; 0 where there was nothing."""
    there = float(np.linalg.norm(v @ before))
    return float(np.linalg.norm(v @ after)) / there if there else 0.0


def edit_record(edit: Edit, **about: object) -> dict[str, object]:
    """What `edit.json` holds; `about` (control, fingerprints, figures) goes beside the heads."""
    strengths = sorted(set(edit.strengths.values()))
    return {
        "heads": [list(head) for head in edit.heads],
        "strength": strengths[0] if len(strengths) == 1 else {str(k): v for k, v in edit.strengths.items()},
        "head_dim": edit.head_dim,
        **about,
    }
