"""Whether a direction points anywhere: compared with what the same activations give when short and long are shuffled.

A difference of two means always has some length, and in thousands of dimensions noise alone gives a good deal of it. So
its squared length is measured in units of what noise gives, with each side's own scatter,

    T = |mean(long) - mean(short)|^2 / (tr S_long / n_long + tr S_short / n_short),

which is 1 on average where the two sides differ by nothing. The labels are then shuffled, over all layers alike, and the
direction must stand above the shuffled ones. Dividing by the scatter of each side matters: the means of short thoughts
are over few tokens and scatter more, so bare lengths of shuffled directions would be too small or too large.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from thinkedit.directions import FEWEST, Split

SHUFFLES = 199
LEVEL = 0.05  # a direction that at least this share of the shuffled ones equals is no better than noise
NEAREST = 1.5  # medians of short and long thoughts that are closer than this factor say little about length
MOST = 1e12  # T where the sides do not scatter at all
QUALITY, FLAGS = "quality", "flags"  # keys in a direction file's metadata

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """`times_noise` is sqrt(T), the direction's length in units of noise's; `p` the share of shuffled directions that
    reach it; `agreement` the cosine between directions of two halves of the examples; `separation` the chance that a
    held-out long example lies further along the direction than a held-out short one (0.5: none). The lists hold them by layer,
    the single figures are means over layers, None where there are too few examples to compute them.
    """

    short: int
    long: int
    p: float | None
    times_noise: float | None
    agreement: float | None
    separation: float | None
    layer_times_noise: list[float]
    layer_separation: list[float]
    flags: list[str]

    def about(self) -> dict[str, str]:
        """What a direction file keeps of it."""
        figures = {name: value for name, value in asdict(self).items() if isinstance(value, float | int)}
        return {QUALITY: json.dumps(figures)} | ({FLAGS: "; ".join(self.flags)} if self.flags else {})

    def line(self) -> str:
        """The figures in words."""
        if self.p is None or self.separation is None:
            return "too few examples to compare it with noise"
        return (
            f"{self.times_noise:.2g} times as long as noise (p = {self.p:.3g}), halves agree at cosine {self.agreement:.2f}, "
            f"held-out separation {self.separation:.2f}"
        )


def direction_quality(
    means: np.ndarray, split: Split, lengths: Sequence[int] | np.ndarray, shuffles: int = SHUFFLES, seed: int = 0
) -> Quality:
    """The quality of the direction of `means` [examples, layers, hidden], whose thoughts have `lengths` tokens.

    Costs one product [shuffles, examples] x [examples, hidden] a layer, and memory for one layer. The same input gives
    the same figures.
    """
    short, long = len(split.short), len(split.long)
    flags = _plain_flags(means, split, np.asarray(lengths))
    if min(short, long) < 2:
        return Quality(short, long, None, None, None, None, [], [], flags)
    members = _members(short, long, shuffles, seed)
    halves = [np.arange(short + long) % 2 == side for side in (0, 1)] if min(short, long) >= 4 else []
    ratios = np.empty((means.shape[1], shuffles + 1))
    agreement, separation = [], []
    for layer in range(means.shape[1]):
        examples = _centred(means, split, layer)
        ratios[layer] = _noise_ratios(examples, members, short, long)
        if halves:
            cosine, share = _held_out(examples, short, halves)
            agreement.append(cosine)
            separation.append(share)
    overall = ratios.mean(axis=0)
    p = float((1 + np.count_nonzero(overall[1:] >= overall[0])) / (shuffles + 1))
    if p > LEVEL:
        flags.append(f"it is no longer than noise ({np.sqrt(overall[0]):.2f} times as long, p = {p:.2g})")
    return Quality(
        short,
        long,
        p,
        _figure(np.sqrt(overall[0])),
        _figure(np.mean(agreement)) if agreement else None,
        _figure(np.mean(separation)) if separation else None,
        [_figure(ratio) for ratio in np.sqrt(ratios[:, 0])],
        [_figure(share) for share in separation],
        flags,
    )


def _figure(value: np.floating | float) -> float:
    """Without the last bits of float64, which hang on where a matrix product finds its numbers in memory."""
    return float(f"{value:.9g}")


def warning(about: Mapping[str, str], control: str) -> str | None:
    """What to say when a direction with this metadata is used; None where nothing speaks against it."""
    flags = about.get(FLAGS)
    return f"warning: the {control} direction is doubtful: {flags}" if flags else None


def _plain_flags(means: np.ndarray, split: Split, lengths: np.ndarray) -> list[str]:
    flags = []
    for name, side in (("short", split.short), ("long", split.long)):
        if len(side) < FEWEST:
            flags.append(f"only {len(side)} {name} example{'' if len(side) == 1 else 's'} ({FEWEST} are wanted)")
    shared = len(np.intersect1d(split.short, split.long))
    if shared:
        flags.append(f"{shared} example{'' if shared == 1 else 's'} count as both short and long")
    low, high = np.median(lengths[split.short]), np.median(lengths[split.long])
    if high < NEAREST * low:
        flags.append(f"short and long are alike: half of them have {low:g} and {high:g} tokens")
    if zero := [layer for layer in range(means.shape[1]) if not _difference(means, split, layer).any()]:
        flags.append(f"layer{'' if len(zero) == 1 else 's'} {', '.join(map(str, zero))} without any difference")
    return flags


def _difference(means: np.ndarray, split: Split, layer: int) -> np.ndarray:
    return means[split.long, layer].mean(axis=0, dtype=np.float64) - means[split.short, layer].mean(axis=0, dtype=np.float64)


def _centred(means: np.ndarray, split: Split, layer: int) -> np.ndarray:
    """The short examples, then the long ones, of one layer around their common mean: float32 [examples, hidden]."""
    examples = means[np.concatenate([split.short, split.long]), layer]
    return (examples - examples.mean(axis=0, dtype=np.float64)).astype(np.float32)


def _members(short: int, long: int, shuffles: int, seed: int) -> np.ndarray:
    """Who is short: float64 [1 + shuffles, examples], the true labels first."""
    truth = np.concatenate([np.ones(short), np.zeros(long)])
    return np.vstack([truth, np.random.default_rng(seed).permuted(np.tile(truth, (shuffles, 1)), axis=1)])


def _noise_ratios(examples: np.ndarray, members: np.ndarray, short: int, long: int) -> Floats:
    """T of the true and of each shuffled labelling. The examples' sum is zero, so one side's sum is minus the other's."""
    sums = members @ examples.astype(np.float64)
    squares = np.einsum("eh,eh->e", examples, examples, dtype=np.float64)
    length = np.einsum("bh,bh->b", sums, sums, dtype=np.float64)  # of the sum over the short side
    inside = members @ squares
    scatter_short = (inside - length / short) / (short - 1) / short
    scatter_long = (squares.sum() - inside - length / long) / (long - 1) / long
    noise = scatter_short + scatter_long
    signal = length * (1 / short + 1 / long) ** 2
    ratios: Floats = np.divide(signal, np.maximum(noise, signal / MOST), out=np.ones_like(signal), where=signal > 0)
    return ratios


def _held_out(examples: np.ndarray, short: int, halves: Sequence[np.ndarray]) -> tuple[float, float]:
    """Cosine of the two halves' directions, and the separation of each half along the other's direction."""
    is_short = np.arange(len(examples)) < short
    vectors = [
        examples[half & ~is_short].mean(axis=0, dtype=np.float64) - examples[half & is_short].mean(axis=0, dtype=np.float64)
        for half in halves
    ]
    norms = [np.linalg.norm(vector) for vector in vectors]
    if not all(norms):
        return 0.0, 0.5
    shares = []
    for vector, other in zip(vectors, reversed(halves), strict=True):
        along = examples @ vector
        shares.append(_share_above(along[other & ~is_short], along[other & is_short]))
    return float(vectors[0] @ vectors[1] / (norms[0] * norms[1])), float(np.mean(shares))


def _share_above(high: np.ndarray, low: np.ndarray) -> float:
    """The share of pairs in which the first is above the second; ties count half."""
    ordered = np.sort(low)
    below, upto = (np.searchsorted(ordered, high, side=side) for side in ("left", "right"))  # type: ignore[call-overload]
    return float((below + upto).mean() / 2 / len(low))
