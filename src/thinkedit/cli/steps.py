"""The commands of the method's steps: generate, extract, steer, heads, and run for all of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinkedit.cli.common import command
from thinkedit.cli.options import (
    Columns,
    Datasets,
    DirectionFile,
    Limit,
    MaxTokens,
    Split,
    Suppress,
    one,
    option,
    parse_columns,
    parse_controls,
)
from thinkedit.cli.summaries import show_change
from thinkedit.cli.terminal import heading, next_steps, note, show

if TYPE_CHECKING:
    from thinkedit.pipeline.run import Run


@command(
    "run",
    "thinkedit run",
    "thinkedit run --quick",
    "thinkedit run deepseek-qwen-1.5b --benchmarks gsm8k --questions 200",
)
def run_command(
    run: "Run",
    model: Annotated[
        str | None, typer.Argument(help="Short name, hub id or directory (default: tiny).", show_default=False)
    ] = None,
    quick: Annotated[bool, option("--quick", help="A small run, to see that all works.")] = False,
    dataset: Datasets = None,
    benchmarks: Annotated[list[str] | None, option("--benchmarks", help="What to evaluate on (repeat for several).")] = None,
    probes: Annotated[int | None, option("--probes", min=1, help="Responses to find the direction in.")] = None,
    questions: Annotated[int | None, option("--questions", min=1, help="Questions to steer and to evaluate on.")] = None,
    n_samples: Annotated[int | None, option("--n-samples", min=1, help="Answers a question in the evaluation.")] = None,
    max_tokens: MaxTokens = None,
    n_heads: Annotated[int | None, option("--n-heads", help="How many heads to edit (default: the paper's, or 4 %).")] = None,
    strength: Annotated[float, option("--strength", help="1 takes the direction out whole (default 1).")] = 1.0,
    suppress: Suppress = "short",
    placebos: Annotated[int | None, option("--placebos", min=0, help="Draws of each of the two placebos.")] = None,
    short: Annotated[int | None, option("--short", help="A thought is short under this many tokens.")] = None,
    long: Annotated[int | None, option("--long", help="A thought is long over this many tokens.")] = None,
    no_steering: Annotated[bool, option("--no-steering", help="Leave the steering sweep out.")] = False,
    no_scan: Annotated[bool, option("--no-scan", help="Leave the layer scan out.")] = False,
) -> None:
    """The whole method: probe, direction, steering, layer scan, heads, edit, evaluation and report. Resumes."""
    from thinkedit.pipeline.everything import Plan, everything

    heading(f"ThinkEdit on {run.source.name}  ({run.shape.layers} layers x {run.shape.heads} heads, {run.directory})")
    plan = Plan(
        dataset=one(dataset, "--dataset"),
        benchmarks=benchmarks,
        probes=probes or (600 if quick else None),
        questions=questions or (60 if quick else None),
        samples=n_samples or (2 if quick else None),
        max_tokens=max_tokens,
        alphas=run.defaults.alphas[:: len(run.defaults.alphas) // 2] if quick else None,
        n_heads=n_heads,
        strength=strength,
        suppress=suppress,
        placebos=placebos if placebos is not None else (1 if quick else None),
        short=short,
        long=long,
        skip_steering=no_steering,
        skip_scan=no_scan,
    )
    show_change(everything(run, plan))
    next_steps(
        ("the report", str(run.directory / "report" / "index.html")),
        ("the edited model", str(run.directory / "edited")),
        ("more samples", run.command("evaluate --n-samples 10")),
        ("other doses", run.command("evaluate --n-heads 1 2 5 --strength 0.5 1")),
    )


@command(
    "generate",
    "thinkedit generate --limit 500",
    "thinkedit generate --model deepseek-qwen-1.5b --dataset gsm8k --limit 2000",
)
def generate_command(
    run: "Run",
    dataset: Datasets = None,
    split: Split = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    columns: Columns = None,
) -> None:
    """Step 1, the probe: sample one response to each of many training questions."""
    from thinkedit.pipeline.generate import generate

    heading(f"Probing {run.source.name}")
    records = generate(run, one(dataset, "--dataset"), split, limit, max_tokens, parse_columns(columns))
    say_statuses(records)
    next_steps(("the direction", run.command("extract")))


@command(
    "extract",
    "thinkedit extract",
    "thinkedit extract --short 20 --long 120",
    "thinkedit extract --model deepseek-qwen-1.5b --responses responses.jsonl",
)
def extract_command(
    run: "Run",
    responses: Annotated[Path | None, option("--responses", help="Responses made elsewhere, .jsonl or .json.")] = None,
    short: Annotated[int | None, option("--short", help="A thought is short under this many tokens (paper: 100).")] = None,
    long: Annotated[int | None, option("--long", help="A thought is long over this many tokens (paper: 1000).")] = None,
    short_quantile: Annotated[float | None, option("--short-quantile", help="Or: the shortest share, such as 0.1.")] = None,
    long_quantile: Annotated[
        float | None, option("--long-quantile", help="Or: the longest from this quantile, such as 0.9.")
    ] = None,
    every: Annotated[bool, option("--all", help="Read every closed thought, not only the short and long ones.")] = False,
) -> None:
    """Step 2, the direction: one forward pass over short and long thoughts gives the attn and the mlp direction."""
    from thinkedit.direction_quality import warning
    from thinkedit.pipeline.extract import extract

    heading(f"Directions of {run.source.name}")
    found = extract(run, responses, short, long, short_quantile, long_quantile, every)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    note(f"{found.responses:,} responses; {sum(found.left_out.values()):,} left out{f': {reasons}' if reasons else ''}")
    note(f"{len(found.split.short):,} short and {len(found.split.long):,} long: {found.split.rule}")
    for control, direction in found.directions.items():
        norms = direction.vectors.norm(dim=1)
        note(f"{control:>4}: norm {norms.min():.3g} to {norms.max():.3g}, largest in layer {int(norms.argmax())}")
        note(f"      {found.quality[control].line()}")
    for control, direction in found.directions.items():
        if doubt := warning(direction.about, control):
            note(doubt)
    next_steps(("steer along it", run.command("steer")), ("find the heads", run.command("heads")))


@command(
    "steer",
    "thinkedit steer --direction-weight -0.2 0 0.2 --limit 100",
    "thinkedit steer --layers each --control attn",
    "thinkedit steer --model deepseek-qwen-1.5b --dataset MATH-level5-140 --control thinking_length_mlp",
)
def steer_command(
    run: "Run",
    control: Annotated[list[str] | None, option("--control", help="attn, mlp or both (default: both).")] = None,
    direction_weight: Annotated[
        list[float] | None,
        option("--direction-weight", "--alpha", help="Strengths alpha, several at once: -0.2 0 0.2."),
    ] = None,
    layers: Annotated[str, option("--layers", "--layer", help="all, each (the layer scan), 3, 3,5 or 4-9.")] = "all",
    dataset: Datasets = None,
    split: Split = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    direction: DirectionFile = None,
    columns: Columns = None,
) -> None:
    """Step 3, steering: answer questions with alpha times the direction added, for several alpha in one load."""
    from thinkedit.pipeline.steer import steer
    from thinkedit.report.steering import steering_figures
    from thinkedit.report.table import to_rich
    from thinkedit.report.tables import steering_table

    heading(f"Steering {run.source.name}")
    controls = parse_controls(control)
    records = steer(
        run,
        controls,
        direction_weight,
        layers,
        one(dataset, "--dataset"),
        split,
        limit,
        max_tokens,
        direction,
        parse_columns(columns),
    )
    part = "layer_scan" if layers == "each" else "steering"
    figures = steering_figures(records)
    table = steering_table({part: figures}, part)
    if table is not None:
        show(to_rich(table))
    picture = draw_steering_picture(run, figures["rows"], part)
    next_steps(("picture", str(picture)), ("find the heads", run.command("heads")), ("the report", run.command("analyze")))


@command("heads", "thinkedit heads", "thinkedit heads --suppress long --top 20")
def heads_command(
    run: "Run",
    suppress: Suppress = "short",
    top: Annotated[int, option("--top", min=1, help="How many to show (default 10).")] = 10,
) -> None:
    """Step 4, the heads: rank all heads by how much they write the unwanted end, with a heat map."""
    from rich import box
    from rich.table import Table

    from thinkedit.pipeline.heads import rank

    heading(f"Heads of {run.source.name}")
    scores = rank(run, suppress)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("rank", "layer", "head", "contribution"):
        table.add_column(column, justify="right")
    for place, ((layer, head), contribution) in enumerate(scores.ranking[:top], start=1):
        table.add_row(str(place), str(layer), str(head), f"{contribution:.3f}")
    show(table)
    next_steps(("heat map", str(run.directory / "heads.png")), ("edit the best", run.command("edit")))


def say_statuses(records: list) -> None:
    from collections import Counter

    counts = Counter(record.status for record in records)
    lengths = sorted(record.thinking_tokens for record in records if record.status == "closed")
    note(f"{len(records):,} responses: " + ", ".join(f"{count:,} {status}" for status, count in counts.most_common()))
    if lengths:
        share = [lengths[min(len(lengths) - 1, int(q * len(lengths)))] for q in (0.1, 0.5, 0.9)]
        note(f"thinking tokens: {share[0]:,} / {share[1]:,} / {share[2]:,} at the 10 / 50 / 90 % points")


def draw_steering_picture(run: "Run", rows: list, part: str) -> Path:
    from thinkedit.report.figures import draw_layer_scan, draw_steering

    path = run.directory / "steer" / ("layer-scan.png" if part == "layer_scan" else "steering.png")
    (draw_layer_scan if part == "layer_scan" else draw_steering)(rows, path)
    return path
