"""Verdicts: the answer that a model gave against the gold one."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from thinkedit.grading.answers import final_answer, last_number
from thinkedit.grading.choices import compare_choice
from thinkedit.grading.compare import Pairs, compare
from thinkedit.grading.processes import Outcome, Processes

Reason = Literal["correct", "wrong", "no answer", "unparsable", "timed out"]
LONGEST_ANSWER = 2000
DEEPEST_NESTING = 40
SHOWN = 200


@dataclass(frozen=True, slots=True)
class Verdict:
    """`answer` is what was graded, cut where it is very long; for choices the letter. `None` if there was none."""

    answer: str | None
    correct: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Item:
    """`text` is what follows `</think>`: the thought itself is never graded."""

    text: str
    gold: str
    form: str = "expression"
    choices: Sequence[str] = ()


class Grader:
    """Grades many answers at once; what strings and exact numbers cannot decide goes to math-verify in other processes.

    Use it as a context manager. `workers` is the number of those processes (default: one a core, at most 8), `timeout`
    the seconds of processor time that one comparison may take, `lenient` restores the rules of the published evaluation.
    Starting costs nothing until an answer needs a process.
    """

    def __init__(self, workers: int | None = None, timeout: float = 5.0, lenient: bool = False) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.lenient = lenient
        self.processes = Processes(workers or min(cores, 8), timeout)

    def __enter__(self) -> "Grader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.processes.close()

    def grade(self, items: Iterable[Item | tuple]) -> list[Verdict]:
        """A verdict an item, in order. Items may be plain tuples (text, gold, form, choices)."""
        decided: list[Verdict | tuple[str, Pairs]] = []
        for item in items:
            decided.append(self._decide(item if isinstance(item, Item) else Item(*item)))
        pairs = list({pair: None for entry in decided if not isinstance(entry, Verdict) for pair in entry[1]})
        outcomes = dict(zip(pairs, self.processes.equal(pairs), strict=True)) if pairs else {}
        return [
            entry if isinstance(entry, Verdict) else _verdict(entry[0], [outcomes[pair] for pair in entry[1]])
            for entry in decided
        ]

    def _decide(self, item: Item) -> Verdict | tuple[str, Pairs]:
        """The verdict, or the answer and the pairs that are left to compare."""
        answer = final_answer(item.text or "", item.form, item.choices)
        if answer is None and self.lenient:
            answer = last_number(item.text or "")
        if answer is None:
            return Verdict(None, False, "no answer")
        if len(answer) > LONGEST_ANSWER or _depth(answer) > DEEPEST_NESTING:
            return Verdict(answer[:SHOWN], False, "unparsable")
        if answer == item.gold:
            return Verdict(answer, True, "correct")
        if item.form == "choice":
            correct, answer = compare_choice(item.gold, answer, item.choices)
            return Verdict(answer[:SHOWN], correct, "correct" if correct else "wrong")
        decision = compare(item.gold, answer, self.lenient)
        if isinstance(decision, bool):
            return Verdict(answer[:SHOWN], decision, "correct" if decision else "wrong")
        return answer[:SHOWN], decision


def _verdict(answer: str, outcomes: list[Outcome]) -> Verdict:
    """Right if every pair is equal; else the first reason in this order: wrong, timed out, unparsable."""
    if all(outcome is True for outcome in outcomes):
        return Verdict(answer, True, "correct")
    if False in outcomes:
        return Verdict(answer, False, "wrong")
    return Verdict(answer, False, "timed out" if "timed out" in outcomes else "unparsable")


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "{([":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "})]":
            depth -= 1
    return deepest
