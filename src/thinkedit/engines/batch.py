"""The batch of the transformers engine: rows that read their prompts, take one token a step, and leave when they end."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from thinkedit.engines.base import Completion, Request, Sampling
from thinkedit.engines.groups import Group, close_gaps, merged, regrouped
from thinkedit.engines.sampling import sample

if TYPE_CHECKING:
    from thinkedit.engines.transformers import TransformersEngine

PREFILL_TOKENS = 8192  # prompts are read in portions of about this many tokens
CALL = {"cpu": 1 << 19, "cuda": 1 << 25}  # bytes of keys and values that are read in the time one more call takes


@dataclass(slots=True)
class _State:
    """What is known of each row, one tensor a fact: [rows] but `out` [rows, tokens] and `seen` [rows, vocabulary]."""

    seeds: Tensor
    lengths: Tensor  # tokens in the cache
    counts: Tensor  # tokens sampled
    budgets: Tensor
    last: Tensor
    out: Tensor
    seen: Tensor | None

    def tensors(self) -> list[Tensor]:
        return [
            t for t in (self.seeds, self.lengths, self.counts, self.budgets, self.last, self.out, self.seen) if t is not None
        ]


class Batch:
    """Rows 0..rows-1 are at work, in groups of about one length. Gaps close as rows end; free rows take new prompts."""

    def __init__(self, engine: "TransformersEngine", sampling: Sampling, limit: int, most_tokens: int) -> None:
        self.engine, self.sampling, self.limit, self.most_tokens = engine, sampling, limit, most_tokens
        self.groups: list[Group] = []
        self.requests: list[Request] = []
        device, shape = engine.device, engine.shape
        seeds, lengths, counts, budgets, last = torch.zeros(5, limit, dtype=torch.long, device=device)
        vocabulary = engine.decoder.head.weight.shape[0]
        seen = torch.zeros(limit, vocabulary, dtype=torch.bool, device=device) if sampling.repetition_penalty != 1 else None
        out = torch.zeros(limit, min(sampling.max_tokens, 256), dtype=torch.int32, device=device)
        self.state = _State(seeds, lengths, counts, budgets, last, out, seen)
        self.cache = engine.forward.cache_type(
            shape.layers, limit, shape.key_value_heads, shape.head_dim, engine.decoder.head.weight
        )
        position = 2 * shape.key_value_heads * shape.head_dim * engine.model.dtype.itemsize
        self.worth = CALL.get(device.type, 0) // position

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def longest(self) -> int:
        """Tokens that the longest row holds."""
        return max((group.longest for group in self.groups), default=0)

    def admit(self, pending: "deque[Request]") -> None:
        """Reads the prompts of waiting requests into free rows, once an eighth of the rows is free."""
        free = self.limit - self.rows
        if not pending or (self.rows and free * 8 < self.limit):
            return
        while pending and self.rows < self.limit:
            portion: list[Request] = []
            tokens = filled = 0
            while len(portion) < min(len(pending), self.limit - self.rows):
                request = pending[len(portion)]
                tokens = max(tokens, len(request.prompt_ids))
                filled += len(request.prompt_ids)
                padded = tokens * (len(portion) + 1)
                if portion and (padded > PREFILL_TOKENS or padded > 2 * filled):
                    break
                portion.append(request)
            self._prefill(portion)
            for _ in portion:
                pending.popleft()

    @torch.inference_mode()
    def _prefill(self, requests: list[Request]) -> None:
        engine, state, device = self.engine, self.state, self.engine.device
        sizes = torch.tensor([len(request.prompt_ids) for request in requests], device=device)
        longest = max(len(request.prompt_ids) for request in requests)
        ids = torch.zeros(len(requests), longest, dtype=torch.long)
        for row, request in enumerate(requests):
            ids[row, : len(request.prompt_ids)] = torch.tensor(request.prompt_ids)
        ids = ids.to(device)
        rows = torch.arange(self.rows, self.rows + len(requests), device=device)
        self._make_room(max(self.longest, longest) + 1)
        self.cache.fill(rows, sizes)
        hidden = engine.forward(ids, torch.arange(longest, device=device)[None], self.cache)
        logits = engine.decoder.head(hidden[torch.arange(len(requests), device=device), sizes - 1])
        state.seeds[rows] = torch.tensor([request.seed for request in requests], device=device)
        state.budgets[rows] = torch.tensor([engine.budget(r, self.sampling) for r in requests], device=device)
        state.lengths[rows] = sizes
        state.counts[rows] = 0
        if state.seen is not None:
            state.seen[rows] = False
            inside = torch.arange(longest, device=device) < sizes[:, None]
            state.seen[rows[:, None].expand_as(ids)[inside], ids[inside]] = True
        self._take(rows, logits)
        self.requests += requests
        self.groups = merged([*self.groups, Group(len(requests), longest)], self.worth)

    def _take(self, rows: Tensor, logits: Tensor) -> None:
        """Samples the next token of `rows` and writes it down."""
        state = self.state
        seen = None if state.seen is None else state.seen[rows]
        tokens = sample(logits, state.seeds[rows], state.counts[rows], self.sampling, seen)
        state.out[rows, state.counts[rows]] = tokens.int()
        state.last[rows] = tokens
        state.counts[rows] += 1
        if state.seen is not None:
            state.seen[rows, tokens] = True

    @torch.inference_mode()
    def step(self) -> None:
        """Appends one token to each row."""
        if self.rows == 0:
            return
        state, n = self.state, self.rows
        self._make_room(self.longest + 1)
        self.cache.append(state.lengths[:n], self.groups)
        hidden = self.engine.forward(state.last[:n, None], state.lengths[:n, None], self.cache)
        logits = self.engine.decoder.head(hidden[:, -1])
        self._take(torch.arange(n, device=self.engine.device), logits)
        state.lengths[:n] += 1
        self.groups = [Group(group.rows, group.longest + 1) for group in self.groups]

    @torch.inference_mode()
    def collect(self) -> list[Completion]:
        """Hands out the rows that have ended and closes the gaps that they leave."""
        state, n = self.state, self.rows
        ended = torch.isin(state.last[:n], self.engine.end_ids)
        if self.sampling.ignore_eos:
            ended = torch.zeros_like(ended)
        done = (ended | (state.counts[:n] >= state.budgets[:n])).nonzero().squeeze(-1).tolist()
        if not done:
            return []
        completions = []
        for row in done:
            tokens = state.out[row, : int(state.counts[row])].tolist()
            reason: Literal["stop", "length"] = "stop" if bool(ended[row]) else "length"
            completions.append(Completion(self.requests[row].key, tokens, reason))
        sources, targets, sizes = close_gaps(self.groups, done)
        if sources:
            here, there = torch.tensor([targets, sources], device=self.engine.device)
            for tensor in state.tensors():
                tensor[here] = tensor[there]
            self.cache.move(there, here, self.longest)  # rows that have just come in count too
            moved = [self.requests[source] for source in sources]
            for target, request in zip(targets, moved, strict=True):
                self.requests[target] = request
        kept = n - len(done)
        del self.requests[kept:]
        self.groups = merged(regrouped(sizes, state.lengths[:kept].tolist()), self.worth)
        return completions

    def _make_room(self, tokens: int) -> None:
        if tokens > self.cache.capacity:
            doubled = max(tokens, 2 * self.cache.capacity, 256)
            self.cache.resize(self.limit, min(doubled, max(tokens, self.most_tokens)))
        out = self.state.out
        if int(self.state.counts[: self.rows].max() if self.rows else 0) >= out.shape[1]:
            grown = out.new_zeros(out.shape[0], 2 * out.shape[1])
            grown[:, : out.shape[1]] = out
            self.state.out = grown

    @torch.inference_mode()
    def halve(self, pending: "deque[Request]") -> None:
        """Gives half of the rows back to the queue; they start again later and come out the same."""
        self.limit = max(1, self.limit // 2)
        pending.extendleft(reversed(self.requests[self.limit :]))
        del self.requests[self.limit :]
        self.groups = regrouped([min(self.rows, self.limit)], self.state.lengths.tolist())
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        self.cache.resize(self.limit, self.cache.capacity)
