"""Chance: paired bootstrap over questions, exact tests, and a verdict that claims no more than its interval allows.

Questions are the unit of resampling: a question's samples, and the same question under another model, stay together.
Every interval is an expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"):
the percentile bootstrap with its tails moved out as far as Student's t asks for, which repairs its known undercoverage
in small sets. `docs/statistics.md` holds the measured coverage.

Nothing here is summed by BLAS, whose sums hang in their last bits on where the numbers lie in memory: the same records
give the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 0.95
CHUNK = 250  # resamples at a time: what is drawn for them stays in the processor's cache
SMALL = 8_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval over `n` questions; no interval (None) where fewer than two questions carry it."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def as_dict(self) -> dict[str, float | int | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@lru_cache(maxsize=8)
def resample_weights(questions: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.generic]:
    """[resamples, questions]: how often each question was drawn in each resample. Rows sum to `questions`.

    Small ones are kept as floats, ready to multiply with; large ones as bytes, an eighth of the memory.
    """
    generator = np.random.default_rng([seed, questions])
    small = resamples * questions <= SMALL
    weights = np.empty((resamples, questions), dtype=np.float64 if small else np.uint8)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = generator.integers(0, questions, size=(rows, questions), dtype=np.int32)
        drawn += (np.arange(rows, dtype=np.int32) * questions)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * questions)
        weights[start : start + rows] = counts.reshape(rows, questions)
    weights.setflags(write=False)
    return weights


def resampled_sums(columns: Array, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """[resamples, k]: the sums of `columns` [questions, k] in each resample. All columns share the resamples."""
    columns = np.asarray(columns, dtype=np.float64)
    return np.stack([_column_sums(column.tobytes(), resamples, seed) for column in columns.T], axis=1)


@lru_cache(maxsize=256)
def _column_sums(column: bytes, resamples: int, seed: int) -> Array:
    """A report asks for the same column (the base model's lengths, say) in many comparisons."""
    values = np.frombuffer(column)
    weights = resample_weights(len(values), resamples, seed)
    parts = (weights[start : start + CHUNK].astype(np.float64, copy=False) for start in range(0, resamples, CHUNK))
    sums = np.concatenate([np.einsum("rq,q->r", part, values) for part in parts])
    sums.setflags(write=False)
    return sums


def student_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t by the Cornish-Fisher expansion in 1/freedom; within 0.3 % for freedom >= 4 at 0.975."""
    z = NormalDist().inv_cdf(probability)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def tail(questions: int, level: float = LEVEL, expanded: bool = True) -> float:
    """Probability to cut off at each side of the bootstrap distribution of a mean over `questions` questions."""
    if not expanded:
        return (1 - level) / 2
    reach = sqrt(questions / (questions - 1)) * student_quantile((1 + level) / 2, questions - 1)
    return NormalDist().cdf(-reach)


def limits(distribution: Array, questions: int, level: float = LEVEL, expanded: bool = True) -> tuple[Array, Array]:
    """Lower and upper limits [k] of bootstrap distributions [resamples, k]."""
    cut = tail(questions, level, expanded)
    quantile = np.nanquantile if np.isnan(distribution).any() else np.quantile
    low, high = quantile(distribution, [cut, 1 - cut], axis=0)
    return low, high


def mean_estimates(
    values: Array,
    bounds: tuple[float, float] = (-1.0, 1.0),
    grain: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """Means of bounded question scores `values` [questions, k], no NaN, such as accuracies or their paired differences.

    The resampling includes two made-up questions, one on each side of the centre (zero for differences, the mean for
    rates), as far from it as the questions that differ at all are (root of sum d^4 / sum d^2; at least `grain`, the
    smallest step a score can make). They leave the mean where it is and keep an interval from collapsing when hardly
    any question differs: with four flips out of 200, all one way, the plain bootstrap excludes zero while the exact
    test has p = 0.125. The idea is that of the half counts which Agresti and Min (2005) add to a paired table.
    """
    values = np.asarray(values, dtype=np.float64)
    questions = len(values)
    if questions == 0:
        return [Estimate(float("nan"), None, None, 0)] * values.shape[1]
    means = values.mean(axis=0)
    if questions == 1:
        return [Estimate(float(mean), None, None, 1) for mean in means]
    centre = np.zeros_like(means) if bounds[0] < 0 else means
    squares = (values - centre) ** 2
    reach = np.maximum(np.sqrt((squares**2).sum(axis=0) / np.maximum(squares.sum(axis=0), 1e-300)), grain)
    sums = resampled_sums(np.vstack([values - centre, reach, -reach]), resamples, seed)
    low, high = limits(centre + sums / questions, questions)
    low, high = np.clip(low, *bounds), np.clip(high, *bounds)
    return [Estimate(float(m), float(a), float(b), questions) for m, a, b in zip(means, low, high, strict=True)]


def mean_estimate(values: Array, bounds: tuple[float, float] = (-1.0, 1.0), grain: float = 1.0, **how: int) -> Estimate:
    """`mean_estimates` of one column [questions]; NaN (a question without a graded answer) is left out."""
    values = np.asarray(values, dtype=np.float64)
    return mean_estimates(values[~np.isnan(values)][:, None], bounds, grain, **how)[0]


Ratio = tuple[Array, Array]


def ratio_estimates(
    numerators: Array, denominators: Array, grain: float | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> list[Estimate]:
    """sum(numerators) / sum(denominators) for each column [questions, k], as in tokens over closed thoughts.

    With `grain` the ratio is a rate in [0, 1], such as correct answers over answers, and is steadied as in
    `mean_estimates` by two made-up questions that lie `grain` to each side of it.
    """
    return _ratios([(numerators, denominators)], grain, (0.0, 1.0), seed, resamples)


def ratio_difference(
    base: Ratio, other: Ratio, grain: float | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> Estimate:
    """other's ratio minus base's, each (numerator [questions], denominator [questions]) over the same questions."""
    pairs = [(top[:, None], bottom[:, None]) for top, bottom in (other, base)]
    return _ratios(pairs, grain, (-1.0, 1.0), seed, resamples)[0]


def _ratios(ratios: list[Ratio], grain: float | None, bounds: tuple[float, float], seed: int, resamples: int) -> list[Estimate]:
    """The first ratio, less the second where there is one; each (numerators, denominators), both [questions, k]."""
    carried = np.min([(bottom > 0).sum(axis=0) for _, bottom in ratios], axis=0)
    if len(ratios[0][0]) == 0:
        return [Estimate(float("nan"), None, None, 0)] * len(carried)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = [top.sum(axis=0) / bottom.sum(axis=0) for top, bottom in ratios]
    drawn, lean = [], grain
    for rate, (top, bottom) in zip(rates, ratios, strict=True):
        if lean is not None:
            top = np.vstack([top, rate + lean, rate - lean])
            bottom = np.vstack([bottom, np.ones_like(rate), np.ones_like(rate)])
            lean = 0.0  # the difference leans through its first ratio alone
        sums = resampled_sums(np.hstack([top, bottom]), resamples, seed)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(sums[:, : len(rate)] / sums[:, len(rate) :])
    values, drawn_values = rates[0] - sum(rates[1:]), drawn[0] - sum(drawn[1:])
    estimates = []
    for column, count in enumerate(carried.tolist()):
        value = float(values[column]) if count else float("nan")
        if count < 2:
            estimates.append(Estimate(value, None, None, count))
            continue
        low, high = limits(drawn_values[:, column], count)
        if grain is not None:
            low, high = np.clip(low, *bounds), np.clip(high, *bounds)
        elif low == high:  # nothing varies, as among two questions that moved alike: that is no certainty
            estimates.append(Estimate(value, None, None, count))
            continue
        estimates.append(Estimate(value, float(low), float(high), count))
    return estimates


def mcnemar_exact(first: int, second: int) -> float:
    """Two-sided exact p-value that `first` and `second` discordant pairs are equally likely (McNemar 1947)."""
    total, fewer = first + second, min(first, second)
    if total == 0:
        return 1.0
    return min(1.0, 2 * sum(comb(total, k) for k in range(fewer + 1)) / 2**total)


def ranks(values: Sequence[float] | Array) -> Array:
    """Ranks from 1, ties share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float | None:
    """Rank correlation, None where one side does not vary or fewer than three pairs are finite."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    kept = np.isfinite(a) & np.isfinite(b)
    if kept.sum() < 3:
        return None
    x, y = (side - side.mean() for side in (ranks(a[kept]), ranks(b[kept])))
    scatter = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip((x * y).sum() / scatter, -1, 1)) if scatter else None
