"""How long work tells of itself: the caller hands in something that shows progress, or nothing."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    def __call__(self, count: int, *, kept: bool = False) -> None:
        """`count` more units are done; `kept` says that an earlier call had done them, so that they show no speed."""


class Progress(Protocol):
    def say(self, line: str) -> None:
        """One finished fact."""

    def work(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Surrounds a piece of work of `total` units; what it yields is told how many more are done."""


def counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}{'' if count == 1 else 's'}"


def ignore(count: int, *, kept: bool = False) -> None:
    """An Advance that shows nothing."""


class Silent:
    """Shows nothing."""

    def say(self, line: str) -> None:
        pass

    @contextmanager
    def work(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        yield ignore
