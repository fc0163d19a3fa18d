"""Intervals cover what they promise, tests are exact, and no difference is rarely called one."""

import numpy as np
import pytest
from scipy import stats

from thinkedit import statistics as ours
from thinkedit.report.verdict import placebo, verdict
from thinkedit.statistics import Estimate

RESAMPLES = ours.RESAMPLES


def covered(estimates: list[Estimate], truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in estimates]))


def paired_accuracies(questions: int, simulations: int, samples: int, gain: float, seed: int) -> tuple[np.ndarray, float]:
    """Differences [questions, simulations] of accuracies, and the true difference: new questions in each simulation."""
    generator = np.random.default_rng(seed)
    ease = generator.beta(1.6, 0.9, (questions, simulations))
    base = generator.binomial(samples, ease) / samples
    edited = generator.binomial(samples, ease + gain * (1 - ease)) / samples
    return edited - base, gain * (1 - 1.6 / 2.5)


def test_resamples_draw_as_many_questions_as_there_are() -> None:
    weights = ours.resample_weights(37, 500, seed=3)
    assert weights.shape == (500, 37)
    assert (weights.sum(axis=1) == 37).all()
    assert abs(weights.mean() - 1) < 1e-9


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly_so() -> None:
    values = np.random.default_rng(0).normal(size=150)
    first, again = ours.mean_estimate(values), ours.mean_estimate(values)
    other = ours.mean_estimate(values, seed=1)
    assert first == again
    assert other.low == pytest.approx(first.low, abs=0.02)
    assert other != first


def test_percentile_limits_are_scipys() -> None:
    values = np.random.default_rng(0).gamma(2, 30, 200)
    distribution = ours.resampled_sums(values[:, None]) / len(values)
    low, high = ours.limits(distribution, len(values), expanded=False)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=1).confidence_interval
    error = stats.sem(values)
    assert low[0] == pytest.approx(theirs.low, abs=0.12 * error)
    assert high[0] == pytest.approx(theirs.high, abs=0.12 * error)


def test_ratio_intervals_are_scipys_but_for_the_expansion() -> None:
    generator = np.random.default_rng(0)
    closed = generator.integers(0, 3, 300).astype(float)
    tokens = closed * generator.gamma(3, 20, 300)
    own = ours.ratio_estimates(tokens[:, None], closed[:, None])[0]
    theirs = stats.bootstrap(
        (tokens, closed), lambda a, b, axis=-1: a.sum(axis) / b.sum(axis), paired=True, n_resamples=RESAMPLES,
        method="percentile", rng=1,
    ).confidence_interval  # fmt: skip
    width = theirs.high - theirs.low
    assert own.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert own.high == pytest.approx(theirs.high, abs=0.03 * width)
    assert own.value == pytest.approx(tokens.sum() / closed.sum())


def test_student_quantiles_are_scipys() -> None:
    for freedom in (4, 9, 30, 199):
        assert ours.student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=3e-3)


@pytest.mark.parametrize(("samples", "gain"), [(1, 0.0), (1, 0.3), (2, 0.3), (10, 0.15)])
def test_95_percent_intervals_of_a_difference_cover_it_93_to_97_percent_of_the_time(samples: int, gain: float) -> None:
    values, truth = paired_accuracies(200, 1_000, samples, gain, seed=samples)
    share = covered(ours.mean_estimates(values, grain=1 / samples, resamples=4_000), truth)
    assert 0.93 <= share <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "gain"), [(1, 0.0), (1, 0.3), (2, 0.3), (10, 0.15), (10, 0.0)])
def test_coverage_in_full(samples: int, gain: float) -> None:
    values, truth = paired_accuracies(200, 4_000, samples, gain, seed=50 + samples)
    share = covered(ours.mean_estimates(values, grain=1 / samples), truth)
    print(f"samples {samples}, gain {gain}: coverage {share:.4f}")
    assert 0.93 <= share <= 0.97


@pytest.mark.slow
def test_coverage_of_length_differences_in_full() -> None:
    generator = np.random.default_rng(0)
    hits = []
    for _ in range(2_000):
        scale = generator.lognormal(3.5, 0.6, 200)
        closed = [(generator.random((200, 2)) < 0.97).sum(axis=1).astype(float) for _ in range(2)]
        tokens = [k * scale * factor * generator.gamma(5, 0.2, 200) for k, factor in zip(closed, (1.0, 1.2), strict=True)]
        own = ours.ratio_difference((tokens[0], closed[0]), (tokens[1], closed[1]))
        hits.append(own.low <= 0.2 * np.exp(3.5 + 0.18) <= own.high)
    print(f"length difference: coverage {np.mean(hits):.4f}")
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("kind", ["one sample", "two samples", "hardly any flips", "whole questions move"])
def test_no_difference_is_called_one_in_at_most_6_and_a_half_percent(kind: str) -> None:
    generator = np.random.default_rng(4)
    shape = (200, 2_000)
    ease = generator.beta(1.6, 0.9, shape)
    values = {
        "one sample": lambda: generator.binomial(1, ease) - generator.binomial(1, ease) + 0.0,
        "two samples": lambda: (generator.binomial(2, ease) - generator.binomial(2, ease)) / 2,
        "hardly any flips": lambda: (generator.random(shape) < 0.012) * generator.choice([-1.0, 1.0], shape),
        "whole questions move": lambda: (generator.random(shape) < 0.03) * generator.choice([-1.0, 1.0], shape),
    }[kind]()
    estimates = ours.mean_estimates(values, grain=0.5 if kind == "two samples" else 1.0, resamples=4_000)
    claims = [verdict(estimate).claim != "not shown" for estimate in estimates]
    assert np.mean(claims) <= 0.065


