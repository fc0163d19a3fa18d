"""Whether the evaluation can be trusted: grading against gold answers and against a second grader, intervals against truth.

    python benchmarks/grading.py --data-dir data [--responses responses.jsonl] [--pairs 10000] [--simulations 2000]

`data` holds the benchmarks' files (docs/tasks.md), `responses` answers of a model to GSM8K as question, answer and
response. Prints one JSON line a figure. What is asked of them is in tests/test_grading.py and tests/test_statistics.py,
where shorter versions run; the hostile answers and the rewritten forms are defined there.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from second_grader import agrees, numeric_answer
from test_grading import HOSTILE, SAME, boxed, rewritings
from test_metrics import lognormal
from test_statistics import covered, paired_accuracies

from thinkedit.grading import Grader
from thinkedit.grading.answers import last_box
from thinkedit.metrics import matched
from thinkedit.pipeline.bring import Asked, bring
from thinkedit.records import read_records
from thinkedit.report.verdict import verdict
from thinkedit.statistics import mean_estimates, ratio_difference
from thinkedit.tasks import load_questions
from thinkedit.tasks.base import form_of
from thinkedit.tasks.math import ALL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--responses", type=Path)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--simulations", type=int, default=2_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with Grader(workers=options.workers, timeout=20.0) as grader:
        golds(grader, options.data_dir)
        choices(grader, options.data_dir)
        others(options.data_dir, options.pairs, options.workers)
        if options.responses:
            second_grader(options.responses)
    hostile(options.workers)
    intervals(options.simulations)
    no_difference(options.simulations)


def say(figure: str, **values: object) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)


def sources(data: Path) -> dict[str, list[str]]:
    math = [last_box(row["solution"]) or "" for row in ALL.rows("test", data)]
    gsm8k = [question.gold for split in ("train", "test") for question in load_questions("gsm8k", split, data)]
    return {"MATH test": math, "MATH-500": [q.gold for q in load_questions("MATH-500", None, data)], "GSM8K": gsm8k}


def golds(grader: Grader, data: Path) -> None:
    """Each gold answer against itself, bare and rewritten."""
    for name, answers in sources(data).items():
        start = time.perf_counter()
        itself = grader.grade([(boxed(gold), gold, form_of(gold), ()) for gold in answers])
        items = [(text, gold, form_of(gold), ()) for gold in answers for text in rewritings(gold)]
        forms = grader.grade(items)
        wrong = [item[:2] for item, one in zip(items, forms, strict=True) if not one.correct]
        say(
            f"{name}: golds graded right", golds=len(answers), itself=share(one.correct for one in itself),
            forms=len(items), rewritten=share(one.correct for one in forms), seconds=round(time.perf_counter() - start, 1),
            examples=wrong[:5],
        )  # fmt: skip


def choices(grader: Grader, data: Path) -> None:
    """Each MMLU gold as a letter, a sentence, a letter with its text, and each other letter."""
    right, other = [], []
    for q in load_questions("mmlu_elementary_math", data_dir=data):
        for letter, choice in zip("ABCD", q.choices, strict=True):
            said = [rf"\boxed{{{letter}}}", f"The answer is ({letter}).", rf"\boxed{{\text{{{letter}. {choice}}}}}"]
            (right if letter == q.gold else other).extend((text, q.gold, "choice", q.choices) for text in said)
    say(
        "MMLU: letters", forms=len(right) + len(other), right=share(v.correct for v in grader.grade(right)),
        others_wrong=share(not v.correct for v in grader.grade(other)),
    )  # fmt: skip


def others(data: Path, count: int, workers: int) -> None:
    """Random pairs of MATH golds, the worst case: hardly any is decided without computer algebra."""
    answers, draw = sources(data)["MATH test"], random.Random(0)
    pairs = [(draw.choice(answers), draw.choice(answers)) for _ in range(count)]
    start = time.perf_counter()
    with Grader(workers=workers, timeout=20.0) as grader:
        verdicts = grader.grade([(boxed(answer), gold, form_of(gold), ()) for gold, answer in pairs])
    seconds = time.perf_counter() - start
    equal = sorted({p for p, v in zip(pairs, verdicts, strict=True) if v.correct and p[0] != p[1]})
    surprising = [pair for pair in equal if pair not in SAME]
    say("pairs of different golds", pairs=count, written_differently_but_equal=equal, surprising=surprising,
        workers=workers, seconds=round(seconds, 1))  # fmt: skip


def second_grader(path: Path) -> None:
    """Imported, graded, and compared with the second grader of the tests."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bring([path], Path(folder) / "out", Asked(task="gsm8k"))
        seconds = time.perf_counter() - start
        records = read_records(Path(folder) / "out" / "evaluate" / "gsm8k-base.jsonl")
    texts = [json.loads(line)["response"] for line in path.read_text(encoding="utf-8").splitlines()]
    differing = [
        {"question": r.question_id, "gold": r.gold, "here": r.answer, "second": str(numeric_answer(text))}
        for r, text in zip(records, texts, strict=True)
        if r.correct is not agrees(text, r.gold)
    ]
    say(
        "real responses", responses=len(records), correct=sum(bool(r.correct) for r in records),
        never_closed=sum(r.status == "unclosed" for r in records), agreement=1 - len(differing) / len(records),
        disagreements=differing, seconds_import_and_grade=round(seconds, 2),
    )  # fmt: skip


