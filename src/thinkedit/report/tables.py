"""The paper's four tables for any number of models and datasets, the comparison with the base, and steering.

All of them are read off the figures that `summarise` made, so that a table, the page and `summary.json` never disagree.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from thinkedit.metrics import STATUSES
from thinkedit.report.evidence import BASE, placebo_kind
from thinkedit.report.published import published_accuracy
from thinkedit.report.table import Cell, Table

Summary = dict[str, Any]
Named = Mapping[str, Summary]  # summaries of several models by name; one alone has the name ""
SHARES = ("5", "10", "20")


def all_tables(summary: Summary, published: bool = False) -> list[Table]:
    """Every table that the summary has figures for."""
    steering = [steering_table(summary, part) for part in ("steering", "layer_scan")]
    return evaluation_tables(summary, published) + [table for table in steering if table]


def joint_tables(summaries: Named, published: bool = False, steering: bool = True) -> list[Table]:
    """The same tables with the rows of several models under one another; placebos stay in each model's own report."""
    steered = [_steering(summaries, part) for part in ("steering", "layer_scan")] if steering else []
    return _evaluation(summaries, published) + [table for table in steered if table]


def evaluation_tables(summary: Summary, published: bool = False) -> list[Table]:
    """The four tables of the paper, then base against every other arm; [] without an evaluation.

    `published` adds the paper's own accuracies where it has them for the model and dataset.
    """
    return _evaluation({"": summary}, published)


def _evaluation(summaries: Named, published: bool) -> list[Table]:
    tasks = [task for summary in summaries.values() for task in summary.get("evaluation", {}).values()]
    if not tasks:
        return []
    tables = [
        _overall(summaries, "accuracy", published),
        _overall(summaries, "thinking_length", False),
        _shortest(summaries, "accuracy"),
        _shortest(summaries, "thinking_length"),
    ]
    if any("comparisons" in task for task in tasks):
        tables.append(_comparison(summaries))
        tables += [_matched(summaries, figure) for figure in ("accuracy", "thinking_length")]
    return [table for table in tables if _tells(table)]


def _tells(table: Table) -> bool:
    """Whether any figure is there at all: records of others may have no lengths. The last column only counts."""
    return any(isinstance(cell, Cell) and cell.value is not None for row in table.rows for cell in row[:-1])


def _who(summaries: Named) -> list[str]:
    """The columns that say which model a row is of: its arm, and its name where there are several."""
    return ["model"] if "" in summaries else ["model", "arm"]


def _arms(summaries: Named) -> Iterator[tuple[list[str], str, Summary]]:
    """For each row of a table over models: its labels, the arm and the model's summary."""
    for name, summary in summaries.items():
        arms = dict.fromkeys(arm for task in summary.get("evaluation", {}).values() for arm in task["arms"])
        for arm in arms:
            if not name:
                yield [arm], arm, summary
            elif placebo_kind(arm) is None:
                yield [name, arm], arm, summary


def _pairs(summaries: Named, part: str = "arms") -> Iterator[tuple[list[str], str, Summary, Summary]]:
    """For each row of a table over tasks and models: its labels, the arm, the task's figures and its `part` for the arm."""
    for task in task_names(summaries):
        for labels, arm, summary in _arms(summaries):
            figures = summary.get("evaluation", {}).get(task)
            if figures and arm in figures.get(part, {}):
                yield [task, *labels], arm, figures, figures[part][arm]


def task_names(summaries: Named) -> list[str]:
    """Every task that any of the models was evaluated on, in order of first appearance."""
    return list(dict.fromkeys(task for summary in summaries.values() for task in summary.get("evaluation", {})))


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
    return _steering({"": summary}, part)


def _steering(summaries: Named, part: str) -> Table | None:
    rows = [(name, row) for name, summary in summaries.items() for row in summary.get(part, {}).get("rows", [])]
    if not rows:
        return None
    scan, alone = part == "layer_scan", "" in summaries
    columns = [
        *([] if alone else ["model"]),
        "task",
        "control",
        *(["layer"] if scan else []),
        "alpha",
        "accuracy (%)",
        "thinking length",
    ]
    body: list[list[str | Cell]] = []
    for name, row in rows:
        layer = [] if not scan else [Cell(row["layer"], digits=0)]
        body.append(
            [
                *([] if alone else [name]),
                row["task"],
                row["control"] or "none",
                *layer,
                Cell(row["alpha"], digits=2, signed=True),
            ]
            + [_share(row["accuracy"]), _tokens(row["thinking_length"])]
            + [Cell(row["statuses"][status], digits=0) for status in STATUSES]
        )
    left_out = sum(row["left_out"] for _, row in rows)
    note = f"95 % intervals over questions. Lengths are tokens of closed thoughts; {left_out:,} others were left out."
    title = "Layer scan" if scan else "Steering"
    return Table(part.replace("_", "-"), title, [*columns, *STATUSES], body, note, labels=2 if alone else 3)


