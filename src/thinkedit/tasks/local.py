r"""Any local file as a benchmark: .jsonl, .json (a list of objects), .csv or .parquet.

    {"question": "What is 2 + 2?", "answer": "4"}
    {"question": "Which is even?", "choices": ["3", "8"], "answer": "B", "level": "easy", "id": "parity-1"}

Columns: `question`, `answer`, and where present `choices` (a list; in .csv a JSON list), `id` and `group` (or `level`).
Other names are given as `{"question": "problem"}`. The answer may be the bare one, a solution that ends in `#### 4` or
in `\boxed{4}`, and for choices a letter, a 0-based index, or the text of a choice.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.grading.answers import LETTERS, last_box, letter_at
from thinkedit.tasks import mmlu
from thinkedit.tasks.base import Question, Task, form_of, step_by_step
from thinkedit.tasks.sources import SUFFIXES, read_table

ROLES = ("question", "answer", "choices", "id", "group")


def is_local(name: str) -> bool:
    """Whether a task name means a file: it has a known suffix, or exists."""
    return name.lower().endswith(SUFFIXES) or os.path.isfile(name)


def local_task(path: Path, columns: Mapping[str, str] | None = None) -> Task:
    """The task of one file, named as the file. Raises UsageError if the file or a role in `columns` is unknown."""
    if not path.is_file():
        raise UsageError(f"The dataset file {path} does not exist.")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: unknown kind of file; expected {', '.join(SUFFIXES)}.")
    unknown = set(columns or ()) - set(ROLES)
    if unknown:
        raise UsageError(f"Unknown column role {', '.join(sorted(unknown))}; known: {', '.join(ROLES)}.")
    return Task(path.stem, ("all",), "all", partial(load, path=path, columns=dict(columns or {})), ask)


def ask(question: Question) -> str:
    return mmlu.ask(question) if question.form == "choice" else step_by_step(question)


def load(split: str, data_dir: Path | None, *, path: Path, columns: dict[str, str]) -> list[Question]:
    """All questions of the file. A bad row or a missing column is a ThinkEditError that names it."""
    rows = read_table(path)
    present = list(rows[0][1]) if rows else []
    named = _resolve(path, present, columns)
    questions: dict[str, Question] = {}
    for index, (number, row) in enumerate(rows):
        try:
            question = _question(row, named, f"{path.stem}/{index}")
        except ThinkEditError as error:
            raise ThinkEditError(f"{path}, row {number}: {error}") from None
        if question.id in questions:
            raise ThinkEditError(f"{path}, row {number}: the id {question.id!r} was used before.")
        questions[question.id] = question
    return list(questions.values())


def _resolve(path: Path, present: list[str], columns: dict[str, str]) -> dict[str, str]:
    """Role to column, for the roles that the file has."""
    if "group" not in columns and "group" not in present and "level" in present:
        columns = {**columns, "group": "level"}
    named = {role: columns.get(role, role) for role in ROLES}
    needed = {"question", "answer", *columns}
    missing = [column for role, column in named.items() if role in needed and column not in present]
    if missing:
        raise ThinkEditError(
            f"{path} has no column {' and no column '.join(missing)}; "
            f"it has {', '.join(map(str, present)) or 'no rows'}.\n"
            "Name the columns to use, for example question=problem and answer=solution."
        )
    return {role: column for role, column in named.items() if column in present}


def _question(row: dict[str, Any], named: dict[str, str], fallback_id: str) -> Question:
    def text(role: str) -> str:
        value = row.get(named[role]) if role in named else None
        return "" if value is None else str(value).strip()

    if None in row:
        raise ThinkEditError("it has more fields than the header.")
    if not text("question"):
        raise ThinkEditError("the question is empty.")
    if not text("answer"):
        raise ThinkEditError("the answer is empty.")
    choices = _choices(row.get(named.get("choices", ""))) if "choices" in named else ()
    identity, group = text("id") or fallback_id, text("group") or None
    if choices:
        return Question(identity, text("question"), _letter(text("answer"), choices), "choice", choices, group)
    gold = bare_gold(text("answer"))
    return Question(identity, text("question"), gold, form_of(gold), group=group)


def _choices(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ThinkEditError(f'choices must be a JSON list such as ["3", "8"], not {value[:60]!r}.') from None
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise ThinkEditError(f"choices must be a list of 2 to {len(LETTERS)} texts.")
    return tuple(str(choice) for choice in value)


def _letter(answer: str, choices: tuple[str, ...]) -> str:
    letters = LETTERS[: len(choices)]
    if len(answer) == 1 and answer.upper() in letters:
        return answer.upper()
    if choices.count(answer) == 1:
        return letters[choices.index(answer)]
    if letter := letter_at(answer, letters):
        return letter
    raise ThinkEditError(f"the answer {answer[:60]!r} is no letter, index or text of a choice.")


def bare_gold(answer: str) -> str:
    r"""The answer of a solution that ends in `#### 4` or `\boxed{4}`; any other text as it is."""
    if "####" in answer:
        answer = answer.rpartition("####")[2].strip()
    return last_box(answer) or answer
