"""Numbers from records: accuracy, thinking length, the shortest thoughts, flips, and what steering did.

Everything starts from a `Grid`, the records of one arm (one model under one setting) as arrays of questions by samples.
Lengths are tokens and belong to closed thoughts only; every figure of length says how many thoughts that left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.errors import ThinkEditError
from thinkedit.records import Record
from thinkedit.statistics import Array, mcnemar_exact

STATUSES = ("closed", "truncated", "unclosed", "absent")
FRACTIONS = (0.05, 0.10, 0.20)

Question = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Grid:
    """One arm: `correct` and `length` are [questions, samples]; NaN where not graded, or the thought not closed.

    `keys` are (task, question id), in the order in which they first appear. `status` holds places in STATUSES, -1 where
    a question has no such sample.
    """

    keys: tuple[Question, ...]
    groups: tuple[str | None, ...]
    correct: Array
    length: Array
    status: NDArray[np.int8]

    @property
    def statuses(self) -> dict[str, int]:
        """How many thoughts of each status there are."""
        return {name: int((self.status == place).sum()) for place, name in enumerate(STATUSES)}

    @property
    def left_out(self) -> int:
        """Thoughts that are not closed and so have no length."""
        return int((self.status > 0).sum())

    @property
    def question_accuracy(self) -> Array:
        """[questions]: share of a question's graded samples that are correct; NaN where none is graded."""
        return row_means(self.correct)

    @property
    def length_sums(self) -> tuple[Array, Array]:
        """Tokens and number of closed thoughts, each [questions]: numerator and denominator of the mean length."""
        return np.nansum(self.length, axis=1), (~np.isnan(self.length)).sum(axis=1).astype(np.float64)


def row_means(values: Array) -> Array:
    """Means of the rows over what is not NaN; NaN for a row without any."""
    present = ~np.isnan(values)
    counts = present.sum(axis=1)
    sums = np.where(present, values, 0.0).sum(axis=1)
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def grid(records: Iterable[Record]) -> Grid:
    """The records of one arm as arrays. ThinkEditError where two records answer the same question and sample."""
    records = list(records)
    rows: dict[Question, int] = {}
    groups: list[str | None] = []
    for record in records:
        if (record.task, record.question_id) not in rows:
            rows[record.task, record.question_id] = len(rows)
            groups.append(record.group)
    columns = {sample: column for column, sample in enumerate(sorted({record.sample for record in records}))}
    correct = np.full((len(rows), len(columns)), np.nan)
    length = correct.copy()
    status = np.full(correct.shape, -1, dtype=np.int8)
    for record in records:
        cell = rows[record.task, record.question_id], columns[record.sample]
        if status[cell] >= 0:
            raise ThinkEditError(
                f"two records answer question {record.question_id!r} of {record.task}, sample {record.sample}: "
                "records of different settings were mixed."
            )
        status[cell] = STATUSES.index(record.status)
        if record.correct is not None:
            correct[cell] = float(record.correct)
        if record.status == "closed" and record.thinking_tokens is not None:
            length[cell] = record.thinking_tokens
    return Grid(tuple(rows), tuple(groups), correct, length, status)


def rows_of(arm: Grid, rows: Sequence[int]) -> Grid:
    """Some questions of an arm."""
    chosen = list(rows)
    keys, groups = tuple(arm.keys[row] for row in chosen), tuple(arm.groups[row] for row in chosen)
    return Grid(keys, groups, arm.correct[chosen], arm.length[chosen], arm.status[chosen])


def paired(base: Grid, other: Grid) -> tuple[Grid, Grid]:
    """Both arms on the questions that they share, in base's order."""
    place = {key: row for row, key in enumerate(other.keys)}
    shared = [row for row, key in enumerate(base.keys) if key in place]
    return rows_of(base, shared), rows_of(other, [place[base.keys[row]] for row in shared])


