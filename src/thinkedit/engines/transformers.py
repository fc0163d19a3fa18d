"""The engine that runs anywhere: transformers' model code, a batch whose rows come and go, our own cache and sampling."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thinkedit.architecture import Decoder
from thinkedit.config import Shape, read_shape
from thinkedit.edit import Edit
from thinkedit.engines.base import Ability, Biases, Completion, Request, Sampling, as_queue
from thinkedit.engines.forward import make_forward
from thinkedit.engines.groups import Group, close_gaps, merged, regrouped
from thinkedit.engines.sampling import sample
from thinkedit.errors import ThinkEditError
from thinkedit.loading import choose_device, load_model
from thinkedit.models import ModelSource

PREFILL_TOKENS = 8192  # prompts are read in portions of about this many tokens
MOST_ROWS = {"cpu": 256, "cuda": 512}
CALL = {"cpu": 1 << 19, "cuda": 1 << 25}  # bytes of keys and values that are read in the time one more call takes


class TransformersEngine:
    """Completes requests with a transformers model. `batch_size` None: as many rows as fit, halved where they do not."""

    continues = True
    abilities: frozenset[Ability] = frozenset(("steering", "editing"))

    def __init__(
        self,
        source: ModelSource,
        end_ids: Iterable[int],
        device: str | None = None,
        dtype: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.shape: Shape = read_shape(source.path)
        self.context = self.shape.context or 1 << 30
        self.model = load_model(source, self.device, dtype)
        self.decoder = Decoder(self.model)
        self.forward = make_forward(self.decoder)
        self.end_ids = torch.tensor(sorted(set(end_ids)), dtype=torch.long, device=self.device)
        self.batch_size = batch_size
        self._own_biases: dict[nn.Linear, Tensor] = {}
        self._own_weights: dict[int, Tensor] = {}

    # ---------------------------------------------------------------------------------------------- steer and edit

    def steer(self, biases: Biases | None) -> None:
        for module, own in self._own_biases.items():
            module.bias.data.copy_(own)
        for (layer, control), vector in (biases or {}).items():
            module = self.decoder.module(layer, control)
            if module not in self._own_biases:
                if module.bias is None:
                    zero = torch.zeros(module.out_features, dtype=module.weight.dtype, device=module.weight.device)
                    module.bias = nn.Parameter(zero, requires_grad=False)
                self._own_biases[module] = module.bias.detach().clone()
            own = self._own_biases[module]
            module.bias.data.copy_(own.double() + vector.to(own.device).double())

    def apply(self, edit: Edit | None) -> None:
        for layer, own in self._own_weights.items():
            self.decoder.projections[layer].weight.data.copy_(own)
        self._own_weights.clear()
        if edit is None:
            return
        for layer in edit.layers:
            weight = self.decoder.projections[layer].weight
            self._own_weights[layer] = weight.detach().clone()
            weight.data.copy_(edit.edited(layer, weight.detach()))

    def close(self) -> None:
        del self.model, self.decoder, self.forward
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---------------------------------------------------------------------------------------------------- generate

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        pending = as_queue(requests)
        if not pending:
            return
        budgets = [self._budget(request, sampling) for request in pending]
        longest = max(len(request.prompt_ids) + budget for request, budget in zip(pending, budgets, strict=True))
        rows = min(len(pending), self.batch_size or self._rows_that_fit(longest))
        batch = _Batch(self, sampling, rows, longest)
        while pending or batch.rows:
            try:
                batch.admit(pending)
                yield from batch.collect()
                batch.step()
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                if batch.limit == 1:
                    raise ThinkEditError(
                        "The memory does not hold even one row of this model with its cache. "
                        "Use a smaller cap (--max-tokens) or a larger device."
                    ) from None
                batch.halve(pending)

    def _budget(self, request: Request, sampling: Sampling) -> int:
        if not request.prompt_ids:
            raise ThinkEditError(f"The prompt of {request.key} is empty.")
        room = self.context - len(request.prompt_ids)
        if room <= 0:
            raise ThinkEditError(
                f"The prompt of {request.key} has {len(request.prompt_ids)} tokens, but the context ends at {self.context}."
            )
        return min(request.max_tokens or sampling.max_tokens, room)

    def _rows_that_fit(self, tokens: int) -> int:
        """Rows whose caches fill at most 80 % of the memory that is free, if every row grew to `tokens` tokens."""
        shape, size = self.shape, self.model.dtype.itemsize
        row = 2 * shape.layers * shape.key_value_heads * shape.head_dim * size * tokens
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0]
        else:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return max(1, min(MOST_ROWS.get(self.device.type, 64), int(0.8 * free / row)))


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


class _Batch:
    """Rows 0..rows-1 are at work, in groups of about one length. Gaps close as rows end; free rows take new prompts."""

    def __init__(self, engine: TransformersEngine, sampling: Sampling, limit: int, most_tokens: int) -> None:
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
        state.budgets[rows] = torch.tensor([engine._budget(r, self.sampling) for r in requests], device=device)
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


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "can't allocate" in str(error)
