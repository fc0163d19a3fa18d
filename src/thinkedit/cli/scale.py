"""The command that says what a run will need, from the model's config alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from thinkedit.cli.common import standalone
from thinkedit.cli.options import option

if TYPE_CHECKING:
    from rich.table import Table

    from thinkedit.planning import Layout, Step
    from thinkedit.sizes import Sizes

LAYOUTS = 5  # shown, the fastest first; --json has all


@standalone(
    "plan",
    "thinkedit plan deepseek-qwen-32b --gpus 8 --gpu-memory 80",
    "thinkedit plan deepseek-llama3-8b --gpus 1 --gpu-memory 24 --benchmarks gsm8k --n-samples 4",
    "thinkedit plan ./my-model --gpus 2 --gpu-memory 48 --tokens 1500 --json",
)
def plan_command(
    model: Annotated[str, typer.Argument(help="Short name, hub id or directory with config.json.", show_default=False)],
    gpus: Annotated[int, option("--gpus", min=1, help="GPUs that there are (default 1).")] = 1,
    gpu_memory: Annotated[float, option("--gpu-memory", min=1, help="GB of each (default 80).")] = 80.0,
    gpu_flops: Annotated[
        float | None,
        option("--gpu-flops", min=0.001, help="Peak TFLOP/s of each in 16 bits (default: of a common card of that memory)."),
    ] = None,
    gpu_bandwidth: Annotated[
        float | None, option("--gpu-bandwidth", min=0.001, help="Peak TB/s of its memory (default: likewise).")
    ] = None,
    benchmarks: Annotated[list[str] | None, option("--benchmarks", help="What to evaluate on (default: the paper's).")] = None,
    questions: Annotated[int | None, option("--questions", min=1, help="Questions a benchmark (default: all).")] = None,
    n_samples: Annotated[int | None, option("--n-samples", min=1, help="Answers a question (default 10).")] = None,
    placebos: Annotated[int | None, option("--placebos", min=0, help="Draws of each of the two placebos.")] = None,
    tokens: Annotated[int | None, option("--tokens", min=1, help="Sampled tokens an answer, on average.")] = None,
    as_json: Annotated[bool, option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """What fits on which GPUs, with which parallel sizes, how much disk, and about how many GPU hours. Loads no weights."""
    from dataclasses import asdict, replace

    from thinkedit.cli.terminal import heading, note, show
    from thinkedit.pipeline.defaults import defaults_for
    from thinkedit.pipeline.plan import parallel_sizes, read_sizes
    from thinkedit.planning import (
        CARDS,
        QUESTIONS,
        UNKNOWN_QUESTIONS,
        Assumptions,
        Device,
        asked_for,
        card_of,
        disk,
        layouts,
        steps,
    )

    sizes = read_sizes(model)
    card = card_of(gpu_memory * 1e9)
    device = Device(
        gpu_memory * 1e9,
        gpu_flops * 1e12 if gpu_flops else CARDS[card].flops,
        gpu_bandwidth * 1e12 if gpu_bandwidth else CARDS[card].bandwidth,
    )
    take = Assumptions() if tokens is None else replace(Assumptions(), thinking_tokens=tokens)
    asked = asked_for(defaults_for(model), sizes.shape, benchmarks or (), questions, n_samples, placebos)
    ways = layouts(sizes, gpus, device, max(asked.evaluate_cap, asked.steer_cap), parallel_sizes(sizes.shape), take)
    made, needed = steps(sizes, asked, ways[0], device, take), disk(sizes, asked, take)
    if as_json:
        import json

        found = {
            "model": model,
            "parameters": sizes.parameters,
            "weight_bytes": sizes.weight_bytes,
            "cache_bytes_per_token": sizes.cache_bytes,
            "layouts": [asdict(way) for way in ways],
            "steps": [asdict(step) for step in made],
            "disk_bytes": needed,
            "device": asdict(device),
            "assumptions": asdict(take),
        }
        print(json.dumps(found, indent=2))
        return
    heading(f"Plan: {model} on {gpus} GPU{'' if gpus == 1 else 's'} of {gpu_memory:g} GB")
    note(
        f"{_short(sizes.parameters)} parameters, {_bytes(sizes.weight_bytes)} of weights; "
        f"{_bytes(sizes.cache_bytes)} of cache a token"
    )
    show(_layouts_table(ways, [sum(step.hours for step in steps(sizes, asked, way, device, take)) for way in ways], sizes))
    show(_steps_table(made))
    show(_disk_table(needed))
    peaks = f"{device.flops / 1e12:,.4g} TFLOP/s and {device.bandwidth / 1e12:,.3g} TB/s"
    taken = "" if gpu_flops and gpu_bandwidth else f", from the data sheet of the {card} (--gpu-flops, --gpu-bandwidth)"
    note(
        f"assumed: {take.thinking_tokens:,} sampled tokens an answer (--tokens); peaks of {peaks}{taken}, of which decoding "
        f"reaches {take.decoding:.0%} and reading {take.prefill:.0%}; {take.usable_memory:.0%} of the memory filled. "
        "The formulas are in docs/scale.md."
    )
    if unknown := [name for name in benchmarks or () if name not in QUESTIONS]:
        note(f"{', '.join(unknown)}: taken for {UNKNOWN_QUESTIONS:,} questions (--questions says how many)")
    given = {"--questions": questions, "--n-samples": n_samples, "--placebos": placebos}
    narrowed = [("--benchmarks", name) for name in benchmarks or ()] + [(n, v) for n, v in given.items() if v is not None]
    told = "".join(f" {name} {value}" for name, value in narrowed)
    _show_commands(model, told, ways[0], sizes.weight_bytes <= take.usable_memory * device.memory)


def _layouts_table(ways: "Sequence[Layout]", hours: Sequence[float], sizes: "Sizes") -> "Table":
    columns = ("tensor x pipeline", "engines", "weights a GPU", "answers at once", "whole run")
    table = _table("What fits, the fastest first", *columns)
    for way, all_of_it in list(zip(ways, hours, strict=True))[:LAYOUTS]:
        at_once = f"{way.rows}" if way.replicas == 1 else f"{way.replicas} x {way.rows}"
        each = _bytes(sizes.weight_bytes / way.each)
        table.add_row(f"{way.tensor} x {way.pipeline}", str(way.replicas), each, at_once, _hours(all_of_it))
    return table


def _steps_table(made: "Sequence[Step]") -> "Table":
    table = _table("The steps of a run, the fastest way", "step", "answers", "tokens", "GPU time", "time")
    for step in made:
        table.add_row(step.name, f"{step.answers:,}", _short(step.tokens), _hours(step.gpu_hours), _hours(step.hours))
    table.add_section()
    table.add_row("all", "", "", _hours(sum(step.gpu_hours for step in made)), _hours(sum(step.hours for step in made)))
    return table


def _disk_table(needed: dict[str, float]) -> "Table":
    table = _table("Disk", "what", "size")
    for what, size in needed.items():
        table.add_row(what, _bytes(size))
    return table


def _table(title: str, first: str, *others: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column(first)
    for column in others:
        table.add_column(column, justify="right")
    return table


def _show_commands(model: str, told: str, way: "Layout", one_gpu_holds_it: bool) -> None:
    """What to type. The one pass needs the weights in one place, so a run in one call needs a GPU that holds them."""
    from thinkedit.cli.terminal import next_steps, note

    options = " --engine vllm"
    options += f" --tensor-parallel-size {way.tensor}" if way.tensor > 1 else ""
    options += f" --pipeline-parallel-size {way.pipeline}" if way.pipeline > 1 else ""
    options += f" --ray --ray-workers {way.replicas}" if way.replicas > 1 else ""
    if one_gpu_holds_it:
        return next_steps(("run it", f"thinkedit run {model}{told}{options}"))
    note("The direction is read by one process, and one such GPU does not hold the weights: do this step on the CPU.")
    next_steps(
        ("probe", f"thinkedit generate --model {model}{options}"),
        ("direction", f"thinkedit extract --model {model} --device cpu"),
        ("steering", f"thinkedit steer --model {model}{options}"),
        ("edit", f"thinkedit heads --model {model} && thinkedit edit --model {model}"),
        ("evaluation", f"thinkedit evaluate --model {model}{options}"),
    )


def _short(number: float) -> str:
    return f"{number / 1e9:,.2f} B" if number >= 1e9 else f"{number / 1e6:,.1f} M"


def _bytes(size: float) -> str:
    if size >= 1e9:
        return f"{size / 1e9:,.1f} GB"
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else "under 1 min"
