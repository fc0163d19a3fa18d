"""The one seam between the method and whatever runs the model."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from thinkedit.edit import Edit

Control = Literal["attn", "mlp"]
# (layer, control) -> the vector [hidden] that is added to the output of that self-attention or MLP at every position.
Biases = Mapping[tuple[int, Control], Tensor]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to complete. `key` is the caller's own; `seed` alone decides the randomness of the completion.

    `max_tokens` stands above the sampling's. `question` is the user's message that the prompt was rendered from, for
    servers that only chat; None where the prompt goes on from a given thought.
    """

    key: Any
    prompt_ids: tuple[int, ...]
    seed: int
    max_tokens: int | None = None
    question: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The sampled tokens, an end token that stopped them included. `finish_reason` is "stop" or "length"."""

    key: Any
    token_ids: list[int]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy; `top_k` 0 and `top_p` 1 keep every token."""

    max_tokens: int
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False


# What an engine may be asked for besides completions; some have to know before they load the model.
Ability = Literal["steering", "editing"]


class Engine(Protocol):
    context: int  # most tokens of a prompt and its completion together
    continues: bool  # whether it completes token ids as they are (a server that only chats does not)
    abilities: frozenset[Ability]

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        """Completes every request, yielding each as soon as it is done, in any order.

        A deque is emptied from the left, and the caller may add to it while completions come.
        """

    def steer(self, biases: Biases | None) -> None:
        """Adds `biases` from now on, in place of those before; None takes them away. No reload."""

    def apply(self, edit: Edit | None) -> None:
        """Switches an edit on in place of the one before; None restores the base model. No reload."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """What is done to the model while it answers: steered by `biases`, changed by `edit`, or left as it is."""

    biases: Biases | None = None
    edit: Edit | None = None


UNTREATED = Treatment()
# Requests under one treatment. The queue is emptied from the left, and its owner may add to it while completions come.
Part = tuple[Treatment, "deque[Request]"]


@runtime_checkable
class Fleet(Protocol):
    """Several engines at work at once, which share out the requests among themselves."""

    context: int
    continues: bool
    abilities: frozenset[Ability]

    def complete(self, parts: Sequence[Part], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Completes the requests of all parts in any order, yielding each with the index of its part as soon as it is done."""

    def close(self) -> None: ...


def complete(engine: Engine | Fleet, parts: Sequence[Part], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
    """What `Fleet.complete` says: with one engine part by part, and treated anew only where the treatment changes."""
    if isinstance(engine, Fleet):
        yield from engine.complete(parts, sampling)
        return
    current = UNTREATED
    try:
        for index, (treatment, queue) in enumerate(parts):
            if queue and treatment is not current:
                current = treatment
                engine.steer(treatment.biases)
                engine.apply(treatment.edit)
            for completion in engine.generate(queue, sampling):
                yield index, completion
    finally:
        if current is not UNTREATED:
            engine.steer(None)
            engine.apply(None)


def as_queue(requests: Iterable[Request]) -> "deque[Request]":
    return requests if isinstance(requests, deque) else deque(requests)


def request_seed(run_seed: int, task: str, question_id: str, sample: int) -> int:
    """Seed of one completion: the same for every strength and edit, so that comparisons are paired."""
    text = f"{run_seed}\x1f{task}\x1f{question_id}\x1f{sample}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
