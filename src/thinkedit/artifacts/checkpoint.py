"""Checkpoints as bytes: tensors are found in the safetensors files, read one at a time, and patched in place.

An edit touches some columns of a few o_proj matrices, about 0.2 % of the bytes. So the directory is copied as it is
and only those matrices are overwritten; everything else, the tokenizer included, stays identical. The arithmetic on disk
is numpy's: torch takes longer to load than a small model to copy.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.artifacts.copying import ModelCopy, Range, model_files
from thinkedit.artifacts.number_formats import STORED, narrowed, widened
from thinkedit.artifacts.tensor_map import read_header
from thinkedit.config import read_config, read_shape
from thinkedit.edit import Edit, edit_record, share_left
from thinkedit.errors import ThinkEditError
from thinkedit.files import as_json, content_hash, read_object

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}  # safetensors' names and torch's
O_PROJ = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.self_attn\.o_proj\.weight$")
# What quantised checkpoints keep beside, or in place of, the weight of a linear layer.
QUANTISED = re.compile(
    r"\.(qweight|qzeros|g_idx|SCB|weight_packed|weight_scale|weight_scale_inv|weight_scale_2|weight\.absmax|weight\.quant_state\b.*)$"
)
FINGERPRINT_BYTES = 65536
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
MARK = "edit.json"  # lies in every edited model; a directory without a mark is never replaced
CARD = "README.md"
MARKS = (MARK, "steering.json")
IDENTITY_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a tensor's bytes are."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class Checkpoint:
    """A directory of safetensors files, single or sharded, whose tensors are read on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tensors: dict[str, Location] = {}
        named = self._weight_map()
        self.files = sorted(set(named.values())) if named else [self._only_file()]
        for file in self.files:
            header, begin = read_header(file)
            for name, entry in header.items():
                if name != "__metadata__" and (not named or named.get(name) == file):
                    first, last = entry["data_offsets"]
                    place = Location(file, entry["dtype"], tuple(entry["shape"]), begin + first, last - first)
                    self.tensors[name] = place
        for name, file in named.items():
            if name not in self.tensors:
                raise ThinkEditError(f"{directory / INDEX} says that {name} is in {file.name}, which does not hold it.")
        self.o_proj = {int(match[1]): name for name in self.tensors if (match := O_PROJ.search(name))}

    def _weight_map(self) -> dict[str, Path]:
        """Which file holds which tensor by the index; empty where there is none."""
        index = self.directory / INDEX
        if not index.is_file():
            return {}
        try:
            named = read_object(index)["weight_map"]
            strings = all(isinstance(text, str) for pair in named.items() for text in pair)
        except (KeyError, AttributeError, TypeError):
            named, strings = {}, False
        if not strings or not named:
            raise ThinkEditError(f"{index} cannot be read: weight_map must give the name of a file for each tensor.")
        for name in sorted(set(named.values())):
            if not name.isprintable() or Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ThinkEditError(
                    f"{index} names {name!r}; the name of a .safetensors file inside of its directory is expected, "
                    "not one outside of its directory or of another kind."
                )
            if not (self.directory / name).is_file():
                raise ThinkEditError(f"{index} names {name}, which is missing from {self.directory}. Fetch or copy it again.")
        return {tensor: self.directory / name for tensor, name in named.items()}

    def _only_file(self) -> Path:
        files = sorted(self.directory.glob("*.safetensors"))
        whole = self.directory / SINGLE
        if whole not in files and len(files) != 1:
            raise ThinkEditError(
                f"{self.directory} holds {len(files)} *.safetensors files and no {INDEX} "
                "that says which of them belong together."
            )
        return whole if whole in files else files[0]

    def stored(self, name: str) -> NDArray[Any]:
        """A tensor as numpy holds its format (see number_formats), in memory of its own."""
        place = self.tensors[name]
        if place.dtype not in STORED:
            raise ThinkEditError(
                f"{name} has dtype {place.dtype}: the checkpoint is quantised, and its matrices cannot be read exactly."
            )
        values = np.empty(place.shape, STORED[place.dtype])
        with place.file.open("rb", buffering=0) as file:
            file.seek(place.start)
            left = values.data.cast("B") if values.size else memoryview(b"")
            while left:
                count = file.readinto(left)
                if not count:
                    raise ThinkEditError(f"{place.file} ended in the middle of {name}.")
                left = left[count:]
        return values

    def read(self, name: str) -> "Tensor":
        import torch

        values = torch.from_numpy(self.stored(name))
        return values.view(torch.bfloat16) if self.tensors[name].dtype == "BF16" else values

    def chunks(self, name: str, size: int) -> Iterator[bytes]:
        """The bytes of a tensor in pieces of `size`."""
        place = self.tensors[name]
        with place.file.open("rb", buffering=0) as file:
            file.seek(place.start)
            for position in range(0, place.size, size):
                yield file.read(min(size, place.size - position))

    def o_proj_weight(self, layer: int) -> "Tensor":
        """W_o [hidden, heads * head_dim] of a layer."""
        if layer not in self.o_proj:
            raise ThinkEditError(f"{self.directory} has no self_attn.o_proj.weight in layer {layer}.")
        return self.read(self.o_proj[layer])

    def quantisation(self) -> str | None:
        """How the checkpoint is quantised and where that can be seen; None for plain matrices."""
        config = read_config(self.directory)
        config = {**config, **(config.get("text_config") or {})}
        for key in ("quantization_config", "compression_config"):
            if config.get(key):
                method = config[key].get("quant_method") if isinstance(config[key], dict) else None
                return f"{method or 'an unnamed method'}, by {key} in config.json"
        for name, place in self.tensors.items():
            if QUANTISED.search(name):
                return f"by its tensor {name}"
            if "layers." in name and name.endswith("proj.weight") and place.dtype not in FLOATS:
                return f"{place.dtype}, by its tensor {name}"
        return None

    def plain_o_proj(self, layer: int) -> bool:
        """Whether the o_proj of a layer is kept as a plain matrix, as some quantised checkpoints do."""
        name = self.o_proj.get(layer, "")
        stem = name.removesuffix("weight")
        return (
            bool(name)
            and self.tensors[name].dtype in FLOATS
            and not any(QUANTISED.search(other) for other in self.tensors if other.startswith(stem))
        )

    def check_shape(self, layer: int) -> None:
        """Raises where the o_proj of a layer is not what the config says."""
        shape = read_shape(self.directory)
        wanted = (shape.hidden, shape.heads * shape.head_dim)
        found = self.tensors[self.o_proj[layer]].shape if layer in self.o_proj else None
        if found != wanted:
            words = "missing" if found is None else "x".join(map(str, found))
            raise ThinkEditError(f"o_proj of layer {layer} is {words}, but the config says {wanted[0]}x{wanted[1]}.")

    def fingerprint(self) -> str:
        """SHA-256 of config, tokenizer, tensor headers and the first 64 KB of every tensor."""
        digest = hashlib.sha256()
        for name in IDENTITY_FILES:
            path = self.directory / name
            if path.is_file():
                digest.update(name.encode() + b"\0" + path.read_bytes())
        for name in sorted(self.tensors):
            place = self.tensors[name]
            digest.update(f"{name}\0{place.dtype}\0{place.shape}".encode())
            with place.file.open("rb", buffering=0) as file:
                file.seek(place.start)
                digest.update(file.read(min(place.size, FINGERPRINT_BYTES)))
        return digest.hexdigest()


