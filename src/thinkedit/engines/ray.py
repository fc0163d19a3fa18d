"""Many engines on Ray: actors that own one each, fed from a schedule in this process, which alone sees the records."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, cast

from thinkedit.engines.base import UNTREATED, Ability, Completion, Engine, Part, Sampling, Treatment
from thinkedit.engines.ray_cluster import Cluster, Division
from thinkedit.engines.ray_worker import Place, Worker, last_lines
from thinkedit.engines.schedule import Schedule
from thinkedit.errors import ThinkEditError

LOSSES = 3  # so many workers may be lost with a request, or one after another while they load the model
CALLS = 2  # under way at a worker, so that it goes on while this process reads what it did
WAIT_SECONDS = 60.0  # between two remarks that no worker is there
LOG_LINES = 12
LOG_SECONDS = 60.0  # for a log to come from its machine, where a process has to start for it


@dataclass(eq=False, slots=True)
class _Actor:
    """A worker as this process knows it. `place` is None until its engine is loaded."""

    handle: Any
    group: Any  # the placement group of a worker that spans GPUs
    place: Place | None = None
    treatment: Treatment = UNTREATED
    calls: list[Any] = field(default_factory=list)  # references to what it was asked, oldest first


class RayFleet:
    """As many workers as `division` says, each with the engine that `make` gives there.

    `rows` is how many requests an engine has at work at a time. Raises ThinkEditError where the engine cannot be
    loaded. A worker that is lost is replaced, wherever Ray finds room, and what it had not answered is done again.
    """

    continues = True

    def __init__(
        self, cluster: Cluster, division: Division, make: Callable[[], Engine], rows: int, say: Callable[[str], None]
    ) -> None:
        self.cluster, self.division, self.make, self.say = cluster, division, make, say
        self.window = rows + rows // 2  # the half waits at the worker for rows that become free
        self.failed_starts = 0
        self._shown: set[str] = set()
        self.actors: list[_Actor] = []
        self.switches: list[int] = []  # of each worker, in the last call of `complete`
        try:
            self.actors += [self._start() for _ in range(division.workers)]
            while not (ready := [actor.place for actor in self.actors if actor.place]):
                self._advance(None)
        except BaseException:
            self.close()
            raise
        self.context = ready[0].context
        self.abilities: frozenset[Ability] = ready[0].abilities

    def complete(self, parts: Sequence[Part], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        schedule = Schedule(parts)
        for actor in self.actors:
            if actor.place:
                schedule.join(actor)
        try:
            while not schedule.finished:
                for actor in [actor for actor in self.actors if actor.place]:
                    self._feed(actor, schedule, sampling)
                for actor, number, tokens, reason in self._advance(schedule):
                    part, request = schedule.finish(actor, number)
                    yield part, Completion(request.key, tokens, cast(Literal["stop", "length"], reason))
        finally:
            self.switches = [schedule.switches[actor] for actor in self.actors]
            for actor in self.actors:
                if actor.place:
                    actor.calls.clear()
                    actor.handle.abandon.remote()

    def close(self) -> None:
        while self.actors:
            self._stop(self.actors.pop())

    # -------------------------------------------------------------------------------------------------- the workers

    def _start(self) -> _Actor:
        import ray

        division, group = self.division, None
        options: dict[str, Any] = {"num_cpus": division.cpus, "num_gpus": division.gpus}
        if division.gpus > 1:  # vLLM places its own workers into the group of its actor
            from ray.util.placement_group import placement_group
            from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

            group = placement_group([{"CPU": 1, "GPU": 1}] * division.gpus, strategy="PACK")
            strategy = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)
            options = {"num_cpus": 0, "num_gpus": 0, "scheduling_strategy": strategy}
        handle = ray.remote(Worker).options(**options).remote()  # type: ignore[attr-defined]
        return _Actor(handle, group, calls=[handle.open.remote(self.make, division.cpus)])

    def _stop(self, actor: _Actor) -> None:
        import ray

        ray.kill(actor.handle)
        if actor.group is not None:
            from ray.util.placement_group import remove_placement_group

            remove_placement_group(actor.group)

    def _feed(self, actor: _Actor, schedule: Schedule, sampling: Sampling) -> None:
        """Gives a worker what it may have, and keeps it called while it has anything to answer."""
        while len(actor.calls) < CALLS:
            share = schedule.take(actor, self.window)
            if share is None and not schedule.workers[actor].out:
                return
            treatment = share.treatment if share and share.treatment is not actor.treatment else None
            actor.treatment = treatment or actor.treatment
            actor.calls.append(actor.handle.work.remote(share.requests if share else {}, treatment, sampling))

    def _advance(self, schedule: Schedule | None) -> Iterator[tuple[_Actor, int, list[int], str]]:
        """Waits until some worker has something to say, and gives (worker, number, tokens, reason) of what it did."""
        import ray

        callers = {actor.calls[0]: actor for actor in self.actors if actor.calls}
        ready, _ = ray.wait(list(callers), timeout=WAIT_SECONDS)
        if not ready and not any(actor.place for actor in self.actors):
            self.say(f"waiting for a place in the cluster: {self._needs()} for a worker")
        more, _ = ray.wait(list(callers), num_returns=len(callers), timeout=0)
        done = []
        for call in dict.fromkeys([*ready, *more]):
            actor = callers[call]
            try:
                result = ray.get(call)
            except ray.exceptions.RayTaskError as error:
                raise self._failed(actor, error) from None
            except ray.exceptions.RayError as error:
                self._replace(actor, error, schedule)
                continue
            actor.calls.pop(0)
            if isinstance(result, Place):
                self._welcome(actor, result, schedule)
            else:
                done += [(actor, *one) for one in result]
        return iter(done)

    def _welcome(self, actor: _Actor, place: Place, schedule: Schedule | None) -> None:
        if place.version != version("thinkedit"):
            raise ThinkEditError(
                f"The worker on {place.host} has thinkedit {place.version}, but this is {version('thinkedit')}. "
                "Install the same version on every machine of the cluster."
            )
        actor.place = place
        self.failed_starts = 0
        if schedule:
            schedule.join(actor)

    def _needs(self) -> str:
        division = self.division
        gpus = f" and {division.gpus} GPU{'' if division.gpus == 1 else 's'}" if division.gpus else ""
        return f"{division.cpus} CPU core{'' if division.cpus == 1 else 's'}{gpus}"

    # --------------------------------------------------------------------------------------------------- what goes wrong

    def _failed(self, actor: _Actor, error: Any) -> ThinkEditError:
        """The engine of a worker raised: it would raise again elsewhere."""
        if isinstance(error.cause, ThinkEditError):
            return type(error.cause)(*error.cause.args)
        where = f" on {actor.place}" if actor.place else ""
        lines = [line for line in _plain(error) if line.strip()]
        shown = "\n".join(f"  {line.rstrip()}" for line in lines[-LOG_LINES:])
        return ThinkEditError(
            f"A worker{where} failed:\n{shown}\nWhat was finished is kept; the same command goes on from there."
        )

    def _replace(self, actor: _Actor, error: Exception, schedule: Schedule | None) -> None:
        lost = schedule.lose(actor) if schedule else []
        again = f"; its {len(lost):,} answers under way are made again" if lost else ""
        self.say(f"lost a worker{f' ({actor.place})' if actor.place else ''}{again}")
        log = self._log(actor, error)
        self._stop(actor)
        if actor.place is None:
            self.failed_starts += 1
        worst = [key for key in lost if schedule and schedule.losses[key[0], key[1].key] >= LOSSES]
        if worst or self.failed_starts >= LOSSES:
            keys = dict.fromkeys(str(key[1].key) for key in worst)
            named = ", ".join(list(keys)[:3]) + (", ..." if len(keys) > 3 else "")
            what = f"with the same {len(worst)} answers under way (to {named})" if worst else "while they loaded the model"
            raise ThinkEditError(
                f"{LOSSES} workers were lost {what}.\n{log}\nIf memory was short: --batch-size, or fewer workers "
                "(--ray-workers). What was finished is kept; the same command goes on from there."
            )
        if log not in self._shown:
            self._shown.add(log)
            self.say(log)
        self.actors[self.actors.index(actor)] = self._start()

    def _log(self, actor: _Actor, error: Exception) -> str:
        """Why Ray thinks that a worker was lost, and the last lines that it wrote where its machine can still be asked."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        reasons = [line.strip() for line in _plain(error) if line.strip()]
        shown = [line for line in reasons if not line.startswith(("class_name", "actor_id", "namespace", "pid", "ip:"))][:3]
        place = actor.place
        if place and place.log and place.node in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
            here = NodeAffinitySchedulingStrategy(place.node, soft=False)
            reading = ray.remote(last_lines).options(num_cpus=0, scheduling_strategy=here).remote(place.log, LOG_LINES)  # type: ignore[attr-defined]
            try:
                shown += ["the last lines that it wrote:", *ray.get(reading, timeout=LOG_SECONDS)]
            except ray.exceptions.RayError:
                shown += [f"its log could not be read ({place.log})"]
        return "\n".join(f"  {line}" for line in shown)


def _plain(error: Exception) -> list[str]:
    """What Ray says, line by line, without the colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()
