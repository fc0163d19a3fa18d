"""Two workers on Ray with a core each against one, on the embedded model, with grading and writing; after start-up.

    python benchmarks/ray_workers.py [--questions 2400] [--samples 2] [--pairs 3]

The questions are asked under nine treatments, as in a sweep. Every worker is pinned to a core. Two idle cores are the least
that it needs, and a third for the driver does it good; it says how loaded the machine was.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from figures import median_ratio, record

from thinkedit.chat import Chat
from thinkedit.config import read_shape
from thinkedit.engines.base import Sampling, Treatment
from thinkedit.engines.ray import RayFleet
from thinkedit.engines.ray_cluster import Cluster, Division
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.generation import Inquiry, Label, Responder
from thinkedit.grading import Grader
from thinkedit.loading import load_tokenizer
from thinkedit.models import find_model
from thinkedit.records import RecordFile
from thinkedit.tasks import get_task, load_questions

ALPHAS = [0.002 * (place - 4) for place in range(9)]


def pinned(make: Callable[[], TransformersEngine], taken: Path) -> TransformersEngine:
    """Runs in a worker: pins all its threads to the first core that no other worker of its fleet has taken."""
    for core in sorted(os.sched_getaffinity(0)):
        try:
            (taken / str(core)).touch(exist_ok=False)
        except FileExistsError:
            continue
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), {core})
        return make()
    raise SystemExit("fewer cores than workers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=2400)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()

    source = find_model("tiny")
    shape, chat, task = read_shape(source.path), Chat(load_tokenizer(source)), get_task("tiny")
    make = partial(TransformersEngine, source, chat.end_ids, "cpu")
    questions = load_questions("tiny", "train", limit=options.questions)[:: len(ALPHAS)]
    vectors = torch.randn(shape.layers, shape.hidden, generator=torch.Generator().manual_seed(0))
    sweep = [Treatment({(layer, "attn"): alpha * vectors[layer] for layer in range(shape.layers)}) for alpha in ALPHAS]
    cluster, numbers = Cluster("local", "cpu"), count()
    with tempfile.TemporaryDirectory() as scratch, Grader() as grader:

        def seconds(fleet: RayFleet) -> float:
            inquiries = [
                Inquiry(
                    task, questions, options.samples, Label("tiny"), RecordFile(Path(scratch) / f"{next(numbers)}.jsonl"), t
                )
                for t in sweep
            ]
            responder = Responder(fleet, chat, grader, Sampling(256), 0, 32)
            start, busy = time.perf_counter(), time.process_time()
            responder.answer_all(inquiries)
            took, own = time.perf_counter() - start, time.process_time() - busy
            print(
                f"{len(fleet.actors)} workers: {took:.1f} s, {own:.1f} s of it at work here, switches {fleet.switches}",
                flush=True,
            )
            return took

        places = [Path(scratch) / name for name in ("both", "alone")]
        for place in places:
            place.mkdir()
        both = RayFleet(cluster, Division(2, 1, 0), partial(pinned, make, places[0]), 256, print)
        alone = RayFleet(cluster, Division(1, 0, 0), partial(pinned, make, places[1]), 256, print)  # idle while the others work
        print("load before:", os.getloadavg())
        ratio = median_ratio(lambda: seconds(alone), lambda: seconds(both), options.pairs)
        print("load after:", os.getloadavg())
        record("ray: two workers of a core each against one", ratio, "one worker of a core, after start-up", least=1.6)
        record("ray: most switches of a worker in a sweep of nine", max(both.switches), "nine settings", most=7)
        alone.close(), both.close()
    cluster.close()


if __name__ == "__main__":
    main()
