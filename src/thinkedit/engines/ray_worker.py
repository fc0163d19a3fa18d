"""What runs inside of a Ray actor: one engine, whose batch stays at work from one call to the next."""

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version

from thinkedit.engines.base import Ability, Completion, Engine, Request, Sampling, Treatment

SECONDS = 0.5  # a call hands back what is done after about so long; the records of a fast engine come in groups


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs, and what its engine is. `log` is the file there that its process writes errors to."""

    host: str
    node: str
    pid: int
    log: str | None
    version: str
    context: int
    abilities: frozenset[Ability]

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"


class Worker:
    """Holds one engine. Nothing is done in the constructor, so that what goes wrong comes back as it was raised."""

    def __init__(self) -> None:
        self.queue: deque[Request] = deque()
        self.at_work: Iterator[Completion] | None = None
        self.unanswered = 0

    def open(self, make: Callable[[], Engine], threads: int) -> Place:
        """Loads the engine that `make` gives. `threads` is the number of CPU cores that Ray reserved for this worker."""
        import ray
        import torch

        torch.set_num_threads(max(1, threads))
        self.engine = make()
        log = os.readlink("/proc/self/fd/2") if os.path.exists("/proc/self/fd/2") else None
        node = ray.get_runtime_context().get_node_id()
        engine = self.engine
        return Place(socket.gethostname(), node, os.getpid(), log, version("thinkedit"), engine.context, engine.abilities)

    def work(
        self, requests: Mapping[int, Request], treatment: Treatment | None, sampling: Sampling
    ) -> list[tuple[int, list[int], str]]:
        """Takes in more requests and hands out what is done, at least one completion while any request is unanswered.

        `treatment` is given where it changes, which happens only when nothing is at work.
        """
        if treatment is not None:
            self.engine.steer(treatment.biases)
            self.engine.apply(treatment.edit)
        self.queue.extend(replace(request, key=number) for number, request in requests.items())
        self.unanswered += len(requests)
        if self.at_work is None:
            self.at_work = iter(self.engine.generate(self.queue, sampling))
        done: list[tuple[int, list[int], str]] = []
        until = time.monotonic() + SECONDS
        for completion in self.at_work:
            done.append((completion.key, completion.token_ids, completion.finish_reason))
            self.unanswered -= 1
            if time.monotonic() > until:
                return done
        self.at_work = None
        if self.unanswered:
            raise RuntimeError(f"the engine ended with {self.unanswered} requests unanswered")
        return done

    def abandon(self) -> None:
        """Drops what is at work."""
        self.queue.clear()
        self.at_work, self.unanswered = None, 0


def last_lines(path: str, lines: int) -> list[str]:
    """The end of a log file, for whoever runs on another machine."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 20_000))
            return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()][-lines:]
    except OSError:
        return []
