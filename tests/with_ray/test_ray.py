"""The same run on Ray: the same records, whatever dies, and errors that can be read."""

import os
import re
import signal
from collections import Counter, deque

import pytest
from faulty import POISON, broken, dying, poisonable
from waiting import wait_for

from thinkedit.engines.base import UNTREATED, Request, Sampling, Treatment
from thinkedit.errors import ThinkEditError
from thinkedit.records import read_records

QUESTIONS = 700
PROBE = ("generate", "--limit", QUESTIONS, "--batch-size", 32)
RUN = ("run", "--quick", "--probes", 300, "--questions", 24, "--n-samples", 2)


def workers_of(process):
    """The processes of the actors that answer for a driver: those of the cluster that Ray names after the class."""
    import psutil

    return [p for p in psutil.process_iter(["cmdline"]) if " ".join(p.info["cmdline"] or []).startswith("ray::Worker")]


def lines_in(directory):
    return sum(path.read_bytes().count(b"\n") for path in directory.rglob("*.jsonl"))


def keys(directory):
    return Counter(record.key for path in directory.rglob("*.jsonl") for record in read_records(path))


def each_once(directory, count=QUESTIONS):
    found = keys(directory)
    assert len(found) == count
    assert set(found.values()) == {1}


def by_key(directory):
    """File name -> key -> (tokens, forced answer, verdict)."""
    return {
        path.relative_to(directory): {r.key: (r.token_ids, r.forced, r.correct) for r in read_records(path)}
        for path in directory.rglob("*.jsonl")
    }


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory):
    """A whole small run without Ray."""
    import subprocess
    import sys

    out = tmp_path_factory.mktemp("plain") / "run"
    subprocess.run([sys.executable, "-m", "thinkedit", *map(str, RUN), "--out", out], check=True, capture_output=True)
    return out


def test_a_whole_run_leaves_the_same_files_and_records(nodes, plain_run, finish, tmp_path):
    said = finish(*RUN, "--out", tmp_path / "run", "--ray", nodes.address)
    assert "2 workers with 1 CPU core each" in said
    wanted, found = by_key(plain_run), by_key(tmp_path / "run")
    assert set(found) == set(wanted)  # the names hold a hash of whatever shapes an answer: Ray does not
    assert len(wanted) > 15  # probe, sweep, scan, and an evaluation with its edits
    for name, records in wanted.items():
        assert set(found[name]) == set(records)
    pairs = [(found[name][key], value) for name, records in wanted.items() for key, value in records.items()]
    same = sum(left == right for left, right in pairs)
    assert same >= 0.99 * len(pairs)  # near-ties may fall otherwise where other rows are in the batch


