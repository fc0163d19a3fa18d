"""The benchmarks, one file each, by name.

    load_questions("gsm8k", limit=200)                         the first 200 test questions, from the hub
    load_questions("MATH-500", data_dir=Path("data"))          the same benchmark from local files
    load_questions("gsm8k", limit=["12", "40"])                two questions by their ids
    load_questions("my.csv", columns={"question": "problem"})  any local file

Names are matched without regard to case, `-` and `_`. Nothing is imported or read before it is asked for.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.plain_text import is_text
from thinkedit.tasks.base import Form, Question, Task
from thinkedit.tasks.selection import Selection, select

__all__ = ["TASK_NAMES", "Form", "Question", "Task", "get_task", "load_questions"]

# Where each task lives: the module, and the name of the `Task` in it.
_LOCATIONS = {
    "gsm8k": ("gsm8k", "GSM8K"),
    "mmlu_elementary_math": ("mmlu", "MMLU_ELEMENTARY_MATH"),
    "MATH-500": ("math", "MATH_500"),
    "MATH-level1": ("math", "MATH_LEVEL1"),
    "MATH-level5": ("math", "MATH_LEVEL5"),
    "MATH-level5-140": ("math", "MATH_LEVEL5_140"),
    "gsm8k-e2h": ("easy2hard", "GSM8K_E2H"),
    "tiny": ("tiny", "TINY"),
}
TASK_NAMES = tuple(_LOCATIONS)
_BY_KEY = {name.lower().replace("_", "-"): name for name in TASK_NAMES}


def get_task(name: str, columns: Mapping[str, str] | None = None) -> Task:
    """The benchmark of that name, or the task made of a local .jsonl, .json, .csv or .parquet file.

    `columns` says which columns of a local file hold what (`{"question": "problem"}`). Raises UsageError.
    """
    from thinkedit.tasks.local import is_local, local_task

    known = _BY_KEY.get(name.lower().replace("_", "-"))
    if known is None and is_local(name):
        return local_task(Path(name), columns)
    if known is None:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), _BY_KEY, n=1, cutoff=0.5)
        guess = f" Did you mean {_BY_KEY[close[0]]}?" if close else ""
        raise UsageError(
            f"Unknown dataset {name!r}.{guess}\nKnown: {', '.join(TASK_NAMES)};\n"
            "or the path of a local .jsonl, .json, .csv or .parquet file with a question and an answer column."
        )
    if columns:
        raise UsageError(f"Columns are named for local files only; {known} has a fixed schema.")
    module, attribute = _LOCATIONS[known]
    return getattr(import_module(f"thinkedit.tasks.{module}"), attribute)


def load_questions(
    name: str,
    split: str | None = None,
    data_dir: Path | str | None = None,
    limit: Selection | None = None,
    columns: Mapping[str, str] | None = None,
) -> list[Question]:
    """The first `limit` questions of a split (the task's default one), or those whose ids `limit` lists; all by default.

    They come from the hub, or from local files of the same schema in `data_dir`; ids are unique. Raises UsageError for a
    name, split or limit that makes no sense, ThinkEditError for data that cannot be had.
    """
    task = get_task(name, columns)
    split = split or task.default_split
    if split not in task.splits:
        raise UsageError(f"{task.name} has no split {split!r}; it has {', '.join(task.splits)}.")
    if isinstance(limit, int):
        select([], limit, task.name)  # says before anything is read that a number makes no sense
    questions = task.load(split, Path(data_dir) if data_dir is not None else None)
    if not questions:
        raise ThinkEditError(f"{task.name} ({split}) holds no questions.")
    for question in questions:
        if not is_text(question.id + question.text + question.gold):
            raise ThinkEditError(f"{task.name}: {question.id!r} holds half of a surrogate pair, which is no character.")
    return select(questions, limit, task.name)
