"""Steering: alpha times the direction, added to what attention or MLP write (paper, section 3).

It is exactly a bias on o_proj or down_proj, so it costs nothing at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from thinkedit.directions import Direction
from thinkedit.engines.base import Biases, Control
from thinkedit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of steering: `layer` None means every layer of `layers`, a `subset` of all or not."""

    control: Control
    alpha: float
    layer: int | None
    layers: tuple[int, ...]
    subset: bool = False

    @property
    def name(self) -> str:
        where = "L" + "+".join(map(str, self.layers)) if self.layer is not None or self.subset else "all"
        return f"{self.control}-{where}-{self.alpha:+g}"

    def biases(self, direction: Direction) -> Biases:
        return {(layer, self.control): self.alpha * direction.vectors[layer].double() for layer in self.layers}


def sweep(control: Control, alphas: Sequence[float], layers: Sequence[int], count: int) -> list[Setting]:
    """Every strength over all of `layers` at once; `count` is the number of layers that there are."""
    one = layers[0] if len(layers) == 1 else None
    return [Setting(control, alpha, one, tuple(layers), subset=len(layers) < count) for alpha in alphas]


def scan(control: Control, alphas: Sequence[float], layers: Sequence[int]) -> list[Setting]:
    """Every strength at each of `layers` alone."""
    return [Setting(control, alpha, layer, (layer,)) for layer in layers for alpha in alphas]


def parse_layers(text: str, count: int) -> tuple[list[int], bool]:
    """Layers from "all", "each", "3,5" or "4-9"; the flag says that each is to be steered alone."""
    if text in ("all", "each"):
        return list(range(count)), text == "each"
    layers: list[int] = []
    try:
        for part in text.replace(" ", "").split(","):
            first, _, last = part.partition("-")
            layers += range(int(first), int(last or first) + 1)
    except ValueError:
        raise UsageError(f"{text!r} names no layers; write all, each, 3, 3,5 or 4-9.") from None
    if not layers or min(layers) < 0 or max(layers) >= count:
        raise UsageError(f"{text!r} names layers outside of this model, which has layers 0..{count - 1}.")
    return sorted(set(layers)), False
