"""What a report is made of: everything that a run measured, any part of which may be missing."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.records import Record

BASE = "base"
PLACEBOS = ("random heads", "random direction")

Arms = dict[str, list[Record]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """The input of `summarise` and `write_report`. A missing part leaves its section out of the report.

    `evaluation` maps task -> arm -> records. The arm "base" is what the others are compared with; arms named
    "random heads 0", "random direction 3" and so on are placebo draws; every other arm is an edit. `primary_arm` is the
    edit that the verdict is about: name it before looking. By default it is "edited", else the first edit.
    `contributions` is [layers, heads]; `edited_heads` are 0-based (layer, head) pairs.
    `direction` and `edit` are free-form figures shown as they are, with these keys understood where present:
    direction: `short_count`, `long_count`, `rule` (what counts as short and long), `norms` {control: [layers]},
    `quality` {control: figures and flags}, `planted_cosine` {control: [layers]}; edit: `strength`, `share_of_weights`,
    `residual`.
    `commands` are the command lines that make the same run again.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    probe: list[Record] = field(default_factory=list)
    steering: list[Record] = field(default_factory=list)
    scan: list[Record] = field(default_factory=list)
    evaluation: dict[str, Arms] = field(default_factory=dict)
    contributions: NDArray[np.floating] | None = None
    edited_heads: list[tuple[int, int]] = field(default_factory=list)
    direction: dict[str, Any] | None = None
    edit: dict[str, Any] | None = None
    commands: list[str] = field(default_factory=list)
    primary_arm: str | None = None


def placebo_kind(arm: str) -> str | None:
    """The placebo that an arm is a draw of, None for the base and for edits."""
    return next((kind for kind in PLACEBOS if arm.startswith(kind)), None)


def edits_of(arms: Iterable[str]) -> list[str]:
    """The arms that are edits: neither the base nor a placebo."""
    return [arm for arm in arms if arm != BASE and placebo_kind(arm) is None]


def primary_arm(evidence: Evidence) -> str | None:
    """The edit that the verdict is about, None where no base stands beside an edit."""
    names = [arm for arms in evidence.evaluation.values() if BASE in arms for arm in edits_of(arms)]
    wanted = evidence.primary_arm or "edited"
    return wanted if wanted in names else next(iter(names), None)
