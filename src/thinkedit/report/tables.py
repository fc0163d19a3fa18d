"""The paper's four tables for any number of models and datasets, the comparison with the base, and steering.

All of them are read off the figures that `summarise` made, so that a table, the page and `summary.json` never disagree.
"""

from typing import Any

from thinkedit.metrics import STATUSES
from thinkedit.report.evidence import BASE, placebo_kind
from thinkedit.report.published import published_accuracy
from thinkedit.report.table import Cell, Table

Summary = dict[str, Any]
SHARES = ("5", "10", "20")


def all_tables(summary: Summary, published: bool = False) -> list[Table]:
    """Every table that the summary has figures for."""
    steering = [steering_table(summary, part) for part in ("steering", "layer_scan")]
    return evaluation_tables(summary, published) + [table for table in steering if table]


def evaluation_tables(summary: Summary, published: bool = False) -> list[Table]:
    """The four tables of the paper, then base against every other arm; [] without an evaluation.

    `published` adds the paper's own accuracies where it has them for the model and dataset.
    """
    tasks = summary.get("evaluation", {})
    if not tasks:
        return []
    arms = list(dict.fromkeys(name for task in tasks.values() for name in task["arms"]))
    tables = [
        _overall(summary, arms, "accuracy", published),
        _overall(summary, arms, "thinking_length", False),
        _shortest(summary, arms, "accuracy"),
        _shortest(summary, arms, "thinking_length"),
    ]
    if any("comparisons" in task for task in tasks.values()):
        tables.append(_comparison(summary, arms))
        tables += [_matched(summary, arms, figure) for figure in ("accuracy", "thinking_length")]
    return [table for table in tables if table.rows]


def change_table(summary: Summary, arm: str) -> Table:
    """What one edit changed: base, edit and their difference, for every task and every group of its questions."""
    rows: list[list[str | Cell]] = []
    left_out = 0
    for name, task in summary["evaluation"].items():
        if arm not in task.get("comparisons", {}):
            continue
        base, edited, change = task["arms"][BASE], task["arms"][arm], task["comparisons"][arm]
        left_out += base["left_out"] + edited["left_out"]
        parts = [(name, base, edited, change)]
        for group, figures in change.get("groups", {}).items():
            parts.append((f"{name}, {group}", base["groups"][group], edited["groups"][group], figures))
        for label, old, new, difference in parts:
            rows.append([label, "accuracy (%)", _point(old["accuracy"], 100), _point(new["accuracy"], 100)])
            rows[-1].append(_share(difference["accuracy_difference"], signed=True))
            rows.append(["", "thinking tokens", _point(old["thinking_length"], 1), _point(new["thinking_length"], 1)])
            rows[-1].append(_tokens(difference["thinking_length_difference"], signed=True))
    note = f"Paired 95 % intervals over questions. Lengths are of closed thoughts; {left_out:,} others were left out."
    return Table("change", "What the edit changed", ["questions", "figure", BASE, arm, "difference"], rows, note)


def _point(figure: Summary | None, scale: float) -> Cell:
    return Cell(figure["value"] * scale if figure else None)


def steering_table(summary: Summary, part: str = "steering") -> Table | None:
    """A row for each setting of `steering` or `layer_scan`, None without any."""
    rows = summary.get(part, {}).get("rows", [])
    if not rows:
        return None
    scan = part == "layer_scan"
    columns = ["task", "control", *(["layer"] if scan else []), "alpha", "accuracy (%)", "thinking length"]
    body: list[list[str | Cell]] = []
    for row in rows:
        layer = [] if not scan else [Cell(row["layer"], digits=0)]
        body.append(
            [row["task"], row["control"] or "none", *layer, Cell(row["alpha"], digits=2, signed=True)]
            + [_share(row["accuracy"]), _tokens(row["thinking_length"])]
            + [Cell(row["statuses"][status], digits=0) for status in STATUSES]
        )
    left_out = sum(row["left_out"] for row in rows)
    note = f"95 % intervals over questions. Lengths are tokens of closed thoughts; {left_out:,} others were left out."
    return Table(part.replace("_", "-"), "Layer scan" if scan else "Steering", [*columns, *STATUSES], body, note)


def _overall(summary: Summary, arms: list[str], figure: str, published: bool) -> Table:
    tasks = summary["evaluation"]
    accuracy = figure == "accuracy"
    rows: list[list[str | Cell]] = []
    for arm in arms:
        cells: list[str | Cell] = []
        for name, task in tasks.items():
            own = task["arms"].get(arm)
            cells.append(_over_runs(own, figure) if own else Cell(None))
            if published:
                paper = None if placebo_kind(arm) else published_accuracy(summary["model"], name, arm != BASE)
                cells.append(Cell(paper, digits=2))
        rows.append([arm, *cells, Cell(_left_out(tasks, arm), digits=0)])
    columns = [c for name in tasks for c in ([name, f"{name}, paper"] if published else [name])]
    title = "Overall accuracy (%)" if accuracy else "Overall thinking length (tokens)"
    note = "Mean \N{PLUS-MINUS SIGN} standard deviation over runs; for a single run its 95 % interval over questions."
    return Table(
        f"overall-{figure.replace('_', '-')}", title, ["model", *columns, "not closed"], rows,
        f"{note} {_lengths_note(accuracy)}", labels=1,
    )  # fmt: skip


