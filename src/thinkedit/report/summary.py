"""`summary.json`: every figure of the report with its interval, under keys that stay."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thinkedit.metrics import Grid, grid, paired, stacked
from thinkedit.records import Record
from thinkedit.report.evidence import BASE, PLACEBOS, Evidence, edits_of, placebo_kind, primary_arm
from thinkedit.report.measures import (
    Figures,
    accuracy_difference,
    arm_figures,
    comparison_figures,
    group_figures,
    histogram,
    length_difference,
)
from thinkedit.report.steering import steering_figures, steering_rows
from thinkedit.report.verdict import Placebo, placebo, verdict
from thinkedit.statistics import LEVEL, RESAMPLES, Array

SCHEMA = 1
Summary = dict[str, Any]
BINS = 32
THRESHOLDS = 24


def summarise(evidence: Evidence) -> dict[str, Any]:
    """All figures of a run as one JSON-serialisable dict; sections without evidence are absent.

    Shares (accuracies and their differences) are in [0, 1]; lengths are tokens of closed thoughts; a figure is
    {value, low, high, n}: its 95 % interval over n questions.
    """
    arms = {task: {name: grid(records) for name, records in part.items()} for task, part in evidence.evaluation.items()}
    primary = primary_arm(evidence)
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "model": evidence.model,
        "settings": evidence.settings,
        "statistics": {"level": LEVEL, "resamples": RESAMPLES, "unit": "question", "interval": "expanded percentile"},
    }
    if primary is not None:
        summary["verdict"] = _verdict(arms, primary)
    if evidence.probe:
        summary["probe"] = _probe(evidence.probe)
    if evidence.direction is not None:
        summary["direction"] = evidence.direction
    if evidence.steering:
        summary["steering"] = steering_figures(evidence.steering)
    if evidence.scan:
        summary["layer_scan"] = {"rows": steering_rows(evidence.scan)}
    if evidence.contributions is not None:
        contributions = np.asarray(evidence.contributions, dtype=np.float64)
        summary["heads"] = {"contributions": contributions.tolist(), "edited": [list(p) for p in evidence.edited_heads]}
    if evidence.edit is not None:
        summary["edit"] = evidence.edit
    if arms:
        summary["evaluation"] = {
            task: _task(part, primary) | {"cut_without_answer": _cut_without_answer(evidence.evaluation[task])}
            for task, part in arms.items()
        }
    if evidence.commands:
        summary["commands"] = list(evidence.commands)
    return plain(summary)


def _verdict(arms: dict[str, dict[str, Grid]], primary: str) -> Figures:
    """The primary figure is over all questions of all tasks that hold both the base and the primary edit."""
    held = {task: part for task, part in arms.items() if BASE in part and primary in part}

    def pooled(name: str) -> Grid:
        return stacked({task: part[name] for task, part in held.items()})

    first = next(iter(held.values()))
    shared = [name for name in first if all(name in part for part in held.values())]
    base, edited = paired(pooled(BASE), pooled(primary))
    draws = {kind: [name for name in shared if placebo_kind(name) == kind] for kind in PLACEBOS}
    placebos = [placebo(kind, base, edited, {name: pooled(name) for name in names}) for kind, names in draws.items() if names]
    accuracy, length = accuracy_difference(base, edited), length_difference(base, edited)
    words = verdict(accuracy, length if length.n else None, placebos, primary)
    return words.as_dict() | {
        "primary": {"figure": "accuracy_difference", "arm": primary, **accuracy.as_dict()},
        "thinking_length_difference": length.as_dict() if length.n else None,
        "placebos": [one.as_dict() for one in placebos],
    }


def _task(arms: dict[str, Grid], primary: str | None) -> Figures:
    edges, thresholds = scales([arm for name, arm in arms.items() if placebo_kind(name) is None] or list(arms.values()))
    figures: Figures = {
        "thresholds": thresholds.tolist(),
        "histogram_edges": edges.tolist(),
        "arms": {name: arm_figures(arm, None if placebo_kind(name) else thresholds, edges) for name, arm in arms.items()},
    }
    if BASE in arms:
        base = arms[BASE]
        others = {name: paired(base, arm) for name, arm in arms.items() if name != BASE}
        figures["comparisons"] = {name: comparison_figures(*pair) for name, pair in others.items() if pair[0].keys}
        edit = primary if primary in arms else next(iter(edits_of(arms)), None)
        if edit is not None:
            figures["placebos"] = [one.as_dict() for one in _placebos(arms, edit)]
    return figures


def _cut_without_answer(arms: Mapping[str, Sequence[Record]]) -> int:
    """Thoughts that hit the cap and were not asked for an answer: a server that only chats cannot go on from them."""
    return sum(record.status == "truncated" and record.forced is None for records in arms.values() for record in records)


def _placebos(arms: dict[str, Grid], edit: str) -> list[Placebo]:
    kinds = {kind: {name: arm for name, arm in arms.items() if placebo_kind(name) == kind} for kind in PLACEBOS}
    return [placebo(kind, arms[BASE], arms[edit], draws) for kind, draws in kinds.items() if draws]


def scales(arms: list[Grid]) -> tuple[Array, Array]:
    """Common histogram edges and thresholds in tokens, up to where 99.5 % of the closed thoughts lie.

    Logarithmic where the lengths span more than a factor of 30, so that brief thoughts keep their shape.
    """
    lengths = np.concatenate([arm.length[~np.isnan(arm.length)] for arm in arms])
    if not len(lengths):
        return np.array([0.0, 1.0]), np.array([1.0])
    low, middle, high = np.quantile(lengths, [0.005, 0.5, 0.995])
    low, high = max(1.0, low), max(high, low + 1)
    if high / low > 30 and middle < high / 4:
        edges = np.unique(np.round(np.geomspace(low, high, BINS + 1)))
    else:
        width = max(1.0, np.ceil((high - low) / BINS))
        edges = np.arange(np.floor(low), high + 2 * width, width)
    thresholds = np.unique(np.round(np.quantile(lengths, np.linspace(0.02, 1, THRESHOLDS))))
    return edges.astype(np.float64), thresholds


def _probe(records: list[Record]) -> Figures:
    arm = grid(records)
    edges, _ = scales([arm])
    lengths = arm.length[~np.isnan(arm.length)]
    return group_figures(arm) | {"histogram_edges": edges.tolist(), "histogram": histogram(lengths, edges)}


def plain(value: Any) -> Any:
    """The same value in JSON's own types; what is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.bool_ | bool):
        return bool(value)
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return float(value) if np.isfinite(value) else None
    return value if value is None or isinstance(value, str) else str(value)
