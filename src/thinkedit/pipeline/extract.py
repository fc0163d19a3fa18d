"""Step 2, the direction: one forward pass over the short and the long responses, then means and differences."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from thinkedit.activations import Activations, Example, compute_activations, make_example
from thinkedit.direction_quality import Quality, direction_quality
from thinkedit.directions import Direction, Split, published_direction, split_by_length, thinking_direction
from thinkedit.engines.base import Control
from thinkedit.errors import ThinkEditError
from thinkedit.pipeline.run import Run
from thinkedit.records import Record
from thinkedit.responses import read_responses

PUBLISHED_CUT = 4096  # tokens at which the published scripts cut a response off


@dataclass(frozen=True, slots=True)
class Extraction:
    """`responses` counts all of them, `left_out` those that cannot be read; `split` indexes the rows of `activations`."""

    directions: dict[Control, Direction]
    activations: Activations
    split: Split
    responses: int
    left_out: dict[str, int]
    quality: dict[Control, Quality]


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
    records = read_responses(responses, run.chat, run.shape.vocabulary) if responses else _probe(run)
    examples, left_out = _examples(records, run)
    if not examples:
        raise _nothing_left(left_out, run)
    lengths = [example.thinking_tokens for example in examples]
    split = split_by_length(lengths, short, long, short_quantile, long_quantile)
    needed = np.arange(len(examples)) if every else np.union1d(split.short, split.long)
    chosen = [examples[row] for row in needed]
    about = {"fingerprint": run.fingerprint, "prompt": run.chat.style, "dtype": run.shaping()["dtype"]}
    run.manifest.begin("extract")
    with run.progress.work("one pass: activations", len(chosen), "response") as advance:
        activations = compute_activations(
            run.machine.decoder(),
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
    quality: dict[Control, Quality] = {}
    for control in means:
        vectors = difference(means[control], split)
        quality[control] = direction_quality(means[control], split, activations.thinking_tokens)
        directions[control] = Direction(vectors, control, described | quality[control].about())
        directions[control].save(run.directory / f"direction-{control}.safetensors")
    settings = {
        "responses": str(responses) if responses else None,
        "short": short,
        "long": long,
        "short_quantile": short_quantile,
        "long_quantile": long_quantile,
        "quirks": run.options.published_quirks,
    }
    run.manifest.note(
        "extract",
        settings,
        rule=split.rule,
        responses=len(records),
        left_out=dict(left_out),
        short=split.short.tolist(),
        long=split.long.tolist(),
        quality={control: asdict(found) for control, found in quality.items()},
        identity={control: direction.fingerprint for control, direction in directions.items()},
    )
    return Extraction(directions, activations, split, len(records), dict(left_out), quality)


def _probe(run: Run) -> list[Record]:
    return run.read_records([run.manifest.needs("generate")["file"]])


def _examples(records: Sequence[Record], run: Run) -> tuple[list[Example], Counter[str]]:
    """What can be read, and how many records are left out for which reason."""
    context, quirks = run.shape.context or 1 << 30, run.options.published_quirks
    examples, left_out = [], Counter[str]()
    for index, record in enumerate(records):
        at_cap = record.finish_reason == "length"
        thought = run.chat.thought(record.prompt_ids, record.token_ids, at_cap)
        example = make_example(index, record.prompt_ids, record.token_ids, thought)
        if thought.status != "closed":
            left_out[thought.status] += 1
        elif example is None:
            left_out["thought in the prompt alone"] += 1
        elif quirks and len(record.token_ids) >= PUBLISHED_CUT:
            left_out[f"cut at {PUBLISHED_CUT:,} tokens"] += 1
        elif len(example.ids) > context:
            left_out[f"beyond the context of {context:,} tokens"] += 1
        else:
            examples.append(example)
    return examples, left_out


def _nothing_left(left_out: Counter[str], run: Run) -> ThinkEditError:
    counted = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    hint = ""
    if left_out["absent"] and run.chat.style == "raw":
        hint = "\nThe raw prompt does not open the thought; if a chat template opened these, add --prompt template."
    return ThinkEditError(f"No response has a closed thought that can be read ({counted}), so there is no direction.{hint}")
