"""The figures of an evaluation on the terminal."""

from thinkedit.cli.terminal import heading, note, show


def show_evaluation(summary: dict) -> None:
    """The paper's tables, then the verdict."""
    from thinkedit.report.table import to_rich
    from thinkedit.report.tables import evaluation_tables

    for table in evaluation_tables(summary):
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
