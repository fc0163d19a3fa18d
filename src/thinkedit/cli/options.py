"""Options that several commands share, and how their values are read."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thinkedit.errors import UsageError
from thinkedit.tasks.selection import parse_selection


def option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


Datasets = Annotated[
    list[str] | None, option("--dataset", help="gsm8k, MATH-500, ..., tiny, or a local .jsonl/.csv/.parquet file.")
]
Columns = Annotated[str | None, option("--columns", help="Columns of a local file: question=problem,answer=solution.")]
Split = Annotated[str | None, option("--split", help="Split of the dataset.")]
Limit = Annotated[
    Any,
    option(
        "--limit",
        "--questions",
        parser=parse_selection,
        metavar="N|IDS",
        help="Number of questions; or which ones: 12,40, whole ids, or a file of ids.",
    ),
]
MaxTokens = Annotated[int | None, option("--max-tokens", min=1, help="Cap of sampled tokens a response.")]
DirectionFile = Annotated[
    Path | None, option("--direction", help="A direction file: .safetensors, or a published .pt (default: this run's).")
]
Suppress = Annotated[
    Literal["short", "long"],
    option("--suppress", help="Which end to take away: short (the paper) or long (over-thinking)."),
]


def one(values: list[str] | None, name: str) -> str | None:
    """The only value of an option that some commands take several of."""
    if values and len(values) > 1:
        raise UsageError(f"{name} takes one value here, not {len(values)}: {', '.join(values)}.")
    return values[0] if values else None


def parse_columns(text: str | None) -> dict[str, str] | None:
    """Columns of a local file from "question=problem,answer=solution"."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and column for name, equals, column in pairs):
        raise UsageError(f"--columns {text!r} is not understood; write --columns question=problem,answer=solution.")
    return {name.strip(): column.strip() for name, _, column in pairs}


def parse_controls(values: list[str] | None) -> tuple[Literal["attn", "mlp"], ...]:
    chosen = tuple(dict.fromkeys(values or ("attn", "mlp")))
    if not set(chosen) <= {"attn", "mlp"}:
        raise UsageError(f"--control takes attn, mlp or both, not {', '.join(chosen)}.")
    return chosen  # type: ignore[return-value]
