"""safetensors files: written whole, or allocated and then filled in place through a memory map; read with distrust."""

import json
import math
import os
import struct
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from thinkedit.errors import ThinkEditError
from thinkedit.plain_text import is_text

DTYPES: dict[str, Any] = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "U8": np.uint8}
BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "BOOL": 8}
BITS |= {f"{sign}{bits}": bits for sign in "IU" for bits in (8, 16, 32, 64)}
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
MOST_AXES = 16


def create(path: Path, arrays: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> None:
    """Writes a file of zeros for `arrays` name -> (dtype, shape); its room on the disk is taken at once.

    Raises OSError where there is not enough of it, and leaves nothing: a page of a map that finds no room kills the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    head, size = _head(arrays, metadata)
    try:
        with path.open("wb") as file:
            file.write(head)
            file.flush()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, len(head) + size)
            else:  # macOS
                file.truncate(len(head) + size)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def write(path: Path, arrays: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> None:
    """Writes float32 arrays, the same bytes for the same content: the library's own writer shuffles the metadata."""
    head, _ = _head({name: ("F32", array.shape) for name, array in arrays.items()}, metadata)
    path.write_bytes(head + b"".join(array.astype("<f4").tobytes() for array in arrays.values()))


def _head(arrays: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, int]:
    """What stands before the data, and how many bytes of data follow."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, (dtype, shape) in arrays.items():
        size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file and where its data begins. Raises ThinkEditError for one that lies."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= min(size - 8, LONGEST_HEADER):
            raise ThinkEditError(f"{path} is no safetensors file, or it is truncated.")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            raise ThinkEditError(f"{path} is no safetensors file: its header cannot be read.") from None
    if not isinstance(header, dict):
        raise ThinkEditError(f"{path} is no safetensors file: its header is no object.")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ThinkEditError(f"{path} is no safetensors file: its metadata are no texts.")
    if not all(map(is_text, chain(header, metadata, metadata.values()))):
        raise ThinkEditError(
            f"{path} is no safetensors file: its header holds half of a surrogate pair, which is no character."
        )
    begin, end = 8 + length, 0
    spans = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            first, last = entry["data_offsets"]
            numbers = [first, last, *entry["shape"]]
            honest = isinstance(entry["dtype"], str) and all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
            honest = honest and len(numbers) <= 2 + MOST_AXES and first <= last and begin + last <= size
        except (TypeError, KeyError, ValueError):
            honest = False
        if not honest:
            raise ThinkEditError(f"{path}: tensor {name} reaches outside of the file (truncated or damaged).")
        bits = BITS.get(entry["dtype"])
        if bits is not None and math.prod(entry["shape"]) * bits != 8 * (last - first):
            raise ThinkEditError(f"{path}: tensor {name} does not have the size that its shape says (damaged).")
        spans.append((first, last, name))
    for first, last, name in sorted(spans):
        if first < end:
            raise ThinkEditError(f"{path}: tensor {name} lies on top of another one (damaged).")
        end = max(end, last)
    return header, begin


def open_arrays(path: Path, writable: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file as memory maps, and its metadata."""
    header, begin = read_header(path)
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ThinkEditError(f"{path}: tensor {name} has dtype {entry['dtype']}, expected one of {', '.join(DTYPES)}.")
        shape, dtype = tuple(entry["shape"]), np.dtype(DTYPES[entry["dtype"]])
        first, last = entry["data_offsets"]
        mode: Literal["r", "r+"] = "r+" if writable else "r"
        arrays[name] = (
            np.memmap(path, dtype=dtype, mode=mode, offset=begin + first, shape=shape)
            if last > first
            else np.zeros(shape, dtype)  # an empty map is refused by the system
        )
    return arrays, metadata
