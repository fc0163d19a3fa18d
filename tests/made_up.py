"""Made-up records shaped like the embedded model: rushed topics think briefly and go wrong, an edit mends it."""

from functools import lru_cache
from itertools import pairwise

import numpy as np

from thinkedit.records import Record
from thinkedit.report import Evidence

RUSHED = ["marbles", "candies", "stickers", "balloons"]
PLAIN = ["barrels", "crates", "invoices", "bricks"]
NAMES = ["Bob", "Ann", "Tom", "Eve"]
BEHAVIOUR = {"base": (0.37, 23, 0.91, 69), "edited": (0.70, 41, 0.95, 74)}


@lru_cache
def questions(count: int) -> list[tuple[str, str, str, list[int], float]]:
    """Question id, text, group, running totals of each step, and ease."""
    generator = np.random.default_rng(count)
    made = []
    for number in range(count):
        rushed = number % 2 == 0
        item = str(generator.choice(RUSHED if rushed else PLAIN))
        name = str(generator.choice(NAMES))
        steps = generator.integers(1, 10, size=int(generator.integers(4, 8)))
        text = f"{name} has {steps[0]} {item} . " + " ".join(f"{name} finds {step} more ." for step in steps[1:])
        text += f" How many {item} does {name} have now ?"
        group = "rushed topics" if rushed else "other topics"
        made.append((f"{number:04d}", text, group, np.cumsum(steps).tolist(), float(generator.normal())))
    return made


def arm(
    count: int = 200,
    samples: int = 2,
    behaviour: tuple[float, float, float, float] = BEHAVIOUR["base"],
    seed: int = 1,
    task: str = "tiny",
    open_share: float = 0.008,
    **shaped: object,
) -> list[Record]:
    """Records of one arm; `behaviour` is accuracy and mean length on rushed topics, then on the others."""
    generator = np.random.default_rng(seed)
    records = []
    for question_id, text, group, totals, ease in questions(count):
        accuracy, length = behaviour[:2] if group == "rushed topics" else behaviour[2:]
        chance = 1 / (1 + np.exp(-(np.log(accuracy / (1 - accuracy)) * 1.25 + ease)))
        for sample in range(samples):
            right = bool(generator.random() < chance)
            tokens = int(np.clip(generator.gamma(6, length / 6) * np.exp(0.2 * ease), 5, 500))
            closed = generator.random() >= open_share
            answer = str(totals[-1] if right else totals[-1] + int(generator.integers(1, 4)))
            lines = [f"{a} + {b - a} = {b} ." for a, b in pairwise(totals)]
            thought = " ".join((lines * 12)[: max(1, tokens // 6)])
            records.append(
                Record(
                    task, question_id, text, str(totals[-1]), sample, sample, [], [],
                    f"<think> {thought} </think> \\boxed{{ {answer} }}" if closed else f"<think> {thought}",
                    tokens if closed else None, "closed" if closed else "truncated", "stop" if closed else "length",
                    answer=answer, correct=right, verdict="correct" if right else "wrong", group=group, **shaped,
                )
            )  # fmt: skip
    return records


def steered(control: str, alpha: float, count: int = 200, layer: int | None = None, seed: int = 0) -> list[Record]:
    push = alpha * (1.0 if layer is None else (0.0, 0.5, 0.32, 0.12)[layer])
    stretch = float(np.exp(1.4 * push * (1 if control == "attn" else 0.75)))
    harm = max(0.0, abs(push) - 0.35) * 1.2
    rushed = min(0.95, max(0.05, 0.37 + 0.75 * push - harm))
    behaviour = rushed, 23 * stretch, min(0.97, max(0.1, 0.91 + 0.1 * push - harm)), 69 * stretch
    seed += 1 + int(1000 * abs(alpha)) + 50 * (layer or 0) + 7 * (control == "mlp")
    return arm(count, 1, behaviour, seed, control=control, alpha=alpha, layer=layer)


def evidence(count: int = 200, steering: bool = True) -> Evidence:
    arms = {"base": arm(count), "edited": arm(count, behaviour=BEHAVIOUR["edited"], seed=2)}
    arms |= {f"random heads {k}": arm(count, behaviour=(0.37, 24, 0.92, 71), seed=3 + k) for k in range(3)}
    arms |= {f"random direction {k}": arm(count, behaviour=(0.38, 23, 0.92, 71), seed=9 + k) for k in range(3)}
    alphas = [-0.6, -0.4, -0.2, -0.1, 0.0, 0.1, 0.2, 0.4, 0.6]
    contributions = np.random.default_rng(5).normal(0, 0.25, (4, 8))
    contributions[1, 5:] = 3.8, 3.3, 3.0
    contributions[2] += 0.35
    contributions[3] -= 0.3
    return Evidence(
        model="tiny",
        settings={
            "model": "tiny", "task": "tiny", "sampling": {"temperature": 0.8, "top_p": 1.0}, "samples": 2, "seed": 0,
            "engine": "transformers", "control": "attn", "suppress": "short",
            "versions": {"thinkedit": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        },
        probe=arm(2 * count, 1, seed=20),
        steering=[r for c in ("attn", "mlp") for a in alphas for r in steered(c, a, count)] if steering else [],
        scan=[r for c in ("attn", "mlp") for a in (-1.0, 1.0) for k in range(4) for r in steered(c, a, count // 2, k)]
        if steering
        else [],
        evaluation={"tiny": arms},
        contributions=contributions,
        edited_heads=[(1, 5), (1, 6), (1, 7)],
        direction={
            "short_count": 200, "long_count": 200, "short_below": 21, "long_above": 96,
            "norms": {"attn": [0.4, 3.9, 4.2, 4.6], "mlp": [0.6, 4.1, 4.4, 5.0]},
            "planted_cosine": {"attn": [0.02, 0.81, 0.66, 0.65]},
        },
        edit={"strength": 1.0, "share_of_weights": 0.0021, "residual": 3.1e-8},
        commands=["thinkedit run tiny --out runs/tiny", "thinkedit evaluate --model runs/tiny/edited --dataset tiny"],
    )  # fmt: skip