def test_a_killed_worker_costs_nothing_but_time(nodes, start, tmp_path):
    process = start(*PROBE, "--out", tmp_path / "run", "--ray", nodes.address)
    wait_for(lambda: lines_in(tmp_path) > 100)
    os.kill(workers_of(process)[0].pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert said.count("lost a worker") == 1
    each_once(tmp_path)


def test_a_node_that_is_removed_costs_nothing_but_time(nodes, start, tmp_path):
    process = start(*PROBE, "--out", tmp_path / "run", "--ray", nodes.address)
    wait_for(lambda: lines_in(tmp_path) > 100)
    nodes.replace(0)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    each_once(tmp_path)


def test_a_killed_driver_goes_on_with_other_workers_and_without_any(nodes, start, finish, plain_run, tmp_path):
    out = tmp_path / "run"
    for workers, least in ((2, 100), (1, 300)):
        process = start(*PROBE, "--out", out, "--ray", nodes.address, "--ray-workers", workers)
        wait_for(lambda least=least: lines_in(out) > least)
        process.kill()
        process.wait()
    before = lines_in(out)
    assert before < QUESTIONS
    finish(*PROBE, "--out", out)
    each_once(out)
    assert "kept from before" in finish(*PROBE, "--out", out, "--ray", nodes.address)
    each_once(out)


def test_ray_on_this_machine_listens_on_loopback_alone_and_ends_with_its_driver(start, tmp_path):
    psutil = pytest.importorskip("psutil")
    process = start(*PROBE, "--out", tmp_path / "run", "--ray", "--ray-workers", 2)
    wait_for(lambda: lines_in(tmp_path) > 50)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    listening = [c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {re.sub("^::ffff:", "", ip) for ip in listening} <= {"127.0.0.1", "::1"}
    process.kill()
    process.wait()
    assert not psutil.wait_procs(family, timeout=180)[1]  # Ray's own helpers notice it last


def test_a_cluster_that_is_not_there_is_named(finish, tmp_path):
    said = finish(*PROBE, "--out", tmp_path / "run", "--ray", "127.0.0.1:1", code=1)
    assert "Ray cannot be reached at 127.0.0.1:1" in said


def test_more_workers_than_this_machine_has_room_for_are_refused(finish, tmp_path):
    assert "There is room for" in finish(*PROBE, "--out", tmp_path / "run", "--ray", "--ray-workers", 500, code=2)


@pytest.fixture(scope="module")
def cluster(nodes):
    from thinkedit.engines.ray_cluster import Cluster

    made = Cluster(nodes.address, "cpu")
    yield made
    made.close()


@pytest.fixture
def fleet(cluster):
    from thinkedit.engines.ray import RayFleet
    from thinkedit.engines.ray_cluster import Division

    made = []

    def make(engine, workers=2, say=lambda _line: None):
        made.append(RayFleet(cluster, Division(workers, 1, 0), engine, 8, say))
        return made[-1]

    yield make
    for one in made:
        one.close()


class TestTheFleet:
    def parts(self, treatments, count=40):
        return [(t, deque(Request(i, (1, 5, 6, 9), i) for i in range(count))) for t in treatments]

    def test_a_sweep_switches_each_worker_seldom(self, fleet):
        import torch

        one = fleet(poisonable)
        vectors = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
        sweep = [Treatment({(layer, "attn"): alpha * vectors[layer] for layer in range(4)}) for alpha in range(-4, 5)]
        found = Counter()
        tokens = {}
        for part, done in one.complete(self.parts(sweep), Sampling(30, temperature=1.0)):
            found[part, done.key] += 1
            tokens[part, done.key] = done.token_ids
        assert found == Counter({(part, key): 1 for part in range(9) for key in range(40)})
        assert sum(one.switches) <= len(sweep) + 2
        assert len({tuple(tokens[part, 0]) for part in range(9)}) > 3  # the steering did reach the workers
        # Afterwards the model is as it was: the untreated answers are those of the strength 0.
        plain = {done.key: done.token_ids for _, done in one.complete(self.parts([UNTREATED]), Sampling(30, temperature=1.0))}
        assert sum(plain[key] == tokens[4, key] for key in plain) >= 39

    def test_a_request_that_kills_its_workers_is_refused_after_three(self, fleet):
        said = []
        one = fleet(poisonable, say=said.append)
        parts = [(UNTREATED, deque([Request("the bad one", POISON, 0)]))]
        with pytest.raises(ThinkEditError, match="3 workers were lost") as error:
            list(one.complete(parts, Sampling(5)))
        assert "the bad one" in str(error.value)
        assert "about to swallow the poison" in str(error.value)
        assert sum("lost a worker" in line for line in said) == 3

    def test_an_engine_that_raises_is_told_once_with_its_last_lines(self, fleet):
        with pytest.raises(ThinkEditError, match="ZeroDivisionError: a fault of the engine") as error:
            list(fleet(broken).complete(self.parts([UNTREATED]), Sampling(5)))
        assert len(str(error.value).splitlines()) < 20

    def test_a_model_that_kills_whoever_loads_it_is_given_up(self, fleet):
        with pytest.raises(ThinkEditError, match="3 workers were lost while they loaded the model"):
            fleet(dying)

    def test_a_caller_that_goes_away_leaves_nothing_behind(self, fleet):
        one = fleet(poisonable)
        answers = one.complete(self.parts([UNTREATED], 200), Sampling(30, temperature=1.0))
        next(answers)
        answers.close()
        again = Counter(done.key for _, done in one.complete(self.parts([UNTREATED], 20), Sampling(30, temperature=1.0)))
        assert again == Counter(range(20))
