"""Files that are whole or absent, JSON Lines that survive a kill, and a lock that a kill releases."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinkedit.errors import ThinkEditError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_LINE = 64 << 20  # bytes; a record of 100,000 tokens takes about one million


def content_hash(value: Any, length: int = 10) -> str:
    """Short hash of any JSON-serialisable value, the same for equal values."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def array_hash(values: "NDArray[Any]") -> str:
    """Short hash of the numbers of an array, the same for equal ones of the same format."""
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` which becomes `path` when the block ends well and vanishes when not.

    It is on the disk before it takes that name, so that a power failure leaves the old file or the new one.
    """
    prefix = _clear_for(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    temporary = Path(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
        temporary.chmod(0o644)
        os.fsync(handle)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yields a temporary directory which becomes `path`, replacing what was there, when the block ends well."""
    prefix = _clear_for(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
    try:
        with _held(temporary):
            yield temporary
            temporary.chmod(0o755)
            sync(temporary)
            if path.exists():
                retired = Path(tempfile.mkdtemp(dir=path.parent, prefix=prefix))
                os.replace(path, retired / "old")
                os.replace(temporary, path)
                _discard(retired)
            else:
                os.replace(temporary, path)
            sync(path.parent)
    finally:
        _discard(temporary)


def _clear_for(path: Path) -> str:
    """Removes what killed processes left of earlier attempts to write `path`; gives the beginning of such names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.unfinished-"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), _held(leftover):  # the lock of a process that is gone is free
            _discard(leftover) if leftover.is_dir() else leftover.unlink()
    return prefix


def _discard(directory: Path) -> None:
    """Removes a directory; what marks a model first, so that one that is half gone is never taken for a whole one."""
    for marker in ("config.json", "old/config.json"):
        (directory / marker).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Holds a lock on a file or directory. Raises BlockingIOError where another process has it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def sync(path: Path) -> None:
    """Has the system write a file or the entries of a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_json(value: Any) -> bytes:
    """As people read it; half a surrogate pair, which UTF-8 does not have, as JSON's escape."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    with whole_file(path) as temporary:
        temporary.write_bytes(as_json(value))


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ThinkEditError(f"{path} does not exist.") from None
    except (ValueError, OSError, RecursionError) as error:
        raise ThinkEditError(f"{path} cannot be read as JSON: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise ThinkEditError(f"{path} is no JSON object; it holds {type(value).__name__} instead.")
    return value


def append_json_lines(path: Path, values: Iterable[dict]) -> None:
    """Appends one line a value and hands them to the system; a kill leaves at most one torn line, the last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n" for value in values)
    with path.open("ab") as file:
        file.write(lines.encode("utf-8", errors="surrogatepass"))


def read_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Line numbers and objects of a JSON Lines file. Any line that is no object is an error naming its number."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
                if len(line) > LONGEST_LINE:
                    raise ThinkEditError(f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MB, so it is no record.")
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    torn = (
                        "The line is torn: the file ends in the middle of it. Of a run's file, repeat the step that writes it."
                    )
                    advice = "" if line.endswith(b"\n") else f"\n{torn}"
                    raise ThinkEditError(f"{path}, line {number}: not valid JSON: {error}.{advice}") from None
                if not isinstance(value, dict):
                    raise ThinkEditError(f"{path}, line {number}: expected a JSON object, found {type(value).__name__}.")
                yield number, value
    except FileNotFoundError:
        raise ThinkEditError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise ThinkEditError(f"{path} is a directory, expected a JSON Lines file.") from None


def drop_torn_line(path: Path) -> bool:
    """Cuts a last line that a kill left unfinished; true if there was one."""
    if not path.exists():
        return False
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            file.truncate(position)
    return position < end


LOCK = ".lock"


@contextmanager
def exclusive(directory: Path) -> Iterator[Callable[[], None]]:
    """Holds a directory for this process alone. The system releases the lock whenever the process ends.

    Gives a check that raises ThinkEditError where the directory is not the one any more that is held.
    """

    def still_there() -> None:
        try:
            if os.path.samestat(os.fstat(file.fileno()), (directory / LOCK).stat()):
                return
        except OSError:
            pass
        raise ThinkEditError(
            f"{directory} was removed or replaced while this command was at work, and what it held with it.\n"
            "The same command starts again with what is there."
        )

    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ThinkEditError(
                f"{directory} is in use by process {file.read().strip() or 'unknown'}.\n"
                "Wait until it has ended, stop it, or give another directory with --out."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield still_there
