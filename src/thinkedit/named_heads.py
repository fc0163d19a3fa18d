"""Heads as a user names them: "21:2,17:7", a JSON file, or the lists that the ThinkEdit authors published."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from thinkedit.config import Shape
from thinkedit.errors import UsageError
from thinkedit.files import read_json
from thinkedit.models import SHORT_NAMES, ModelSource

Head = tuple[int, int]  # (layer, head), both 0-based
PUBLISHED = "published"
# {short name: [[layer, head], ...]}, best first: the heads of the paper's four edited models.
PUBLISHED_FILE = Path(__file__).parent / "data" / "published_heads.json"


def parse_heads(text: str) -> list[Head]:
    """Heads from "21:2,17:7" or from a JSON file with a list of [layer, head] or of {layer, head} objects."""
    if os.path.isfile(text):  # pathlib fails for a list that is longer than the name of a file may be
        value = read_json(Path(text))
        rows = value.get("heads", value) if isinstance(value, dict) else value
    else:
        try:
            rows = [tuple(int(part) for part in item.split(":")) for item in text.replace(" ", ",").split(",") if item]
        except ValueError:
            rows = None
    try:
        pairs = [(row["layer"], row["head"]) if isinstance(row, dict) else row for row in rows]
        return [(int(layer), int(head)) for layer, head in pairs]
    except (TypeError, ValueError, KeyError, ArithmeticError):
        raise UsageError(
            f"{text!r} names no heads. Write them as layer:head,layer:head (21:2,17:7), give a JSON file with a list of "
            f"[layer, head] pairs, such as {json.dumps([[21, 2], [17, 7]])}, or write {PUBLISHED} for the paper's lists."
        ) from None


def check_heads(heads: Sequence[Head], layers: int, heads_per_layer: int) -> None:
    if not heads:
        raise UsageError("No heads are given, so there is nothing to edit.")
    seen = set()
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < heads_per_layer):
            raise UsageError(
                f"Head {layer}:{head} does not exist: this model has layers 0..{layers - 1} "
                f"with heads 0..{heads_per_layer - 1} (both count from 0)."
            )
        if (layer, head) in seen:
            raise UsageError(f"Head {layer}:{head} is given twice.")
        seen.add((layer, head))


def published_heads(source: ModelSource, shape: Shape, count: int | None = None) -> list[Head]:
    """The heads that the authors edit in this model, the best `count` of them; their directions were not published.

    The model goes by its short name, its hub id, or a directory that bears the hub's name. Raises UsageError for others.
    """
    lists = json.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))
    hub_ids = {SHORT_NAMES[short].lower(): short for short in lists}
    by_name = {short: short for short in lists} | hub_ids | {hub.split("/")[1]: short for hub, short in hub_ids.items()}
    name = source.name.lower()
    short = by_name.get(name) or by_name.get(Path(name).resolve().name)
    if short is None:
        known = "\n".join(f"  {short}  ({SHORT_NAMES[short]}, {len(heads)} heads)" for short, heads in lists.items())
        raise UsageError(f"There is no published list of heads for {source.name}. These models have one:\n{known}")
    heads = [(int(layer), int(head)) for layer, head in lists[short]]
    layers, per_layer = max(layer for layer, _ in heads) + 1, max(head for _, head in heads) + 1
    if shape.layers < layers or shape.heads < per_layer:
        raise UsageError(
            f"{source.name} has {shape.layers} layers of {shape.heads} heads, but the published list of {short} reaches "
            f"layer {layers - 1} and head {per_layer - 1}: this is another model."
        )
    return heads[:count]
