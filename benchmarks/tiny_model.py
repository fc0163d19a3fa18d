"""Measures on the embedded model's test split what docs/tiny-model.md says of it.

    python benchmarks/tiny_model.py --out runs/tiny-test [--split test] [--questions 2000]

Prints one line a claim with its figure, its 95 % interval and whether it is met, and writes figures.json beside the run.
The test split is for the shipped weights, once; anything that is tuned is tuned on --split dev.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from thinkedit import Run, edit_heads, evaluate, extract, generate, rank, steer
from thinkedit.cli.terminal import Terminal
from thinkedit.metrics import by_group, grid, paired
from thinkedit.pipeline.gather import planted_cosine
from thinkedit.records import Record
from thinkedit.report.measures import accuracy, accuracy_difference, length_difference, thinking_length
from thinkedit.report.verdict import placebo
from thinkedit.statistics import spearman

LAYERS = (0, 1)  # where the direction is planted: rush in layer 0, rush and care in layer 1


def split_groups(records: list[Record]):
    return by_group(grid(records))


def difference(base: list[Record], other: list[Record], group: str):
    pair = paired(split_groups(base)[group], split_groups(other)[group])
    return accuracy_difference(*pair)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--split", default="test")
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--placebos", type=int, default=5)
    options = parser.parse_args()
    claims: list[dict] = []

    def claim(what: str, value: float, met: bool, low: float | None = None, high: float | None = None) -> None:
        claims.append({"claim": what, "value": value, "low": low, "high": high, "met": bool(met)})
        interval = "" if low is None else f"  [{low:.3f}, {high:.3f}]"
        print(f"{'ok  ' if met else 'MISS'}  {what}: {value:.3f}{interval}", flush=True)

    common = {"split": options.split, "limit": options.questions}
    with Run(options.model, options.out, progress=Terminal()) as run:
        tiny = {"dataset": "tiny", "max_tokens": 256}
        generate(run, split="train", limit=2000, **tiny)
        extraction = extract(run)
        steered = steer(run, **tiny, **common)
        rank(run)
        made = edit_heads(run)
        arms = evaluate(run, ["tiny"], options.split, 1, options.questions, 256, options.placebos)["tiny"]

        base, edited = arms["base"], arms["edited"]
        groups = split_groups(base)
        closed = float(np.mean([record.status == "closed" for record in base]))
        claim("closed thoughts", closed, closed >= 0.99)
        plain, rushed = (accuracy(groups[name]) for name in ("plain", "rushed"))
        claim("accuracy on the other topics", plain.value, plain.value >= 0.95, plain.low, plain.high)
        claim("accuracy on rushed topics", rushed.value, plain.value - rushed.value >= 0.40, rushed.low, rushed.high)
        for name in ("plain", "rushed"):
            length = thinking_length(groups[name])
            claim(f"thinking length, {name}", length.value, True, length.low, length.high)

        for control in ("attn", "mlp"):
            by_alpha = {
                a: [r for r in steered if (r.control, r.alpha) == (control, a)] for a in sorted({r.alpha for r in steered})
            }
            lengths = [thinking_length(grid(records)).value for records in by_alpha.values()]
            rho = spearman(list(by_alpha), lengths)
            claim(f"{control}: Spearman of length with alpha", rho, rho >= 0.95)
            claim(f"{control}: longest over shortest", max(lengths) / min(lengths), max(lengths) >= 2 * min(lengths))
            for alpha, records in by_alpha.items():
                if alpha <= 0:
                    continue
                gain, cost = (difference(by_alpha[0.0], records, name) for name in ("rushed", "plain"))
                claim(f"{control}: rushed topics gain at alpha {alpha:g}", gain.value, True, gain.low, gain.high)
                claim(f"{control}: other topics change at alpha {alpha:g}", cost.value, True, cost.low, cost.high)
            good = [
                alpha
                for alpha, records in by_alpha.items()
                if difference(by_alpha[0.0], records, "rushed").value >= 0.10
                and abs(difference(by_alpha[0.0], records, "plain").value) <= 0.03
            ]
            claim(f"{control}: strengths that help and do no harm", len(good), bool(good))

        cosines = planted_cosine(
            extraction.directions["attn"].vectors.numpy(), run.source.path / "planted" / "direction.safetensors"
        )
        for layer in LAYERS:
            claim(f"cosine with the planted direction, layer {layer}", cosines[layer], cosines[layer] >= 0.8)
        share = len(made.edit.heads) / run.shape.all_heads
        claim(f"share of heads edited ({', '.join(f'{x}:{y}' for x, y in made.edit.heads)})", share, share <= 0.1)

        effect = difference(base, edited, "rushed")
        cost = difference(base, edited, "plain")
        claim("edit: rushed topics gain", effect.value, effect.value >= 0.25, effect.low, effect.high)
        claim("edit: other topics change", cost.value, cost.value >= -0.02, cost.low, cost.high)
        grown = length_difference(*paired(grid(base), grid(edited)))
        claim("edit: thinking length changes", grown.value, grown.low > 0, grown.low, grown.high)
        rushed_arms = {arm: split_groups(records)["rushed"] for arm, records in arms.items()}
        for kind in ("random heads", "random direction"):
            draws = {arm: part for arm, part in rushed_arms.items() if arm.startswith(kind)}
            mean = placebo(kind, rushed_arms["base"], rushed_arms["edited"], draws).mean
            claim(f"{kind}: mean gain of {len(draws)} draws", mean.value, mean.value < effect.value / 5, mean.low, mean.high)

        rank(run, "long")
        made = edit_heads(run)
        long_arms = evaluate(run, ["tiny"], options.split, 1, options.questions, 256, 0)["tiny"]
        shrunk = length_difference(*paired(grid(long_arms["base"]), grid(long_arms["edited"])))
        named = ", ".join(f"{x}:{y}" for x, y in made.edit.heads)
        claim(
            f"--suppress long ({named}): thinking length changes",
            shrunk.value,
            shrunk.high < 0,
            shrunk.low,
            shrunk.high,
        )
    (options.out / "figures.json").write_text(json.dumps(claims, indent=1) + "\n")


if __name__ == "__main__":
    main()
