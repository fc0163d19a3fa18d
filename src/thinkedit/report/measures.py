"""Figures with intervals from arms: the step between arrays of questions and the numbers that a report prints."""

from typing import Any

import numpy as np

from thinkedit.metrics import (
    FRACTIONS,
    Flips,
    Grid,
    accuracy_over_runs,
    by_group,
    flips,
    length_over_runs,
    matched,
    shortest,
    under_threshold,
)
from thinkedit.statistics import Array, Estimate, mean_estimate, ratio_difference, ratio_estimates

Figures = dict[str, Any]


def grain(*arms: Grid) -> float:
    """The smallest step that a question's accuracy can make in these arms."""
    return 1.0 / max(1, *(arm.correct.shape[1] for arm in arms))


def accuracy(arm: Grid) -> Estimate:
    """Mean over questions of the share of correct samples, in [0, 1]."""
    return mean_estimate(arm.question_accuracy, (0.0, 1.0), grain(arm))


def thinking_length(arm: Grid) -> Estimate:
    """Mean tokens of the closed thoughts."""
    tokens, closed = arm.length_sums
    return ratio_estimates(tokens[:, None], closed[:, None])[0]


def accuracy_difference(base: Grid, other: Grid) -> Estimate:
    """other - base over questions that both hold: the primary figure of a comparison."""
    return mean_estimate(other.question_accuracy - base.question_accuracy, grain=grain(base, other))


def length_difference(base: Grid, other: Grid) -> Estimate:
    """other - base, tokens of closed thoughts."""
    return ratio_difference(base.length_sums, other.length_sums)


def figure(estimate: Estimate) -> Figures | None:
    """An estimate as JSON, None where there is nothing to estimate from."""
    return None if estimate.n == 0 else estimate.as_dict()


def arm_figures(arm: Grid, thresholds: Array | None, edges: Array) -> Figures:
    """Everything that is said about one arm alone; without thresholds there is no curve of accuracy under them."""
    lengths = arm.length[~np.isnan(arm.length)]
    runs, run_lengths = accuracy_over_runs(arm), length_over_runs(arm)
    return {
        "questions": len(arm.keys),
        "samples": arm.correct.shape[1],
        "accuracy": figure(accuracy(arm)),
        "accuracy_sd_over_runs": runs.sd,
        "thinking_length": figure(thinking_length(arm)),
        "thinking_length_sd_over_runs": run_lengths.sd,
        "thinking_length_median": float(np.median(lengths)) if len(lengths) else None,
        "statuses": arm.statuses,
        "left_out": arm.left_out,
        "shortest": {_percent(fraction): _shortest(arm, fraction) for fraction in FRACTIONS},
        "under_threshold": None if thresholds is None else _curve(arm, thresholds),
        "histogram": histogram(lengths, edges),
        "groups": {name: group_figures(part) for name, part in by_group(arm).items()},
    }


def group_figures(arm: Grid) -> Figures:
    """Accuracy, length and counts of some questions of an arm."""
    return {
        "questions": len(arm.keys),
        "accuracy": figure(accuracy(arm)),
        "thinking_length": figure(thinking_length(arm)),
        "statuses": arm.statuses,
        "left_out": arm.left_out,
    }


def comparison_figures(base: Grid, other: Grid) -> Figures:
    """Everything that is said about an arm against the base; both hold the same questions."""
    return {
        "questions": len(base.keys),
        "accuracy_difference": figure(accuracy_difference(base, other)),
        "thinking_length_difference": figure(length_difference(base, other)),
        "flips": _flips(flips(base, other)),
        "matched": {_percent(fraction): _matched(base, other, fraction) for fraction in FRACTIONS},
        "groups": {
            name: {
                "accuracy_difference": figure(accuracy_difference(part, by_group(other)[name])),
                "thinking_length_difference": figure(length_difference(part, by_group(other)[name])),
            }
            for name, part in by_group(base).items()
        },
    }


def histogram(lengths: Array, edges: Array) -> list[int]:
    """Counts between `edges`; the first and the last bin also hold what lies outside."""
    return np.histogram(np.clip(lengths, edges[0], edges[-1]), bins=edges)[0].tolist()


def _percent(fraction: float) -> str:
    return f"{fraction * 100:.0f}"


def _shortest(arm: Grid, fraction: float) -> Figures:
    accuracies, lengths = shortest(arm, fraction)
    return {
        "accuracy": _number(accuracies.mean),
        "accuracy_sd_over_runs": accuracies.sd,
        "thinking_length": _number(lengths.mean),
        "thinking_length_sd_over_runs": lengths.sd,
    }


def _matched(base: Grid, other: Grid, fraction: float) -> Figures | None:
    sets = matched(base, other, fraction)
    if sets is None:
        return None
    step = 2 * grain(base, other)
    return {
        "questions": float(sets.chosen.sum() / 2),
        "base_accuracy": _rate(sets.base_accuracy, step),
        "accuracy": _rate(sets.other_accuracy, step),
        "accuracy_difference": figure(ratio_difference(sets.base_accuracy, sets.other_accuracy, step)),
        "base_thinking_length": _rate(sets.base_length),
        "thinking_length": _rate(sets.other_length),
        "thinking_length_difference": figure(ratio_difference(sets.base_length, sets.other_length)),
    }


def _rate(ratio: tuple[Array, Array], step: float | None = None) -> Figures | None:
    return figure(ratio_estimates(ratio[0][:, None], ratio[1][:, None], step)[0])


def _curve(arm: Grid, thresholds: Array) -> Figures:
    correct, answers = under_threshold(arm, thresholds)
    estimates = ratio_estimates(correct, answers, grain=1.0)
    return {
        "accuracy": [_number(e.value) for e in estimates],
        "low": [e.low for e in estimates],
        "high": [e.high for e in estimates],
        "answers": answers.sum(axis=0).astype(int).tolist(),
    }


def _flips(counts: Flips) -> Figures:
    return {
        "right_to_wrong": counts.right_to_wrong,
        "wrong_to_right": counts.wrong_to_right,
        "stayed_right": counts.stayed_right,
        "stayed_wrong": counts.stayed_wrong,
        "tied": counts.tied,
        "mcnemar_p": counts.p_value,
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
