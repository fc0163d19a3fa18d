"""One table as a value, and four ways to print it: the terminal, Markdown, CSV and LaTeX."""

import csv
import io
import math
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.table

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


def rounded(value: float, digits: int) -> float:
    """Ties go away from zero, as on the page (Python's own rounding sends them to the even digit); never -0."""
    if not math.isfinite(value):
        return value
    return float(Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)) + 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure with its standard deviation or its interval; `digits` after the point. No value prints as a dash.

    `signed` prints a plus too; `tiny` prints what would round to zero as less than the last digit, as for p-values.
    """

    value: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    digits: int = 1
    signed: bool = False
    tiny: bool = False

    def number(self, value: float) -> str:
        if self.tiny and 0 < value < 10.0**-self.digits:
            return f"< {10.0**-self.digits:.{self.digits}f}"
        value = rounded(value, self.digits)
        return f"{value:{'+' if self.signed and value else ''},.{self.digits}f}".replace("-", "\N{MINUS SIGN}")

    def __str__(self) -> str:
        if self.value is None:
            return "\N{EN DASH}"
        text = self.number(self.value)
        if self.sd is not None:
            return f"{text} {PLUS_MINUS} {self.sd:,.{self.digits}f}"
        if self.low is not None and self.high is not None:
            return f"{text} [{self.number(self.low)}, {self.number(self.high)}]"
        return text


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` hold plain strings (labels) and Cells. `note` says what the figures are and what was left out."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str | Cell]]
    note: str = ""
    labels: int = field(default=2)


def to_rich(table: Table) -> "rich.table.Table":
    """For the terminal. Labels keep any square brackets of theirs."""
    import rich.table
    from rich import box
    from rich.text import Text

    from thinkedit.plain_text import printable

    out = rich.table.Table(
        title=Text(printable(table.title)), caption=Text(printable(table.note)) if table.note else None, box=box.SIMPLE_HEAD
    )
    out.title_justify = out.caption_justify = "left"
    for place, column in enumerate(table.columns):
        out.add_column(Text(printable(column)), justify="left" if place < table.labels else "right", overflow="fold")
    for row in table.rows:
        out.add_row(*(Text(printable(str(cell))) for cell in row))
    return out


def to_markdown(table: Table) -> str:
    """GitHub's tables."""
    head = "| " + " | ".join(_markdown(column) for column in table.columns) + " |"
    rule = "|" + "|".join(" --- " if place < table.labels else " ---: " for place in range(len(table.columns))) + "|"
    body = ["| " + " | ".join(_markdown(str(cell)) for cell in row) + " |" for row in table.rows]
    return "\n".join([f"### {table.title}", "", head, rule, *body, "", *([table.note, ""] if table.note else [])])


def to_csv(table: Table) -> str:
    """Figures at full precision; standard deviations and limits in columns of their own where any row has them."""
    parts = [_csv_parts(table, place) for place in range(len(table.columns))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    named = zip(table.columns, parts, strict=True)
    writer.writerow([column + (f" {part}" if part != "value" else "") for column, kinds in named for part in kinds])
    for row in table.rows:
        flat = [_csv_value(cell, part) for cell, kinds in zip(row, parts, strict=True) for part in kinds]
        writer.writerow(["" if value is None else value for value in flat])
    return out.getvalue()


def to_latex(table: Table) -> str:
    """A booktabs table float."""
    align = "l" * table.labels + "r" * (len(table.columns) - table.labels)
    lines = [_latex_row(table.columns), "\\midrule", *(_latex_row([str(cell) for cell in row]) for row in table.rows)]
    caption = _latex(f"{table.title}. {table.note}".strip())
    return "\n".join(
        ["\\begin{table}", "\\centering", f"\\caption{{{caption}}}", f"\\label{{tab:{table.name}}}",
         f"\\begin{{tabular}}{{{align}}}", "\\toprule", *lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    )  # fmt: skip


def _csv_parts(table: Table, place: int) -> list[str]:
    cells = [row[place] for row in table.rows if isinstance(row[place], Cell)]
    return ["value"] + [p for p in ("sd", "low", "high") if any(getattr(cell, p) is not None for cell in cells)]


def _csv_value(cell: str | Cell, part: str) -> float | str | None:
    """Labels come from files of others: a spreadsheet must not take one for a formula."""
    if isinstance(cell, Cell):
        return getattr(cell, part)
    if part != "value":
        return None
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t")) else cell


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _latex_row(cells: list[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + " \\\\"


def _latex(text: str) -> str:
    special = {
        "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
        "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
        PLUS_MINUS: "$\\pm$", "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$", "\n": " ",
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)
