"""What an edited model really differs in: the base and the other model, tensor by tensor, with no other information.

Both are read as bytes in chunks; only an o_proj that differs is read as a matrix, one layer at a time. The heads are the
columns that changed. Whether the change is an edit is decided on numbers: for a layer, the direction v is the top left
singular vector of the change (or the given one), the strength is what fits best, and the change must be the rank-one
removal `-s v (v^T W_o)` of these heads up to the rounding of the number format.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from thinkedit.adapter import ADAPTER_CONFIG, Adapter
from thinkedit.checkpoint import CARD, FLOATS, IDENTITY_FILES, INDEX, MARK, Checkpoint
from thinkedit.copying import TEMPLATES, WEIGHTS
from thinkedit.errors import ThinkEditError
from thinkedit.models import Shape, read_config, read_shape

CHUNK = 8 << 20  # bytes of a tensor compared at once
# A change is taken for a removal along v where it follows v^T W_o (cosine), where what is left of it is no more than
# rounding (its norm in that of the numbers' spacing: 0.29 for one rounding), and where most of the numbers that changed
# lie within one step of what the removal makes of them, and are exactly that. Recovered directions are a little off.
COSINE, ROUNDING, NEAR, PREDICTED = 0.9, 0.6, 0.85, 0.5
EXACT = 1e-5  # of an adapter's change, which is not rounded to the checkpoint's format
OURS = {CARD, MARK, "reproduce.json", ".gitattributes"}
# Fields of config.json that say who wrote it and not what the model is.
UNIMPORTANT = {"transformers_version", "_name_or_path"}


@dataclass(frozen=True, slots=True)
class HeadChange:
    """One changed head. `explained`: share of the change's energy along v; `left`: what is left of W_o along v."""

    layer: int
    head: int
    size: float
    explained: float
    strength: float
    left: float
    fits: bool


@dataclass(frozen=True, slots=True)
class OtherChange:
    """A changed tensor that is no o_proj, or one that only one side has."""

    name: str
    what: str


@dataclass(slots=True)
class Comparison:
    """`files` lists differing files that shape the model; `cosine` maps a layer to |cos| of found and given direction."""

    kind: Literal["checkpoint", "adapter"]
    heads: list[HeadChange] = field(default_factory=list)
    others: list[OtherChange] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cosine: dict[int, float] = field(default_factory=dict)
    directions: dict[int, Tensor] = field(default_factory=dict)
    incomparable: str | None = None

    @property
    def verdict(self) -> Literal["identical", "edit", "other"]:
        if self.incomparable or self.others or self.files or not all(head.fits for head in self.heads):
            return "other"
        return "edit" if self.heads else "identical"

    @property
    def headline(self) -> str:
        if self.verdict == "identical":
            return "identical: the same weights, tokenizer and settings"
        if self.verdict == "edit":
            named = ", ".join(f"{head.layer}:{head.head}" for head in self.heads)
            return f"an edit of {len(self.heads)} head{'s' if len(self.heads) > 1 else ''}: {named}"
        return f"not a ThinkEdit edit: {self.reason}"

    @property
    def reason(self) -> str:
        if self.incomparable:
            return self.incomparable
        reasons = []
        unfit = [head for head in self.heads if not head.fits]
        if unfit:
            where = ", ".join(f"{head.layer}:{head.head}" for head in unfit[:8]) + (", ..." if len(unfit) > 8 else "")
            reasons.append(
                f"the change of {len(unfit)} of {len(self.heads)} changed heads is no removal of one direction ({where})"
            )
        if self.others:
            names = ", ".join(other.name for other in self.others[:3]) + (", ..." if len(self.others) > 3 else "")
            reasons.append(f"{len(self.others)} other tensors differ ({names})")
        if self.files:
            reasons.append(f"these files differ: {', '.join(self.files)}")
        return "; ".join(reasons)

    def as_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "kind": self.kind,
            "heads": [asdict(head) for head in self.heads],
            "other_tensors": [asdict(other) for other in self.others],
            "files": self.files,
            "notes": self.notes,
            "cosine_with_given": {str(layer): value for layer, value in self.cosine.items()},
        }


