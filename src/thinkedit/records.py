"""One generated answer as a record: what was asked, what came back, how long it thought, whether it was right."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from thinkedit.errors import ThinkEditError
from thinkedit.files import append_json_lines, drop_torn_line, read_json_lines, sync

THINK_TAGS = ("<think>", "</think>")
Status = Literal["closed", "truncated", "unclosed", "absent"]


@dataclass(frozen=True, slots=True)
class Record:
    """`thinking_tokens` is None where no thought was found. `forced` is the text of a forced answer, if one was asked for.

    `group` is a label that the task gives its questions (a level, a kind of topic). `alpha`, `control` and `layer` say
    how the model was steered (`layer` None: all of them), `edit` which edit was on (None: the base model). `think_tags` are the
    tags of its thought where they are not THINK_TAGS.
    """

    task: str
    question_id: str
    question: str
    gold: str
    sample: int
    seed: int
    prompt_ids: list[int]
    token_ids: list[int]
    text: str
    thinking_tokens: int | None
    status: Status
    finish_reason: str
    answer: str | None = None
    correct: bool | None = None
    verdict: str | None = None
    forced: str | None = None
    form: str = "expression"
    choices: list[str] | None = None
    group: str | None = None
    model: str | None = None
    control: str | None = None
    alpha: float | None = None
    layer: int | None = None
    edit: str | None = None
    think_tags: list[str] | None = None

    @property
    def tags(self) -> tuple[str, str]:
        """What opens and what closes its thought."""
        return (self.think_tags[0], self.think_tags[1]) if self.think_tags else THINK_TAGS

    @property
    def key(self) -> tuple[str, int]:
        return self.question_id, self.sample

    def as_dict(self) -> dict[str, Any]:
        """The fields in order; the lists are the record's own (dataclasses.asdict would copy every token)."""
        return {name: getattr(self, name) for name in FIELDS}

    def graded(self, answer: str | None, correct: bool | None, verdict: str) -> "Record":
        return replace(self, answer=answer, correct=correct, verdict=verdict)


FIELDS = tuple(field.name for field in fields(Record))
STATUSES = get_args(Status)


# The types that each field of a line may have, and what else is asked of those whose type does not say it all.
KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "question_id", "question", "gold", "text", "finish_reason", "form", "status"), (str,)),
    **dict.fromkeys(("answer", "verdict", "forced", "group", "model", "control", "edit"), (str, NoneType)),
    **dict.fromkeys(("prompt_ids", "token_ids"), (list,)),
    **dict.fromkeys(("sample", "seed"), (int,)),
    **dict.fromkeys(("thinking_tokens", "layer"), (int, NoneType)),
    **dict.fromkeys(("choices", "think_tags"), (list, NoneType)),
    "correct": (bool, NoneType),
    "alpha": (int, float, NoneType),
}
FURTHER: dict[str, Callable[[Any], bool]] = {
    "status": lambda status: status in STATUSES,
    **dict.fromkeys(("prompt_ids", "token_ids"), lambda ids: set(map(type, ids)) <= {int} and min(ids, default=0) >= 0),
    **dict.fromkeys(("sample", "seed", "thinking_tokens", "layer"), lambda count: count is None or count >= 0),
    "choices": lambda texts: texts is None or set(map(type, texts)) <= {str},
    "think_tags": lambda tags: tags is None or (set(map(type, tags)) <= {str} and len(tags) == 2 and all(tags)),
}
REQUIRED = ("task", "question_id", "question", "gold", "sample", "text", "status")
DEFAULTS: dict[str, Any] = {"seed": 0, "thinking_tokens": None, "finish_reason": "stop"}


def parse_record(value: dict[str, Any]) -> Record:
    """The record that a line of JSON holds, without what it holds besides. ThinkEditError where it is none."""
    missing = [name for name in REQUIRED if name not in value]
    if missing:
        raise ThinkEditError(f"not a record of this program: it lacks {', '.join(missing)}.")
    found = {name: value[name] for name in FIELDS if name in value}
    wrong = [name for name, item in found.items() if type(item) not in KINDS[name]]
    wrong += [name for name, fits in FURTHER.items() if name in found and name not in wrong and not fits(found[name])]
    if wrong:
        raise ThinkEditError(f"not a record of this program: {', '.join(wrong)} is not of the kind that it must be.")
    return Record(**{"prompt_ids": [], "token_ids": [], **DEFAULTS, **found})


def read_records(path: Path) -> list[Record]:
    """All records of a file; a torn or foreign line is an error that names its number."""
    records = []
    for number, value in read_json_lines(path):
        try:
            records.append(parse_record(value))
        except ThinkEditError as error:
            raise ThinkEditError(f"{path}, line {number}: {error}") from None
    return records


class RecordFile:
    """An append-only JSON Lines file of records that a killed run continues: what is written is never written again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        drop_torn_line(path)
        self.records = _each_once(read_records(path), path) if path.exists() else []
        self._size = self._size_now()

    def append(self, records: Iterable[Record]) -> None:
        """Raises ThinkEditError where the file is not as it was left: removed, cut, or written to by others."""
        fresh = list(records)
        if not fresh:
            return
        if self._size_now() != self._size:
            raise ThinkEditError(
                f"{self.path} was removed or changed while this command was at work: it has {self._size_now():,} bytes instead "
                f"of {self._size:,}.\nNothing more was written to it; the same command goes on with what is there."
            )
        append_json_lines(self.path, (record.as_dict() for record in fresh))
        self.records += fresh
        self._size = self._size_now()

    def sync(self) -> None:
        """Has the system write it to the disk, before anything there counts on its records."""
        if self.path.exists():
            sync(self.path)

    def _size_now(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def in_order(records: Iterable[Record]) -> list[Record]:
    """By sample, then question (2 before 10): what is computed from records must not depend on which came first."""
    return sorted(records, key=lambda record: (record.sample, _natural(record.question_id)))


def _natural(name: str) -> list[str | int]:
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", name))]


def read_entries(directory: Path, entries: Iterable[Mapping[str, Any]]) -> list[Record]:
    """The records that entries of run.json ask for, and no others that their files hold; those of each file in order.

    Raises ThinkEditError where a file lacks some that it held when the entry was written, or holds one twice.
    """
    found: list[Record] = []
    for entry in entries:
        path, only = directory / entry["path"], None if entry["only"] is None else set(entry["only"])
        records = _each_once(read_records(path), path) if path.exists() or "records" not in entry else []
        asked = in_order(r for r in records if r.sample < entry["samples"] and (only is None or r.question_id in only))
        if len(asked) < entry.get("records", 0):
            raise ThinkEditError(
                f"{path} holds {len(asked):,} of the {entry['records']:,} answers that were written to it.\n"
                "Repeat the step that writes it, with the same settings: it makes what is missing."
            )
        found += asked
    return found


def _each_once(records: list[Record], path: Path) -> list[Record]:
    """The records of a file of ours. Raises ThinkEditError where two answer the same question and sample."""
    seen: set[tuple[str, int]] = set()
    for record in records:
        if record.key in seen:
            raise ThinkEditError(
                f"{path} holds two answers to question {record.question_id}, sample {record.sample}: it was changed.\n"
                "Remove one of the two lines, or the file: the step that writes it makes what is missing."
            )
        seen.add(record.key)
    return records
