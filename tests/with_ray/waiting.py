"""Waiting for what another process does."""

import time
from collections.abc import Callable


def wait_for(what: Callable[[], object], seconds: float = 300) -> object:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return found
