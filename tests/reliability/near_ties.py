"""Shows that two answers to one request part where floating point decides, and nowhere else.

A resumed run batches its questions in another way, which moves logits by about 1e-6. Where the draw lies that near to the
edge between two tokens, another one comes out, and the answers differ from there on. So at the first token that differs,
noise of that size in the logits of a lone, clean pass must give the one token and the other.
"""

import torch

from thinkedit.engines.base import UNTREATED, Treatment, request_seed
from thinkedit.engines.sampling import sample
from thinkedit.pipeline.evaluate import make_arms
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction
from thinkedit.records import Record
from thinkedit.steering import Setting

NOISE = (1e-6, 1e-5, 1e-4)  # standard deviations; logits are of the order of 10
DRAWS = 1000
ANSWER = ("token_ids", "text", "thinking_tokens", "status", "finish_reason", "answer", "correct", "verdict", "forced")


def noise_between(run: Run, one: Record, other: Record) -> float | None:
    """The least noise in the logits that makes both answers; None where they differ by more than a near-tie."""
    if any(getattr(one, name) != getattr(other, name) for name in Record.__slots__ if name not in ANSWER):
        return None
    prompt, ours, theirs, seed = list(one.prompt_ids), one.token_ids, other.token_ids, one.seed
    engine = run.engine("steering", "editing")
    if ours == theirs:  # then the forced answers differ
        suffix, cue = run.chat.forced_suffix()
        prompt += [*ours, *suffix]
        ours, theirs = (run.chat.encode((record.forced or "").removeprefix(cue)) for record in (one, other))
        seed = request_seed(seed, "forced answer", *one.key)
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        return None
    treatment = treatment_of(run, one)
    engine.steer(treatment.biases)
    engine.apply(treatment.edit)
    with torch.inference_mode():
        decoder = engine.decoder
        logits = decoder.head(decoder.body(torch.tensor([prompt + ours[:place]]), use_cache=False).last_hidden_state[0, -1])
        generator = torch.Generator().manual_seed(0)
        for size in NOISE:
            noisy = logits + size * torch.randn(DRAWS, len(logits), generator=generator)
            drawn = sample(noisy, torch.full((DRAWS,), seed), torch.full((DRAWS,), place), run.sampling(1))
            if {ours[place], theirs[place]} <= set(drawn.tolist()):
                return size
    return None


def treatment_of(run: Run, record: Record) -> Treatment:
    """How the model was treated when it gave this answer."""
    if record.control is not None:
        layers = tuple(range(run.shape.layers)) if record.layer is None else (record.layer,)
        setting = Setting(record.control, record.alpha, record.layer, layers)
        return Treatment(setting.biases(find_direction(run, record.control)))
    return UNTREATED if record.edit is None else Treatment(edit=make_arms(run, (), (), None)[record.edit])
