r"""MATH: 5,000 competition problems of seven subjects and five levels, and the selections that the paper evaluates on.

Hendrycks et al. 2021, https://huggingface.co/datasets/EleutherAI/hendrycks_math (test, the subjects in the order of
SUBJECTS), https://huggingface.co/datasets/HuggingFaceH4/MATH-500 (Lightman et al. 2023).
`MATH-level5-140` are the 140 level-5 problems with integer answers of the paper's steering experiment. No hub has
them: `math_level5_140.json` lists their rows in the test set with a hash of each text, by which they are found.

    problem   What is the positive difference between $120\%$ of 30 and $130\%$ of 20?
    level     Level 1
    type      Algebra
    solution  One hundred twenty percent of 30 is $120\cdot30\cdot\frac{1}{100}=36$, and ... $\boxed{10}$.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json
from thinkedit.grading.answers import last_box
from thinkedit.tasks.base import Question, Task, form_of, step_by_step
from thinkedit.tasks.sources import Source, read_table

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra",
    "number_theory", "prealgebra", "precalculus",
)  # fmt: skip
ALL = Source(
    "EleutherAI/hendrycks_math",
    SUBJECTS,
    ("hendrycks_math_{split}.jsonl", "math_{split}.jsonl", "hendrycks_math/{split}", "MATH/{split}"),
    ("problem", "level", "type", "solution"),
)
FIVE_HUNDRED = Source(
    "HuggingFaceH4/MATH-500",
    (None,),
    ("math500_{split}.jsonl", "MATH-500/{split}", "math_500_{split}"),
    ("problem", "answer", "subject", "level", "unique_id"),
)
SELECTION = Path(__file__).with_name("math_level5_140.json")
SELECTION_FILES = ("math_level5_140.csv", "math_level5_140.jsonl")


def problem_hash(problem: str) -> str:
    """Identifies a problem whatever its line breaks and spaces are."""
    return hashlib.sha256(" ".join(problem.split()).encode()).hexdigest()[:16]


def _question(identity: str, problem: str, gold: str, group: str) -> Question:
    return Question(identity, problem.strip(), gold, form_of(gold), group=group)


def _from_solution(row: dict[str, Any], split: str, index: int) -> Question:
    gold = last_box(row["solution"])
    if not gold:
        raise ThinkEditError(f"MATH ({split}), row {index + 1}: the solution has no \\boxed{{}} answer.")
    return _question(f"MATH/{split}/{index}", row["problem"], gold, row["level"])


def load_level(split: str, data_dir: Path | None, level: str) -> list[Question]:
    """The questions of one level; their ids hold the row in the whole split."""
    rows = ALL.rows(split, data_dir)
    return [_from_solution(row, split, index) for index, row in enumerate(rows) if row["level"] == level]


def load_500(split: str, data_dir: Path | None) -> list[Question]:
    return [
        _question(str(row["unique_id"]), row["problem"], str(row["answer"]), f"Level {row['level']}")
        for row in FIVE_HUNDRED.rows(split, data_dir)
    ]


def load_140(split: str, data_dir: Path | None) -> list[Question]:
    """The 140 problems, from the table of them in `data_dir` where there is one, else out of the whole test set."""
    wanted = {entry["sha256"]: entry["row"] for entry in read_json(SELECTION)["problems"]}
    tables = [data_dir / name for name in SELECTION_FILES if (data_dir / name).is_file()] if data_dir else []
    table = tables[0] if tables else None
    if table is not None:
        found = _from_table(table, split, wanted)
    else:
        found = {}
        for index, row in enumerate(ALL.rows(split, data_dir)):
            key = problem_hash(row["problem"])
            if key in wanted and key not in found:
                found[key] = _from_solution(row, split, index)
    missing = [row for key, row in wanted.items() if key not in found]
    if missing:
        raise ThinkEditError(
            f"MATH-level5-140: {len(missing)} of the {len(wanted)} problems are not in {table or ALL.hub_id}, "
            f"the first being row {missing[0]} of the MATH test set. The data is incomplete or not the original."
        )
    return [found[key] for key in wanted]


def _from_table(path: Path, split: str, wanted: dict[str, int]) -> dict[str, Question]:
    found = {}
    for number, row in read_table(path):
        if not row.get("problem") or not row.get("answer"):
            found_columns = ", ".join(map(str, row))
            raise ThinkEditError(f"{path}, row {number}: expected problem and answer, found {found_columns}.")
        key = problem_hash(row["problem"])
        if key not in wanted:
            raise ThinkEditError(f"{path}, row {number}: this problem is none of the {len(wanted)}.")
        found[key] = _question(f"MATH/{split}/{wanted[key]}", row["problem"], str(row["answer"]), "Level 5")
    return found


MATH_500 = Task("MATH-500", ("test",), "test", load_500, step_by_step)
MATH_LEVEL1 = Task("MATH-level1", ("train", "test"), "test", partial(load_level, level="Level 1"), step_by_step)
MATH_LEVEL5 = Task("MATH-level5", ("train", "test"), "test", partial(load_level, level="Level 5"), step_by_step)
MATH_LEVEL5_140 = Task("MATH-level5-140", ("test",), "test", load_140, step_by_step)
