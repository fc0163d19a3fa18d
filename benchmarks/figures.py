"""What benchmarks share: pairs measured in turn, and the list of figures that they leave in `results.json`."""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from thinkedit.engines.base import Engine, Request, Sampling

RESULTS = Path(__file__).with_name("results.json")


def tokens_per_second(engine: Engine, requests: Iterable[Request], sampling: Sampling) -> float:
    start = time.perf_counter()
    tokens = sum(len(done.token_ids) for done in engine.generate(list(requests), sampling))
    return tokens / (time.perf_counter() - start)


def median_ratio(first: Callable[[], float], second: Callable[[], float], pairs: int) -> float:
    """Median of first / second over interleaved pairs, so that a machine that changes its speed moves both sides."""
    first(), second()  # the first calls compile and grow caches
    ratios = []
    for pair in range(pairs):
        if pair % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        ratios.append(a / b)
    return statistics.median(ratios)


def record(name: str, value: float, against: str, least: float | None = None, most: float | None = None) -> None:
    """Prints a figure and keeps it, in place of an earlier one of that name."""
    target = least if least is not None else most
    met = None if target is None else value >= target if least is not None else value <= target
    figure = {"name": name, "value": round(value, 4), "target": target, "met": met, "against": against}
    print(json.dumps(figure), flush=True)
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    kept = [one for one in kept if one["name"] != name] + [figure]
    RESULTS.write_text(json.dumps(sorted(kept, key=lambda one: one["name"]), indent=1) + "\n")