def _overall(summaries: Named, figure: str, published: bool) -> Table:
    accuracy, tasks = figure == "accuracy", task_names(summaries)
    rows: list[list[str | Cell]] = []
    for labels, arm, summary in _arms(summaries):
        own = {name: task["arms"][arm] for name, task in summary["evaluation"].items() if arm in task["arms"]}
        cells: list[str | Cell] = []
        for name in tasks:
            cells.append(_over_runs(own[name], figure) if name in own else Cell(None))
            if published:
                cells.append(Cell(paper_accuracy(summary, name, arm), digits=2))
        rows.append([*labels, *cells, Cell(sum(one["left_out"] for one in own.values()), digits=0)])
    columns = [c for name in tasks for c in ([name, f"{name}, paper"] if published else [name])]
    title = "Overall accuracy (%)" if accuracy else "Overall thinking length (tokens)"
    note = "Mean \N{PLUS-MINUS SIGN} standard deviation over runs; for a single run its 95 % interval over questions."
    cut = sum(task.get("cut_without_answer", 0) for one in summaries.values() for task in one.get("evaluation", {}).values())
    if accuracy and cut:
        note += f" {cut:,} thoughts that were cut at the cap got no forced answer and count as wrong."
    return Table(
        f"overall-{figure.replace('_', '-')}", title, [*_who(summaries), *columns, "not closed"], rows,
        f"{note} {_lengths_note(accuracy)}", labels=len(_who(summaries)),
    )  # fmt: skip


def paper_accuracy(summary: Summary, task: str, arm: str) -> float | None:
    """What the paper reports in percent for this model on this task: for its base and its edit, not for other arms."""
    edit = summary.get("verdict", {}).get("primary", {}).get("arm", "edited")
    return published_accuracy(summary["model"], task, arm != BASE) if arm in (BASE, edit) else None


def _shortest(summaries: Named, figure: str) -> Table:
    rows: list[list[str | Cell]] = []
    for labels, _, _, own in _pairs(summaries):
        parts = [own["shortest"][share] for share in SHARES]
        scale = 100 if figure == "accuracy" else 1
        cells = [Cell(_times(p[figure], scale), _times(p[f"{figure}_sd_over_runs"], scale)) for p in parts]
        rows.append([*labels, *cells, Cell(own["left_out"], digits=0)])
    title = "Accuracy (%)" if figure == "accuracy" else "Thinking length (tokens)"
    note = (
        "The shortest thoughts of each model's own, so that models are compared on different questions; "
        "mean \N{PLUS-MINUS SIGN} standard deviation over sample runs. Thoughts that are not closed are left out."
    )
    who = ["task", *_who(summaries)]
    columns = [*who, *(f"shortest {share} %" for share in SHARES), "not closed"]
    name, title = f"shortest-{figure.replace('_', '-')}", f"{title} of the shortest thoughts"
    return Table(name, title, columns, rows, note, labels=len(who))


def _comparison(summaries: Named) -> Table:
    rows: list[list[str | Cell]] = []
    for labels, arm, task, pair in _pairs(summaries, "comparisons"):
        counts = pair["flips"]
        left_out = task["arms"][BASE]["left_out"] + task["arms"][arm]["left_out"]
        changes = _share(pair["accuracy_difference"], True), _tokens(pair["thinking_length_difference"], True)
        turned = (Cell(counts[key], digits=0) for key in ("wrong_to_right", "right_to_wrong"))
        p_value = Cell(counts["mcnemar_p"], digits=4, tiny=True)
        rows.append([*labels, *changes, *turned, p_value, Cell(left_out, digits=0)])
    who = ["task", *_who(summaries)]
    columns = [*who, "accuracy (points)", "thinking length", "wrong to right", "right to wrong", "McNemar p", "not closed"]
    note = (
        "Paired differences to the base with 95 % bootstrap intervals over questions; flips by each question's "
        "majority, ties left out. Lengths are of closed thoughts; the last column counts the others, in both arms."
    )
    return Table("against-base", "Difference to the base", columns, rows, note, labels=len(who))


def _matched(summaries: Named, figure: str) -> Table:
    rows: list[list[str | Cell]] = []
    for labels, arm, task, pair in _pairs(summaries, "comparisons"):
        sets = [pair["matched"][share] for share in SHARES]
        if any(sets):
            changes = [one and one[f"{figure}_difference"] for one in sets]
            cells = [_share(change, True) if figure == "accuracy" else _tokens(change, True) for change in changes]
            left_out = task["arms"][BASE]["left_out"] + task["arms"][arm]["left_out"]
            rows.append([*labels, *cells, Cell(left_out, digits=0)])
    note = (
        "Paired differences with 95 % intervals on the questions that are shortest under the base: chosen on one half "
        "of its samples, measured on the other, then swapped. The last column counts the thoughts of both arms that "
        "are not closed and have no length."
    )
    what = "accuracy (points)" if figure == "accuracy" else "thinking length (tokens)"
    title = f"Difference to the base: {what} on matched questions"
    who = ["task", *_who(summaries)]
    columns = [*who, *(f"shortest {share} %" for share in SHARES), "not closed"]
    return Table(f"matched-{figure.replace('_', '-')}", title, columns, rows, note, labels=len(who))


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


def _lengths_note(accuracy: bool) -> str:
    if accuracy:
        return "All graded answers count, those after a thought that was not closed too."
    return "Thoughts that are not closed have no length and are left out; the last column counts them."
