"""Step 5, the edit: takes the direction out of the chosen heads and writes the edited model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from thinkedit.checkpoint import write_edited
from thinkedit.edit import Edit, Head, check_heads, make_edit, save_edit
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import content_hash, read_json
from thinkedit.heads import chosen_heads
from thinkedit.models import default_heads
from thinkedit.pipeline.run import Run, tensor_hash
from thinkedit.pipeline.steer import find_direction


@dataclass(frozen=True, slots=True)
class Edited:
    """`left` maps a layer to what is left along the direction after rounding (0: nothing), relative to before."""

    edit: Edit
    path: Path
    left: dict[int, float]
    share_of_weights: float


def build_edit(run: Run, heads: Sequence[Head] | None, count: int | None, strength: float, direction: Path | None) -> Edit:
    """The edit as a value: the given heads, or the best `count` of `heads.json`."""
    if count is not None and not 1 <= count <= run.shape.all_heads:
        raise UsageError(f"--n-heads {count} makes no sense: the model has {run.shape.all_heads} heads.")
    if not strength > 0:
        raise UsageError(f"The strength must be above 0 (1 removes the direction whole), not {strength}.")
    found = find_direction(run, "attn", direction)
    if heads is None:
        run.needs("heads", "heads")
        rows = read_json(run.directory / "heads.json")
        ranking = [((row["layer"], row["head"]), row["contribution"]) for row in rows]
        heads = chosen_heads(ranking, count or default_heads(run.source.name, run.shape))
    check_heads(heads, run.shape.layers, run.shape.heads)
    return make_edit(heads, found.vectors, run.shape.head_dim, strength)


def edit_heads(
    run: Run,
    heads: Sequence[Head] | None = None,
    n_heads: int | None = None,
    strength: float = 1.0,
    direction: Path | None = None,
    to: Path | None = None,
    link: bool = False,
) -> Edited:
    """Writes `edit.json` and the edited model (`edited/`, or the directory `to`), tokenizer and all."""
    if heads is not None and n_heads is not None:
        raise UsageError("Give either the heads themselves or their number, not both.")
    made = build_edit(run, heads, n_heads, strength, direction)
    out = to or run.directory / "edited"
    total = sum(torch.Size(place.shape).numel() for place in run.checkpoint.tensors.values())
    share = len(made.heads) * run.shape.head_dim * run.shape.hidden / total
    about = {
        "control": "attn",
        "model": run.source.name,
        "base_fingerprint": run.fingerprint,
        "direction_fingerprint": tensor_hash(find_direction(run, "attn", direction).vectors),
        "share_of_weights": share,
    }
    with run.progress.work("writing the edited model", 1, "model") as advance:
        left = write_edited(run.source.path, made, out, link, **about)
        advance(1)
    save_edit(made, run.directory / "edit.json", **about, left_along_direction={str(k): v for k, v in left.items()})
    settings = {"n_heads": len(made.heads), "strength": strength, "direction": str(direction.resolve()) if direction else None}
    run.note("edit", settings, identity=edit_hash(made), path=str(out))
    return Edited(made, out, left, share)


def current_edit(run: Run) -> Edit:
    """The edit that `edit.json` of this run describes. Raises where its direction is no longer what it was."""
    entry = run.needs("edit", "edit")
    value = read_json(run.directory / "edit.json")
    heads = [(int(layer), int(head)) for layer, head in value["heads"]]
    made = build_edit(run, heads, None, float(value["strength"]), edit_direction(run))
    if edit_hash(made) != entry["identity"]:
        raise ThinkEditError(f"The direction has changed since the edit was made. Make it again: {run.command('edit')}")
    return made


def edit_direction(run: Run) -> Path | None:
    """The file of the direction that the edit was made with; None for this run's own."""
    path = run.needs("edit", "edit")["settings"]["direction"]
    return Path(path) if path else None


def edit_hash(made: Edit) -> str:
    vectors = {str(layer): tensor_hash(made.directions[layer]) for layer in made.layers}
    return content_hash([sorted(made.heads), {str(k): v for k, v in made.strengths.items()}, vectors, made.head_dim])
