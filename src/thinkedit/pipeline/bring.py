"""Imports: reads files of others, grades what they did not grade, writes evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.generation import grade
from thinkedit.grading import Grader
from thinkedit.imports.evidence import Written, write_evidence
from thinkedit.imports.golds import attach
from thinkedit.imports.pieces import Piece
from thinkedit.imports.published import Hints
from thinkedit.imports.recognise import candidates, find_pieces
from thinkedit.imports.thoughts import Reader
from thinkedit.progress import Progress, Silent
from thinkedit.records import THINK_TAGS, Record


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user said about the files; None means: what the files say."""

    model: str | None = None
    label: str | None = None
    task: str | None = None
    tokenizer: str | None = None
    cap: int | None = None
    think_tags: tuple[str, str] | None = None
    data_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Brought:
    """The directories that were written, files that held nothing with the reason, and how many answers were graded."""

    written: list[Written]
    passed_over: dict[Path, str]
    graded: int


def bring(
    paths: Sequence[Path],
    out: Path | None = None,
    asked: Asked = Asked(),
    progress: Progress | None = None,
    command_line: str | None = None,
) -> Brought:
    """Imports all that `paths` hold into `out` (default: `imported/<model>`).

    Verdicts that files have are kept; answers with a gold one and no verdict are graded. Raises ThinkEditError where
    nothing was recognised, or where two files claim to be the same arm.
    """
    progress = progress or Silent()
    if asked.label is not None and not asked.label.strip():
        raise UsageError("--label is empty; give base, edited or another name.")
    hints = Hints(_reader(asked), asked.model, asked.label, asked.task, asked.cap)
    total = sum(len(candidates(path)) for path in paths)
    with progress.work("reading", total, "file") as advance:
        found = find_pieces(paths, hints, advance)
    pieces = [_with_data(piece, asked.data_dir) for piece in found.pieces]
    if asked.think_tags:
        tags = list(asked.think_tags)
        pieces = [replace(p, records=[replace(r, think_tags=tags) for r in p.records]) for p in pieces]
    waiting = sum(_ungraded(piece) for piece in pieces)
    if waiting:
        with progress.work("grading", waiting, "answer") as advance, Grader() as grader:
            for place, piece in enumerate(pieces):
                pieces[place] = _graded(piece, grader)
                advance(_ungraded(piece))
    return Brought(write_evidence(pieces, out, command_line), found.passed_over, waiting)


def _reader(asked: Asked) -> Reader:
    tags = asked.think_tags or THINK_TAGS
    if asked.tokenizer is None:
        return Reader(tags)
    from thinkedit.chat import Chat
    from thinkedit.loading import load_tokenizer
    from thinkedit.models import ModelSource, find_model

    local = Path(asked.tokenizer)  # a folder with a tokenizer alone will do
    source = ModelSource(asked.tokenizer, local) if local.is_dir() else find_model(asked.tokenizer)
    return Reader(tags, chat=Chat(load_tokenizer(source), think_tags=asked.think_tags))


def _with_data(piece: Piece, data_dir: Path | None) -> Piece:
    if data_dir is None or piece.role == "direction":
        return piece
    if not data_dir.is_dir():
        raise ThinkEditError(f"{data_dir} is no directory; expected a folder with the benchmarks' files.")
    filled, why = attach(piece, data_dir)
    return filled if why is None else replace(piece, notes=[*piece.notes, f"no questions from --data-dir: {why}"])


def _ungraded(piece: Piece) -> int:
    return sum(_waits(record) for record in piece.records)


def _waits(record: Record) -> bool:
    return record.correct is None and bool(record.gold) and bool(record.text or record.forced)


def _graded(piece: Piece, grader: Grader) -> Piece:
    graded = iter(grade([record for record in piece.records if _waits(record)], grader))
    return replace(piece, records=[next(graded) if _waits(record) else record for record in piece.records])
