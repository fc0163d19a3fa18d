"""All steps in order, each continuing where an earlier call was stopped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thinkedit.engines.base import Control
from thinkedit.heads import Suppress
from thinkedit.pipeline.analyze import analyze
from thinkedit.pipeline.edit import edit_heads
from thinkedit.pipeline.evaluate import evaluate
from thinkedit.pipeline.extract import extract
from thinkedit.pipeline.generate import generate
from thinkedit.pipeline.heads import rank
from thinkedit.pipeline.run import Run
from thinkedit.pipeline.steer import steer


@dataclass(frozen=True, slots=True)
class Plan:
    """What may differ from the defaults in a whole run. None means the default of the model."""

    dataset: str | None = None
    benchmarks: Sequence[str] | None = None
    probes: int | None = None
    questions: int | None = None
    samples: int | None = None
    max_tokens: int | None = None
    controls: Sequence[Control] = ("attn", "mlp")
    alphas: Sequence[float] | None = None
    n_heads: int | None = None
    strength: float = 1.0
    suppress: Suppress = "short"
    placebos: int | None = None
    short: int | None = None
    long: int | None = None
    skip_steering: bool = False
    skip_scan: bool = False


def everything(run: Run, plan: Plan = Plan()) -> dict[str, Any]:
    """Probe, direction, steering, layer scan, heads, edit, evaluation and report; gives the summary."""
    if not (plan.skip_steering and plan.skip_scan):
        run.machine.check_able("steering")
    dataset, max_tokens = plan.dataset, plan.max_tokens
    generate(run, dataset, limit=plan.probes, max_tokens=max_tokens)
    found = extract(run, short=plan.short, long=plan.long)
    run.progress.say(
        f"direction from {len(found.split.short)} short and {len(found.split.long)} long thoughts: {found.split.rule}"
    )
    if not plan.skip_steering:
        steer(run, plan.controls, plan.alphas, dataset=dataset, limit=plan.questions, max_tokens=max_tokens)
    if not plan.skip_scan:
        scanned = min(plan.questions, run.defaults.scan_limit) if plan.questions else None
        steer(run, plan.controls[:1], layers="each", dataset=dataset, limit=scanned, max_tokens=max_tokens)
    scores = rank(run, plan.suppress)
    (layer, head), best = scores.ranking[0]
    run.progress.say(f"{run.shape.all_heads} heads ranked: the best is layer {layer}, head {head} ({best:.2f})")
    made = edit_heads(run, n_heads=plan.n_heads, strength=plan.strength)
    run.progress.say(f"edited {len(made.edit.heads)} heads ({made.share_of_weights:.2%} of the weights): {made.path}")
    benchmarks = plan.benchmarks or ([plan.dataset] if plan.dataset else None)
    evaluate(run, benchmarks, None, plan.samples, plan.questions, plan.max_tokens, plan.placebos)
    return analyze(run)
