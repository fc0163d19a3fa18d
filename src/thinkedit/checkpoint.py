"""Checkpoints as bytes: tensors are found in the safetensors files, read one at a time, and patched in place.

An edit touches some columns of a few o_proj matrices, about 0.2 % of the bytes. So the directory is copied as it is
and only those bytes are overwritten; everything else, the tokenizer included, stays identical.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from thinkedit.edit import Edit, left_along, save_edit
from thinkedit.errors import ThinkEditError
from thinkedit.files import whole_directory
from thinkedit.models import read_config, read_shape
from thinkedit.tensor_map import read_header

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
O_PROJ = re.compile(r"(?:^|\.)layers\.(\d+)\.self_attn\.o_proj\.weight$")
FICLONE = 0x40049409  # Linux: let the file system share the blocks of two files until one is written
FINGERPRINT_BYTES = 65536
MARK = "edit.json"  # lies in every edited model; a directory without it is never replaced
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
        for file in self._weight_files():
            header, begin = read_header(file)
            for name, entry in header.items():
                if name != "__metadata__":
                    first, last = entry["data_offsets"]
                    place = Location(file, entry["dtype"], tuple(entry["shape"]), begin + first, last - first)
                    self.tensors[name] = place
        self.o_proj = {int(match[1]): name for name in self.tensors if (match := O_PROJ.search(name))}

    def _weight_files(self) -> list[Path]:
        index = self.directory / "model.safetensors.index.json"
        if not index.is_file():
            files = sorted(self.directory.glob("*.safetensors"))
            whole = self.directory / "model.safetensors"
            if whole in files:
                return [whole]
            if len(files) != 1:
                raise ThinkEditError(
                    f"{self.directory} holds {len(files)} *.safetensors files and no model.safetensors.index.json "
                    "that says which of them belong together."
                )
            return files
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ThinkEditError(f"{index} cannot be read: {error!r}") from None
        for name in names:
            if Path(name).name != name:
                raise ThinkEditError(f"{index} names {name!r}, which is outside of its directory.")
            if not (self.directory / name).is_file():
                raise ThinkEditError(f"{index} names {name}, which is missing.")
        return [self.directory / name for name in names]

    def read(self, name: str) -> Tensor:
        place = self.tensors[name]
        if place.dtype not in FLOATS:
            raise ThinkEditError(
                f"{name} has dtype {place.dtype}: the checkpoint is quantised, and its matrices cannot be edited in place."
            )
        with place.file.open("rb") as file:
            file.seek(place.start)
            data = bytearray(file.read(place.size))
        return torch.frombuffer(data, dtype=FLOATS[place.dtype]).reshape(place.shape)

    def o_proj_weight(self, layer: int) -> Tensor:
        """W_o [hidden, heads * head_dim] of a layer."""
        if layer not in self.o_proj:
            raise ThinkEditError(f"{self.directory} has no self_attn.o_proj.weight in layer {layer}.")
        return self.read(self.o_proj[layer])

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
            with place.file.open("rb") as file:
                file.seek(place.start)
                digest.update(file.read(min(place.size, FINGERPRINT_BYTES)))
        return digest.hexdigest()


def write_edited(base: Path, edit: Edit, out: Path, link: bool = False, **about: object) -> dict[int, float]:
    """Writes the edited model to `out`, whole or not at all; gives what is left along v in each layer after rounding.

    `link` makes hard links of the files that are not written. The edit lies beside the model as `edit.json`, with `about`.
    """
    if out.resolve() == base.resolve():
        raise ThinkEditError(f"{out} is the base model itself; give another directory, the base is never written.")
    if read_config(base).get("quantization_config"):
        raise ThinkEditError(f"{base} is quantised; its matrices cannot be edited in place. Edit the unquantised model.")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file())):
        raise ThinkEditError(f"{out} is there already and is no edited model of this program; it is not overwritten.")
    checkpoint = Checkpoint(base)
    shape = read_shape(base)
    for layer in edit.layers:
        weight = checkpoint.tensors[checkpoint.o_proj[layer]] if layer in checkpoint.o_proj else None
        if weight is None or weight.shape != (shape.hidden, shape.heads * shape.head_dim):
            found = "missing" if weight is None else "x".join(map(str, weight.shape))
            raise ThinkEditError(
                f"o_proj of layer {layer} is {found}, but the config says {shape.hidden}x{shape.heads * shape.head_dim}."
            )
    written = {checkpoint.tensors[checkpoint.o_proj[layer]].file.name for layer in edit.layers}
    left = {}
    with whole_directory(out) as temporary:
        for path in sorted(base.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                copy_file(path, temporary / path.name, link=link and path.name not in written)
        for layer in edit.layers:
            place = checkpoint.tensors[checkpoint.o_proj[layer]]
            before = checkpoint.o_proj_weight(layer)
            after = edit.edited(layer, before)
            left[layer] = left_along(edit, layer, before, after)
            with (temporary / place.file.name).open("rb+") as file:
                file.seek(place.start)
                file.write(after.contiguous().view(torch.uint8).numpy().tobytes())
        (temporary / MARK).unlink(missing_ok=True)  # the base may be an edited model itself
        save_edit(edit, temporary / MARK, **about, left_along_direction={str(k): v for k, v in left.items()})
        _flush(temporary)
    return left


def copy_file(source: Path, target: Path, link: bool = False) -> None:
    """Copies a file, sharing its blocks where the file system can; `link` makes a hard link instead."""
    source = source.resolve()  # the hub's cache holds links
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system: fall through to a copy
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            return
        except OSError:
            pass
    shutil.copyfile(source, target)


def _flush(directory: Path) -> None:
    for path in directory.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
