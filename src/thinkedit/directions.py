"""The direction of thinking length: mean activations of long thoughts minus those of short ones (paper, section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thinkedit.artifacts import tensor_map
from thinkedit.artifacts.number_formats import STORED, widened
from thinkedit.errors import ThinkEditError, UsageError
from thinkedit.files import array_hash, whole_file

if TYPE_CHECKING:
    from torch import Tensor

    from thinkedit.engines.base import Control

PAPER_SHORT, PAPER_LONG = 100, 1000  # tokens: short is fewer, long is more
FEWEST = 20  # examples a side below which the paper's thresholds give way to quantiles
SHORT_QUANTILE, LONG_QUANTILE = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Split:
    """Which of the examples count as short and as long (indices), and by which rule."""

    short: np.ndarray
    long: np.ndarray
    rule: str


@dataclass(frozen=True, slots=True)
class Direction:
    """`vectors` float32 [layers, hidden]; `about` says what it was computed from (strings, kept in the file)."""

    vectors: "Tensor"
    control: "Control"
    about: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """The same for the same vectors, wherever they come from."""
        return array_hash(self.vectors.numpy())

    def save(self, path: Path) -> None:
        with whole_file(path) as temporary:
            tensor_map.write(temporary, {"direction": self.vectors.float().numpy()}, {"control": self.control, **self.about})


def split_by_length(
    lengths: Sequence[int],
    short: int | None = None,
    long: int | None = None,
    short_quantile: float | None = None,
    long_quantile: float | None = None,
) -> Split:
    """Short and long examples of `lengths` (tokens of closed thoughts, one an example).

    Thresholds that are given are obeyed, and are an error where they leave a side empty. With none, the paper's
    (< 100, > 1,000) hold; where those leave a side with fewer than 20, the outer tenths are taken.
    """
    if len(lengths) == 0:
        raise ThinkEditError("There is not one closed thought among the responses, so no direction can be computed.")
    tokens = np.asarray(lengths)
    by_threshold = short is not None or long is not None
    by_quantile = short_quantile is not None or long_quantile is not None
    if by_threshold and by_quantile:
        raise UsageError("Give thresholds in tokens or quantiles, not both.")
    low, high = short if short is not None else PAPER_SHORT, long if long is not None else PAPER_LONG
    if by_threshold and low > high:
        raise UsageError(f"The threshold for short ({low}) is above the one for long ({high}): the two sides would overlap.")
    if not by_quantile:
        chosen = Split(np.flatnonzero(tokens < low), np.flatnonzero(tokens > high), f"short < {low}, long > {high} tokens")
        if by_threshold and min(len(chosen.short), len(chosen.long)) == 0:
            raise ThinkEditError(
                f"The thresholds leave {len(chosen.short)} short (< {low} tokens) and {len(chosen.long)} long (> {high}) "
                f"of {len(tokens)} closed thoughts; both sides need some.\n"
                f"The thoughts have {tokens.min()} to {tokens.max()} tokens, half of them under {int(np.median(tokens))}."
            )
        if by_threshold or min(len(chosen.short), len(chosen.long)) >= FEWEST:
            return chosen
    lower = SHORT_QUANTILE if short_quantile is None else short_quantile
    upper = LONG_QUANTILE if long_quantile is None else long_quantile
    if not 0 <= lower < upper <= 1:
        raise UsageError(f"Quantiles {lower} and {upper} are given; 0 <= short < long <= 1 is expected.")
    low, high = np.quantile(tokens, lower), np.quantile(tokens, upper)
    if low >= high:
        raise ThinkEditError(f"All thoughts are about equally long ({low:g} tokens): there is no short and no long side.")
    rule = f"shortest {lower:.0%} (<= {low:g} tokens), longest {1 - upper:.0%} (>= {high:g} tokens)"
    return Split(np.flatnonzero(tokens <= low), np.flatnonzero(tokens >= high), rule)


def thinking_direction(means: np.ndarray, split: Split) -> "Tensor":
    """Mean over long minus mean over short of `means` [examples, layers, hidden]; float64 inside, float32 [layers, hidden]."""
    import torch

    sides = [means[side].mean(axis=0, dtype=np.float64) for side in (split.long, split.short)]
    vectors = torch.from_numpy(sides[0] - sides[1])
    if not torch.isfinite(vectors).all():
        raise ThinkEditError("The activations hold infinities or NaN: the model's weights or its precision are broken.")
    return vectors.float()


def published_direction(means: np.ndarray, split: Split) -> "Tensor":
    """The same the way the published script rounds it: every mean and the difference in bfloat16."""
    import torch

    long, short = (torch.from_numpy(means[side]).bfloat16().mean(0) for side in (split.long, split.short))
    return (long - short).float()


def load_direction(path: Path, control: "Control | None" = None) -> Direction:
    """Reads a direction of ours (.safetensors) or a published one (.pt: [layers, 1, hidden], loaded without pickle)."""
    if path.suffix in {".pt", ".pth", ".bin"}:
        return _load_published(path, control)
    import torch

    vectors, found, about = read_stored(path)
    return Direction(torch.from_numpy(vectors), found, about)


def read_stored(path: Path) -> tuple[NDArray[np.float32], "Control", dict[str, str]]:
    """Vectors [layers, hidden], control and origin of a direction of ours; torch is not needed for it."""
    if not path.is_file():
        raise ThinkEditError(f"{path} does not exist; `thinkedit extract` writes directions.")
    header, begin = tensor_map.read_header(path)
    about = dict(header.get("__metadata__") or {})
    entry = header.get("direction")
    if entry is None or entry["dtype"] not in STORED:
        raise ThinkEditError(f"{path} is no direction: it holds no tensor of that name with plain numbers.")
    with path.open("rb") as file:
        file.seek(begin + entry["data_offsets"][0])
        data = file.read(entry["data_offsets"][1] - entry["data_offsets"][0])
    stored = np.frombuffer(data, STORED[entry["dtype"]]).reshape(entry["shape"])
    found = about.pop("control", None)
    if found not in ("attn", "mlp"):
        raise ThinkEditError(f"{path} does not say whether it is an attn or an mlp direction.")
    return _check(widened(stored, entry["dtype"]), path), found, about  # type: ignore[return-value]


def _load_published(path: Path, control: "Control | None") -> Direction:
    import torch

    if not path.is_file():
        raise ThinkEditError(f"{path} does not exist; `thinkedit extract` writes directions.")
    try:
        vectors = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch's own text goes on to recommend a way that runs code
        raise ThinkEditError(
            f"{path} cannot be loaded without running code, so it is refused ({type(error).__name__}).\n"
            "Expected: a tensor [layers, 1, hidden] as torch.save writes it, or a .safetensors file."
        ) from None
    if not isinstance(vectors, torch.Tensor):
        raise ThinkEditError(f"{path} holds a {type(vectors).__name__}, expected one tensor [layers, 1, hidden].")
    controls: tuple[Control, ...] = ("attn", "mlp")
    named = next((name for name in controls if name in path.stem), None)
    if control and named and control != named:
        raise UsageError(f"{path.name} is an {named} direction by its name, but it is asked for as {control}; give --control.")
    control = control or named
    if control is None:
        raise UsageError(f"{path.name} does not say whether it is an attn or an mlp direction; give --control.")
    if vectors.layout != torch.strided or vectors.nbytes > path.stat().st_size:
        raise ThinkEditError(f"{path}: its tensor is sparse, or claims more numbers than the file has; it is no direction.")
    vectors = vectors.squeeze(1) if vectors.ndim == 3 and vectors.shape[1] == 1 else vectors
    if not vectors.is_floating_point():
        raise ThinkEditError(f"{path}: expected finite numbers [layers, hidden], found {vectors.dtype}.")
    return Direction(torch.from_numpy(_check(vectors.double().numpy(), path)), control, {"origin": path.name})


def _check(vectors: NDArray[np.float64], path: Path) -> NDArray[np.float32]:
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ThinkEditError(f"{path}: expected finite numbers [layers, hidden], found {list(vectors.shape)} or infinities.")
    return vectors.astype(np.float32)


def check_fits(direction: Direction, layers: int, hidden: int, fingerprint: str, name: str) -> None:
    """Raises where a direction was made with another model, or cannot belong to this one."""
    check_origin(tuple(direction.vectors.shape), direction.about, layers, hidden, fingerprint, name)


def check_origin(shape: tuple[int, ...], about: dict[str, Any], layers: int, hidden: int, fingerprint: str, name: str) -> None:
    """The same for a direction of this shape and origin."""
    if shape != (layers, hidden):
        raise ThinkEditError(
            f"The direction belongs to another model: it is {'x'.join(map(str, shape))} (layers x hidden), "
            f"but {name} is {layers}x{hidden}."
        )
    made_with = about.get("fingerprint")
    if made_with and made_with != fingerprint:
        raise ThinkEditError(
            f"The direction was computed on another model ({about.get('model', 'unknown')}, fingerprint "
            f"{made_with[:12]}), not on {name} ({fingerprint[:12]}). Extract it again for this model."
        )
