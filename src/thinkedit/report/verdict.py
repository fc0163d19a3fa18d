"""The verdict in words. It rests on one figure, named before looking: the paired difference in accuracy.

A change is claimed only where the 95 % interval of that one figure excludes zero, and never as larger than it is.
What the placebos did is said right after it, because an edit that its placebos equal has shown nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from thinkedit.metrics import Grid, paired, rows_of
from thinkedit.report.measures import accuracy_difference, figure, grain, length_difference
from thinkedit.report.table import rounded
from thinkedit.statistics import Estimate, mean_estimate

Claim = Literal["rose", "fell", "not shown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`headline` is the claim, `sentences` are what has to be read with it."""

    claim: Claim
    headline: str
    sentences: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Placebo:
    """What the draws of one placebo did to accuracy: each draw, their mean, and the edit less that mean.

    Intervals are over questions, for the draws that were made; how much draws differ shows in the draws themselves.
    """

    kind: str
    draws: dict[str, Estimate]
    mean: Estimate
    edit_less_mean: Estimate
    lengths: dict[str, Estimate]

    @property
    def equals_edit(self) -> bool:
        """True where the interval of edit less placebo does not exclude zero."""
        return not self.edit_less_mean.excludes_zero

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "draws": {name: figure(draw) for name, draw in self.draws.items()},
            "mean": figure(self.mean),
            "edit_less_mean": figure(self.edit_less_mean),
            "thinking_length_differences": {name: figure(draw) for name, draw in self.lengths.items()},
        }


def placebo(kind: str, base: Grid, edited: Grid, draws: dict[str, Grid]) -> Placebo:
    """The draws of one placebo against base and edit, on the questions that all of them hold."""
    shared = set(base.keys) & set(edited.keys)
    for draw in draws.values():
        shared &= set(draw.keys)
    base = rows_of(base, [row for row, key in enumerate(base.keys) if key in shared])
    arms = {name: paired(base, draw)[1] for name, draw in draws.items()}
    effects = [arm.question_accuracy - base.question_accuracy for arm in arms.values()]
    average = np.mean(effects, axis=0)
    step = grain(base, *arms.values())
    edit = paired(base, edited)[1].question_accuracy - base.question_accuracy
    return Placebo(
        kind,
        {name: accuracy_difference(base, arm) for name, arm in arms.items()},
        mean_estimate(average, grain=step / len(effects)),
        mean_estimate(edit - average, grain=step / len(effects)),
        {name: length_difference(base, arm) for name, arm in arms.items()},
    )


def verdict(
    accuracy: Estimate,
    length: Estimate | None = None,
    placebos: Sequence[Placebo] = (),
    arm: str = "",
) -> Verdict:
    """The verdict on an edit.

    `accuracy` is the paired difference over all questions, the primary figure; `length` the paired difference in
    tokens of closed thoughts, which is reported but decides nothing; `arm` names the edit where there are several.
    """
    if accuracy.low is None or accuracy.high is None:
        return Verdict("not shown", "Too few graded questions to say anything about accuracy.", [])
    edit = f" ({arm})" if arm and arm != "edited" else ""
    span = f"95 % interval {signed(accuracy.low)} to {signed(accuracy.high)} points, {accuracy.n:,} questions"
    sentences = []
    if accuracy.excludes_zero:
        claim: Claim = "rose" if accuracy.value > 0 else "fell"
        direction = "raised" if claim == "rose" else "lowered"
        headline = f"The edit{edit} {direction} accuracy by {abs(accuracy.value) * 100:.1f} points ({span})."
        sentences += [_placebo_sentence(one, accuracy) for one in placebos]
    else:
        claim = "not shown"
        headline = f"No effect of the edit{edit} on accuracy was shown: {signed(accuracy.value)} points ({span})."
        sentences.append(
            f"A loss of up to {abs(min(accuracy.low, 0)) * 100:.1f} points and a gain of up to "
            f"{max(accuracy.high, 0) * 100:.1f} both remain compatible with these questions."
        )
    if length is not None and length.low is not None and length.high is not None:
        sentences.append(_length_sentence(length))
    return Verdict(claim, headline, sentences)


def signed(share: float) -> str:
    """A share as signed points: 0.034 is +3.4."""
    points = rounded(share * 100, 1)
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}") if points else "0.0"


def _placebo_sentence(one: Placebo, accuracy: Estimate) -> str:
    count = f"{len(one.draws)} draw{'s' if len(one.draws) != 1 else ''}"
    did = f"Placebo, {one.kind} ({count}): {signed(one.mean.value)} points on average"
    if one.mean.low is not None and one.mean.high is not None:
        did += f" ({signed(one.mean.low)} to {signed(one.mean.high)})"
    low, high = one.edit_less_mean.low, one.edit_less_mean.high
    if low is None or high is None:
        return f"{did}; too few questions to compare it with the edit."
    between = f"{signed(low)} to {signed(high)}"
    if one.equals_edit:
        return f"{did}. The edit does not differ from it ({between}), so the change cannot be credited to the method."
    if (one.edit_less_mean.value > 0) != (accuracy.value > 0):
        return f"{did}. It moved accuracy further than the edit did (edit less placebo {between})."
    return f"{did}; the edit differs from it by {signed(one.edit_less_mean.value)} ({between})."


def _length_sentence(length: Estimate) -> str:
    low, high = (f"{value:+,.1f}".replace("-", "\N{MINUS SIGN}") for value in (length.low, length.high))
    if not length.excludes_zero:
        return f"No difference in mean thinking length was shown (95 % interval {low} to {high} tokens)."
    change = "longer" if length.value > 0 else "shorter"
    return f"Closed thoughts are {abs(length.value):,.1f} tokens {change} on average (95 % interval {low} to {high})."
