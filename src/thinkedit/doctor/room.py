"""Memory, disk and engines: what a run with the defaults needs, and what this machine has."""

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from thinkedit.config import Shape
from thinkedit.doctor.check import Check, gigabytes
from thinkedit.loading import choose_device
from thinkedit.pipeline.defaults import Defaults

SPARE = 1.15  # what loading and computing need beside the weights
TOKEN_BYTES = 12  # of a record's line, for each token: its id and its letters
QUESTIONS = 6000  # of the paper's five benchmarks together
VLLM_CPU_HEAD_DIM = 32


def memory_there(device: str) -> int:
    """Free bytes: of the GPU, or of this machine as far as this process may have them."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024  # counts what the system caches and would give back
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit.isdecimal():
            free = min(free, int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, KeyError, ValueError):
        pass
    return max(0, free)


def memory_needed(parameters: int, stored: int, device: str, dtype: str | None) -> int:
    """Bytes for the weights as they will be loaded: float32 on a CPU, else as they are stored."""
    width = {"float32": 4, "bfloat16": 2, "float16": 2}.get(dtype or ("float32" if device == "cpu" else ""))
    return int(SPARE * (width * parameters if width else stored))


def memory(needed: int, device: str) -> Iterator[Check]:
    there = memory_there(device)
    words = f"{gigabytes(needed)} for the weights and their loading; {gigabytes(there)} free on {device}"
    if needed <= there:
        yield Check("memory", "ok", words)
    else:
        advice = "Use a larger machine, several GPUs (--engine vllm --tensor-parallel-size N), or a server (--base-url URL)."
        yield Check("memory", "fails", words, advice)


def disk_needed(shape: Shape, defaults: Defaults, stored: int) -> dict[str, int]:
    """Bytes by what for: at most, with every thought at its cap."""
    numbers = shape.layers * (2 * shape.hidden + shape.heads * shape.head_dim)
    questions = defaults.evaluate_limit or QUESTIONS
    arms = 2 + 2 * defaults.placebos
    steered = len(defaults.alphas) * 2 * defaults.steer_limit * defaults.steer_tokens
    scanned = shape.layers * 4 * defaults.scan_limit * defaults.steer_tokens
    evaluated = arms * questions * defaults.samples * defaults.evaluate_tokens
    return {
        "the edited model": stored,
        "activations": 4 * numbers * defaults.probe_limit,
        "records": TOKEN_BYTES * (defaults.probe_limit * defaults.probe_tokens + steered + scanned + evaluated),
    }


def disk_there(place: Path) -> int:
    """Free bytes of the disk that holds `place`."""
    return shutil.disk_usage(place).free


def disk(needed: dict[str, int], out: Path) -> Iterator[Check]:
    place = out.absolute()
    while not place.exists():
        place = place.parent
    there, total = disk_there(place), sum(needed.values())
    parts = ", ".join(f"{what} {gigabytes(size)}" for what, size in needed.items())
    words = f"at most {gigabytes(total)} ({parts}); {gigabytes(there)} free for {out}"
    if not os.access(place, os.W_OK):
        yield Check("disk", "fails", f"{place} cannot be written to", "Give another directory with --out.")
    elif total <= there:
        yield Check("disk", "ok", words)
    elif needed["the edited model"] + needed["activations"] <= there:
        advice = "Real answers are far below their caps; still, watch it, or ask fewer questions (--questions, --n-samples)."
        yield Check("disk", "warning", words, advice)
    else:
        yield Check("disk", "fails", words, "Make room, or give a directory on another disk with --out.")


def engines(shape: Shape, device: str) -> Iterator[Check]:
    """Which engines are installed and can serve a model of this shape on this device."""
    can, cannot = ["transformers"], []
    if find_spec("vllm") is None:
        cannot.append("vllm (not installed)")
    elif device == "cpu" and shape.head_dim < VLLM_CPU_HEAD_DIM:
        cannot.append(f"vllm (on a CPU its heads have {VLLM_CPU_HEAD_DIM} numbers and more, these {shape.head_dim})")
    else:
        can.append("vllm")
    if find_spec("openai") is None:
        cannot.append("openai (the package is not installed)")
    else:
        can.append("openai (with --base-url)")
    words = f"{', '.join(can)}" + (f"; not: {', '.join(cannot)}" if cannot else "")
    yield Check("engines", "ok", f"{words}; python {sys.version.split()[0]} on {device}")


def device_name(asked: str | None) -> str:
    return str(choose_device(asked))
