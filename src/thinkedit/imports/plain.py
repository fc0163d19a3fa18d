"""Plain files: a response beside its question, or records of this program."""

from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.imports.pieces import Piece, Role
from thinkedit.imports.published import Hints, task_in
from thinkedit.records import REQUIRED, Record, parse_record
from thinkedit.report.evidence import BASE
from thinkedit.responses import QUESTION_NAMES, RESPONSE_NAMES
from thinkedit.tasks.base import form_of
from thinkedit.tasks.local import bare_gold

GOLD_NAMES = ("gold", "answer", "solution", "target", "ground_truth")

__all__ = ["QUESTION_NAMES", "first_text", "is_records", "is_responses", "read_plain", "read_records_piece"]


def first_text(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of the named fields that holds a text or a number; empty without one."""
    for name in names:
        if isinstance(row.get(name), str | int | float) and str(row[name]).strip():
            return str(row[name])
    return ""


def is_records(row: dict[str, Any]) -> bool:
    return all(name in row for name in REQUIRED)


def is_responses(row: dict[str, Any]) -> bool:
    return any(isinstance(row.get(name), str) for name in RESPONSE_NAMES) and bool(first_text(row, QUESTION_NAMES))


def read_records_piece(path: Path, rows: list[dict[str, Any]], hints: Hints) -> Piece:
    """Records of ours that left their run."""
    records = [parse_record(row) for row in rows]
    first = records[0]
    task, model, arm = hints.task or first.task, hints.model or first.model, hints.label or first.edit or BASE
    if first.alpha is None:
        return Piece(path, "evaluate", "records", model, arm, task, records=records)
    role: Role = "steer" if first.layer is None else "scan"
    layer = "" if first.layer is None else f"-{first.layer}"
    setting = f"{first.control or 'none'}{layer}-{first.alpha:g}"
    return Piece(path, role, "records", model, arm, task, setting, first.control, records)


def read_plain(path: Path, rows: list[dict[str, Any]], hints: Hints) -> Piece:
    """Responses with or without gold answers. Further responses to the same question are further samples of it."""
    reader, notes = hints.reading([first_text(row, RESPONSE_NAMES) for row in rows], None)
    task = hints.task or task_in(path) or path.stem
    numbers: dict[str, int] = {}
    samples: dict[str, int] = {}
    records = []
    for number, row in enumerate(rows, start=1):
        question, text = first_text(row, QUESTION_NAMES), first_text(row, RESPONSE_NAMES)
        if not question:
            raise ThinkEditError(f"{path}, row {number}: no question; expected it under {' or '.join(QUESTION_NAMES)}.")
        key = str(row.get("id", row.get("question_id", "")))
        identity = key or f"{task}/{numbers.setdefault(question, len(numbers))}"
        length = row.get("thinking_length", row.get("thinking_tokens"))
        found = reader.read(text, length if isinstance(length, int) and length >= 0 else None, question)
        gold = bare_gold(first_text(row, GOLD_NAMES).strip())
        sample = samples[identity] = samples.get(identity, -1) + 1
        records.append(
            Record(
                task, identity, question, gold, sample, 0, [], [], found.text, found.tokens, found.status, "stop",
                forced=found.forced, form=form_of(gold) if gold else "expression",
                edit=None if hints.label in (None, "base") else hints.label,
            )
        )  # fmt: skip
    role: Role = "evaluate" if any(record.gold for record in records) else "probe"
    return Piece(path, role, "responses", hints.model, hints.label or "base", task, records=records, notes=notes)
