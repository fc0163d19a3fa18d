"""Every check of a model, in the order in which one stands on the other."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from thinkedit.artifacts.checkpoint import Checkpoint
from thinkedit.config import Shape, read_config, read_generation_config, read_shape
from thinkedit.doctor import asking, room, weights
from thinkedit.doctor.check import Check, attempt, failed
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.loading import load_tokenizer
from thinkedit.models import ModelSource, find_model
from thinkedit.pipeline.defaults import defaults_for

AGAIN = "Fetch or copy the model again."


def examine(
    name: str,
    device: str | None = None,
    dtype: str | None = None,
    out: Path | None = None,
    think_tags: tuple[str, str] | None = None,
) -> Iterator[Check]:
    """The checks of a model by short name, hub id or directory, as they are done. Weights that are not here are not fetched.

    Raises UsageError for a name or device that makes no sense; all else that is wrong is a check that fails.
    """
    where = room.device_name(device)
    try:
        source = find_model(name, weights=False, cached=True)
    except UsageError:
        raise
    except ThinkEditError:
        try:
            source = find_model(name, weights=False)
        except ThinkEditError as error:
            yield failed("model", error, "Give the path of a directory that holds a model.")
            return
    yield Check("model", "ok", f"{name} in {source.path}")
    try:
        shape, config = read_shape(source.path), read_config(source.path)
    except ThinkEditError as error:
        yield failed("config", error, AGAIN)
        return
    whole = _Watched()
    checkpoint = yield from _weights(name, source, whole)
    yield from weights.build(checkpoint, config, shape)
    yield from whole("architecture", lambda: _architecture(source, config), AGAIN)
    yield from _asked(source, shape, think_tags, name)
    count = weights.parameters(checkpoint) if checkpoint else weights.estimated_parameters(config, shape)
    stored = sum(place.size for place in checkpoint.tensors.values()) if checkpoint else 2 * count
    needed = room.memory_needed(count, stored, where, dtype)
    yield from attempt("memory", lambda: room.memory(needed, where), "")
    directory = out or Path("runs") / source.slug
    yield from attempt("disk", lambda: room.disk(room.disk_needed(shape, defaults_for(name), stored), directory), "")
    yield from room.engines(shape, where)
    if not whole.well:
        yield Check("proof", "warning", "steering and editing were not tried out", "Mend what fails above first.")
        return
    from thinkedit.doctor import proof

    if checkpoint is not None and needed <= room.memory_there(where):
        yield from attempt("proof", lambda: proof.on_real_weights(source, where, dtype), AGAIN)
    else:
        yield from attempt("proof", lambda: proof.on_random_weights(source), AGAIN)


class _Watched:
    """Attempts that remember whether one of them failed."""

    def __init__(self) -> None:
        self.well = True

    def __call__(self, name: str, look: Callable[[], Iterable[Check]], advice: str = AGAIN) -> Iterator[Check]:
        for check in attempt(name, look, advice):
            self.well = self.well and check.state != "fails"
            yield check


def _weights(name: str, source: ModelSource, whole: _Watched) -> Generator[Check, None, Checkpoint | None]:
    """The checks of the weights; returns the checkpoint, None where there is none that can be read."""
    if not any(source.path.glob("*.safetensors")):
        if os.path.isdir(name):
            words = "no *.safetensors, the only format that is read (it cannot run code)"
            yield from whole("files", lambda: [Check("files", "fails", words, "Convert or fetch the weights.")])
        else:
            yield Check("files", "warning", "the weights are not here yet", "The first command that needs them fetches them.")
        return None
    try:
        checkpoint = Checkpoint(source.path)
        checkpoint.quantisation()
    except ThinkEditError as error:
        fault = failed("files", error, AGAIN)
        yield from whole("files", lambda: [fault])
        return None
    yield from whole("files", lambda: weights.files(checkpoint))
    yield from whole("numbers", lambda: weights.numbers(checkpoint))
    yield from whole("quantisation", lambda: weights.quantisation(checkpoint))
    return checkpoint


def _architecture(source: ModelSource, config: dict[str, Any]) -> Iterator[Check]:
    from thinkedit.architecture import probe_small

    probe_small(source)
    kind = config.get("model_type") or (config.get("architectures") or ["a decoder"])[0]
    yield Check("architecture", "ok", f"{kind}: what attention and MLP write reaches the residual stream as it is")


def _asked(source: ModelSource, shape: Shape, think_tags: tuple[str, str] | None, name: str) -> Iterator[Check]:
    try:
        tokenizer = load_tokenizer(source)
    except ThinkEditError as error:
        yield failed("tokenizer", error, "Copy the tokenizer's files beside the weights.")
    else:
        yield from attempt("tokenizer", lambda: asking.tokens(tokenizer, shape), "")
        if think_tags is None:
            yield from attempt("think tokens", lambda: asking.think_tokens(tokenizer), "")
        yield from attempt(
            "chat template", lambda: asking.template(tokenizer, think_tags, shape), "Use a checkpoint with a sound template."
        )
    yield from asking.context(shape, defaults_for(name))
    yield from attempt("sampling", lambda: asking.sampling(read_generation_config(source.path)), AGAIN)
