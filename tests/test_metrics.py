"""Metrics against straightforward loops, and the traps that they avoid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import BEHAVIOUR, arm

from thinkedit import metrics
from thinkedit.errors import ThinkEditError
from thinkedit.metrics import grid, matched, paired
from thinkedit.records import Record
from thinkedit.report.steering import settings_of, steering_rows
from thinkedit.statistics import ratio_difference


def record(question: str, sample: int, correct: bool | None, tokens: int | None, status: str = "closed", **more) -> Record:
    return Record("t", question, "q", "1", sample, 0, [], [], "", tokens, status, "stop", correct=correct, **more)


def test_accuracy_over_runs_is_the_mean_and_sd_of_each_sample_index() -> None:
    records = arm(60, 4)
    runs = [np.mean([r.correct for r in records if r.sample == s]) for s in range(4)]
    spread = metrics.accuracy_over_runs(grid(records))
    assert spread.mean == pytest.approx(np.mean(runs))
    assert spread.sd == pytest.approx(np.std(runs, ddof=1))
    assert metrics.accuracy_over_runs(grid(arm(60, 1))).sd is None


def test_only_closed_thoughts_have_a_length_and_the_others_are_counted() -> None:
    records = [
        record("a", 0, True, 10), record("b", 0, False, 4096, "truncated"), record("c", 0, True, None, "absent"),
        record("d", 0, True, 30), record("e", 0, True, 99, "unclosed"),
    ]  # fmt: skip
    own = grid(records)
    assert metrics.length_over_runs(own).mean == 20
    assert own.statuses == {"closed": 2, "truncated": 1, "unclosed": 1, "absent": 1}
    assert own.left_out == 3


def test_ungraded_answers_count_neither_way() -> None:
    own = grid([record("a", 0, True, 1), record("a", 1, None, 1), record("b", 0, None, 1)])
    assert own.question_accuracy[0] == 1
    assert np.isnan(own.question_accuracy[1])


def test_records_of_two_settings_are_not_mixed_silently() -> None:
    with pytest.raises(ThinkEditError, match="different settings"):
        grid([record("a", 0, True, 1), record("a", 0, True, 2)])


@given(st.lists(st.integers(1, 9) | st.none(), min_size=1, max_size=30), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_shortest_weights_choose_the_shortest_and_split_ties(lengths: list[int | None], count: int) -> None:
    values = np.array([np.nan if v is None else v for v in lengths], float)
    weights = metrics.shortest_weights(values, count)
    known = sorted(v for v in lengths if v is not None)
    assert weights.sum() == pytest.approx(min(count, len(known)))
    assert metrics.weighted_mean(values, weights) == pytest.approx(
        np.mean(known[:count]) if known[:count] else np.nan, nan_ok=True
    )
    assert all(weights[i] == weights[j] for i in range(len(values)) for j in range(i) if values[i] == values[j])


def test_shortest_is_each_models_own_shortest_in_each_run() -> None:
    records = arm(100, 3, open_share=0.05)
    accuracy, length = metrics.shortest(grid(records), 0.1)
    lengths = []
    for run in range(3):
        own = sorted(r.thinking_tokens for r in records if r.sample == run and r.status == "closed")
        lengths.append(np.mean(own[: int(len(own) * 0.1 + 0.5)]))
    assert length.mean == pytest.approx(np.mean(lengths))
    assert length.sd == pytest.approx(np.std(lengths, ddof=1))
    assert 0 <= accuracy.mean <= 1


def test_order_of_questions_decides_nothing() -> None:
    records = arm(80, 2)
    first, second = metrics.shortest(grid(records), 0.1), metrics.shortest(grid(records[::-1]), 0.1)
    assert first[0].mean == pytest.approx(second[0].mean)
    assert first[1].mean == pytest.approx(second[1].mean)


def test_under_threshold_is_the_share_right_among_the_short_ones() -> None:
    records = arm(50, 2, open_share=0.05)
    correct, answers = metrics.under_threshold(grid(records), np.array([20, 60]))
    for place, threshold in enumerate((20, 60)):
        short = [r for r in records if r.status == "closed" and r.thinking_tokens <= threshold]
        assert answers[:, place].sum() == len(short)
        assert correct[:, place].sum() == sum(r.correct for r in short)


def test_matched_sets_choose_on_one_half_and_measure_on_the_other() -> None:
    """By hand: question a is shortest in the even samples, b in the odd ones."""
    base = grid([record("a", 0, True, 1), record("a", 1, False, 9), record("b", 0, True, 5), record("b", 1, True, 2)])
    other = grid([record("a", 0, True, 10), record("a", 1, True, 20), record("b", 0, False, 30), record("b", 1, True, 40)])
    sets = matched(base, other, 0.5)
    assert sets.chosen.tolist() == [1, 1]
    assert sets.base_length[0].tolist() == [9, 5]
    assert sets.other_length[0].tolist() == [20, 30]
    assert sets.base_accuracy[0].tolist() == [0, 1]
    assert sets.other_accuracy[0].tolist() == [1, 0]
    assert matched(*(grid(arm(20, 1, seed=s)) for s in (1, 2)), 0.1) is None


def lognormal(generator: np.random.Generator, questions: int, samples: int) -> metrics.Grid:
    """An arm of a model whose lengths vary between questions and, as much again, between samples."""
    middle = np.random.default_rng(0).normal(4, 0.5, questions)[:, None]
    length = np.exp(middle + generator.normal(0, 0.6, (questions, samples)))
    correct = (generator.random((questions, samples)) < 0.7).astype(float)
    keys = tuple(("t", str(k)) for k in range(questions))
    return metrics.Grid(keys, (None,) * questions, correct, length, np.zeros((questions, samples), np.int8))


@pytest.mark.parametrize("samples", [2, 10])
def test_with_no_edit_matched_sets_show_nothing_and_the_naive_choice_does(samples: int) -> None:
    generator = np.random.default_rng(3)
    claims, fair, naive = [], [], []
    for _ in range(150):
        base, same = lognormal(generator, 200, samples), lognormal(generator, 200, samples)
        sets = matched(base, same, 0.05)
        change = ratio_difference(sets.base_length, sets.other_length, resamples=1_000)
        claims.append(change.excludes_zero)
        fair.append((change.value, sets.base_length[0].sum() / sets.base_length[1].sum()))
        chosen = np.argsort(base.length.mean(axis=1))[:10]
        naive.append(same.length[chosen].mean() / base.length[chosen].mean() - 1)
    assert np.mean(claims) <= 0.10
    change, length = np.mean(fair, axis=0)
    assert abs(change / length) < 0.05
    assert np.mean(naive) > (0.35 if samples == 2 else 0.08)


def test_flips_go_by_majority_and_leave_ties_out() -> None:
    answers = {
        "a": ([1, 1, 0], [0, 0, 1]),
        "b": ([0, 0, 0], [1, 1, 1]),
        "c": ([1, 1, 1], [1, 1, 0]),
        "d": ([0, 1], [1, 1]),
    }
    before = [record(q, s, bool(v), 1) for q, (b, _) in answers.items() for s, v in enumerate(b)]
    after = [record(q, s, bool(v), 1) for q, (_, e) in answers.items() for s, v in enumerate(e)]
    turned = metrics.flips(*paired(grid(before), grid(after)))
    assert (turned.right_to_wrong, turned.wrong_to_right, turned.stayed_right, turned.tied) == (1, 1, 1, 1)
    assert turned.p_value == 1.0


def test_pairing_keeps_only_shared_questions_in_the_bases_order() -> None:
    base, other = grid([record(q, 0, True, 1) for q in "abc"]), grid([record(q, 0, False, 2) for q in "cbx"])
    first, second = paired(base, other)
    assert first.keys == second.keys == (("t", "b"), ("t", "c"))


def test_steering_rows_are_one_a_setting_with_their_groups() -> None:
    records = [
        r for control in ("attn", "mlp") for alpha in (-0.2, 0.2)
        for r in arm(20, 1, BEHAVIOUR["base"], control=control, alpha=alpha)
    ] + arm(20, 1)  # fmt: skip
    rows = steering_rows(records)
    assert [(row["control"], row["alpha"]) for row in rows] == [
        (None, 0.0),
        ("attn", -0.2),
        ("attn", 0.2),
        ("mlp", -0.2),
        ("mlp", 0.2),
    ]
    assert set(rows[1]["groups"]) == {"rushed topics", "other topics"}
    assert rows[1]["statuses"]["closed"] + rows[1]["left_out"] == 20
    assert len(settings_of(records)) == 5
