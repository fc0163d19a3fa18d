"""A model's directory copied fast, some of its bytes overwritten, and the result put in place whole or not at all."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from pathlib import Path
from typing import Any

from thinkedit.errors import ThinkEditError
from thinkedit.files import sync, whole_directory

FICLONE = 0x40049409  # Linux: let the file system share the blocks of two files until one is written
PIECE = 16 << 20  # bytes handed to the system at once; a multiple of PAGE
PAGE = ALLOCATIONGRANULARITY
Range = tuple[int, int]  # first byte and number of bytes
CONFIG = "config.json"  # written last: without it no library takes the directory for a model
TEMPLATES = "additional_chat_templates"  # the one directory in which transformers keeps a part of the tokenizer
WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".ckpt"}


def model_files(directory: Path, weights: Iterable[Path]) -> tuple[dict[str, Path], list[str]]:
    """What a copy of the model consists of, name -> file, and the names of weights that are left out of it.

    Weights in other formats, or that the index does not name, would travel unedited beside the edited ones.
    """
    chosen = {path.name for path in weights}
    found: dict[str, Path] = {}
    left_out = []
    for path in sorted([*directory.iterdir(), *(directory / TEMPLATES).glob("*")]):
        name = str(path.relative_to(directory))
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix in WEIGHTS and name not in chosen:
            left_out.append(name)
        else:
            found[name] = path
    return found, left_out


class ModelCopy:
    """Copies `sources` (name -> file) to the directory `out` by threads of its own, while the caller computes.

    A context manager: `begin` says what will be overwritten, `overwrite` and `add` write, and `out` appears at the end
    of the block, unless the block fails. `link` makes hard links of the files that are not overwritten.
    """

    def __init__(self, sources: Mapping[str, Path], out: Path, link: bool = False) -> None:
        self.sources, self.out, self.link = dict(sources), out, link
        self._config: Path | bytes | None = self.sources.pop(CONFIG, None)
        self._pieces: dict[str, list[Future[None]]] = {}
        self._promised: set[tuple[str, int, int]] = set()
        self._exit = ExitStack()

    def __enter__(self) -> "ModelCopy":
        self.directory = self._exit.enter_context(whole_directory(self.out))
        self._threads = ThreadPoolExecutor(2, "copy")  # one reads while the other writes
        self._exit.callback(self._threads.shutdown, cancel_futures=True)
        return self

    def begin(self, written: Mapping[str, Sequence[Range]]) -> None:
        """Makes all files in their full size and starts to fill them. `written` names the files that will be overwritten,
        which are never links, and the ranges of them that the copy leaves to `overwrite`, to be called with exactly these."""
        for name, source in self.sources.items():
            target, gaps = self.directory / name, written.get(name, ())
            self._promised |= {(name, *gap) for gap in gaps}
            if not shared(source, target, self.link and name not in written):
                stretches = pieces(gaps, source.stat().st_size)
                self._pieces[name] = [self._threads.submit(copy_bytes, source, target, *stretch) for stretch in stretches]

    def overwrite(self, name: str, position: int, data: Any) -> None:
        """Writes `data` (a buffer of bytes) into a range that `begin` was told of, while the copy goes on around it."""
        with (self.directory / name).open("rb+") as file:
            if os.fstat(file.fileno()).st_nlink != 1:
                raise ThinkEditError(f"{name} is shared with the base by a link and is to be overwritten: nothing was written.")
            write_at(file.fileno(), data, position)
        self._promised.remove((name, position, memoryview(data).nbytes))

    def add(self, name: str, content: bytes) -> None:
        """Writes a whole file of its own, in place of the base's where it has one of that name."""
        if name == CONFIG:
            self._config = content
            return
        for piece in self._pieces.pop(name, ()):
            piece.result()
        (self.directory / name).unlink(missing_ok=True)
        (self.directory / name).write_bytes(content)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                if self._promised:
                    raise AssertionError(f"left out of the copy and never written: {sorted(self._promised)}")
                for piece in chain.from_iterable(self._pieces.values()):
                    piece.result()
                if self._config is not None:
                    self._finish(self._config)
                for path in self.directory.rglob("*"):
                    sync(path)
        except BaseException as failure:
            self._exit.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._exit.__exit__(kind, error, trace)

    def _finish(self, config: Path | bytes) -> None:
        """The config last, and by a rename: a kill leaves the whole of it or none."""
        part = self.directory / f"{CONFIG}.part"
        if isinstance(config, bytes):
            part.write_bytes(config)
        elif not shared(config, part, self.link):
            part.write_bytes(config.read_bytes())
        part.rename(self.directory / CONFIG)


def shared(source: Path, target: Path, link: bool) -> bool:
    """Makes `target`: a hard link of `source` if `link`, else a file that shares its blocks until one of them is written.

    False where the file system can do neither: `target` is then of the same size, empty, and to be filled. `source` may
    be a symbolic link, as in the hub's cache: the file that it leads to is what counts.
    """
    source = source.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, target)
            return True
        except OSError:
            pass  # another file system: fall through to a copy
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            return True
        except OSError:
            os.truncate(new.fileno(), os.fstat(old.fileno()).st_size)
            return False


def pieces(gaps: Sequence[Range], size: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) byte of the parts of a file outside of the gaps, cut at the multiples of PIECE."""
    position = 0
    for start, length in [*sorted(gaps), (size, 0)]:
        while position < start:
            end = min(start, (position // PIECE + 1) * PIECE)
            yield position, end
            position = end
        position = start + length


def copy_bytes(source: Path, target: Path, first: int, last: int) -> None:
    """Copies the bytes from `first` to `last` (exclusive) to the same place of `target`.

    Whole pages go from the source's pages in memory straight to the disk: a second copy of a model in memory serves nobody,
    and making it costs more than the disk needs for the first. Where that cannot be done, they are written as usual.
    """
    begin, end = -(-first // PAGE) * PAGE, last // PAGE * PAGE
    with source.open("rb", buffering=0) as old, target.open("rb+", buffering=0) as new:
        if begin >= end or not _written_past_cache(old.fileno(), target, begin, end):
            begin = end = first
        for start, stop in ((first, begin), (end, last)):
            data = os.pread(old.fileno(), stop - start, start)
            if len(data) < stop - start:
                raise ThinkEditError(f"{source} became shorter while it was being copied.")
            write_at(new.fileno(), data, start)


def _written_past_cache(old: int, target: Path, begin: int, end: int) -> bool:
    """Writes whole pages without a copy of them in memory; False where the system or the file system does not do that."""
    if not hasattr(os, "O_DIRECT"):
        return False
    try:
        new = os.open(target, os.O_WRONLY | os.O_DIRECT)
    except OSError:
        return False
    try:
        os.posix_fadvise(old, begin, end - begin, os.POSIX_FADV_WILLNEED)
        with mmap(old, end - begin, access=ACCESS_READ, offset=begin) as pages:
            return os.pwrite(new, pages, begin) == end - begin
    except (OSError, ValueError):
        return False  # written as usual, which meets the same error and says it, if it is one
    finally:
        os.close(new)


def write_at(file: int, data: Any, position: int) -> None:
    view = memoryview(data).cast("B")
    while view:
        count = os.pwrite(file, view, position)
        view, position = view[count:], position + count