def hostile(workers: int) -> None:
    """Each hostile answer between two neighbours that need computer algebra."""
    items: list[tuple] = []
    for n, answer in enumerate([*HOSTILE, "x" * 5_000_000, "{" * 5_000_000], start=2):
        items += [(boxed(answer), "5", "number", ()), (boxed(rf"\sqrt{{{2 * n * n}}}"), rf"{n}\sqrt{{2}}")]
    start = time.perf_counter()
    with Grader(workers=workers, timeout=2.0) as grader:
        verdicts = grader.grade(items)
    reasons = [v.reason for v in verdicts[0::2]]
    say(
        "hostile answers", answers=len(reasons), reasons={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        neighbours_right=share(v.correct for v in verdicts[1::2]), seconds=round(time.perf_counter() - start, 1),
    )  # fmt: skip


def intervals(simulations: int) -> None:
    """How often the 95 % interval holds the truth, with 200 questions."""
    for samples, gain in ((1, 0.0), (1, 0.3), (2, 0.3), (10, 0.15), (10, 0.0)):
        values, truth = paired_accuracies(200, simulations, samples, gain, seed=50 + samples)
        found = mean_estimates(values, grain=1 / samples)
        say(
            "coverage of an accuracy difference",
            samples=samples,
            true_points=round(100 * truth, 1),
            covered=covered(found, truth),
        )


def no_difference(simulations: int) -> None:
    """How often anything is claimed where base and edit are the same model."""
    for samples in (1, 2, 10):
        values, _ = paired_accuracies(200, simulations, samples, 0.0, seed=9 + samples)
        claims = [verdict(one).claim != "not shown" for one in mean_estimates(values, grain=1 / samples)]
        say("claims without a difference", samples=samples, claimed=float(np.mean(claims)))
    for samples in (2, 10):
        generator = np.random.default_rng(3)
        length, accuracy, size = [], [], []
        for _ in range(simulations):
            base, same = lognormal(generator, 200, samples), lognormal(generator, 200, samples)
            sets = matched(base, same, 0.1)
            assert sets is not None
            tokens = ratio_difference(sets.base_length, sets.other_length, resamples=2_000)
            length.append(tokens.excludes_zero)
            size.append(tokens.value / (sets.base_length[0].sum() / sets.base_length[1].sum()))
            accuracy.append(
                ratio_difference(sets.base_accuracy, sets.other_accuracy, 2 / samples, resamples=2_000).excludes_zero
            )
        say(
            "matched shortest 10 % without a difference", samples=samples, mean_change_of_length=round(float(np.mean(size)), 4),
            length_claimed=float(np.mean(length)), accuracy_claimed=float(np.mean(accuracy)),
        )  # fmt: skip


def share(values: Iterable[bool]) -> float:
    held = list(values)
    return round(sum(held) / len(held), 5)


if __name__ == "__main__":
    main()
