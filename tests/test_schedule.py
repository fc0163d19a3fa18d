"""Work shared out among workers: nothing lost or doubled whatever dies, few switches, nobody waits while there is work."""

import random
from collections import Counter, deque

from hypothesis import given, settings
from hypothesis import strategies as st

from thinkedit.engines.base import UNTREATED, Request, Treatment
from thinkedit.engines.schedule import Schedule


def made_parts(sizes, treatments=None):
    kinds = [Treatment() for _ in sizes] if treatments is None else treatments
    return [
        (kind, deque(Request((p, i), (1,), 0) for i in range(n))) for p, (kind, n) in enumerate(zip(kinds, sizes, strict=True))
    ]


def work_off(schedule, workers, room, chance, deaths=0.0, follow_up=None):
    """Workers finish what they have in a random order, some die; gives how often each key was finished."""
    done = Counter()
    names = iter(range(workers, 10_000))
    alive = list(range(workers))
    for worker in alive:
        schedule.join(worker)
    while not schedule.finished:
        worker = chance.choice(alive)
        share = schedule.take(worker, room)
        out = schedule.workers[worker].out
        assert len(out) <= room
        if share:
            parts = {out[number][0] for number in share.requests}
            assert parts <= set(schedule.groups[schedule.workers[worker].group])
        if out and chance.random() < deaths:
            schedule.lose(worker)
            alive.remove(worker)
            alive.append(next(names))
            schedule.join(alive[-1])
        elif out:
            part, request = schedule.finish(worker, chance.choice(list(out)))
            done[part, request.key] += 1
            if follow_up:
                follow_up(part, request)
    return done


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.lists(st.integers(0, 12), max_size=6), st.integers(1, 5), st.integers(1, 9), st.floats(0, 0.3), st.integers(0, 1 << 30)
)
def test_each_request_is_finished_once_whatever_dies(sizes, workers, room, deaths, seed):
    done = work_off(Schedule(made_parts(sizes)), workers, room, random.Random(seed), deaths)
    assert done == Counter({(p, (p, i)): 1 for p, n in enumerate(sizes) for i in range(n)})


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(5, 40), st.integers(0, 1 << 30))
def test_a_worker_keeps_its_treatment_while_that_has_work(settings_count, workers, size, seed):
    schedule = Schedule(made_parts([size] * settings_count))
    work_off(schedule, workers, 16, random.Random(seed))
    # Each treatment once, and at the end the workers that are free join what is left: once each for every one of the last.
    assert sum(schedule.switches.values()) <= settings_count + workers * min(workers, settings_count)


def test_one_worker_goes_through_the_treatments_once_each():
    schedule = Schedule(made_parts([30] * 18))
    work_off(schedule, 1, 16, random.Random(0))
    assert schedule.switches[0] == 18


def test_parts_under_one_treatment_need_no_switch():
    edited = Treatment()
    schedule = Schedule(made_parts([20, 20, 20, 20], [UNTREATED, UNTREATED, edited, edited]))
    work_off(schedule, 1, 16, random.Random(0))
    assert schedule.switches[0] == 2


def test_what_is_asked_meanwhile_is_answered_under_the_same_treatment():
    parts = made_parts([25, 25, 25])
    schedule = Schedule(parts)

    def force(part, request):
        if len(request.key) == 2:
            parts[part][1].appendleft(Request((*request.key, "forced"), (1,), 0))

    done = work_off(schedule, 2, 8, random.Random(1), 0.05, force)
    assert done == Counter({(p, (p, i, *more)): 1 for p in range(3) for i in range(25) for more in ((), ("forced",))})


def test_the_last_treatment_is_shared_out():
    schedule = Schedule(made_parts([100]))
    for worker in range(4):
        schedule.join(worker)
    shares = [len(schedule.take(worker, 1000).requests) for worker in range(4)]
    assert shares == [25, 25, 25, 25]


def test_a_request_remembers_how_often_its_worker_was_lost():
    schedule = Schedule(made_parts([1]))
    for worker in range(3):
        schedule.join(worker)
        schedule.take(worker, 4)
        assert [request.key for _, request in schedule.lose(worker)] == [(0, 0)]
    assert schedule.losses[0, (0, 0)] == 3
