"""Which kind of file each one is, told by its content; folders are walked, and what is not recognised is listed."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json, read_json_lines
from thinkedit.imports import harness, plain, published
from thinkedit.imports.pieces import Piece
from thinkedit.imports.published import Hints

SUFFIXES = (".json", ".jsonl", ".pt", ".pth")
EXPECTED = (
    "expected: a probe (a JSON list of question, response, thinking, thinking_length), an evaluation (sample_results with "
    "think_lengths and correctness), steering results, a direction (.pt), lm-eval's samples_*.jsonl, or JSON Lines of "
    "question and response"
)
POINTER = b"version https://git-lfs"


@dataclass(slots=True)
class Found:
    """What a walk came upon: pieces, and for every other file that might have held some the reason why it holds none."""

    pieces: list[Piece] = field(default_factory=list)
    passed_over: dict[Path, str] = field(default_factory=dict)


def find_pieces(paths: Iterable[Path], hints: Hints, advance: Callable[[int], None] = lambda _n: None) -> Found:
    """Reads files and walks folders. A file that was named and holds nothing is an error; one in a folder is listed."""
    found = Found()
    for path in paths:
        if not path.exists():
            raise ThinkEditError(f"{path} does not exist.")
        for file in candidates(path):
            try:
                found.pieces.append(read_piece(file, hints))
            except ThinkEditError as error:
                if path.is_file():
                    raise
                found.passed_over[file] = str(error).removeprefix(f"{file}: ").splitlines()[0]
            advance(1)
    if not found.pieces:
        searched = ", ".join(map(str, paths))
        reasons = "".join(f"\n  {file}: {why}" for file, why in list(found.passed_over.items())[:5])
        raise ThinkEditError(f"Nothing that can be imported was found in {searched}; {EXPECTED}.{reasons}")
    return found


def candidates(path: Path) -> list[Path]:
    """The files under a path that may hold records or directions, in a fixed order; hidden folders are not entered."""
    if path.is_file():
        return [path]
    inside = (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.is_file())
    return [file for file in inside if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def read_piece(path: Path, hints: Hints) -> Piece:
    """The piece that a file is. ThinkEditError says what was found instead and what was expected."""
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise ThinkEditError(f"{path}: only a Git LFS pointer; fetch the file itself (git lfs pull).")
    try:
        if path.suffix.lower() in (".pt", ".pth"):
            return published.read_direction_piece(path, hints)
        if path.suffix.lower() == ".jsonl":
            return _of_rows(path, [row for _, row in read_json_lines(path)], hints)
        return _of_value(path, read_json(path), hints)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ThinkEditError(f"{path}: looks familiar but is not whole ({type(error).__name__}: {error}).") from None


def _of_value(path: Path, value: Any, hints: Hints) -> Piece:
    if isinstance(value, list):
        if not all(isinstance(row, dict) for row in value):
            raise ThinkEditError(f"{path}: a list of something else than objects; {EXPECTED}.")
        return _of_rows(path, value, hints)
    if isinstance(value, dict) and "sample_results" in value:
        return published.read_evaluation(path, value, hints)
    if isinstance(value, dict) and {"think_lengths", "correctness", "responses"} <= set(value):
        return published.read_steering(path, value, hints)
    if isinstance(value, dict) and {"questions", "responses"} <= set(value):
        return published.read_dump(path, value, hints)
    if isinstance(value, dict) and {"results", "configs"} <= set(value):
        raise ThinkEditError(f"{path}: lm-eval's totals, which hold no answers; its samples_*.jsonl do (--log_samples).")
    keys = ", ".join(list(value)[:6]) if isinstance(value, dict) else json.dumps(value)[:40]
    raise ThinkEditError(f"{path}: not recognised by its content ({keys}); {EXPECTED}.")


def _of_rows(path: Path, rows: list[dict[str, Any]], hints: Hints) -> Piece:
    if not rows:
        raise ThinkEditError(f"{path}: it is empty.")
    first = rows[0]
    if plain.is_records(first):
        return plain.read_records_piece(path, rows, hints)
    if harness.is_samples(first):
        return harness.read_samples(path, rows, hints)
    if {"question", "response", "thinking_length"} <= set(first) and not plain.first_text(first, plain.GOLD_NAMES):
        return published.read_probe(path, rows, hints)
    if plain.is_responses(first):
        return plain.read_plain(path, rows, hints)
    raise ThinkEditError(f"{path}: not recognised by its content ({', '.join(list(first)[:6])}); {EXPECTED}.")
