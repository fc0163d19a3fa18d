"""Which worker answers what: requests under several treatments shared out so that nobody waits and few have to switch.

A worker keeps its treatment while that has requests. Nothing here knows what a worker is: any hashable value.
"""

from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from thinkedit.engines.base import Part, Request, Treatment


@dataclass(slots=True)
class Holding:
    """What a worker has: its treatment's group, and by number the requests that it has not answered, with their parts."""

    group: int | None = None
    out: dict[int, tuple[int, Request]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """Requests for a worker by number, all under `treatment`."""

    treatment: Treatment
    requests: dict[int, Request]


class Schedule:
    """The state of some parts. A request is waiting in its part's queue, out at one worker, or finished."""

    def __init__(self, parts: Sequence[Part]) -> None:
        treatments = list(dict.fromkeys(treatment for treatment, _ in parts))
        self.treatments: list[Treatment] = treatments
        self.queues: list[deque[Request]] = [queue for _, queue in parts]
        self.groups = [[i for i, (t, _) in enumerate(parts) if t is treatment] for treatment in treatments]
        self.workers: dict[Hashable, Holding] = {}
        self.switches: Counter[Hashable] = Counter()  # worker -> how often it began with another treatment
        self.losses: Counter[tuple[int, object]] = Counter()  # (part, key) -> how often its worker was lost with it
        self._next = 0

    @property
    def finished(self) -> bool:
        return not any(self.queues) and not any(worker.out for worker in self.workers.values())

    def join(self, worker: Hashable) -> None:
        self.workers.setdefault(worker, Holding())

    def take(self, worker: Hashable, room: int) -> Share | None:
        """More requests for a worker that may have `room` unanswered ones at a time; None where it gets none now.

        It gets no more than its share of what is left in all, so that at the end all workers end together.
        """
        holding = self.workers[worker]
        group = holding.group
        if group is None or not self._waiting(group):
            if holding.out:
                return None  # the next treatment has to wait for what is out under this one
            group = self._choose()
            if group is None:
                return None
        left = sum(map(len, self.queues)) + sum(len(other.out) for other in self.workers.values())
        fair = max(1, -(-left // len(self.workers)))
        count = min(room, fair) - len(holding.out)
        if count <= 0:
            return None
        if group != holding.group:
            holding.group = group
            self.switches[worker] += 1
        taken: dict[int, Request] = {}
        for part in self.groups[group]:
            queue = self.queues[part]
            while queue and len(taken) < count:
                request = queue.popleft()
                taken[self._next] = request
                holding.out[self._next] = (part, request)
                self._next += 1
        return Share(self.treatments[group], taken)

    def finish(self, worker: Hashable, number: int) -> tuple[int, Request]:
        """The part and the request that a worker has answered."""
        return self.workers[worker].out.pop(number)

    def lose(self, worker: Hashable) -> list[tuple[int, Request]]:
        """Puts back what a lost worker had not answered; gives it."""
        lost = list(self.workers.pop(worker, Holding()).out.values())
        for part, request in reversed(lost):
            self.queues[part].appendleft(request)
            self.losses[part, request.key] += 1
        return lost

    def _waiting(self, group: int) -> int:
        return sum(len(self.queues[part]) for part in self.groups[group])

    def _choose(self) -> int | None:
        """The first treatment that nobody works on, else the one with most requests waiting for each of its workers."""
        holders = Counter(holding.group for holding in self.workers.values() if holding.out)
        open_groups = [group for group in range(len(self.groups)) if self._waiting(group)]
        free = [group for group in open_groups if not holders[group]]
        if free:
            return free[0]
        return max(open_groups, key=lambda group: self._waiting(group) / (holders[group] + 1), default=None)