def stacked(arms: Mapping[str, Grid]) -> Grid:
    """One arm over several tasks, named by the mapping's keys, as a single arm."""
    parts = list(arms.values())
    samples = max((part.correct.shape[1] for part in parts), default=0)

    def stack(arrays: list[NDArray[Any]], missing: float) -> NDArray[Any]:
        wide = [np.pad(a, ((0, 0), (0, samples - a.shape[1])), constant_values=missing) for a in arrays]
        return np.concatenate(wide) if wide else np.full((0, 0), missing)

    return Grid(
        tuple((task, question) for task, part in arms.items() for _, question in part.keys),
        tuple(group for part in parts for group in part.groups),
        stack([part.correct for part in parts], np.nan),
        stack([part.length for part in parts], np.nan),
        stack([part.status for part in parts], -1),
    )


def by_group(arm: Grid) -> dict[str, Grid]:
    """An arm's questions group by group, groups in order of first appearance; questions without one are in none."""
    parts: dict[str, list[int]] = {}
    for row, group in enumerate(arm.groups):
        if group is not None:
            parts.setdefault(group, []).append(row)
    return {group: rows_of(arm, rows) for group, rows in parts.items()}


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation of a figure over the sample runs (None for a single run)."""

    mean: float
    sd: float | None
    runs: int

    @classmethod
    def over(cls, values: Iterable[float]) -> "Spread":
        kept = [value for value in values if np.isfinite(value)]
        if not kept:
            return cls(float("nan"), None, 0)
        return cls(float(np.mean(kept)), float(np.std(kept, ddof=1)) if len(kept) > 1 else None, len(kept))


def accuracy_over_runs(arm: Grid) -> Spread:
    """Accuracy of each sample run (run = sample index), as mean and sd over runs: the paper's overall figure."""
    return Spread.over(row_means(arm.correct.T))


def length_over_runs(arm: Grid) -> Spread:
    """Mean length of the closed thoughts of each sample run, as mean and sd over runs."""
    return Spread.over(row_means(arm.length.T))


def shortest_weights(lengths: Array, count: int) -> Array:
    """Weights in [0, 1] that sum to `count` and choose the shortest of `lengths` [n]; NaN is never chosen.

    Ties at the cut share what is left of it, so that the order of the questions decides nothing.
    """
    weights = np.zeros(len(lengths))
    known = np.sort(lengths[~np.isnan(lengths)])
    count = min(count, len(known))
    if count == 0:
        return weights
    cut = known[count - 1]
    below, level = lengths < cut, lengths == cut
    weights[below] = 1.0
    weights[level] = (count - below.sum()) / level.sum()
    return weights


def share_count(total: int, fraction: float) -> int:
    """How many of `total` a fraction is: rounded half up, at least one where there is any."""
    return min(total, max(1, int(total * fraction + 0.5)))


def weighted_mean(values: Array, weights: Array) -> float:
    """Mean over what is not NaN; NaN where no weight is left."""
    kept = ~np.isnan(values) & (weights > 0)
    return float((values[kept] * weights[kept]).sum() / weights[kept].sum()) if kept.any() else float("nan")


def shortest(arm: Grid, fraction: float) -> tuple[Spread, Spread]:
    """Accuracy and length of the shortest `fraction` of an arm's own closed thoughts in each run, over runs.

    The paper's figure. It compares different questions between models: `matched` does not.
    """
    accuracies, lengths = [], []
    for run in range(arm.length.shape[1]):
        own = arm.length[:, run]
        weights = shortest_weights(own, share_count(int((~np.isnan(own)).sum()), fraction))
        accuracies.append(weighted_mean(arm.correct[:, run], weights))
        lengths.append(weighted_mean(own, weights))
    return Spread.over(accuracies), Spread.over(lengths)


