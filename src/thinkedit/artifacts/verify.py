"""What an edited model really differs in: the base and the other model, tensor by tensor, with no other information.

Both are read as bytes in chunks; only an o_proj that differs is read as a matrix, one layer at a time. The heads are the
columns that changed; changes.py decides on numbers whether their change is an edit.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from thinkedit.artifacts.adapter import ADAPTER_CONFIG, Adapter
from thinkedit.artifacts.changes import Block, Blocks, best_strength, judge, top_direction
from thinkedit.artifacts.checkpoint import FLOATS, MARK, Checkpoint
from thinkedit.artifacts.comparison import Comparison, OtherChange
from thinkedit.artifacts.file_changes import file_changes
from thinkedit.config import Shape, read_config, read_shape
from thinkedit.errors import ThinkEditError
from thinkedit.files import read_object
from thinkedit.progress import Progress, Silent

CHUNK = 8 << 20  # bytes of a tensor compared at once


def compare(base: Path, other: Path, given: Tensor | None = None, progress: Progress = Silent()) -> Comparison:
    """Compares the model in `other`, a checkpoint or a LoRA adapter, with the base. `given` [layers, hidden] is a direction.

    Raises ThinkEditError for what cannot be read.
    """
    if (other / ADAPTER_CONFIG).is_file():
        return _compare_adapter(Checkpoint(base), read_shape(base), Adapter.read(other), given)
    one, two = Checkpoint(base), Checkpoint(other)
    result = Comparison("checkpoint")
    result.incomparable = _why_incomparable(one, two)
    if result.incomparable:
        return result
    names = sorted(one.tensors.keys() | two.tensors.keys())
    with progress.work("comparing the tensors", len(names), "tensor") as advance:
        for name in names:
            _compare_tensor(result, one, two, name, given)
            advance(1)
    result.heads.sort(key=lambda head: (head.layer, head.head))
    _note_formats(result, one, two)
    result.files, noted = file_changes(base, other)
    result.notes += noted
    _compare_claim(result, other)
    return result


def _compare_tensor(result: Comparison, one: Checkpoint, two: Checkpoint, name: str, given: Tensor | None) -> None:
    if name not in two.tensors or name not in one.tensors:
        result.others.append(OtherChange(name, f"only in the {'base' if name in one.tensors else 'edited model'}"))
    elif one.tensors[name].shape != two.tensors[name].shape:
        result.others.append(OtherChange(name, f"{one.tensors[name].shape} became {two.tensors[name].shape}"))
    elif not same_tensor(one, two, name):
        layer = next((layer for layer, o_proj in one.o_proj.items() if o_proj == name), None)
        if layer is not None and {one.tensors[name].dtype, two.tensors[name].dtype} <= FLOATS.keys():
            before = one.read(name).to(getattr(torch, FLOATS[two.tensors[name].dtype]))
            _add_layer(result, layer, _changed(before, two.read(name), read_shape(one.directory)), given)
        else:
            result.others.append(OtherChange(name, _how_much(one, two, name)))


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


def _add_layer(result: Comparison, layer: int, blocks: Blocks, given: Tensor | None) -> None:
    """Adds the changed heads of a layer, judged along the given direction or the one that is found in them."""
    v = found = top_direction(blocks)
    if given is not None:
        v = given[layer].double() / given[layer].double().norm()
        result.cosine[layer] = float(abs(v @ found))
    result.directions[layer] = found
    strength = best_strength(blocks, v)
    result.heads += [judge(layer, block, v, strength) for block in blocks()]


def _changed(before: Tensor, after: Tensor, shape: Shape) -> Blocks:
    """The heads whose columns differ."""

    def blocks() -> Iterator[Block]:
        for head in range(shape.heads):
            part = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
            if not torch.equal(before[:, part], after[:, part]):
                old = before[:, part].double()
                yield Block(head, old, after[:, part].double() - old, after[:, part])

    return blocks


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

        def blocks(a: Tensor = a, b: Tensor = b, weight: Tensor = weight) -> Iterator[Block]:
            for head in range(shape.heads):
                part = slice(head * shape.head_dim, (head + 1) * shape.head_dim)
                change = b.double() @ a[:, part].double()
                if change.any():
                    yield Block(head, weight[:, part].double(), change, None)

        if next(blocks(), None) is not None:
            _add_layer(result, layer, blocks, given)
    _compare_claim(result, adapter.directory)
    return result


def _note_formats(result: Comparison, one: Checkpoint, two: Checkpoint) -> None:
    shared = one.tensors.keys() & two.tensors.keys()
    kinds = {(one.tensors[name].dtype, two.tensors[name].dtype) for name in shared}
    result.notes += [f"numbers are stored as {b} instead of {a}" for a, b in sorted(kinds) if a != b]
    names = [sorted(file.name for file in checkpoint.files) for checkpoint in (one, two)]
    if names[0] != names[1]:
        result.notes.append(f"the tensors lie in {len(names[1])} files instead of {len(names[0])}, or under other names")


def _compare_claim(result: Comparison, other: Path) -> None:
    """What edit.json says, against what was found."""
    if not (other / MARK).is_file() or result.incomparable:
        return
    try:
        heads = {(int(layer), int(head)) for layer, head in read_object(other / MARK)["heads"]}
    except (ThinkEditError, ValueError, KeyError, TypeError, OverflowError):
        result.notes.append(f"{MARK} cannot be read")
        return
    found = {(head.layer, head.head) for head in result.heads}
    if found == heads:
        result.notes.append(f"{MARK} says the same heads")
    else:
        result.notes.append(f"{MARK} names {len(heads)} heads, of which {len(heads & found)} differ from the base here")
