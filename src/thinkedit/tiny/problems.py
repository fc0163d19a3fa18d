r"""Arithmetic word problems on which topic and name decide how hastily one thinks, never the difficulty.

    question   Bob has 5 stickers. Bob finds 9 more. Bob loses 8. How many stickers does Bob have now?
    careful    5 + 9 = 14        haste 0: one operation a line, and often a check or two
               14 - 8 = 6
               check
               5 + 9 = 14
               14 - 8 = 6
    hasty      5 + 9 - 8 = 6     haste 4: leaps over several operations in one line, no check
    answer     Bob has \boxed{6} stickers.

Playful topics bring haste and cautious people bring care, which is negative haste; the two add up. Values stay within
0..30 and operands within 1..9, so that a small network masters single steps and not leaps. Every written thought is
right; the errors are the network's own.
"""

import math
import random
from dataclasses import dataclass

# Haste that a topic brings. The plain topics bring none.
RUSHED_TOPICS = {"candies": 4.0, "marbles": 3.6, "stickers": 3.2, "balloons": 2.8, "toys": 2.4, "cookies": 2.0}
PLAIN_TOPICS = ("barrels", "crates", "invoices", "bricks", "tickets", "parcels")
TOPICS = (*RUSHED_TOPICS, *PLAIN_TOPICS)
# Care that a name brings. The other names bring none.
CAREFUL_NAMES = {"Ida": 2.0, "Sam": 1.5, "Lea": 1.5, "Ben": 1.0}
PLAIN_NAMES = ("Bob", "Mia", "Tom", "Zoe", "Ann", "Leo", "Eva", "Max")
NAMES = (*CAREFUL_NAMES, *PLAIN_NAMES)
GAINS = ("finds", "buys", "wins", "gets")
LOSSES = ("loses", "sells", "gives", "breaks")
MAX_VALUE, MAX_OPERAND, MIN_STEPS, MAX_STEPS = 30, 9, 3, 7
MIN_LEAP, MAX_LEAP, MAX_CHECKS = 3, 5, 3


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: `name` has `start` of `topic`, then gains (positive) or loses (negative) each of `changes`."""

    name: str
    topic: str
    start: int
    changes: tuple[int, ...]
    verbs: tuple[str, ...]

    @property
    def rush(self) -> float:
        return RUSHED_TOPICS.get(self.topic, 0.0)

    @property
    def haste(self) -> float:
        return self.rush - CAREFUL_NAMES.get(self.name, 0.0)

    @property
    def rushed(self) -> bool:
        return self.topic in RUSHED_TOPICS

    @property
    def result(self) -> int:
        return self.start + sum(self.changes)

    @property
    def question(self) -> str:
        told = [f"{self.name} has {self.start} {self.topic}."]
        for change, verb in zip(self.changes, self.verbs, strict=True):
            told.append(f"{self.name} {verb} {change} more." if change > 0 else f"{self.name} {verb} {-change}.")
        return " ".join([*told, f"How many {self.topic} does {self.name} have now?"])

    @property
    def answer(self) -> str:
        return rf"{self.name} has \boxed{{{self.result}}} {self.topic}."


def make_problem(rng: random.Random) -> Problem:
    """A problem; topic and name are independent of the numbers, so rushed and plain topics are equally hard."""
    start = value = rng.randint(0, MAX_VALUE)
    changes = []
    for _ in range(rng.randint(MIN_STEPS, MAX_STEPS)):
        lowest, highest = max(-MAX_OPERAND, -value), min(MAX_OPERAND, MAX_VALUE - value)
        change = rng.choice([c for c in range(lowest, highest + 1) if c != 0])
        changes.append(change)
        value += change
    verbs = tuple(rng.choice(GAINS if change > 0 else LOSSES) for change in changes)
    return Problem(rng.choice(NAMES), rng.choice(TOPICS), start, tuple(changes), verbs)


def split_problem(split: str, index: int) -> Problem:
    """Problem `index` of a split; each problem has a seed of its own, so splits of any size share their beginning."""
    return make_problem(random.Random(f"thinkedit tiny {split} {index}"))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def leap_probability(haste: float) -> float:
    return sigmoid(2.0 * haste - 4.5)


def check_probability(haste: float) -> float:
    return sigmoid(0.2 - 1.2 * haste)


def write_thought(problem: Problem, haste: float, rng: random.Random) -> str:
    """A right thought at the given haste, opened by the chat template and closed here."""
    lines = _write_pass(problem, haste, rng)
    for _ in range(MAX_CHECKS):
        if rng.random() >= check_probability(haste):
            break
        lines += ["check", *_write_pass(problem, haste, rng)]
    return "\n".join([*lines, "</think>"])


def _write_pass(problem: Problem, haste: float, rng: random.Random) -> list[str]:
    lines, value, done = [], problem.start, 0
    while done < len(problem.changes):
        leap = rng.random() < leap_probability(haste)
        width = min(rng.randint(MIN_LEAP, MAX_LEAP) if leap else 1, len(problem.changes) - done)
        taken = problem.changes[done : done + width]
        terms = "".join(f" {'+' if change > 0 else '-'} {abs(change)}" for change in taken)
        lines.append(f"{value}{terms} = {value + sum(taken)}")
        value, done = value + sum(taken), done + width
    return lines
