"""What else a direction can be shipped as: control vectors for llama.cpp, or a steered checkpoint for any engine."""

import math
from dataclasses import dataclass
from pathlib import Path

from thinkedit.config import read_config
from thinkedit.engines.base import Control
from thinkedit.errors import UsageError
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import find_direction
from thinkedit.steering import parse_layers, sweep


@dataclass(frozen=True, slots=True)
class Exported:
    """`layers` are those that the file steers; `left_out` those asked for that it cannot."""

    path: Path
    layers: list[int]
    left_out: list[int]


def export_gguf(run: Run, control: Control, layers: str, direction: Path | None, to: Path | None) -> Exported:
    """Writes the MLP direction as llama.cpp control vectors, unscaled: the scale given to llama.cpp is alpha."""
    from thinkedit.artifacts.gguf import control_vectors, write_control_vectors

    if control == "attn":
        raise UsageError(
            "A control vector cannot say an attn direction: llama.cpp adds control vectors at the end of a layer, but attn "
            "steers between attention and MLP.\nWrite the mlp direction (--control mlp), which has an exact place, or a "
            "steered checkpoint (thinkedit export --steer ALPHA --control attn)."
        )
    chosen = _layers(run, layers)
    vectors = find_direction(run, control, direction).vectors
    tensors = control_vectors(vectors, chosen)
    path = to or run.directory / f"direction-{control}.gguf"
    if path.is_dir():
        raise UsageError(f"{path} is a directory; --to names the file for --gguf, such as {path / 'direction.gguf'}.")
    write_control_vectors(path, tensors, str(read_config(run.source.path).get("model_type")), run.shape.layers)
    return Exported(path, [layer for layer in chosen if layer > 0], [layer for layer in chosen if layer == 0])


def export_steered(
    run: Run, control: Control, alpha: float, layers: str, direction: Path | None, to: Path | None, link: bool
) -> Exported:
    """Writes the base with alpha times the direction as biases: the steered model for any engine."""
    from thinkedit.artifacts.steered import write_steered

    if not math.isfinite(alpha):
        raise UsageError(f"--steer {alpha} makes no sense; a finite strength such as 0.08 or -0.08 is expected.")
    chosen = _layers(run, layers)
    found = find_direction(run, control, direction)
    (setting,) = sweep(control, [alpha], chosen, run.shape.layers)
    path = to or run.directory / f"steered-{setting.name}"
    with run.progress.work("writing the steered checkpoint", 1, "model") as advance:
        write_steered(
            run.source,
            setting.biases(found),
            path,
            link,
            control=control,
            alpha=alpha,
            layers=chosen,
            base_fingerprint=run.fingerprint,
            direction_fingerprint=found.fingerprint,
        )
        advance(1)
    return Exported(path, chosen, [])


def _layers(run: Run, text: str) -> list[int]:
    chosen, each = parse_layers(text, run.shape.layers)
    if each:
        raise UsageError("--layers each is for the layer scan; all, 3, 3,5 or 4-9 is expected here.")
    return chosen
