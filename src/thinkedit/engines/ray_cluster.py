"""Ray itself: joined where it runs already, or started on this machine for this process alone."""

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from thinkedit.errors import ThinkEditError, UsageError

LOCAL = "local"
CORES = 4  # of a worker without a GPU, unless told how many workers there are to be
OBJECTS = 512 << 20  # bytes of shared memory: requests and completions are small, directions and edits pass through once


@dataclass(frozen=True, slots=True)
class Node:
    cpus: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Division:
    """How many workers there are to be, and what Ray reserves for each."""

    workers: int
    cpus: int
    gpus: int


def divide(nodes: Sequence[Node], gpus_per_worker: int, wanted: int | None, may_grow: bool) -> Division:
    """One worker for every `gpus_per_worker` GPUs, or for every group of cores where that is 0.

    `wanted` sets the number. Raises UsageError where there is no room for it, unless the cluster `may_grow`.
    """
    if gpus_per_worker:
        room = sum(node.gpus for node in nodes) // gpus_per_worker
        division = Division(wanted or room, 1, gpus_per_worker)
    else:
        most = max((node.cpus for node in nodes), default=0)
        sizes = range(max(1, most if wanted else min(CORES, most)), 0, -1)
        cpus = next((size for size in sizes if _groups(nodes, size) >= (wanted or 1)), 1)
        room = _groups(nodes, cpus)
        division = Division(wanted or room, cpus, 0)
    if division.workers < 1 or (division.workers > room and not may_grow):
        what = f"{gpus_per_worker} GPU{'' if gpus_per_worker == 1 else 's'}" if gpus_per_worker else "a CPU core"
        raise UsageError(
            f"There is room for {room} workers with {what} each, not for {max(1, division.workers)}: "
            f"{sum(node.cpus for node in nodes)} CPU cores and {sum(node.gpus for node in nodes)} GPUs on "
            f"{len(nodes)} machine{'' if len(nodes) == 1 else 's'}.\nUse fewer (--ray-workers), or smaller parallel sizes."
        )
    return division


def _groups(nodes: Sequence[Node], cpus: int) -> int:
    return sum(node.cpus // cpus for node in nodes)


def check_installed() -> None:
    if find_spec("ray") is None:
        raise ThinkEditError('--ray needs Ray, which is not installed: pip install "thinkedit[ray]".\nOr leave --ray out.')


def _check_listening(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT, for which Ray would wait for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


class Cluster:
    """A connection to Ray. A local one listens on loopback alone, behind a token, without dashboard and usage reports."""

    def __init__(self, address: str, device: str | None) -> None:
        check_installed()
        self.local = address == LOCAL
        # Ray reads all of these when it is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        settings: dict[str, Any] = {"address": address}
        if self.local:
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too, this makes it bind loopback
            if "RAY_AUTH_MODE" not in os.environ:
                os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            settings |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "object_store_memory": OBJECTS}
            settings |= {"num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}
            settings |= {"num_gpus": 0} if device == "cpu" else {}
        import ray

        try:
            _check_listening(address)
            ray.init(**settings, log_to_driver=False, logging_level=logging.FATAL)
        except Exception as error:  # Ray fails in many ways; the first line says which
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ThinkEditError(
                f"Ray cannot be {'started here' if self.local else f'reached at {address}'}: {first}\n"
                "--ray starts one on this machine; --ray auto or --ray HOST:PORT joins a cluster that `ray start` made."
            ) from None
        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.nodes = [Node(int(found.get("CPU", 0)), int(found.get("GPU", 0))) for found in alive]
        self.gpus = 0 if device == "cpu" else sum(node.gpus for node in self.nodes)
        if device == "cuda" and not self.gpus:
            self.close()
            raise UsageError("Ray finds no GPU here; use --device cpu.")

    def close(self) -> None:
        import ray

        ray.shutdown()
