"""One thing that was looked at: what was found, whether it is well, and what to do."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from thinkedit.errors import ThinkEditError

State = Literal["ok", "warning", "fails"]


@dataclass(frozen=True, slots=True)
class Check:
    """`advice` says what to do about it; empty where all is well."""

    name: str
    state: State
    found: str
    advice: str = ""


def attempt(name: str, look: Callable[[], Iterable[Check]], advice: str) -> Iterator[Check]:
    """The checks of `look`; an error in it is a check that fails, with `advice` where it gives none itself."""
    try:
        yield from look()
    except ThinkEditError as error:
        yield failed(name, error, advice)


def failed(name: str, error: ThinkEditError, advice: str) -> Check:
    found, _, own = str(error).partition("\n")
    return Check(name, "fails", found, " ".join(own.split()) or advice)


def gigabytes(size: float) -> str:
    """A size in bytes for people."""
    for unit, worth in (("GB", 1e9), ("MB", 1e6)):
        if size >= worth:
            return f"{size / worth:,.1f} {unit}"
    return f"{size / 1e3:,.1f} KB"
