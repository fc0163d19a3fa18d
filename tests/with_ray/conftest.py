"""A cluster of two nodes on this machine, a core each, and the command line in a process of its own."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("ray"):
    # Read by Ray when it is imported: loopback alone, a token, no reports.
    os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where the nodes find the engines with faults
else:
    collect_ignore_glob = ["test_*.py"]  # Ray has an environment of its own: make test-ray


class Nodes:
    """The cluster: its head takes no workers, so that any node that has some may be removed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    @property
    def address(self) -> str:
        return self.cluster.address

    def replace(self, place: int) -> None:
        """Takes a node away as a power cut does, then adds another."""
        self.cluster.remove_node(self.nodes[place], allow_graceful=False)
        self.nodes[place] = self.cluster.add_node(num_cpus=1)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    made.cluster.shutdown()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `thinkedit ...`; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "thinkedit", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def finish(start: Start) -> Callable[..., str]:
    """Runs `thinkedit ...` to its end and gives what it said."""

    def call(*arguments: object, code: int = 0) -> str:
        process = start(*arguments)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == code, said
        assert "Traceback" not in said
        return said

    return call
