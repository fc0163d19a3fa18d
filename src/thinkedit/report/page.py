"""One self-contained page: a static frame, one style sheet, one script, and all data as JSON that is never HTML.

Nothing that a model or a data set wrote reaches the HTML parser: it is JSON with every `<`, `>` and `&` escaped, and
the script puts it into the page as text only. A content security policy allows the page's own script and style by their
hashes and no connection at all.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from thinkedit.files import whole_file
from thinkedit.report.browser import Row
from thinkedit.report.table import Table

SCRIPTS = ("dom.js", "charts.js", "plots.js", "sections.js", "answers.js", "start.js")
STYLES = ("base.css", "parts.css")
INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")


def write_page(summary: dict[str, Any], rows: list[Row], path: Path, tables: Sequence[Table] | None = None) -> None:
    """Writes the page of `summarise`'s figures and `browser_rows`' questions; `tables` are by default the summary's."""
    from thinkedit.report.tables import all_tables

    shown = [table_value(table) for table in (all_tables(summary) if tables is None else tables)]
    text = page({"summary": summary, "tables": shown, "questions": rows})
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def page(payload: dict[str, Any]) -> str:
    """The HTML text of a page that shows `payload`: {summary, tables, questions}."""
    script = "\n".join(_asset(name) for name in SCRIPTS)
    style = "\n".join(_asset(name) for name in STYLES)
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {"policy": policy, "style": style, "script": script, "data": embedded(payload)}
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], _asset("page.html"))


def embedded(value: Any) -> str:
    """JSON that may stand inside a script element: pure ASCII, no character that HTML knows, controls made visible."""
    text = json.dumps(visible(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def visible(value: Any) -> Any:
    """The same value with control characters and direction marks in its texts named, such as [U+202E]."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n")
        return INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)
    if isinstance(value, dict):
        return {visible(key): visible(item) for key, item in value.items()}
    return [visible(item) for item in value] if isinstance(value, list | tuple) else value


def table_value(table: Table) -> dict[str, Any]:
    """A table as the page shows it: cells as texts."""
    rows = [[str(cell) for cell in row] for row in table.rows]
    return {
        "name": table.name, "title": table.title, "columns": table.columns, "rows": rows, "note": table.note,
        "labels": table.labels,
    }  # fmt: skip


def _asset(name: str) -> str:
    return (files("thinkedit.report") / "assets" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
