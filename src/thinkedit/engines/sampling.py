"""Sampling in which each row has its own random stream, so that a completion depends on its own request alone."""

from math import isfinite

import numpy as np
import torch
from torch import Tensor

from thinkedit.engines.base import Sampling
from thinkedit.errors import ThinkEditError


def uniform(seeds: Tensor, positions: Tensor) -> Tensor:
    """Uniform float64 in [0, 1) for each (seed, position), both int64 [rows]: the SplitMix64 generator, stateless."""
    state = seeds + (positions + 1) * -7046029254386353131  # 0x9E3779B97F4A7C15, two's complement
    state = (state ^ _shift(state, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    state = (state ^ _shift(state, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return _shift(state ^ _shift(state, 31), 11).double() * 2.0**-53


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def sample(logits: Tensor, seeds: Tensor, positions: Tensor, sampling: Sampling, seen: Tensor | None = None) -> Tensor:
    """One token a row from `logits` [rows, vocabulary]; `seen` marks the tokens that the repetition penalty counts.

    The token is drawn by inverting the cumulative distribution in order of token id, which floating-point noise in
    the logits moves only when the draw falls on the very edge between two tokens. Raises ThinkEditError for logits
    among which are NaN, or that are infinite where the next token should be.
    """
    logits = logits.float()
    if seen is not None:
        penalty = sampling.repetition_penalty
        logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if sampling.temperature == 0:
        largest, tokens = logits.max(-1)
        _check_finite(largest)
        return tokens
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    _check_finite(probabilities[:, 0])  # of a row with one such logit, all are NaN
    probabilities = _truncate(probabilities, sampling.top_k, sampling.top_p)
    cumulative = probabilities.double().cumsum(-1)
    draw = uniform(seeds, positions)[:, None] * cumulative[:, -1:]
    # Where rounding puts the draw past the end, the last token that has any probability is taken.
    return torch.searchsorted(cumulative, draw, right=True).squeeze(-1).clamp_max(_last_positive(probabilities))


def _check_finite(of_each_row: Tensor) -> None:
    if not isfinite(of_each_row.sum()):  # one operation instead of two: it counts for small models
        raise ThinkEditError(
            "The model computed infinities or NaN instead of a next token: its numbers do not fit the format they are "
            "computed in, or a direction was added far too strongly. A smaller alpha or --dtype float32 helps."
        )


def _last_positive(probabilities: Tensor) -> Tensor:
    size = probabilities.shape[-1]
    return size - 1 - (probabilities.flip(-1) > 0).to(torch.uint8).argmax(-1)


def _largest(values: Tensor, count: int) -> Tensor:
    """The `count` largest of each row, falling."""
    if values.device.type == "cpu" and count == values.shape[-1]:
        return torch.from_numpy(np.sort(values.numpy(), axis=-1)).flip(-1)  # a tenth of the time that torch takes
    return values.topk(count).values


CANDIDATES = 256  # sorting these instead of the whole vocabulary is exact whenever they hold top_p of the mass


def _truncate(probabilities: Tensor, top_k: int, top_p: float) -> Tensor:
    """Zeroes what top-k, then top-p leave out. Ties with the last token that is kept are kept too."""
    size = probabilities.shape[-1]
    if 0 < top_k < size:
        least = probabilities.topk(top_k).values[:, -1:]
        probabilities = probabilities.where(probabilities >= least, 0)
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    if top_p < 1:
        ordered = _largest(probabilities, min(CANDIDATES, size))
        if ordered.shape[-1] < size and bool((ordered.sum(-1) < top_p).any()):
            ordered = probabilities.sort(descending=True).values
        mass_before = ordered.cumsum(-1) - ordered
        kept = (mass_before < top_p).sum(-1, keepdim=True)
        probabilities = probabilities.where(probabilities >= ordered.gather(-1, kept - 1), 0)
    return probabilities