def compare(
    base: Path, other: Path, given: Tensor | None = None, advance: Callable[[int], None] = lambda _: None
) -> Comparison:
    """Compares the model in `other`, a checkpoint or a LoRA adapter, with the base. `given` [layers, hidden] is a direction.

    `advance` is called with the number of tensors done. Raises ThinkEditError for what cannot be read.
    """
    if (other / ADAPTER_CONFIG).is_file():
        return _compare_adapter(Checkpoint(base), read_shape(base), Adapter.read(other), given)
    one, two = Checkpoint(base), Checkpoint(other)
    result = Comparison("checkpoint")
    result.incomparable = _why_incomparable(one, two)
    if result.incomparable:
        return result
    shape = read_shape(base)
    layers = {name: layer for layer, name in one.o_proj.items()}
    for name in sorted(one.tensors.keys() | two.tensors.keys()):
        if name not in two.tensors or name not in one.tensors:
            result.others.append(OtherChange(name, f"only in the {'base' if name in one.tensors else 'edited model'}"))
        elif one.tensors[name].shape != two.tensors[name].shape:
            result.others.append(OtherChange(name, f"{one.tensors[name].shape} became {two.tensors[name].shape}"))
        elif not same_tensor(one, two, name):
            if name in layers and one.tensors[name].dtype in FLOATS and two.tensors[name].dtype in FLOATS:
                before = one.read(name).to(getattr(torch, FLOATS[two.tensors[name].dtype]))
                _add_layer(result, layers[name], before, _changed_columns(before, two.read(name)), shape, given)
            else:
                result.others.append(OtherChange(name, _how_much(one, two, name)))
        advance(1)
    _note_formats(result, one, two)
    _compare_files(result, base, other)
    _compare_claim(result, other)
    return result


def _why_incomparable(one: Checkpoint, two: Checkpoint) -> str | None:
    shapes = [read_shape(checkpoint.directory) for checkpoint in (one, two)]
    kinds = [str((read_config(checkpoint.directory).get("architectures") or ["?"])[0]) for checkpoint in (one, two)]
    sizes = [f"{kind}, {s.layers} layers of {s.heads} heads, width {s.hidden}" for kind, s in zip(kinds, shapes, strict=True)]
    if (shapes[0].layers, shapes[0].hidden, shapes[0].heads, shapes[0].head_dim) != (
        shapes[1].layers,
        shapes[1].hidden,
        shapes[1].heads,
        shapes[1].head_dim,
    ) or not one.tensors.keys() & two.tensors.keys():
        return f"two different architectures ({sizes[0]}; {sizes[1]})"
    how = [checkpoint.quantisation() for checkpoint in (one, two)]
    if (how[0] is None) != (how[1] is None):
        which = "base" if how[0] else "edited model"
        return f"the {which} is quantised ({how[0] or how[1]}) and the other is not, so no weight can be compared"
    return None


def same_tensor(one: Checkpoint, two: Checkpoint, name: str) -> bool:
    """Byte for byte; where the number formats differ, number for number after the base's is rounded to the other's."""
    first, second = one.tensors[name], two.tensors[name]
    if first.dtype == second.dtype:
        return all(a == b for a, b in zip(one.chunks(name, CHUNK), two.chunks(name, CHUNK), strict=True))
    if first.dtype not in FLOATS or second.dtype not in FLOATS:
        return False
    return all(torch.equal(a.to(b.dtype), b) for a, b in _paired(one, two, name))


