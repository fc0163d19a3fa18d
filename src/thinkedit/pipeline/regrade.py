"""Grades saved records again without generating: after a change of the grader, or for records from elsewhere."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import append_json_lines, drop_torn_line, exclusive, read_json_lines, whole_file
from thinkedit.generation import grade
from thinkedit.pipeline.gather import is_evidence
from thinkedit.progress import Progress, Silent
from thinkedit.records import Record, parse_record

if TYPE_CHECKING:
    from thinkedit.grading import Grader

PORTION = 512
EXAMPLES = 8
FOLDERS = ("probe", "steer", "evaluate")


@dataclass(frozen=True, slots=True)
class Change:
    """One record whose verdict came out differently: (verdict, answer) before and after."""

    file: Path
    record: Record
    before: tuple[str | None, str | None]
    after: tuple[str | None, str | None]


@dataclass(slots=True)
class Regraded:
    """`kept` counts records without a text or a gold answer, whose verdicts stay; `turned` verdict pairs that changed."""

    files: int = 0
    records: int = 0
    kept: int = 0
    other_answers: int = 0
    turned: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[Change] = field(default_factory=list)

    @property
    def changed(self) -> int:
        return sum(self.turned.values())


def regrade(paths: Iterable[Path], grader: "Grader", dry_run: bool = False, progress: Progress | None = None) -> Regraded:
    """Grades every record under `paths` (run directories, imported evidence, record files) anew.

    A file is replaced as a whole once all of it is graded, and only where something changed: an interruption leaves
    every file either as it was or done. Runs are locked meanwhile. Raises ThinkEditError for what holds no records.
    """
    files = {file.resolve(): file for path in paths for file in record_files(path)}
    result = Regraded()
    with ExitStack() as stack:
        for directory in dict.fromkeys(file.parent.parent for file in files.values()):
            if is_evidence(directory):
                stack.enter_context(exclusive(directory))
        for file in files.values():
            if is_evidence(file.parent.parent):
                drop_torn_line(file)  # a killed run left it; the run would drop it too
        total = sum(_lines(file) for file in files.values())
        advance = stack.enter_context((progress or Silent()).work("grading", total, "record"))
        for file in files.values():
            rows = _regrade_file(file, grader, result, advance)
            if rows is not None and not dry_run:
                with whole_file(file) as temporary:
                    append_json_lines(temporary, rows)
            result.files += 1
    return result


def record_files(path: Path) -> list[Path]:
    """The record files of a run, of a folder, or the file itself."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ThinkEditError(f"{path} does not exist; a run directory or a file of records is expected.")
    folders = [path / name for name in FOLDERS] if is_evidence(path) else [path]
    found = [file for folder in folders for file in sorted(folder.glob("*.jsonl"))]
    if not found and not is_evidence(path):
        inside = [child for child in sorted(path.iterdir()) if child.is_dir() and is_evidence(child)]
        found = [file for child in inside for file in record_files(child)]
    if not found:
        raise ThinkEditError(f"{path} holds no records to grade; a run directory or a file of records is expected.")
    return found


def _lines(file: Path) -> int:
    with file.open("rb") as opened:
        return sum(1 for line in opened if line.strip())


def _regrade_file(file: Path, grader: "Grader", result: Regraded, advance: Any) -> list[dict[str, Any]] | None:
    """The rows of a file with their new verdicts, None where all are as before. Fields that are not ours stay."""
    rows: list[dict[str, Any]] = []
    different = False
    for portion in _portions(file):
        records = []
        for number, row in portion:
            try:
                records.append(parse_record(row))
            except ThinkEditError as error:
                raise ThinkEditError(f"{file}, line {number}: {error}") from None
        asked = [record for record in records if _gradable(record)]
        graded = iter(grade(asked, grader))
        for (_, row), record in zip(portion, records, strict=True):
            if not _gradable(record):
                result.kept += 1
            else:
                after = next(graded)
                different |= _note(file, record, after, result)
                row = row | {"answer": after.answer, "correct": after.correct, "verdict": after.verdict}
            rows.append(row)
        result.records += len(portion)
        advance(len(portion))
    return rows if different else None


def _portions(file: Path) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    portion: list[tuple[int, dict[str, Any]]] = []
    for numbered in read_json_lines(file):
        portion.append(numbered)
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _gradable(record: Record) -> bool:
    """Whether there is a gold answer, and whatever was said was kept: a text, or ids that came to an empty one."""
    return bool(record.gold) and bool(record.text or record.forced or record.token_ids)


def _note(file: Path, before: Record, after: Record, result: Regraded) -> bool:
    old, new = (before.verdict, before.answer), (after.verdict, after.answer)
    if before.verdict != after.verdict or before.correct != after.correct:
        result.turned[before.verdict or "not graded", after.verdict or "not graded"] += 1
        if len(result.examples) < EXAMPLES or (before.verdict and _rare(result, before, after)):
            result.examples.append(Change(file, before, old, new))
        return True
    if old != new:
        result.other_answers += 1
    return old != new


def _rare(result: Regraded, before: Record, after: Record) -> bool:
    """Whether this is among the first of its kind, so that every kind of change has an example."""
    return result.turned[before.verdict or "not graded", after.verdict or "not graded"] <= 2