def write_edited(base: Path, edit: Edit, out: Path, link: bool = False, **about: object) -> dict[int, float]:
    """Writes the edited model to `out`, whole or not at all; gives what is left along v in each layer after rounding.

    `link` makes hard links of the files that are not written. The edit lies beside the model as `edit.json`, with `about`.
    """
    with EditedModel(Checkpoint(base), out, link) as model:
        return model.write(edit, **about)


class EditedModel:
    """An edited model in the making: a copy of the base in `out`, some of whose matrices are written anew.

    A context manager; `write` applies the edit, `add` puts documents beside it. Raises ThinkEditError, before anything
    is written, where the base is quantised or `out` is something else's directory.
    """

    def __init__(self, base: Checkpoint, out: Path, link: bool = False) -> None:
        check_target(base.directory, out)
        if how := base.quantisation():
            raise ThinkEditError(
                f"{base.directory} is quantised ({how}): its matrices are rounded codes, so no direction can be taken out of "
                "them exactly.\nEdit the unquantised model instead, or make an adapter from it "
                "(thinkedit edit --adapter --model UNQUANTISED) and serve that on top of the quantised one."
            )
        self.base = base
        sources, self.left_out = model_files(base.directory, base.files)
        self._copy = ModelCopy({name: path for name, path in sources.items() if name not in MARKS}, out, link)

    def __enter__(self) -> "EditedModel":
        self._copy.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._copy.__exit__(*error)

    def write(self, edit: Edit, **about: object) -> dict[int, float]:
        """Overwrites the edited matrices, one at a time; gives what is left along v in each layer."""
        for layer in edit.layers:
            self.base.check_shape(layer)
        places = {layer: self.base.tensors[self.base.o_proj[layer]] for layer in edit.layers}
        written: dict[str, list[Range]] = {}
        for place in places.values():
            written.setdefault(place.file.name, []).append((place.start, place.size))
        self._copy.begin(written)
        left = {}
        for layer, place in places.items():
            weight, columns = self.base.stored(self.base.o_proj[layer]), edit.columns(layer)
            before = widened(weight[:, columns], place.dtype)
            after = narrowed(edit.edited_block(layer, before), place.dtype)
            left[layer] = share_left(edit.directions[layer], before, widened(after, place.dtype))
            weight[:, columns] = after
            self._copy.overwrite(place.file.name, place.start, weight)
        self.add(MARK, as_json(edit_record(edit, **about, left_along_direction={str(k): v for k, v in left.items()})))
        return left

    def add(self, name: str, content: bytes) -> None:
        self._copy.add(name, content)


def check_target(base: Path, out: Path) -> None:
    """Raises where `out` is the base or holds something that this program did not write."""
    if out.resolve() == base.resolve():
        raise ThinkEditError(f"{out} is the base model itself; give another directory, the base is never written.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not any((out / mark).is_file() for mark in MARKS))):
        raise ThinkEditError(f"{out} is there already and is no model of this program; it is not overwritten.")


def tensor_bytes(tensor: "Tensor") -> Any:
    """The bytes of a contiguous tensor as a buffer that shares its memory."""
    import torch

    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def config_fingerprint(directory: Path) -> str:
    """Fingerprint of a model that a server runs, of which only config and tokenizer are here."""
    present = [directory / name for name in IDENTITY_FILES if (directory / name).is_file()]
    return content_hash([[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in present])
