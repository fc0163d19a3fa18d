"""Several models in one report: each keeps its own figures and its own verdict, and nothing is pooled over models."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from thinkedit.report.evidence import BASE, Arms, Evidence, primary_arm
from thinkedit.report.published import published_accuracy
from thinkedit.report.summary import SCHEMA, Summary


def joint_summary(summaries: Mapping[str, Summary], published: bool = False, commands: list[str] | None = None) -> Summary:
    """The figures of several models as one summary, whose tasks are called `model: task`.

    `models` lists each with its verdict, its differences to its base by task, and the paper's where `published`. There is
    no verdict over all of them.
    """
    first = next(iter(summaries.values()))
    joint: Summary = {
        "schema": SCHEMA,
        "model": ", ".join(summaries),
        "settings": {name: summary["settings"] for name, summary in summaries.items()},
        "statistics": first["statistics"],
        "models": [_model(name, summary, published) for name, summary in summaries.items()],
    }
    evaluation = {
        _name(model, task): figures
        for model, summary in summaries.items()
        for task, figures in summary.get("evaluation", {}).items()
    }
    if evaluation:
        joint["evaluation"] = evaluation
    for part in ("steering", "layer_scan"):
        rows = [
            row | {"task": _name(model, row["task"])}
            for model, summary in summaries.items()
            for row in summary.get(part, {}).get("rows", [])
        ]
        if rows:
            joint[part] = {"rows": rows}
    correlations = {
        _name(model, task): found
        for model, summary in summaries.items()
        for task, found in summary.get("steering", {}).get("length_rank_correlation", {}).items()
    }
    if correlations:
        joint["steering"]["length_rank_correlation"] = correlations
    if commands:
        joint["commands"] = commands
    return joint


def joint_evaluation(evidence: Mapping[str, Evidence]) -> dict[str, Arms]:
    """The records of several models by `model: task`, base and primary edit only, for the browser of questions."""
    found: dict[str, Arms] = {}
    for model, one in evidence.items():
        edit = primary_arm(one)
        for task, arms in one.evaluation.items():
            kept = {name: arms[name] for name in (BASE, edit) if name in arms} or dict(list(arms.items())[:1])
            named = _name(model, task)
            renamed = {BASE if name == BASE else "edited": records for name, records in kept.items()}
            found[named] = {name: [replace(r, task=named) for r in records] for name, records in renamed.items()}
    return found


def _name(model: str, task: str) -> str:
    return f"{model}: {task}"


def _model(name: str, summary: Summary, published: bool) -> dict[str, Any]:
    verdict = summary.get("verdict")
    arm = verdict["primary"]["arm"] if verdict else None
    tasks: dict[str, Any] = {}
    for task, figures in summary.get("evaluation", {}).items():
        pair = figures.get("comparisons", {}).get(arm)
        paper = [published_accuracy(summary["model"], task, edited) for edited in (False, True)] if published else [None, None]
        tasks[task] = {
            "accuracy_difference": pair and pair["accuracy_difference"],
            "thinking_length_difference": pair and pair["thinking_length_difference"],
            "paper_difference": None if paper[0] is None or paper[1] is None else (paper[1] - paper[0]) / 100,
        }
    return {
        "name": name,
        "verdict": verdict,
        "tasks": tasks,
        "edited_heads": len(summary.get("heads", {}).get("edited", [])),
    }
