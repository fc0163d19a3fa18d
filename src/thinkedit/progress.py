"""How long work tells of itself: the caller hands in something that shows progress, or nothing."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Progress(Protocol):
    def say(self, line: str) -> None:
        """One finished fact."""

    def work(self, title: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Surrounds a piece of work of `total` units; what it yields is told how many more are done."""


class Silent:
    """Shows nothing."""

    def say(self, line: str) -> None:
        pass

    @contextmanager
    def work(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        yield lambda _n: None
