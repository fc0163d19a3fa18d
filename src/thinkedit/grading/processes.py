"""math-verify in parallel processes, each of which is killed when a pair takes too long and replaced by a fresh one.

The limit is of processor time, which the process sets for itself, so that a verdict does not depend on how busy the
machine is; a limit by the clock stands behind it.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

from thinkedit.errors import ThinkEditError

Outcome = bool | Literal["unparsable", "timed out"]
MEMORY = 2 * 2**30  # bytes a worker may map
START_SECONDS = 120.0
PATIENCE = 20.0  # seconds by the clock for each second of processor time
PAIRS_PER_WORKER = 40  # below this many, another worker costs more than it brings


class Worker:
    """One process. `task` is the index of the pair that it works on, until `deadline`."""

    def __init__(self, timeout: float) -> None:
        code = (
            "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
            f"from thinkedit.grading.worker import serve; serve({timeout!r}, {PATIENCE * timeout!r}, {MEMORY})"
        )
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        self.patience = PATIENCE * timeout
        self.ready = False
        self.task: int | None = None
        self.deadline = time.monotonic() + START_SECONDS
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # an interrupt at the terminal reaches the parent, which ends the workers
        )
        assert self.process.stdin
        assert self.process.stdout
        self.input, self.output = self.process.stdin, self.process.stdout

    def send(self, task: int, pair: tuple[str, str]) -> None:
        self.task, self.deadline = task, time.monotonic() + self.patience
        with suppress(BrokenPipeError):  # its end is seen when its output is read
            self.input.write(json.dumps(pair).encode() + b"\n")
            self.input.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.input, self.output):
            with suppress(OSError):
                stream.close()


class Processes:
    """Up to `count` workers, started when there is work for them. `timeout` is seconds of processor time for one pair."""

    def __init__(self, count: int, timeout: float) -> None:
        self.count, self.timeout = count, timeout
        self.workers: list[Worker] = []
        self.failed_starts = 0

    def equal(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """For each (gold, answer) whether they are equal, in order. A pair that breaks its worker breaks no other."""
        outcomes: list[Outcome] = ["unparsable"] * len(pairs)
        waiting = deque(range(len(pairs)))
        deaths: dict[int, int] = {}
        try:
            while waiting or any(worker.task is not None for worker in self.workers):
                self._start(len(waiting))
                for worker in self.workers:
                    if worker.ready and worker.task is None and waiting:
                        task = waiting.popleft()
                        worker.send(task, pairs[task])
                for worker in self._wait():
                    self._receive(worker, outcomes, waiting, deaths)
                self._expire(outcomes)
        except BaseException:
            self.close()
            raise
        return outcomes

    def close(self) -> None:
        while self.workers:
            self.workers.pop().kill()

    def _start(self, waiting: int) -> None:
        wanted = min(self.count, 1 + waiting // PAIRS_PER_WORKER)
        while waiting and len(self.workers) < wanted:
            self.workers.append(Worker(self.timeout))

    def _wait(self) -> list[Worker]:
        """The workers that have something to say, or that have ended, until the next deadline at the latest."""
        with selectors.DefaultSelector() as selector:
            busy = [worker for worker in self.workers if worker.task is not None or not worker.ready]
            for worker in busy:
                selector.register(worker.output, selectors.EVENT_READ, worker)
            until = min((worker.deadline for worker in busy), default=time.monotonic())
            return [key.data for key, _ in selector.select(max(0.0, until - time.monotonic()))]

    def _receive(self, worker: Worker, outcomes: list[Outcome], waiting: deque[int], deaths: dict[int, int]) -> None:
        line = worker.output.readline()
        if not line:
            self._drop(worker)
            if not worker.ready:
                self._failed_start()
            elif worker.task is not None and worker.process.returncode == -signal.SIGPROF:
                outcomes[worker.task] = "timed out"
            elif worker.task is not None:
                # It ran out of memory or was ended from outside: once more, in a fresh process, then no more.
                deaths[worker.task] = deaths.get(worker.task, 0) + 1
                if deaths[worker.task] < 2:
                    waiting.append(worker.task)
        elif not worker.ready:
            worker.ready, self.failed_starts = True, 0
        elif worker.task is not None:
            verdict = json.loads(line)
            outcomes[worker.task] = "unparsable" if verdict is None else verdict
            worker.task = None

    def _expire(self, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        for worker in [worker for worker in self.workers if now > worker.deadline]:
            if worker.task is not None:
                outcomes[worker.task] = "timed out"
                self._drop(worker)
            elif not worker.ready:
                self._drop(worker)
                self._failed_start()

    def _drop(self, worker: Worker) -> None:
        self.workers.remove(worker)
        worker.kill()

    def _failed_start(self) -> None:
        self.failed_starts += 1
        if self.failed_starts >= 3:
            raise ThinkEditError(
                "The process that compares expressions does not start. Is math-verify installed? "
                f"Try: {sys.executable} -c 'import math_verify'"
            )
