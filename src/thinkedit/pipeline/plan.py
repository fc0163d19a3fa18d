"""The sizes that a plan needs, without a model: of the named ones they are known, of others the config says them."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thinkedit.config import Shape, read_config, read_shape
from thinkedit.files import read_json, write_json
from thinkedit.models import find_model
from thinkedit.sizes import Sizes, sizes_of

KNOWN = Path(__file__).parents[1] / "data" / "known_configs.json"


def read_sizes(model: str) -> Sizes:
    """The sizes of a short name, a directory or a hub id, whose config alone is fetched."""
    known: dict[str, Any] = read_json(KNOWN)
    name = model.lower().removeprefix("thinkedit-")
    if name in known and not os.path.isdir(model):
        with TemporaryDirectory() as scratch:
            write_json(Path(scratch) / "config.json", known[name])
            return sizes_of(known[name], read_shape(Path(scratch)))
    source = find_model(model, weights=False)
    return sizes_of(read_config(source.path), read_shape(source.path))


def parallel_sizes(shape: Shape) -> list[int]:
    from thinkedit.pipeline.machine import parallel_sizes as sizes

    return sizes(shape)
