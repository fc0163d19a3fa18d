"""A token depends on its row's logits, seed and position alone, and follows the distribution that was asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from thinkedit.engines.base import Sampling, request_seed
from thinkedit.engines.sampling import _truncate, sample, uniform
from thinkedit.errors import ThinkEditError


def test_the_generator_is_splitmix64():
    first_of_seed_zero = 0xE220A8397B1DCDAF
    assert uniform(torch.tensor([0]), torch.tensor([0])).item() == (first_of_seed_zero >> 11) * 2.0**-53


def test_draws_are_uniform_and_uncorrelated():
    draws = uniform(torch.arange(1000).repeat_interleave(100), torch.arange(100).repeat(1000))
    counts = torch.histc(draws, 20, 0, 1)
    assert ((counts - 5000).square() / 5000).sum() < 45  # chi-square with 19 degrees of freedom, p < 0.001
    assert abs(torch.corrcoef(torch.stack([draws[:-1], draws[1:]]))[0, 1]) < 0.02


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.floats(0.05, 1.0), st.floats(0.2, 2.0), st.integers(0, 2**31))
def test_truncation_is_that_of_transformers(top_k, top_p, temperature, seed):
    logits = torch.randn(4, 600, generator=torch.Generator().manual_seed(seed)) * 3
    wanted = TemperatureLogitsWarper(temperature)(None, logits)
    wanted = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, wanted)) if top_p < 1 else wanted
    kept = _truncate(torch.softmax(logits / temperature, -1), top_k if top_p < 1 else 0, top_p)
    assert torch.equal(kept > 0, torch.softmax(wanted, -1) > 0)


def test_frequencies_follow_the_softmax():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]]).expand(40_000, 4)
    tokens = sample(logits, torch.arange(40_000), torch.zeros(40_000, dtype=torch.long), Sampling(1, 0.7, 1.0))
    wanted = torch.softmax(logits[0] / 0.7, -1)
    assert torch.allclose(torch.bincount(tokens, minlength=4) / 40_000, wanted, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.integers(2, 40), st.floats(0.1, 1.0))
def test_a_row_does_not_see_its_neighbours(seed, rows, top_p):
    generator = torch.Generator().manual_seed(seed % 2**31)
    logits = torch.randn(rows, 300, generator=generator)
    seeds = torch.randint(0, 2**62, (rows,), generator=generator)
    positions = torch.arange(rows)
    sampling = Sampling(1, 0.8, top_p, top_k=50)
    together = sample(logits, seeds, positions, sampling)
    alone = [sample(logits[i : i + 1], seeds[i : i + 1], positions[i : i + 1], sampling).item() for i in range(rows)]
    assert together.tolist() == alone


def test_repetition_penalty_is_that_of_transformers():
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(3, 50)
    prompt = torch.randint(0, 50, (3, 7))
    wanted = RepetitionPenaltyLogitsProcessor(1.3)(prompt, logits.clone()).argmax(-1)
    seen = torch.zeros(3, 50, dtype=torch.bool).scatter(1, prompt, True)
    zeros = torch.zeros(3, dtype=torch.long)
    assert torch.equal(sample(logits, zeros, zeros, Sampling(1, 0.0, repetition_penalty=1.3), seen), wanted)


@pytest.mark.parametrize("place", [0, 7, 31])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [Sampling(1, 0.0), Sampling(1, 0.7), Sampling(1, 0.7, 1.0), Sampling(1, 0.7, 0.9, 5)])
def test_no_token_is_made_of_logits_that_are_no_numbers(place, number, sampling):
    logits, seeds = torch.randn(3, 32, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    masked = logits.clone()
    masked[:, 3] = -torch.inf  # a token that is ruled out
    assert not (sample(masked, seeds, seeds, sampling) == 3).any()
    logits[1, place] = number
    with pytest.raises(ThinkEditError, match="infinities or NaN instead of a next token"):
        sample(logits, seeds, seeds, sampling)


@pytest.mark.parametrize("change", [{"run_seed": 1}, {"task": "b"}, {"question_id": "x"}, {"sample": 1}])
def test_seeds_differ_in_whatever_names_the_completion(change):
    name = {"run_seed": 0, "task": "a", "question_id": "q", "sample": 0}
    assert request_seed(**name) == request_seed(**name) != request_seed(**(name | change))
