"""Puts the figures of `results.json` into the tables of `docs/performance.md`.

    python benchmarks/table.py

A table stands between `<!-- figures: PREFIX -->` and `<!-- end -->` and holds the figures whose names begin with PREFIX.
"""

import json
import re
from pathlib import Path

from figures import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
TABLE = re.compile(r"(<!-- figures: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    figures = json.loads(RESULTS.read_text())
    PAGE.write_text(TABLE.sub(lambda found: found[1] + table(figures, found[2]) + found[3], PAGE.read_text()))


def table(figures: list[dict], prefixes: str) -> str:
    """Markdown rows of the figures whose names begin with one of `prefixes`, which `|` divides."""
    wanted = [one for one in figures if one["name"].startswith(tuple(prefixes.split("|")))]
    lines = ["| what | measured | target | of what |", "| --- | --- | --- | --- |"]
    for one in sorted(wanted, key=lambda one: (one["target"] is None, natural(one["name"]))):
        target = "" if one["target"] is None else f"{one['target']:g}{'' if one['met'] else ' (missed)'}"
        value = f"{one['value']:,.4g}" if abs(one["value"]) < 10_000 else f"{one['value']:,.0f}"
        lines.append(f"| {one['name']} | {value} | {target} | {one['against']} |")
    return "\n".join(lines) + "\n"


def natural(name: str) -> list[tuple[int, str]]:
    """Sorts 9 before 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


if __name__ == "__main__":
    main()
