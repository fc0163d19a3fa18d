"""The embedded task: sums of stickers and bricks that the embedded model was trained on.

Generated, not downloaded (`thinkedit.tiny.problems`). The group says whether the topic is one that the model rushes.

    question  Bob has 5 stickers. Bob finds 9 more. Bob loses 8. How many stickers does Bob have now?
    gold      6
    group     rushed
"""

from pathlib import Path

from thinkedit.tasks.base import Question, Task
from thinkedit.tiny.problems import split_problem

QUESTIONS = 2000


def load(split: str, data_dir: Path | None) -> list[Question]:
    """All questions of a split; there are no files, so `data_dir` means nothing here."""
    problems = [split_problem(split, index) for index in range(QUESTIONS)]
    return [
        Question(
            id=f"tiny/{split}/{index}",
            text=problem.question,
            gold=str(problem.result),
            form="number",
            group="rushed" if problem.rushed else "plain",
        )
        for index, problem in enumerate(problems)
    ]


def ask(question: Question) -> str:
    return question.text


TINY = Task("tiny", ("train", "dev", "test"), "test", load, ask)
