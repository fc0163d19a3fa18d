"""Step 7, the analysis: gathers what a run has measured and writes its report."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from thinkedit.directions import load_direction
from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json
from thinkedit.metrics import published_lengths
from thinkedit.pipeline.run import Run
from thinkedit.records import Record
from thinkedit.report import Evidence
from thinkedit.report.write import write_report

Evaluation = dict[str, dict[str, list[Record]]]  # task -> arm -> records


def analyze(run: Run) -> dict[str, Any]:
    """Writes `summary.json` and `report/`; gives the summary."""
    if not run.manifest["steps"]:
        raise ThinkEditError(f"{run.directory} holds no results yet; first run: {run.command('run')}")
    with run.progress.work("report", 1, "page") as advance:
        summary = write_report(gather(run), run.directory)
        advance(1)
    run.note("analyze", {}, page="report/index.html")
    return summary


def gather(run: Run) -> Evidence:
    """Everything that the steps of this run have left."""
    probe, steered, scanned = (run.step(name) for name in ("generate", "steer", "scan"))
    made = run.step("edit")
    return Evidence(
        model=run.source.name,
        settings=_settings(run),
        probe=run.read_records([probe["file"]]) if probe else [],
        steering=run.read_records(steered["files"].values()) if steered else [],
        scan=run.read_records(scanned["files"].values()) if scanned else [],
        evaluation=_evaluation(run),
        contributions=_contributions(run) if run.step("heads") else None,
        edited_heads=[tuple(head) for head in read_json(run.directory / "edit.json")["heads"]] if made else [],
        direction=_direction(run) if run.step("extract") else None,
        edit=_edit(run) if made else None,
        commands=run.manifest["commands"],
    )


def _settings(run: Run) -> dict[str, Any]:
    steps = {name: entry["settings"] for name, entry in run.manifest["steps"].items() if entry["settings"]}
    return {
        "model": run.source.name,
        "fingerprint": run.fingerprint[:16],
        **steps,
        "versions": run.manifest["versions"],
    }


def _evaluation(run: Run) -> Evaluation:
    entry = run.step("evaluate")
    found: Evaluation = {}
    for key, file in (entry["files"] if entry else {}).items():
        task, arm = key.split("|", 1)
        found.setdefault(task, {})[arm] = run.read_records([file])
    return as_counted(run, found)


def as_counted(run: Run, evaluation: Evaluation) -> Evaluation:
    """The records with their lengths counted our way or, with the published quirks, the published way."""
    if not run.options.published_quirks:
        return evaluation
    return {task: {arm: published_lengths(records) for arm, records in arms.items()} for task, arms in evaluation.items()}


def _contributions(run: Run) -> np.ndarray:
    grid = np.zeros((run.shape.layers, run.shape.heads))
    for row in read_json(run.directory / "heads.json"):
        grid[row["layer"], row["head"]] = row["contribution"]
    return grid


def _direction(run: Run) -> dict[str, Any]:
    entry = run.needs("extract", "extract")
    directions = {control: load_direction(run.directory / f"direction-{control}.safetensors") for control in ("attn", "mlp")}
    about: dict[str, Any] = {
        "rule": entry["rule"],
        "short_count": len(entry["short"]),
        "long_count": len(entry["long"]),
        "responses": entry["responses"],
        "left_out": entry["left_out"],
        "norms": {control: found.vectors.norm(dim=1).tolist() for control, found in directions.items()},
    }
    planted = run.source.path / "planted.safetensors"
    if planted.is_file():
        about["planted_cosine"] = {control: planted_cosine(found.vectors, planted) for control, found in directions.items()}
    return about


def planted_cosine(vectors: Tensor, path: Path) -> list[float]:
    """Cosine of each layer's direction with the one that was planted, whose sign is that of haste: it is turned round."""
    haste = load_file(path)["direction"]
    return [float(-(v @ haste) / v.norm().clamp_min(1e-12)) for v in vectors]


def _edit(run: Run) -> dict[str, Any]:
    value = read_json(run.directory / "edit.json")
    return {
        "strength": value["strength"],
        "share_of_weights": value["share_of_weights"],
        "residual": max(value["left_along_direction"].values()),
    }