def _shortest(summary: Summary, arms: list[str], figure: str) -> Table:
    rows: list[list[str | Cell]] = []
    for name, task in summary["evaluation"].items():
        for arm in (arm for arm in arms if arm in task["arms"]):
            own = task["arms"][arm]
            parts = [own["shortest"][share] for share in SHARES]
            scale = 100 if figure == "accuracy" else 1
            cells = [Cell(_times(p[figure], scale), _times(p[f"{figure}_sd_over_runs"], scale)) for p in parts]
            rows.append([name, arm, *cells, Cell(own["left_out"], digits=0)])
    title = "Accuracy (%)" if figure == "accuracy" else "Thinking length (tokens)"
    note = (
        "The shortest thoughts of each model's own, so that models are compared on different questions; "
        "mean \N{PLUS-MINUS SIGN} standard deviation over sample runs. Thoughts that are not closed are left out."
    )
    columns = ["task", "model", *(f"shortest {share} %" for share in SHARES), "not closed"]
    return Table(f"shortest-{figure.replace('_', '-')}", f"{title} of the shortest thoughts", columns, rows, note)


def _comparison(summary: Summary, arms: list[str]) -> Table:
    rows: list[list[str | Cell]] = []
    for name, task in summary["evaluation"].items():
        for arm in (arm for arm in arms if arm in task.get("comparisons", {})):
            pair = task["comparisons"][arm]
            counts = pair["flips"]
            left_out = task["arms"][BASE]["left_out"] + task["arms"][arm]["left_out"]
            changes = _share(pair["accuracy_difference"], True), _tokens(pair["thinking_length_difference"], True)
            turned = (Cell(counts[key], digits=0) for key in ("wrong_to_right", "right_to_wrong"))
            p_value = Cell(counts["mcnemar_p"], digits=4, tiny=True)
            rows.append([name, arm, *changes, *turned, p_value, Cell(left_out, digits=0)])
    columns = ["task", "model", "accuracy (points)", "thinking length", "wrong to right", "right to wrong", "McNemar p"]
    note = (
        "Paired differences to the base with 95 % bootstrap intervals over questions; flips by each question's "
        "majority, ties left out. Lengths are of closed thoughts; the last column counts the others, in both arms."
    )
    return Table("against-base", "Difference to the base", [*columns, "not closed"], rows, note)


def _matched(summary: Summary, arms: list[str], figure: str) -> Table:
    rows: list[list[str | Cell]] = []
    for name, task in summary["evaluation"].items():
        for arm in (arm for arm in arms if arm in task.get("comparisons", {})):
            sets = [task["comparisons"][arm]["matched"][share] for share in SHARES]
            if any(sets):
                changes = [one and one[f"{figure}_difference"] for one in sets]
                cells = [_share(change, True) if figure == "accuracy" else _tokens(change, True) for change in changes]
                left_out = task["arms"][BASE]["left_out"] + task["arms"][arm]["left_out"]
                rows.append([name, arm, *cells, Cell(left_out, digits=0)])
    note = (
        "Paired differences with 95 % intervals on the questions that are shortest under the base: chosen on one half "
        "of its samples, measured on the other, then swapped. The last column counts the thoughts of both arms that "
        "are not closed and have no length."
    )
    what = "accuracy (points)" if figure == "accuracy" else "thinking length (tokens)"
    title = f"Difference to the base: {what} on matched questions"
    columns = ["task", "model", *(f"shortest {share} %" for share in SHARES), "not closed"]
    return Table(
        f"matched-{figure.replace('_', '-')}",
        title,
        columns,
        rows,
        note,
    )


def _over_runs(own: Summary, figure: str) -> Cell:
    cell = _share(own[figure]) if figure == "accuracy" else _tokens(own[figure])
    sd = own[f"{figure}_sd_over_runs"]
    return cell if sd is None else Cell(cell.value, sd * 100 if figure == "accuracy" else sd)


def _share(figure: Summary | None, signed: bool = False) -> Cell:
    """A share in percent or, signed, a difference in points."""
    if not figure:
        return Cell(None)
    value, low, high = (_times(figure[key], 100) for key in ("value", "low", "high"))
    return Cell(value, None, low, high, signed=signed)


def _tokens(figure: Summary | None, signed: bool = False) -> Cell:
    return Cell(figure["value"], None, figure["low"], figure["high"], signed=signed) if figure else Cell(None)


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _left_out(tasks: Summary, arm: str) -> int:
    return sum(task["arms"][arm]["left_out"] for task in tasks.values() if arm in task["arms"])


def _lengths_note(accuracy: bool) -> str:
    if accuracy:
        return "All graded answers count, those after a thought that was not closed too."
    return "Thoughts that are not closed have no length and are left out; the last column counts them."
