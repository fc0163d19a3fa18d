"""The engine that runs anywhere: a transformers model, steered and edited in place, that completes batches of requests."""

import os
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from thinkedit.architecture import Decoder
from thinkedit.config import Shape, read_shape
from thinkedit.edit import Edit
from thinkedit.engines.base import Ability, Biases, Completion, Request, Sampling, as_queue
from thinkedit.engines.batch import Batch
from thinkedit.engines.forward import make_forward
from thinkedit.errors import ThinkEditError
from thinkedit.loading import choose_device, load_model
from thinkedit.models import ModelSource

MOST_ROWS = {"cpu": 256, "cuda": 512}


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
        budgets = [self.budget(request, sampling) for request in pending]
        longest = max(len(request.prompt_ids) + budget for request, budget in zip(pending, budgets, strict=True))
        rows = min(len(pending), self.batch_size or self._rows_that_fit(longest))
        batch = Batch(self, sampling, rows, longest)
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

    def budget(self, request: Request, sampling: Sampling) -> int:
        """Tokens that may be sampled for a request. Raises ThinkEditError where its prompt does not fit."""
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


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "can't allocate" in str(error)