@dataclass(frozen=True, slots=True)
class Matched:
    """The questions that are shortest under the base, cross-fitted. All arrays are [questions]; zero where not chosen.

    `chosen` counts how far a question was chosen (0 to 2: once per half). The others are (numerator, denominator) of
    accuracy and of length for both arms, summed over the two measuring halves.
    """

    chosen: Array
    base_accuracy: tuple[Array, Array]
    other_accuracy: tuple[Array, Array]
    base_length: tuple[Array, Array]
    other_length: tuple[Array, Array]


def matched(base: Grid, other: Grid, fraction: float) -> Matched | None:
    """Base and other on the questions shortest under base, chosen on one half of base's samples, measured on the other.

    Both arms must hold the same questions (`paired`). Halves are the even and the odd samples; then they swap. None
    with fewer than two samples: choosing and measuring on the same ones makes no edit at all look like longer thinking.
    """
    if base.keys != other.keys:
        raise ValueError("matched sets need the same questions in both arms: use paired() first")
    if min(base.length.shape[1], other.length.shape[1]) < 2:
        return None
    questions = len(base.keys)
    chosen = np.zeros(questions)
    sums = np.zeros((4, 2, questions))
    for choosing, measuring in ((0, 1), (1, 0)):
        own = row_means(base.length[:, choosing::2])
        weights = shortest_weights(own, share_count(int((~np.isnan(own)).sum()), fraction))
        chosen += weights
        for place, values in enumerate((base.correct, other.correct, base.length, other.length)):
            half = values[:, measuring::2]
            if place < 2:
                means = row_means(half)
                sums[place] += np.where(np.isnan(means), 0.0, means) * weights, (~np.isnan(means)) * weights
            else:
                sums[place] += np.nansum(half, axis=1) * weights, (~np.isnan(half)).sum(axis=1) * weights
    a, b, c, d = ((pair[0], pair[1]) for pair in sums)
    return Matched(chosen, a, b, c, d)


def under_threshold(arm: Grid, thresholds: Array) -> tuple[Array, Array]:
    """Correct answers and graded answers whose closed thought has at most each threshold's tokens: two
    [questions, thresholds] arrays, numerator and denominator of the accuracy under a threshold."""
    graded = ~np.isnan(arm.correct) & ~np.isnan(arm.length)
    length = np.where(graded, arm.length, np.inf)
    within = length[:, :, None] <= np.asarray(thresholds, float)[None, None, :]
    correct = np.where(np.isnan(arm.correct), 0.0, arm.correct)[:, :, None]
    return (within * correct).sum(axis=1), within.sum(axis=1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Flips:
    """Questions by the majority of their samples under both arms. A question tied in an arm counts as `tied` only."""

    right_to_wrong: int
    wrong_to_right: int
    stayed_right: int
    stayed_wrong: int
    tied: int
    p_value: float


def majority(arm: Grid) -> Array:
    """[questions]: 1 where more than half of the graded samples are correct, 0 where fewer, NaN where tied or none."""
    accuracy = arm.question_accuracy
    return np.where(np.isnan(accuracy) | (accuracy == 0.5), np.nan, (accuracy > 0.5).astype(float))


def flips(base: Grid, other: Grid) -> Flips:
    """Which questions the other arm turned, with McNemar's exact two-sided test; both arms hold the same questions."""
    before, after = majority(base), majority(other)
    decided = ~np.isnan(before) & ~np.isnan(after)
    before, after = before[decided], after[decided]
    lost, won = int(((before == 1) & (after == 0)).sum()), int(((before == 0) & (after == 1)).sum())
    kept, missed = int(((before == 1) & (after == 1)).sum()), int(((before == 0) & (after == 0)).sum())
    return Flips(lost, won, kept, missed, int((~decided).sum()), mcnemar_exact(lost, won))


def published_lengths(records: Iterable[Record]) -> list[Record]:
    """Records with lengths as the published scripts count them: a missing thought is -1 long, an open one its tokens."""
    return [
        replace(r, status="closed", thinking_tokens=-1 if r.thinking_tokens is None else r.thinking_tokens) for r in records
    ]
