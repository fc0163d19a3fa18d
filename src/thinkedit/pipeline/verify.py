"""Compares two models by name: where they are, what is given to compare along, and the comparison itself."""

from pathlib import Path

from thinkedit.artifacts.adapter import ADAPTER_CONFIG
from thinkedit.artifacts.comparison import Comparison
from thinkedit.artifacts.verify import compare
from thinkedit.config import read_shape
from thinkedit.errors import UsageError
from thinkedit.models import find_model
from thinkedit.progress import Progress, Silent


def verify(base: str, edited: str, direction: Path | None = None, progress: Progress = Silent()) -> Comparison:
    """`base` and `edited` are short names, hub ids or directories; `edited` may be a LoRA adapter.

    `direction` is a file with an attn direction to test the change against, instead of the one found in it.
    """
    source = find_model(base)
    other = Path(edited) if (Path(edited) / ADAPTER_CONFIG).is_file() else find_model(edited).path
    if other.resolve() == source.path.resolve():
        raise UsageError(f"{base} and {edited} are the same directory, so there is nothing to compare.")
    given = None
    if direction is not None:
        from thinkedit.directions import check_fits, load_direction

        found, shape = load_direction(direction, "attn"), read_shape(source.path)
        check_fits(found, shape.layers, shape.hidden, found.about.get("fingerprint", ""), base)
        given = found.vectors
    return compare(source.path, other, given, progress)
