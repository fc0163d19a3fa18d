"""Where rows come from: the hub, or local files in the schema in which the hub serves them."""

import csv
import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from thinkedit.errors import ThinkEditError
from thinkedit.files import read_json, read_json_lines

Row = dict[str, Any]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Source:
    """A data set on the hub, and the files that may stand for it in a data directory (`{split}` is filled in).

    Several `configs` are concatenated in their order. Every row must have `columns`.
    """

    hub_id: str
    configs: tuple[str | None, ...]
    files: tuple[str, ...]
    columns: tuple[str, ...]

    def rows(self, split: str, data_dir: Path | None) -> list[Row]:
        """All rows of a split. Raises ThinkEditError, which names the data set and the files looked for."""
        names = [name.format(split=split) for name in self.files]
        if data_dir is None:
            origin = f"{self.hub_id} ({split})"
            numbered = list(enumerate(self._hub_rows(split, names), start=1))
        else:
            path = find_file(data_dir, names)
            origin, numbered = str(path), read_table(path)
        for number, row in numbered:
            missing = [column for column in self.columns if row.get(column) is None]
            if missing:
                raise ThinkEditError(
                    f"{origin}, row {number}: no {' and no '.join(missing)}; expected the columns "
                    f"{', '.join(self.columns)}, found {', '.join(map(str, row)) or 'none'}."
                )
        return [row for _, row in numbered]

    def _hub_rows(self, split: str, names: Sequence[str]) -> Iterator[Row]:
        instead = f"Without a network, give --data-dir with a folder that holds {' or '.join(names)}."
        try:
            import datasets
        except ImportError as error:
            raise ThinkEditError(f"The package datasets is needed to load {self.hub_id}: {error}.\n{instead}") from None
        try:
            with offline_if_unreachable():
                for config in self.configs:
                    loaded = datasets.load_dataset(self.hub_id, *([config] if config else []), split=split)
                    yield from (dict(row) for row in loaded)
        except Exception as error:  # each library below has classes of its own for the same lack of a network
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ThinkEditError(f"{self.hub_id} ({split}) cannot be loaded: {reason}\n{instead}") from None


def find_file(data_dir: Path, names: Sequence[str]) -> Path:
    """The first of `names` that exists in `data_dir`; a name without suffix stands for all of SUFFIXES."""
    if not data_dir.is_dir():
        raise ThinkEditError(f"{data_dir} is no directory; expected a folder that holds {' or '.join(names)}.")
    for name in names:
        for candidate in [name] if name.endswith(SUFFIXES) else [name + suffix for suffix in SUFFIXES]:
            if (data_dir / candidate).is_file():
                return data_dir / candidate
    raise ThinkEditError(f"{data_dir} holds none of the files looked for: {', '.join(names)}.")


def read_table(path: Path) -> list[tuple[int, Row]]:
    """Rows of a .jsonl, .json (a list of objects), .csv or .parquet file with their numbers, from 1."""
    try:
        match path.suffix.lower():
            case ".jsonl":
                return list(read_json_lines(path))
            case ".json":
                return _json_rows(path)
            case ".csv":
                with path.open(encoding="utf-8-sig", newline="") as file:
                    return list(enumerate(csv.DictReader(file, strict=True), start=1))
            case ".parquet":
                import pyarrow.parquet

                return list(enumerate(pyarrow.parquet.read_table(path).to_pylist(), start=1))
    except ThinkEditError:
        raise
    except ImportError as error:
        raise ThinkEditError(f"{path} needs the package pyarrow: {error}.") from None
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's own errors are ValueErrors or OSErrors
        raise ThinkEditError(f"{path} cannot be read: {error}") from None
    raise ThinkEditError(f"{path}: unknown kind of file; expected {', '.join(SUFFIXES)}.")


def _json_rows(path: Path) -> list[tuple[int, Row]]:
    values = read_json(path)
    if not isinstance(values, list):
        raise ThinkEditError(f"{path}: expected a list of objects, found {type(values).__name__}.")
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise ThinkEditError(f"{path}, row {number}: expected an object, found {json.dumps(value)[:60]}.")
    return list(enumerate(values, start=1))


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Where the hub cannot be reached, asks only its local cache; left alone, the libraries retry for half a minute."""
    import datasets.config
    from huggingface_hub import constants

    if datasets.config.HF_HUB_OFFLINE or constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield
        return
    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


def reachable(endpoint: str) -> bool:
    """Whether a connection to `endpoint` opens within PROBE_SECONDS. Behind a proxy that cannot be told: true."""
    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return True
    opened = threading.Event()

    def connect() -> None:
        port = address.port or (443 if address.scheme == "https" else 80)
        try:
            socket.create_connection((address.hostname or "", port), timeout=PROBE_SECONDS).close()
        except OSError:
            return
        opened.set()

    # Looking a name up has no time limit of its own, hence the thread.
    probe = threading.Thread(target=connect, daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)
    return opened.is_set()
