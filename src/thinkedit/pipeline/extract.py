"""Step 2, the direction: one forward pass over the short and the long responses, then means and differences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thinkedit.activations import Activations, Example, compute_activations, make_example
from thinkedit.chat import Chat
from thinkedit.directions import Direction, Split, published_direction, split_by_length, thinking_direction
from thinkedit.engines.base import Control
from thinkedit.errors import ThinkEditError
from thinkedit.pipeline.run import Run, tensor_hash
from thinkedit.records import Record, Status, read_records
from thinkedit.responses import read_responses

PUBLISHED_CUT = 4096  # tokens at which the published scripts cut a response off


@dataclass(frozen=True, slots=True)
class Extraction:
    """`statuses` counts all responses; `split` indexes the rows of `activations`."""

    directions: dict[Control, Direction]
    activations: Activations
    split: Split
    statuses: dict[Status, int]

    @property
    def left_out(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != "closed")


def extract(
    run: Run,
    responses: Path | None = None,
    short: int | None = None,
    long: int | None = None,
    short_quantile: float | None = None,
    long_quantile: float | None = None,
    every: bool = False,
) -> Extraction:
    """Writes `activations.safetensors`, `direction-attn.safetensors` and `direction-mlp.safetensors`.

    Reads the probe of this run, or a file of `responses` made elsewhere. `every` reads all closed thoughts, not only
    the short and the long ones.
    """
    records = read_responses(responses, run.chat) if responses else _probe(run)
    statuses = dict(Counter(record.status for record in records))
    examples = _examples(records, run.chat, cut=PUBLISHED_CUT if run.options.published_quirks else None)
    lengths = [example.thinking_tokens for example in examples]
    split = split_by_length(lengths, short, long, short_quantile, long_quantile)
    needed = np.arange(len(examples)) if every else np.union1d(split.short, split.long)
    chosen = [examples[row] for row in needed]
    _check_context(chosen, run)
    about = {"fingerprint": run.fingerprint, "prompt": run.chat.style, "dtype": str(run.options.dtype)}
    with run.progress.work("one pass: activations", len(chosen), "response") as advance:
        activations = compute_activations(
            run.engine.decoder,
            chosen,
            run.directory / "activations.safetensors",
            about,
            final_norm=run.options.published_quirks,
            advance=advance,
        )
    split = Split(np.searchsorted(needed, split.short), np.searchsorted(needed, split.long), split.rule)
    directions: dict[Control, Direction] = {}
    means: dict[Control, np.ndarray] = {"attn": activations.mid, "mlp": activations.post}
    difference = published_direction if run.options.published_quirks else thinking_direction
    described = {
        "model": run.source.name,
        "fingerprint": run.fingerprint,
        "rule": split.rule,
        "short": str(len(split.short)),
        "long": str(len(split.long)),
        "quirks": str(run.options.published_quirks),
    }
    for control in means:
        directions[control] = Direction(difference(means[control], split), control, described)
        directions[control].save(run.directory / f"direction-{control}.safetensors")
    settings = {
        "responses": str(responses) if responses else None,
        "short": short,
        "long": long,
        "short_quantile": short_quantile,
        "long_quantile": long_quantile,
        "quirks": run.options.published_quirks,
    }
    run.note(
        "extract",
        settings,
        rule=split.rule,
        statuses=statuses,
        short=split.short.tolist(),
        long=split.long.tolist(),
        identity={control: tensor_hash(direction.vectors) for control, direction in directions.items()},
    )
    return Extraction(directions, activations, split, statuses)


def _probe(run: Run) -> list[Record]:
    return read_records(run.directory / run.needs("generate", "generate")["file"])


def _examples(records: Sequence[Record], chat: Chat, cut: int | None) -> list[Example]:
    examples = []
    for index, record in enumerate(records):
        if cut is not None and len(record.token_ids) >= cut:
            continue
        thought = chat.thought(record.prompt_ids, record.token_ids, at_cap=record.finish_reason == "length")
        example = make_example(index, record.prompt_ids, record.token_ids, thought)
        if example is not None:
            examples.append(example)
    return examples


def _check_context(examples: Sequence[Example], run: Run) -> None:
    context = run.shape.context or 1 << 30
    longest = max(len(example.ids) for example in examples)
    if longest > context:
        raise ThinkEditError(f"A response has {longest} tokens with its prompt, but the model's context ends at {context}.")
