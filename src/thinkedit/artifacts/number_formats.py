"""The number formats of checkpoints in numpy, so that a matrix on disk can be edited without loading torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# safetensors' names, and how numpy holds the bytes; it has no bfloat16, which is the upper half of a float32.
STORED: dict[str, Any] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


def widened(stored: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """The numbers of an array of format `kind`, exactly."""
    if kind == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return stored.astype(np.float64)


def narrowed(values: NDArray[np.float64], kind: str) -> NDArray[Any]:
    """Numbers in the format `kind`, rounded to nearest even, as torch converts them: half precision by way of float32."""
    if kind == "F64":
        return values
    single = values.astype(np.float32)
    if kind != "BF16":
        return single.astype(STORED[kind])
    bits = single.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(single), np.uint16(0x7FC0), rounded).astype(STORED[kind])