def test_four_flips_one_way_are_no_claim_and_six_are_as_in_the_exact_test() -> None:
    for flips, claimed in ((4, False), (6, True), (9, True)):
        values = np.zeros(200)
        values[:flips] = 1.0
        assert ours.mean_estimate(values).excludes_zero is claimed
        assert (ours.mcnemar_exact(0, flips) < 0.05) is claimed


def test_no_flip_at_all_still_leaves_an_interval() -> None:
    estimate = ours.mean_estimate(np.zeros(200))
    assert estimate.value == 0
    assert -0.03 < estimate.low < -0.005
    assert 0.005 < estimate.high < 0.03


def test_perfect_accuracy_is_not_certain_and_not_above_one() -> None:
    estimate = ours.mean_estimate(np.ones(50), (0.0, 1.0))
    assert estimate.high == 1.0
    assert 0.9 < estimate.low < 1.0


@pytest.mark.parametrize("pairs", [(0, 0), (0, 6), (5, 1), (12, 30), (700, 640)])
def test_mcnemar_is_the_exact_binomial_test(pairs: tuple[int, int]) -> None:
    expected = stats.binomtest(pairs[0], sum(pairs), 0.5).pvalue if sum(pairs) else 1.0
    assert ours.mcnemar_exact(*pairs) == pytest.approx(expected)


def test_spearman_is_scipys_with_ties_and_none_without_variation() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 6, 40), generator.normal(size=40).round(1)
    assert ours.spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)
    assert ours.spearman([1, 2, 3], [4, 4, 4]) is None
    assert ours.spearman([1, 2], [1, 2]) is None


def test_ten_thousand_resamples_of_two_thousand_questions_take_well_under_a_second() -> None:
    import time

    values = np.random.default_rng(0).normal(size=2_000)
    ours.resample_weights.cache_clear()
    start = time.perf_counter()
    ours.mean_estimate(values)
    assert time.perf_counter() - start < 3  # 0.4 s on an idle machine; the slack is for a busy one


def test_one_question_has_no_interval_and_no_claim() -> None:
    estimate = ours.mean_estimate(np.array([1.0, np.nan]))
    assert (estimate.value, estimate.low, estimate.n) == (1.0, None, 1)
    assert verdict(estimate).claim == "not shown"


def test_the_verdict_says_no_more_than_its_interval() -> None:
    rose = verdict(Estimate(0.18, 0.126, 0.233, 200))
    assert rose.claim == "rose"
    assert "raised accuracy by 18.0 points" in rose.headline
    assert "+12.6 to +23.3" in rose.headline
    assert verdict(Estimate(-0.05, -0.08, -0.01, 200)).claim == "fell"
    unclear = verdict(Estimate(0.02, -0.01, 0.05, 200), Estimate(3.0, -1.0, 7.0, 200))
    assert unclear.claim == "not shown"
    assert "No effect" in unclear.headline
    assert "gain of up to 5.0" in unclear.sentences[0]
    assert "No difference in mean thinking length" in unclear.sentences[1]


def test_an_edit_that_its_placebo_equals_is_not_credited_to_the_method() -> None:
    from made_up import arm

    from thinkedit.metrics import grid

    better = (0.7, 41, 0.95, 74)
    base, edited = grid(arm(200)), grid(arm(200, behaviour=better, seed=2))
    as_good = placebo(
        "random heads",
        base,
        edited,
        {f"random heads {k}": grid(arm(200, behaviour=better, seed=3 + k)) for k in range(3)},
    )
    weak = placebo("random heads", base, edited, {f"random heads {k}": grid(arm(200, seed=3 + k)) for k in range(3)})
    effect = Estimate(0.18, 0.126, 0.233, 200)
    assert as_good.equals_edit
    assert "cannot be credited" in verdict(effect, None, [as_good]).sentences[0]
    assert not weak.equals_edit
    assert "the edit differs from it" in verdict(effect, None, [weak]).sentences[0]
