"""The rows of a batch in groups of about one length, so that attention need not read up to the longest row for all.

Rows that were admitted together stay neighbours, the oldest (and longest) first. All of this is bookkeeping on the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows and the tokens that the longest of them holds."""

    rows: int
    longest: int


def close_gaps(groups: Sequence[Group], ended: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """How the rows that go on close up without leaving their groups: sources, targets (to be copied all at once), and
    the rows left in each group. `ended` are row numbers."""
    gone = set(ended)
    sources: list[int] = []
    targets: list[int] = []
    sizes: list[int] = []
    old = new = 0  # where the group began and where it begins now
    for group in groups:
        going = [row for row in range(old, old + group.rows) if row not in gone]
        place = range(new, new + len(going))
        stays = {row for row in going if row in place}
        sources += [row for row in going if row not in stays]
        targets += [row for row in place if row not in stays]
        sizes.append(len(going))
        old, new = old + group.rows, new + len(going)
    return sources, targets, sizes


def regrouped(sizes: Sequence[int], lengths: Sequence[int]) -> list[Group]:
    """Groups of these sizes over rows that hold `lengths` tokens; empty ones fall away."""
    groups, row = [], 0
    for size in sizes:
        if size:
            groups.append(Group(size, max(lengths[row : row + size])))
        row += size
    return groups


def merged(groups: Sequence[Group], worth: int) -> list[Group]:
    """Joins neighbours as long as reading both up to the longer one costs fewer than `worth` positions more."""
    found = list(groups)
    while len(found) > 1:
        costs = [_waste(a, b) for a, b in pairwise(found)]
        at = costs.index(min(costs))
        if costs[at] >= worth:
            break
        a, b = found[at : at + 2]
        found[at : at + 2] = [Group(a.rows + b.rows, max(a.longest, b.longest))]
    return found


def _waste(a: Group, b: Group) -> int:
    shorter = a if a.longest < b.longest else b
    return shorter.rows * abs(a.longest - b.longest)
