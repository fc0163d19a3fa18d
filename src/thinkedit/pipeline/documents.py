"""The documents of a run directory as this program writes them, and what to say of others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_object

MANIFEST = "run.json"
# What other steps take from the entry of a step.
NEEDED = {
    "generate": ("file",),
    "extract": ("rule", "responses", "left_out", "short", "long"),
    "edit": ("settings", "identity"),
    "evaluate": ("files",),
}


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Surrounds the use of a document: where it lacks something or holds it in another form, it was changed or damaged."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ThinkEditError(
            f"{path} is not as thinkedit writes it ({type(error).__name__}: {error}): it was changed or damaged.\n"
            "Repeat the step that writes it, or start again in another directory."
        ) from error


def read_manifest(directory: Path) -> dict[str, Any]:
    """`run.json` of a run or an import, with all that the steps rely on. Raises ThinkEditError for anything else."""
    path = directory / MANIFEST
    value = read_object(path)
    with as_written(path):
        _expect(isinstance(value["model"], str) and value["model"] != "", "model")
        _expect(value.get("fingerprint") is None or isinstance(value["fingerprint"], str), "fingerprint")
        _expect(all(isinstance(line, str) for line in _list(value.get("commands", []))), "commands")
        _expect(all(isinstance(step, str) for step in _list(value.get("unfinished", []))), "unfinished")
        for step, entry in value["steps"].items():
            missing = [name for name in NEEDED.get(step, ()) if name not in entry]
            _expect(not missing, f"{step} without {', '.join(missing)}")
            _expect(isinstance(entry.get("settings", {}), dict), f"settings of {step}")
            for file in [*([entry["file"]] if "file" in entry else []), *entry.get("files", {}).values()]:
                _check_file(file, step)
            for side in ("short", "long"):
                _expect(all(type(row) is int and row >= 0 for row in _list(entry.get(side, []))), f"{side} of {step}")
        for source in value.get("imported", {"sources": []})["sources"]:
            _expect(isinstance(source, str), "sources")
    return value


def _check_file(entry: dict[str, Any], step: str) -> None:
    """A records file: inside of the directory, with how many samples of which questions."""
    place = PurePath(entry["path"])
    _expect(not place.is_absolute() and ".." not in place.parts and "\0" not in entry["path"], f"path of {step}")
    _expect(type(entry["samples"]) is int, f"samples of {step}")
    _expect(type(entry.get("records", 0)) is int, f"records of {step}")
    _expect(entry["only"] is None or all(isinstance(name, str) for name in _list(entry["only"])), f"questions of {step}")


def _list(value: Any) -> list[Any]:
    _expect(isinstance(value, list), "a list")
    return value


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is not of the kind that it must be")
