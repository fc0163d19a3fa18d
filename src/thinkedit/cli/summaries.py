"""The figures of an evaluation on the terminal."""

from typing import TYPE_CHECKING

from thinkedit.cli.terminal import heading, note, show

if TYPE_CHECKING:
    from thinkedit.pipeline.bring import Brought
    from thinkedit.pipeline.regrade import Regraded

LISTED = 12


def show_evaluation(summary: dict, published: bool = False) -> None:
    """The paper's tables, then the verdict."""
    from thinkedit.report.table import to_rich
    from thinkedit.report.tables import evaluation_tables

    for table in evaluation_tables(summary, published):
        show(to_rich(table))
    show_verdict(summary)


def show_change(summary: dict) -> None:
    """One screen: what the edit changed, with intervals, and the verdict."""
    from thinkedit.report.table import to_rich
    from thinkedit.report.tables import change_table

    if "verdict" in summary:
        show(to_rich(change_table(summary, summary["verdict"]["primary"]["arm"])))
    show_verdict(summary)


def show_verdict(summary: dict) -> None:
    if "verdict" in summary:
        heading(summary["verdict"]["headline"])
        for sentence in summary["verdict"]["sentences"]:
            note(sentence)


def show_joint(summary: dict, published: bool) -> None:
    """The tables over several models, then each model's verdict."""
    from thinkedit.report.table import to_rich
    from thinkedit.report.tables import joint_tables

    for table in joint_tables(summary["summaries"], published, steering=False):
        show(to_rich(table))
    for one in summary["models"]:
        heading(one["name"])
        note(one["verdict"]["headline"] if one["verdict"] else "No edit was evaluated beside its base.")


def show_regraded(result: "Regraded", dry_run: bool) -> None:
    """How many verdicts changed, from what to what, and examples."""
    would = "would change" if dry_run else "changed"
    files = f"{result.files} file{'' if result.files == 1 else 's'}"
    note(f"{result.records:,} records in {files}: {result.changed:,} verdicts {would}")
    for (before, after), count in sorted(result.turned.items(), key=lambda item: -item[1]):
        note(f"  {count:>7,}  {before} to {after}")
    if result.other_answers:
        note(f"{result.other_answers:,} others are read differently with the same verdict")
    if result.kept:
        note(f"{result.kept:,} have no gold answer or no text and stay as they were")
    if result.examples:
        heading("Examples")
    for change in result.examples[:LISTED]:
        record = change.record
        note(f"{record.question_id}, sample {record.sample}; expected: {_short(record.gold)}")
        note(f"  before: {change.before[0] or 'not graded'}, read as {_short(change.before[1])}")
        note(f"  now:    {change.after[0] or 'not graded'}, read as {_short(change.after[1])}")


def show_imported(result: "Brought") -> None:
    """What was read, into which directory, with what had to be guessed; and what was passed over."""
    from thinkedit.imports.evidence import UNNAMED

    for written in result.written:
        heading(f"{written.model}: {written.directory}")
        if written.model == UNNAMED:
            note("the files do not name the model; --model does")
        for piece in written.pieces:
            where = ", ".join(part for part in (piece.task, piece.setting or piece.control or piece.arm) if part)
            held = f"{len(piece.records):,} records" if piece.records else piece.notes[0]
            note(f"{piece.kind}: {piece.source.name} ({where}), {held}")
            for line in piece.notes if piece.records else ():
                note(f"    {line}")
            if piece.records:
                note(f"    {_statuses(piece.records)}")
    if result.graded:
        note(f"{result.graded:,} answers without a verdict were graded")
    if result.passed_over:
        heading(f"Not read: {len(result.passed_over)} file{'' if len(result.passed_over) == 1 else 's'}")
        for path, why in list(result.passed_over.items())[:LISTED]:
            note(f"{path}: {why[:160]}")
        if len(result.passed_over) > LISTED:
            note(f"and {len(result.passed_over) - LISTED} more")


def _statuses(records: list) -> str:
    from collections import Counter

    counts = Counter(record.status for record in records)
    uncounted = sum(record.status == "closed" and record.thinking_tokens is None for record in records)
    text = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    return text + (f"; {uncounted:,} closed thoughts have no length (--tokenizer counts them)" if uncounted else "")


def _short(text: str | None) -> str:
    if text is None:
        return "no answer"
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}..."
