"""What steering did: a row of figures for each control, layer and strength."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from thinkedit.metrics import by_group, grid
from thinkedit.records import Record
from thinkedit.report.measures import group_figures
from thinkedit.statistics import spearman


@dataclass(frozen=True, slots=True)
class Setting:
    """One steering setting with its records. `control` None: the unsteered model, which belongs to every control."""

    task: str
    control: str | None
    alpha: float
    layer: int | None
    records: list[Record]


def settings_of(records: Iterable[Record]) -> list[Setting]:
    """Steering records apart by task, control, layer and alpha, in that order; unsteered records have alpha 0."""
    parts: dict[tuple[str, str, int, float], list[Record]] = {}
    for record in records:
        layer = -1 if record.layer is None else record.layer
        parts.setdefault((record.task, record.control or "", layer, record.alpha or 0.0), []).append(record)
    return [
        Setting(task, control or None, alpha, None if layer < 0 else layer, part)
        for (task, control, layer, alpha), part in sorted(parts.items(), key=lambda item: item[0])
    ]


def steering_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """A row for each setting: task, control, alpha, layer and the figures of the setting, as a whole and by group."""
    rows = []
    for setting in settings_of(records):
        arm = grid(setting.records)
        row = {"task": setting.task, "control": setting.control, "alpha": setting.alpha, "layer": setting.layer}
        groups = {name: group_figures(part) for name, part in by_group(arm).items()}
        rows.append(row | group_figures(arm) | {"groups": groups})
    return rows


def steering_figures(records: Iterable[Record]) -> dict[str, Any]:
    """The rows, and for each task and control the rank correlation of mean thinking length with alpha."""
    rows = steering_rows(records)
    correlations: dict[str, dict[str, float | None]] = {}
    for row in rows:
        task, control = row["task"], row["control"]
        if control is None or control in correlations.get(task, {}):
            continue
        curve = [r for r in rows if r["task"] == task and r["control"] in (control, None) and r["thinking_length"]]
        correlations.setdefault(task, {})[control] = spearman(
            [r["alpha"] for r in curve], [r["thinking_length"]["value"] for r in curve]
        )
    return {"rows": rows, "length_rank_correlation": correlations}