def _paired(one: Checkpoint, two: Checkpoint, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of a tensor from both sides, as many numbers from each, flat."""
    kinds = [getattr(torch, FLOATS[checkpoint.tensors[name].dtype]) for checkpoint in (one, two)]
    count = CHUNK // 8
    pieces = (checkpoint.chunks(name, count * kind.itemsize) for checkpoint, kind in zip((one, two), kinds, strict=True))
    for a, b in zip(*pieces, strict=True):
        yield torch.frombuffer(bytearray(a), dtype=kinds[0]), torch.frombuffer(bytearray(b), dtype=kinds[1])


def _how_much(one: Checkpoint, two: Checkpoint, name: str) -> str:
    if one.tensors[name].dtype not in FLOATS or two.tensors[name].dtype not in FLOATS:
        return "differs"
    differing, most, total = 0, 0.0, 0
    for a, b in _paired(one, two, name):
        a = a.to(b.dtype)
        changed = a != b
        differing, total = differing + int(changed.sum()), total + len(a)
        if changed.any():
            most = max(most, float((a.double() - b.double())[changed].abs().max()))
    return f"{differing:,} of {total:,} numbers differ, by at most {most:.1e}"


@dataclass(frozen=True, slots=True)
class _Block:
    """The columns of one head: before and the change, float64 [hidden, head_dim]; `step` is the spacing of its numbers."""

    head: int
    before: Tensor
    change: Tensor
    after: Tensor | None


def _changed_columns(before: Tensor, after: Tensor) -> Callable[[int, int], tuple[Tensor, Tensor] | None]:
    """Gives the columns of a head before and after, in the checkpoint's format, where they differ."""

    def columns(head: int, head_dim: int) -> tuple[Tensor, Tensor] | None:
        part = slice(head * head_dim, (head + 1) * head_dim)
        old, new = before[:, part], after[:, part]
        return None if torch.equal(old, new) else (old, new)

    return columns


def _add_layer(
    result: Comparison,
    layer: int,
    before: Tensor,
    columns: Callable[[int, int], tuple[Tensor, Tensor] | None],
    shape: Shape,
    given: Tensor | None,
) -> None:
    """Adds the changed heads of a layer and the direction found in them."""

    def blocks() -> Iterator[_Block]:
        for head in range(shape.heads):
            pair = columns(head, shape.head_dim)
            if pair is not None:
                old = pair[0].double()
                yield _Block(head, old, pair[1].double() - old, pair[1])

    _judge(result, layer, blocks, given)


def _judge(result: Comparison, layer: int, blocks: Callable[[], Iterator[_Block]], given: Tensor | None) -> None:
    found = top_direction(blocks)
    if given is not None:
        v = given[layer].double() / given[layer].double().norm()
        result.cosine[layer] = float(abs(v @ found))
    else:
        v = found
    result.directions[layer] = found
    strength = _strength(blocks, v)
    for block in blocks():
        result.heads.append(_head(layer, block, v, strength))


def top_direction(blocks: Callable[[], Iterator[_Block]], rounds: int = 3) -> Tensor:
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


def _strength(blocks: Callable[[], Iterator[_Block]], v: Tensor) -> float:
    """The strength s that fits `change = -s v (v^T W)` best over all heads of the layer."""
    above = below = 0.0
    for block in blocks():
        along = v @ block.before
        above -= float((v @ block.change) @ along)
        below += float(along @ along)
    return above / below if below else math.nan


def _head(layer: int, block: _Block, v: Tensor, strength: float) -> HeadChange:
    along, moved = v @ block.before, v @ block.change
    energy = float(block.change.square().sum())
    scale = float(along.norm())
    cosine = float(-(moved @ along) / (moved.norm() * along.norm()).clamp_min(1e-300))
    wanted = -strength * torch.outer(v, along)
    return HeadChange(
        layer=layer,
        head=block.head,
        size=math.sqrt(energy) / max(float(block.before.norm()), 1e-300),
        explained=float(moved @ moved) / energy if energy else 0.0,
        strength=-float(moved @ along) / scale**2 if scale else math.nan,
        left=float((along + moved).norm()) / scale if scale else math.nan,
        fits=bool(abs(cosine) >= COSINE and _is_rounding(block, wanted)),
    )


def _is_rounding(block: _Block, wanted: Tensor) -> bool:
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


def _compare_adapter(base: Checkpoint, shape: Shape, adapter: Adapter, given: Tensor | None) -> Comparison:
    result = Comparison("adapter")
    result.others = [OtherChange(name, "is no o_proj LoRA") for name in adapter.foreign]
    for layer in sorted(adapter.factors):
        a, b = adapter.factors[layer]
        wanted = (shape.hidden, shape.heads * shape.head_dim)
        if (b.shape[0], a.shape[1]) != wanted:
            result.incomparable = (
                f"the adapter was made for another model (its layer {layer} is {b.shape[0]}x{a.shape[1]}, "
                f"the base's o_proj {wanted[0]}x{wanted[1]})"
            )
            return result
        if layer not in base.o_proj:
            result.incomparable = f"the adapter was made for another model (the base has no layer {layer})"
            return result
        if not base.plain_o_proj(layer):
            raise ThinkEditError(
                f"The o_proj of layer {layer} is quantised in {base.directory}, so it cannot be compared with. "
                "Verify the adapter against the unquantised base."
            )
        weight = base.o_proj_weight(layer)

        def blocks(a: Tensor = a, b: Tensor = b, weight: Tensor = weight) -> Iterator[_Block]:
            for head in range(shape.heads):
                part = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
                change = b.double() @ a[:, part].double()
                if change.any():
                    yield _Block(head, weight[:, part].double(), change, None)

        if next(blocks(), None) is not None:
            _judge(result, layer, blocks, given)
    _compare_claim(result, adapter.directory)
    return result


def _note_formats(result: Comparison, one: Checkpoint, two: Checkpoint) -> None:
    shared = one.tensors.keys() & two.tensors.keys()
    kinds = {(one.tensors[name].dtype, two.tensors[name].dtype) for name in shared}
    result.notes += [f"numbers are stored as {b} instead of {a}" for a, b in sorted(kinds) if a != b]
    names = [sorted(file.name for file in checkpoint.files) for checkpoint in (one, two)]
    if names[0] != names[1]:
        result.notes.append(f"the tensors lie in {len(names[1])} files instead of {len(names[0])}, or under other names")


def _compare_files(result: Comparison, base: Path, other: Path) -> None:
    """Everything beside the weights: what shapes the model counts, the rest is noted."""
    held = [_files(directory) for directory in (base, other)]
    for name in sorted(held[0] | held[1]):
        places = [directory / name for directory in (base, other)]
        if all(place.is_file() for place in places) and _same_file(*places):
            continue
        where = "changed" if name in held[0] & held[1] else f"only in the {'base' if name in held[0] else 'edited model'}"
        if name in IDENTITY_FILES or Path(name).suffix in {".jinja", ".py"}:
            result.files.append(name if where == "changed" else f"{name} ({where})")
        elif name not in OURS:
            result.notes.append(f"{name}: {where}")


def _files(directory: Path) -> set[str]:
    paths = [*directory.iterdir(), *(directory / TEMPLATES).glob("*")]
    names = {str(path.relative_to(directory)) for path in paths if path.is_file() and not path.name.startswith(".")}
    return {name for name in names if Path(name).suffix not in WEIGHTS and name != INDEX}


def _same_file(one: Path, two: Path) -> bool:
    if one.stat().st_size == two.stat().st_size and one.read_bytes() == two.read_bytes():
        return True
    if one.name != "config.json":
        return False
    try:
        values = [json.loads(path.read_text(encoding="utf-8")) for path in (one, two)]
    except ValueError:
        return False
    plain = [{key: value for key, value in v.items() if key not in UNIMPORTANT} for v in values if isinstance(v, dict)]
    return len(plain) == 2 and plain[0] == plain[1]


def _compare_claim(result: Comparison, other: Path) -> None:
    """What edit.json says, against what was found."""
    if not (other / MARK).is_file() or result.incomparable:
        return
    try:
        claim: Mapping[str, Any] = json.loads((other / MARK).read_text(encoding="utf-8"))
        heads = {(int(layer), int(head)) for layer, head in claim["heads"]}
    except (ValueError, KeyError, TypeError):
        result.notes.append(f"{MARK} cannot be read")
        return
    found = {(head.layer, head.head) for head in result.heads}
    if found == heads:
        result.notes.append(f"{MARK} says the same heads")
    else:
        result.notes.append(f"{MARK} names {len(heads)} heads, of which {len(heads & found)} differ from the base here")
