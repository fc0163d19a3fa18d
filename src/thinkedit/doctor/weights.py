"""The files of a model: there, whole, of the sizes that the config says, of plain numbers."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from thinkedit.artifacts.checkpoint import Checkpoint
from thinkedit.artifacts.consistency import faults, not_finite
from thinkedit.config import Shape
from thinkedit.doctor.check import Check, gigabytes

NAMED = 3  # how many of the tensors that are wrong are named


def files(checkpoint: Checkpoint) -> Iterator[Check]:
    """Headers, index, and shapes against the config."""
    sizes = sum(place.size for place in checkpoint.tensors.values())
    formats = ", ".join(kind for kind, _ in Counter(place.dtype for place in checkpoint.tensors.values()).most_common())
    count = len(checkpoint.files)
    wrong = faults(checkpoint)
    if wrong:
        more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        words = "; ".join(wrong[:NAMED]) + more
        yield Check("files", "fails", words, "Config and weights are not of one model; fetch or copy them again.")
    else:
        held = f"{len(checkpoint.tensors)} tensors ({formats}, {gigabytes(sizes)}) in {count} file{'' if count == 1 else 's'}"
        yield Check("files", "ok", f"{held}, as the config says")


def numbers(checkpoint: Checkpoint) -> Iterator[Check]:
    """NaN and infinities, over all tensors."""
    first = list(islice(not_finite(checkpoint), NAMED + 1))
    if not first:
        yield Check("numbers", "ok", "all finite")
        return
    words = ", ".join(f"{count:,} in {name}" for name, count in first[:NAMED]) + (" and others" if len(first) > NAMED else "")
    yield Check("numbers", "fails", f"NaN or infinite: {words}", "The weights are damaged; fetch or copy them again.")


def quantisation(checkpoint: Checkpoint) -> Iterator[Check]:
    how = checkpoint.quantisation()
    if how is None:
        yield Check("quantisation", "ok", "none: plain matrices")
    else:
        yield Check(
            "quantisation", "fails", how, "Use the unquantised model; an adapter made from it may be served on this one."
        )


def parameters(checkpoint: Checkpoint) -> int:
    return sum(math.prod(place.shape) for place in checkpoint.tensors.values())


def estimated_parameters(source_config: dict, shape: Shape) -> int:
    """About how many numbers a model of this configuration has, before its weights are here."""
    text = source_config.get("text_config") or source_config
    wide = text.get("intermediate_size")
    wide = wide if type(wide) is int and wide > 0 else 4 * shape.hidden
    attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.key_value_heads)
    embeddings = shape.vocabulary * shape.hidden * (1 if text.get("tie_word_embeddings") else 2)
    return shape.layers * (attention + 3 * shape.hidden * wide) + embeddings


def build(checkpoint: Checkpoint | None, config: dict, shape: Shape) -> Iterator[Check]:
    """Sizes, tied weights and biases: nothing of it is wrong, but all of it shapes what steering and editing do."""
    odd = "" if shape.heads * shape.head_dim == shape.hidden else f" (not {shape.hidden} / {shape.heads}; the config's counts)"
    yield Check(
        "sizes",
        "ok",
        f"{shape.layers} layers x {shape.heads} heads of {shape.head_dim}{odd}, {shape.key_value_heads} key-value heads, "
        f"hidden {shape.hidden}, {shape.vocabulary:,} tokens",
    )
    if checkpoint is None:
        return
    names = checkpoint.tensors
    tied = not any(name.endswith("lm_head.weight") for name in names)
    biased = [part for part in ("q", "k", "v", "o", "gate", "up", "down") if any(f"{part}_proj.bias" in name for name in names)]
    words = f"biases on {', '.join(f'{part}_proj' for part in biased)}" if biased else "no biases"
    head = "the output embedding is tied to the input's" if tied else "the output embedding is a matrix of its own"
    yield Check("build", "ok", f"{head}; {words}")
