"""Rows of a batch close up without leaving their groups, and groups cover what they must."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from thinkedit.engines.groups import Group, close_gaps, merged, regrouped

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)


@given(SIZES, st.data())
def test_rows_that_go_on_fill_a_prefix_group_by_group_and_few_are_moved(sizes, data):
    groups = [Group(size, 1) for size in sizes]
    ended = data.draw(st.lists(st.integers(0, sum(sizes) - 1), unique=True))
    sources, targets, left = close_gaps(groups, ended)
    rows = list(range(sum(sizes)))
    before = list(rows)
    for source, target in zip(sources, targets, strict=True):
        rows[target] = before[source]
    kept = rows[: sum(left)]
    assert sorted(kept) == [row for row in before if row not in ended]
    group_of = [number for number, size in enumerate(sizes) for _ in range(size)]
    assert [group_of[row] for row in kept] == [number for number, size in enumerate(left) for _ in range(size)]
    assert not set(sources) & set(ended)
    assert len(sources) <= len(ended) * len(sizes)


@given(SIZES, st.data(), st.integers(0, 200))
def test_groups_reach_to_their_longest_row_and_merging_never_wastes_more_than_it_is_worth(sizes, data, worth):
    lengths = data.draw(st.lists(st.integers(1, 50), min_size=sum(sizes), max_size=sum(sizes)))
    groups = regrouped(sizes, lengths)
    joined = merged(groups, worth)
    assert sum(group.rows for group in joined) == len(lengths)
    row = 0
    for group in joined:
        assert group.longest == max(lengths[row : row + group.rows])
        row += group.rows
    read = [sum(group.rows * group.longest for group in some) for some in (groups, joined)]
    assert 0 <= read[1] - read[0] <= worth * (len(groups) - len(joined))
    for a, b in pairwise(joined):
        shorter = a if a.longest < b.longest else b
        assert shorter.rows * abs(a.longest - b.longest) >= worth


def test_empty_groups_fall_away():
    assert regrouped([0, 2, 0], [3, 4]) == [Group(2, 4)]
