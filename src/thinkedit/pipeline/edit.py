"""Step 5, the edit: takes the direction out of the chosen heads and writes the edited model, or an adapter.

Nothing here needs torch, which takes longer to load than a small model to copy.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinkedit.artifacts.adapter import write_adapter
from thinkedit.artifacts.card import base_name, figures_table, hub_id, model_card, reproduce_record
from thinkedit.artifacts.checkpoint import CARD, MARK, EditedModel, check_target
from thinkedit.direction_quality import warning
from thinkedit.directions import check_origin, read_stored
from thinkedit.edit import Edit, edit_record, make_edit
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import array_hash, as_json, content_hash, read_json, read_object, whole_directory, write_json
from thinkedit.heads import chosen_heads
from thinkedit.models import default_heads
from thinkedit.named_heads import Head, check_heads, published_heads
from thinkedit.pipeline.documents import MANIFEST, as_written
from thinkedit.pipeline.manifest import versions
from thinkedit.pipeline.run import Run

REPRODUCE = "reproduce.json"
OUTPUTS = MODEL, ADAPTER = "edited", "adapter"  # in the run's directory


@dataclass(frozen=True, slots=True)
class Edited:
    """`left` maps a layer to what is left along the direction after rounding (0: nothing), relative to before.

    `left_out` names weight files of the base in other formats, which the edited model goes without.
    """

    edit: Edit
    path: Path
    left: dict[int, float]
    share_of_weights: float
    left_out: list[str]


def build_edit(run: Run, heads: Sequence[Head] | None, count: int | None, strength: float, direction: Path | None) -> Edit:
    """The edit as a value: the given heads, or the best `count` of `heads.json`."""
    if count is not None and not 1 <= count <= run.shape.all_heads:
        raise UsageError(f"--n-heads {count} makes no sense: the model has {run.shape.all_heads} heads.")
    if not strength > 0 or math.isinf(strength):
        raise UsageError(f"The strength must be above 0 (1 removes the direction whole), not {strength}.")
    vectors = attn_vectors(run, direction)
    if heads is None:
        run.manifest.needs("heads")
        path = run.directory / "heads.json"
        rows = read_json(path)
        with as_written(path):
            ranking = [((int(row["layer"]), int(row["head"])), float(row["contribution"])) for row in rows]
        heads = chosen_heads(ranking, count or default_heads(run.source.name, run.shape))
    check_heads(heads, run.shape.layers, run.shape.heads)
    return make_edit(heads, vectors, run.shape.head_dim, strength)


def attn_vectors(run: Run, path: Path | None) -> NDArray[np.float32]:
    """The attn direction [layers, hidden] of this run, or that of a file; checked against the model."""
    if path is None:
        run.manifest.needs("extract")
    elif path.suffix != ".safetensors":  # a published file, which only torch can read
        from thinkedit.pipeline.steer import find_direction

        return find_direction(run, "attn", path).vectors.numpy()
    vectors, control, about = read_stored(path or run.directory / "direction-attn.safetensors")
    if control != "attn":
        raise UsageError(f"{path} is an {control} direction, but an edit takes the attn direction out.")
    check_origin(vectors.shape, about, run.shape.layers, run.shape.hidden, run.fingerprint, run.source.name)
    return vectors


def _doubt(run: Run, path: Path | None) -> str | None:
    """What speaks against the direction; a published file says nothing about it."""
    if path is not None and path.suffix != ".safetensors":
        return None
    return warning(read_stored(path or run.directory / "direction-attn.safetensors")[2], "attn")


def edit_heads(
    run: Run,
    heads: Sequence[Head] | Literal["published"] | None = None,
    n_heads: int | None = None,
    strength: float = 1.0,
    direction: Path | None = None,
    to: Path | None = None,
    link: bool = False,
    adapter: bool = False,
) -> Edited:
    """Writes `edit.json` and the edited model (`edited/`, or the directory `to`), tokenizer and all.

    `adapter` writes the edit as a LoRA adapter of rank 1 instead (`adapter/`). `heads` "published" takes the authors' list.
    """
    if heads == "published":
        heads = published_heads(run.source, run.shape, n_heads)
    elif heads is not None and n_heads is not None:
        raise UsageError("Give either the heads themselves or their number, not both.")
    if heads is not None:  # nothing that these heads make impossible is done first
        check_heads(heads, run.shape.layers, run.shape.heads)
    made_edit = build_edit(run, heads, n_heads, strength, direction)
    out = to or run.directory / (ADAPTER if adapter else MODEL)
    if doubt := _doubt(run, direction):
        run.progress.say(doubt)
    title = "writing the adapter" if adapter else "writing the edited model"
    run.manifest.begin("edit")
    with run.progress.work(title, 1, "adapter" if adapter else "model") as advance:
        write = _write_adapter if adapter else _write_model
        made = write(run, made_edit, direction, out, link)
        advance(1)
    left = {str(layer): value for layer, value in made.left.items()}
    write_json(run.directory / "edit.json", _record(run, made.edit, direction, left))
    settings = {
        "n_heads": len(made.edit.heads),
        "strength": strength,
        "direction": str(direction.resolve()) if direction else None,
    }
    run.manifest.note("edit", settings, identity=edit_hash(made.edit), path=str(out))
    return made


def _write_model(run: Run, made: Edit, direction: Path | None, out: Path, link: bool) -> Edited:
    about = _about(run, made, direction)
    with EditedModel(run.checkpoint, out, link) as model:
        left = model.write(made, **about)
        about["left_along_direction"] = left
        for name, content in documents(run, made, about, adapter=False).items():
            model.add(name, content)
    return Edited(made, out, left, about["share_of_weights"], model.left_out)


def _write_adapter(run: Run, made: Edit, direction: Path | None, out: Path, link: bool) -> Edited:
    if link:
        raise UsageError("An adapter holds none of the base's files, so there is nothing to --link.")
    check_target(run.source.path, out)
    how = run.checkpoint.quantisation()
    for layer in made.layers:
        if how and not run.checkpoint.plain_o_proj(layer):
            raise ThinkEditError(
                f"{run.source.name} is quantised ({how}) and so is the o_proj of layer {layer}: it cannot be read exactly, "
                "so the edit of it is not known.\nMake the adapter from the unquantised model "
                "(thinkedit edit --adapter --model UNQUANTISED) and serve it on top of this one."
            )
        run.checkpoint.check_shape(layer)
    about = _about(run, made, direction)
    left = {layer: abs(1 - made.strengths[layer]) for layer in made.layers}  # before any rounding: W + B A is exact
    with whole_directory(out) as temporary:
        write_adapter(made, run.o_proj_weight, temporary, hub_id(run.source) or str(run.source.path.resolve()))
        write_json(temporary / MARK, _record(run, made, direction, {str(k): v for k, v in left.items()}))
        for name, content in documents(run, made, about, adapter=True).items():
            (temporary / name).write_bytes(content)
    return Edited(made, out, left, about["share_of_weights"], [])


def _about(run: Run, made: Edit, direction: Path | None) -> dict[str, Any]:
    """What `edit.json` says beside heads and strength."""
    total = sum(math.prod(place.shape) for place in run.checkpoint.tensors.values())
    heads_step = run.manifest.steps.get("heads", {})
    return {
        "control": "attn",
        "suppress": heads_step.get("settings", {}).get("suppress", "short"),
        "model": base_name(run.source),
        "direction": direction.name if direction else "of the run",
        "base_fingerprint": run.fingerprint,
        "direction_fingerprint": array_hash(attn_vectors(run, direction)),
        "identity": edit_hash(made),
        "share_of_weights": len(made.heads) * run.shape.head_dim * run.shape.hidden / total,
    }


def _record(run: Run, made: Edit, direction: Path | None, left: Mapping[str, float]) -> dict[str, object]:
    return edit_record(made, **_about(run, made, direction), left_along_direction=dict(left))


def documents(run: Run, made: Edit, about: Mapping[str, Any], adapter: bool) -> dict[str, bytes]:
    """The card and `reproduce.json`, name -> content; with the run's figures where they are this edit's."""
    summary = edit_summary(run.directory, made.heads, set(made.strengths.values()))
    card = model_card(run.source, made, about, adapter, figures_table(summary) if summary else None)
    return {CARD: card.encode(), REPRODUCE: as_json(reproduce_record(run.source, about, versions(), run.manifest.commands))}


def edit_summary(directory: Path, heads: Sequence[Head], strengths: set[float]) -> dict[str, Any] | None:
    """`summary.json` of a run, if it is about the edit of these heads at this strength."""
    path = directory / "summary.json"
    if not path.is_file():
        return None
    summary = read_object(path)
    measured = {(int(layer), int(head)) for layer, head in (summary.get("heads") or {}).get("edited", [])}
    same = measured == set(heads) and strengths == {(summary.get("edit") or {}).get("strength")}
    return summary if same else None


def current_edit(run: Run) -> Edit:
    """The edit that `edit.json` of this run describes. Raises where its direction is no longer what it was."""
    entry = run.manifest.needs("edit")
    path = run.directory / "edit.json"
    value = read_object(path)
    with as_written(path):
        heads, strength = [(int(layer), int(head)) for layer, head in value["heads"]], float(value["strength"])
    made = build_edit(run, heads, None, strength, edit_direction(run))
    if edit_hash(made) != entry["identity"]:
        raise ThinkEditError(f"The direction has changed since the edit was made. Make it again: {run.command('edit')}")
    return made


def edit_direction(run: Run) -> Path | None:
    """The file of the direction that the edit was made with; None for this run's own."""
    with as_written(run.directory / MANIFEST):
        path = run.manifest.needs("edit")["settings"]["direction"]
    return Path(path) if path else None


def edit_hash(made: Edit) -> str:
    """The identity of an edit. Last bits do not count: they hang on the library that took a norm, not on the edit."""
    vectors = {str(layer): array_hash(made.directions[layer].astype(np.float32)) for layer in made.layers}
    strengths = {str(layer): f"{strength:.9g}" for layer, strength in made.strengths.items()}
    return content_hash([sorted(made.heads), strengths, vectors, made.head_dim])
