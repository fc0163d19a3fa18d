"""Writes everything that a report consists of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.files import whole_directory, whole_file, write_json
from thinkedit.report.evidence import BASE, Evidence, edits_of, primary_arm

if TYPE_CHECKING:
    from thinkedit.report.table import Table

Summary = dict[str, Any]


def write_report(evidence: Evidence, directory: Path, published: bool = False, samples: bool = False) -> Summary:
    """Writes summary.json, and report/ with index.html, tables and pictures, into `directory`; returns the summary.

    `published` shows the paper's own figures beside those of the models that it has; `samples` adds lm-eval's samples
    files to its results files.
    """
    from thinkedit.report.browser import browser_rows
    from thinkedit.report.lm_eval import write_lm_eval
    from thinkedit.report.page import write_page
    from thinkedit.report.summary import summarise
    from thinkedit.report.tables import all_tables

    summary = summarise(evidence)
    tables = all_tables(summary, published)
    rows = browser_rows(evidence.evaluation, primary_arm(evidence))
    with whole_directory(directory / "report") as report:  # nothing of an earlier report stays beside this one
        write_tables(tables, report)
        write_figures(summary, report)
        write_lm_eval(evidence, report / "lm-eval", samples)
        write_page(summary, rows, report / "index.html", tables)
    write_json(directory / "summary.json", summary)
    return summary


def write_joint_report(
    evidence: Mapping[str, Evidence], directory: Path, published: bool = False, commands: list[str] | None = None
) -> Summary:
    """The same for several models at once, by name; every model's own summary is in the joint one under `summaries`."""
    from thinkedit.report import figures
    from thinkedit.report.browser import browser_rows
    from thinkedit.report.joint import joint_evaluation, joint_summary
    from thinkedit.report.page import write_page
    from thinkedit.report.summary import summarise
    from thinkedit.report.tables import joint_tables, task_names

    summaries = {name: summarise(one) for name, one in evidence.items()}
    summary = joint_summary(summaries, published, commands)
    tables, tasks = joint_tables(summaries, published), task_names(summaries)
    rows = browser_rows(joint_evaluation(evidence), "edited")
    with whole_directory(directory / "report") as report:
        write_tables(tables, report)
        write_figures(summary, report)
        if tasks:
            figures.draw_models(summaries, tasks, report / "accuracy.png", published)
        for task in tasks:
            figures.draw_bases(summaries, task, report / f"accuracy-by-length-of-bases-{safe_name(task)}.png")
        write_page(summary, rows, report / "index.html", tables)
    write_json(directory / "summary.json", summary | {"summaries": summaries})
    return summary | {"summaries": summaries}


def write_tables(tables: Sequence["Table"], directory: Path) -> list[Path]:
    """tables.md with all tables, and each as .csv and .tex."""
    from thinkedit.report.table import to_csv, to_latex, to_markdown

    texts = {f"{table.name}.csv": to_csv(table) for table in tables}
    texts |= {f"{table.name}.tex": to_latex(table) for table in tables}
    if tables:
        texts["tables.md"] = "\n".join(to_markdown(table) for table in tables)
    for name, text in texts.items():
        with whole_file(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [directory / name for name in texts]


def write_figures(summary: Summary, directory: Path) -> list[Path]:
    """One PNG for each part of the evidence that there is; a name ends with its task where there are several."""
    import numpy as np

    from thinkedit.report import figures

    written: list[Path] = []

    def target(name: str, task: str = "", tasks: int = 1) -> Path:
        written.append(directory / (f"{name}-{safe_name(task)}.png" if tasks > 1 else f"{name}.png"))
        return written[-1]

    if "heads" in summary:
        heads = summary["heads"]
        contributions = np.array(heads["contributions"], dtype=np.float64)
        figures.draw_heads(contributions, [tuple(pair) for pair in heads["edited"]], target("heads"))
    for part, name, draw in (
        ("steering", "steering", figures.draw_steering),
        ("layer_scan", "layer-scan", figures.draw_layer_scan),
    ):
        rows = summary.get(part, {}).get("rows", [])
        tasks = list(dict.fromkeys(row["task"] for row in rows))
        for task in tasks:
            draw([row for row in rows if row["task"] == task], target(name, task, len(tasks)))
    evaluation = summary.get("evaluation", {})
    for task, found in evaluation.items():
        if not any(arm["thinking_length"] for arm in found["arms"].values()):
            continue  # records of others may have no lengths
        arms = [arm for arm in (BASE, *edits_of(found["arms"])) if arm in found["arms"]] or list(found["arms"])
        figures.draw_lengths(found, arms, target("lengths", task, len(evaluation)))
        figures.draw_accuracy_by_length(found, arms, target("accuracy-by-length", task, len(evaluation)))
    return written


def safe_name(text: str) -> str:
    """A text as part of a file name."""
    return "".join(c if c.isalnum() or c in "-._" else "_" for c in text)
