r"""MMLU, elementary mathematics: four choices a question.

Hendrycks et al. 2021, https://huggingface.co/datasets/cais/mmlu (config elementary_mathematics; test 378).
The answer is the 0-based index of the choice; here it is asked for, and kept, as a letter.

    question  What is the value of p in 24 = 2p?
    choices   ["p = 4", "p = 8", "p = 12", "p = 24"]
    answer    2
"""

from pathlib import Path

from thinkedit.errors import ThinkEditError
from thinkedit.grading.answers import LETTERS
from thinkedit.tasks.base import Question, Task
from thinkedit.tasks.sources import Source

SOURCE = Source(
    "cais/mmlu",
    ("elementary_mathematics",),
    ("mmlu_elementary_mathematics_{split}.jsonl", "mmlu_elementary_math/{split}"),
    ("question", "choices", "answer"),
)


def load(split: str, data_dir: Path | None) -> list[Question]:
    questions = []
    for index, row in enumerate(SOURCE.rows(split, data_dir)):
        choices = tuple(map(str, row["choices"]))
        if not isinstance(row["answer"], int) or not 0 <= row["answer"] < len(choices):
            raise ThinkEditError(
                f"mmlu_elementary_math ({split}), row {index + 1}: the answer {row['answer']!r} is no choice's index."
            )
        gold = LETTERS[row["answer"]]
        questions.append(Question(f"mmlu_elementary_math/{split}/{index}", row["question"].strip(), gold, "choice", choices))
    return questions


def ask(question: Question) -> str:
    """The question, its choices as A., B., ... and the request for a letter in a box."""
    letters = LETTERS[: len(question.choices)]
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, question.choices, strict=True))
    named = f"{', '.join(letters[:-1])} or {letters[-1]}"
    return (
        f"{question.text}\n{listed}\n"
        f"Please reason step by step, and put the letter of the correct choice ({named}) within \\boxed{{}}."
    )


MMLU_ELEMENTARY_MATH = Task("mmlu_elementary_math", ("test", "validation", "dev"), "test", load, ask)
