"""What an evaluation costs beside generation: CPU seconds of grading, records and statistics over those of the engine.

    python benchmarks/evaluation.py [--questions 500] [--samples 4]

On the embedded model, with an edit and its placebos. All CPU seconds of the process and of its grading workers count,
but for loading; the engine's are those spent inside of its `generate`. The pictures and the page, which cost the same
whatever the number of answers, are not counted.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import record

from thinkedit import Run, edit_heads, evaluate, extract, generate, rank
from thinkedit.engines.transformers import TransformersEngine
from thinkedit.pipeline.gather import gather
from thinkedit.report.summary import summarise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    inside = 0.0
    original = TransformersEngine.generate

    def timed(self, requests, sampling) -> Iterator:
        """The engine's own generate, its CPU seconds added up."""
        nonlocal inside
        completions = original(self, requests, sampling)
        while True:
            start = time.process_time()
            done = next(completions, None)
            inside += time.process_time() - start
            if done is None:
                return
            yield done

    TransformersEngine.generate = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        with Run("tiny", out=Path(folder) / "run") as run:
            generate(run, limit=400)
            extract(run)
            rank(run)
            edit_heads(run)
            run.engine("editing")
            begin, inside = time.process_time(), 0.0
            evaluate(run, limit=options.questions, samples=options.samples)
            evaluated = time.process_time() - begin
            begin = time.process_time()
            summarise(gather(run.directory))
            figured = time.process_time() - begin
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
    graded = children.ru_utime + children.ru_stime  # the workers are counted once they have ended
    written = evaluated - inside
    what = f"CPU seconds: engine {inside:.1f}, records {written:.1f}, grading {graded:.1f}, statistics {figured:.1f}"
    record("evaluation: all but generation / generation", (written + graded + figured) / inside, what, most=0.05)


if __name__ == "__main__":
    main()
