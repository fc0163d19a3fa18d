"""The one pass: window means of the residual stream and of the heads' outputs, for every example that needs them.

`activations.safetensors` holds, for E examples of a model with L layers,

    mid    float32 [E, L, hidden]            residual stream behind self-attention
    post   float32 [E, L, hidden]            residual stream behind the MLP (of the last layer: before the final norm)
    heads  float32 [E, L, heads * head_dim]  input of o_proj
    thinking_tokens  int32 [E]
    record           int32 [E]               place of the record among the responses, from 0: by sample, then question
    done             uint8 [E]               1 where the example has been computed

Both directions, every head score and every resample come from it with no further forward pass. Averages run over the
positions that predict the sampled tokens of the thought (paper, section 3), in float64.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thinkedit.architecture import Decoder
from thinkedit.artifacts import tensor_map
from thinkedit.chat import Thought
from thinkedit.errors import ThinkEditError
from thinkedit.files import content_hash
from thinkedit.progress import Advance, ignore

BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}  # padding included; what a CPU's cache holds is read fastest


@dataclass(frozen=True, slots=True)
class Example:
    """A response to be read: prompt and sampled tokens up to the end of the thought, and where that is."""

    record: int
    ids: tuple[int, ...]
    window: slice
    thinking_tokens: int

    @property
    def key(self) -> str:
        return content_hash([self.window.start, self.window.stop, *self.ids], 16)


@dataclass(frozen=True, slots=True)
class Activations:
    """Memory maps in the shapes above."""

    mid: np.ndarray
    post: np.ndarray
    heads: np.ndarray
    thinking_tokens: np.ndarray
    record: np.ndarray
    metadata: dict[str, str]


def make_example(record: int, prompt_ids: Sequence[int], token_ids: Sequence[int], thought: Thought) -> Example | None:
    """None where no sampled token belongs to a closed thought. What follows the thought is not read at all."""
    window = thought.window(len(prompt_ids))
    if thought.status != "closed" or window.stop <= window.start or window.start < 0:
        return None
    ids = (*prompt_ids, *token_ids)[: window.stop]
    return Example(record, tuple(ids), window, thought.tokens or 0)


def load_activations(path: Path) -> Activations:
    if not path.is_file():
        raise ThinkEditError(f"{path} does not exist; `thinkedit extract` makes it.")
    arrays, metadata = tensor_map.open_arrays(path)
    names = ("mid", "post", "heads", "thinking_tokens", "record")
    if missing := [name for name in names if name not in arrays]:
        raise ThinkEditError(f"{path} is no file of activations: it lacks {', '.join(missing)}.")
    return Activations(**{name: arrays[name] for name in names}, metadata=metadata)


def compute_activations(
    decoder: Decoder,
    examples: Sequence[Example],
    path: Path,
    about: dict[str, str],
    final_norm: bool = False,
    advance: Advance = ignore,
) -> Activations:
    """Fills `path` for `examples`, taking over what an earlier file or an interrupted one holds of them.

    `about` says what shaped the numbers (model, prompt); a file that differs in it is not used. `final_norm` reads
    `post` of the last layer behind the final norm, as the published script did.
    """
    partial = path.with_name(f".{path.stem}.partial.safetensors")
    keys = [example.key for example in examples]
    metadata = {**about, "final_norm": str(final_norm), "keys": json.dumps(keys)}
    known = _Known([path, partial], metadata)
    if known.is_exactly(path, keys):
        advance(len(examples), kept=True)
        return load_activations(path)
    fresh = path.with_name(f".{path.stem}.new.safetensors")
    _create(fresh, decoder, examples, metadata)
    arrays, _ = tensor_map.open_arrays(fresh, writable=True)
    advance(known.copy_into(arrays, keys), kept=True)
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    os.replace(fresh, partial)
    todo = [row for row in range(len(examples)) if not arrays["done"][row]]
    device = decoder.head.weight.device.type
    for rows in _batches(todo, examples, BATCH_TOKENS.get(device, 4096)):
        _read_batch(decoder, [examples[row] for row in rows], rows, arrays, final_norm)
        arrays["done"][rows] = 1
        advance(len(rows))
    os.replace(partial, path)
    return load_activations(path)


def _create(path: Path, decoder: Decoder, examples: Sequence[Example], metadata: dict[str, str]) -> None:
    count, layers = len(examples), len(decoder.layers)
    hidden, inner = decoder.projections[0].weight.shape
    shapes = {
        "mid": ("F32", (count, layers, hidden)),
        "post": ("F32", (count, layers, hidden)),
        "heads": ("F32", (count, layers, inner)),
        "thinking_tokens": ("I32", (count,)),
        "record": ("I32", (count,)),
        "done": ("U8", (count,)),
    }
    tensor_map.create(path, shapes, metadata)
    arrays, _ = tensor_map.open_arrays(path, writable=True)
    arrays["thinking_tokens"][:] = [example.thinking_tokens for example in examples]
    arrays["record"][:] = [example.record for example in examples]


class _Known:
    """Rows that earlier files with the same metadata hold."""

    def __init__(self, paths: Sequence[Path], metadata: dict[str, str]) -> None:
        self.files: dict[Path, tuple[dict[str, np.ndarray], list[str]]] = {}
        same = {name: value for name, value in metadata.items() if name != "keys"}
        for path in paths:
            try:
                arrays, found = tensor_map.open_arrays(path)
                keys = json.loads(found.pop("keys"))
            except (OSError, ThinkEditError, KeyError, ValueError):
                continue
            if found == same and "done" in arrays:
                self.files[path] = (arrays, keys)

    def is_exactly(self, path: Path, keys: list[str]) -> bool:
        return path in self.files and self.files[path][1] == keys and bool(self.files[path][0]["done"].all())

    def copy_into(self, arrays: dict[str, np.ndarray], keys: list[str]) -> int:
        copied = 0
        for old, old_keys in self.files.values():
            where = {key: row for row, key in enumerate(old_keys) if old["done"][row]}
            for row, key in enumerate(keys):
                if key in where and not arrays["done"][row]:
                    for name in ("mid", "post", "heads"):
                        arrays[name][row] = old[name][where[key]]
                    arrays["done"][row] = 1
                    copied += 1
        return copied


def _batches(rows: Sequence[int], examples: Sequence[Example], tokens: int) -> list[list[int]]:
    """Rows sorted by length, in batches of about `tokens` tokens; the longest come first, so memory peaks at once."""
    batches: list[list[int]] = []
    for row in sorted(rows, key=lambda row: -len(examples[row].ids)):
        if not batches or (len(batches[-1]) + 1) * len(examples[batches[-1][0]].ids) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


@torch.inference_mode()
def _read_batch(
    decoder: Decoder, examples: Sequence[Example], rows: list[int], arrays: dict[str, np.ndarray], final_norm: bool
) -> None:
    device = decoder.head.weight.device
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)

    def keep(name: str, layer: int) -> Callable[[Tensor], None]:
        def write(states: Tensor) -> None:
            means = [states[row, example.window].double().mean(0) for row, example in enumerate(examples)]
            arrays[name][rows, layer] = torch.stack(means).float().cpu().numpy()

        return write

    last = len(decoder.layers) - 1
    with ExitStack() as stack:
        for layer in range(last + 1):
            writers = {name: keep(name, layer) for name in ("mid", "post", "heads")}
            if final_norm and layer == last:
                hook = decoder.body.norm.register_forward_hook(lambda _m, _a, out, write=writers.pop("post"): write(out))
                stack.callback(hook.remove)

            def dispatch(name: str, states: Tensor, writers: dict = writers) -> None:
                if name in writers:
                    writers[name](states)

            stack.enter_context(decoder.watch(layer, dispatch))
        decoder.body(ids.to(device), use_cache=False)
