"""Which questions of a benchmark: the first so many, or those that are named.

200                  the first 200
12,40                the questions whose ids end in /12 and /40
gsm8k/test/12        one by its whole id
ids.txt              a file of ids, one a line (or .json: a list; .jsonl: objects with `id` or `question_id`)
"""

import os
from collections.abc import Sequence
from pathlib import Path

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.tasks.base import Question

Selection = int | Sequence[str]


def parse_selection(text: str) -> Selection:
    """What was written behind --limit or --questions. A bare number is a count; `12,` is the one question 12."""
    text = text.strip()
    if text.lstrip("+-").isdecimal() and len(text) < 20:  # a longer one is somebody's id
        if int(text) < 1:
            raise UsageError(f"The number of questions (--limit or --questions) must be at least 1, not {text}.")
        return int(text)
    if os.path.isfile(text):  # pathlib fails for a list that is longer than the name of a file may be
        return _from_file(Path(text))
    if text.endswith((".txt", ".json", ".jsonl")):
        raise UsageError(f"The file of question ids {text} does not exist.")
    ids = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise UsageError("No questions are named; give a number, ids such as 12,40, or a file of ids.")
    return list(dict.fromkeys(ids))


def select(questions: list[Question], chosen: Selection | None, name: str) -> list[Question]:
    """The questions that `chosen` means, in the benchmark's own order; all of them for None.

    An id may leave out what comes before its last part (`12` for `gsm8k/test/12`). Whole ids of other benchmarks are
    passed over, so that one list serves several. Raises UsageError for an id that this benchmark should have and has not.
    """
    if chosen is None:
        return questions
    if isinstance(chosen, int):
        if chosen < 1:
            raise UsageError(f"The number of questions must be at least 1, not {chosen}.")
        return questions[:chosen]
    whole = {question.id: place for place, question in enumerate(questions)}
    short: dict[str, list[int]] = {}
    for identity, place in whole.items():
        short.setdefault(identity.rpartition("/")[2], []).append(place)
    own = {identity.partition("/")[0] for identity in whole}
    places: set[int] = set()
    for wanted in chosen:
        found = [whole[wanted]] if wanted in whole else short.get(wanted, [])
        foreign = "/" in wanted and wanted.partition("/")[0] not in own
        if len(found) > 1:
            examples = ", ".join(questions[place].id for place in found[:3])
            raise UsageError(f"{name}: the question id {wanted!r} means {len(found)} questions ({examples}); write it whole.")
        if not found and not foreign:
            raise UsageError(f"{name} has no question {wanted!r}; its ids are {questions[0].id} to {questions[-1].id}.")
        places.update(found)
    if not places:
        raise UsageError(f"None of the {len(chosen)} question ids belongs to {name}; its ids are like {questions[0].id}.")
    return [questions[place] for place in sorted(places)]


def _from_file(path: Path) -> list[str]:
    from thinkedit.files import read_json, read_json_lines

    if path.suffix == ".jsonl":
        ids = [row.get("question_id", row.get("id")) for _, row in read_json_lines(path)]
    elif path.suffix == ".json":
        ids = read_json(path)
    else:
        try:
            ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise ThinkEditError(f"{path} cannot be read as a list of question ids: {error}") from None
        ids = [line for line in ids if line and not line.startswith("#")]
    if not isinstance(ids, list) or not ids or not all(isinstance(one, str | int) for one in ids):
        raise ThinkEditError(f"{path} is no list of question ids: one a line, a JSON list, or objects with question_id.")
    return list(dict.fromkeys(map(str, ids)))
