"""What differs between two models beside their weights."""

from pathlib import Path

from thinkedit.artifacts.checkpoint import CARD, IDENTITY_FILES, INDEX, MARK
from thinkedit.artifacts.copying import TEMPLATES, WEIGHTS
from thinkedit.errors import ThinkEditError
from thinkedit.files import read_object

OURS = {CARD, MARK, "reproduce.json", ".gitattributes"}
# Fields of config.json that say who wrote it and not what the model is.
UNIMPORTANT = {"transformers_version", "_name_or_path"}


def file_changes(base: Path, other: Path) -> tuple[list[str], list[str]]:
    """The files that shape the model and differ, and what to note of the others."""
    shaping, noted = [], []
    held = [_files(directory) for directory in (base, other)]
    for name in sorted(held[0] | held[1]):
        places = [directory / name for directory in (base, other)]
        if all(place.is_file() for place in places) and _same_file(*places):
            continue
        where = "changed" if name in held[0] & held[1] else f"only in the {'base' if name in held[0] else 'edited model'}"
        if name in IDENTITY_FILES or Path(name).suffix in {".jinja", ".py"}:
            shaping.append(name if where == "changed" else f"{name} ({where})")
        elif name not in OURS:
            noted.append(f"{name}: {where}")
    return shaping, noted


def _files(directory: Path) -> set[str]:
    paths = [*directory.iterdir(), *(directory / TEMPLATES).glob("*")]
    names = {str(path.relative_to(directory)) for path in paths if path.is_file() and not path.name.startswith(".")}
    return {name for name in names if Path(name).suffix not in WEIGHTS and name != INDEX}


def _same_file(one: Path, two: Path) -> bool:
    if one.stat().st_size == two.stat().st_size and one.read_bytes() == two.read_bytes():
        return True
    if one.name != "config.json":
        return False
    try:
        values = [read_object(path) for path in (one, two)]
    except ThinkEditError:
        return False
    plain = [{key: value for key, value in v.items() if key not in UNIMPORTANT} for v in values]
    return plain[0] == plain[1]
