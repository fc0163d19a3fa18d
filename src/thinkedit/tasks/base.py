"""What a benchmark is: questions with gold answers, a way to ask them, and the form of the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Form = Literal["number", "expression", "choice", "text"]


@dataclass(frozen=True, slots=True)
class Question:
    """`gold` is the bare answer (`1200`, `\\frac{1}{2}`, for choices the letter). `group` labels kinds of questions."""

    id: str
    text: str
    gold: str
    form: Form
    choices: tuple[str, ...] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """`load(split, data_dir)` gives the questions of a split, from `data_dir` where given, else from the hub.

    `ask` renders what the user says to the model. Raises ThinkEditError for an unknown split or unreadable data.
    """

    name: str
    splits: tuple[str, ...]
    default_split: str
    load: Callable[[str, Path | None], list[Question]]
    ask: Callable[[Question], str]


def form_of(gold: str) -> Form:
    """How a mathematical answer is looked for and compared: as a number where it is a plain one."""
    from thinkedit.grading.normal import plain_number  # here, so that the registry of tasks stays instant to import

    return "number" if plain_number(gold) is not None else "expression"


def step_by_step(question: Question) -> str:
    """The question with the request that DeepSeek recommends for mathematics (README of DeepSeek-R1)."""
    return f"{question.text}\nPlease reason step by step, and put your final answer within \\boxed{{}}."
