"""What a directory holds, as evidence for a report: a run's, or imported from elsewhere. No model is needed for it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json, read_object
from thinkedit.metrics import published_lengths
from thinkedit.models import TINY
from thinkedit.pipeline.documents import as_written, read_manifest
from thinkedit.records import Record, read_entries
from thinkedit.report import Evidence
from thinkedit.report.evidence import BASE, placebo_kind

Evaluation = dict[str, dict[str, list[Record]]]  # task -> arm -> records
CONTROLS = ("attn", "mlp")


def is_evidence(directory: Path) -> bool:
    """Whether a directory is a run, or imported evidence."""
    return (directory / "run.json").is_file()


def find_evidence(paths: Iterable[Path]) -> list[Path]:
    """The directories of evidence that the paths are, or that lie right inside of them, each once.

    Raises ThinkEditError where a path holds none, and says how to import it where it looks like others' files.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        inside = [path] if is_evidence(path) else sorted(child for child in _children(path) if is_evidence(child))
        if not inside:
            if not path.exists():
                raise ThinkEditError(f"{path} does not exist; a run directory or imported evidence is expected.")
            raise ThinkEditError(
                f"{path} is no run directory and holds none. Files that were made elsewhere are imported first:\n"
                f"  thinkedit import {path} --out imported/mine\n  thinkedit analyze imported/mine"
            )
        found |= {one.resolve(): one for one in inside}
    return list(found.values())


def gather(directory: Path, quirks: bool = False) -> Evidence:
    """Everything that the steps of a run, or an import, have left. `quirks` counts lengths as the published scripts do."""
    manifest = read_manifest(directory)
    with as_written(directory):
        return _gathered(directory, manifest, quirks)


def _gathered(directory: Path, manifest: dict[str, Any], quirks: bool) -> Evidence:
    unfinished = manifest.get("unfinished", [])
    steps: dict[str, Any] = {name: entry for name, entry in manifest["steps"].items() if name not in unfinished}

    def records(step: str) -> list[Record]:
        entry = steps.get(step)
        if entry is None:
            return []
        return read_entries(directory, [entry["file"]] if "file" in entry else entry["files"].values())

    edit = read_object(directory / "edit.json") if "edit" in steps else None
    return Evidence(
        model=manifest["model"],
        settings=_settings(manifest),
        probe=records("generate"),
        steering=records("steer"),
        scan=records("scan"),
        evaluation=as_counted(quirks, _evaluation(directory, steps.get("evaluate"))),
        contributions=_contributions(directory) if "heads" in steps else None,
        edited_heads=[tuple(head) for head in edit["heads"]] if edit else [],
        direction=_direction(directory, steps.get("extract"), manifest["model"]),
        edit=_edit(edit) if edit else None,
        commands=manifest.get("commands", []),
    )


def as_counted(quirks: bool, evaluation: Evaluation) -> Evaluation:
    """The records with their lengths counted our way or, with the published quirks, the published way."""
    if not quirks:
        return evaluation
    return {task: {arm: published_lengths(records) for arm, records in arms.items()} for task, arms in evaluation.items()}


def _children(path: Path) -> list[Path]:
    return [child for child in path.iterdir() if child.is_dir()] if path.is_dir() else []


def _settings(manifest: dict[str, Any]) -> dict[str, Any]:
    steps = {name: entry["settings"] for name, entry in manifest["steps"].items() if entry.get("settings")}
    settings: dict[str, Any] = {"model": manifest["model"]}
    if manifest.get("fingerprint"):
        settings["fingerprint"] = manifest["fingerprint"][:16]
    if "imported" in manifest:
        settings["imported from"] = [Path(source).name for source in manifest["imported"]["sources"]]
    return settings | steps | {"versions": manifest.get("versions", {})}


def _evaluation(directory: Path, entry: dict[str, Any] | None) -> Evaluation:
    found: Evaluation = {}
    for key, file in (entry["files"] if entry else {}).items():
        task, arm = key.split("|", 1)
        found.setdefault(task, {})[arm] = read_entries(directory, [file])
    return {task: dict(sorted(arms.items(), key=lambda arm: _place(arm[0]))) for task, arms in found.items()}


def _place(arm: str) -> tuple[bool, str]:
    """The base, then edits, then the draws of each placebo."""
    return arm != BASE, placebo_kind(arm) or ""


def _contributions(directory: Path) -> np.ndarray:
    rows = read_json(directory / "heads.json")
    grid = np.zeros((1 + max(row["layer"] for row in rows), 1 + max(row["head"] for row in rows)))
    for row in rows:
        grid[row["layer"], row["head"]] = row["contribution"]
    return grid


def _direction(directory: Path, entry: dict[str, Any] | None, model: str) -> dict[str, Any] | None:
    files = {control: directory / f"direction-{control}.safetensors" for control in CONTROLS}
    files = {control: path for control, path in files.items() if path.is_file()}
    if entry is None or not files:
        return None
    from thinkedit.directions import read_stored

    directions = {control: read_stored(path)[0] for control, path in files.items()}
    about: dict[str, Any] = {
        "rule": entry["rule"],
        "short_count": len(entry["short"]),
        "long_count": len(entry["long"]),
        "responses": entry["responses"],
        "left_out": entry["left_out"],
        "quality": entry.get("quality", {}),
        "norms": {control: np.linalg.norm(vectors, axis=1).tolist() for control, vectors in directions.items()},
    }
    planted = _planted(model)
    if planted is not None:
        about["planted_cosine"] = {control: planted_cosine(vectors, planted) for control, vectors in directions.items()}
    return about


def _planted(model: str) -> Path | None:
    """The direction that was planted into an embedded model, whose truth is known."""
    from thinkedit.tiny import MODEL_DIR

    path = (MODEL_DIR if model == TINY else Path(model)) / "planted" / "direction.safetensors"
    return path if path.is_file() else None


def planted_cosine(vectors: NDArray[np.float32], path: Path) -> list[float]:
    """Cosine of each layer's direction with the one that was planted, whose sign is that of haste: it is turned round."""
    from safetensors.numpy import load_file

    haste, wide = load_file(path)["direction"], vectors.astype(np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1))
    return (-(wide * haste).sum(axis=1) / np.maximum(norms, 1e-12)).tolist()  # not BLAS, see `statistics`


def _edit(value: dict[str, Any]) -> dict[str, Any]:
    return {
        "strength": value["strength"],
        "share_of_weights": value["share_of_weights"],
        "residual": max(value["left_along_direction"].values()),
    }
