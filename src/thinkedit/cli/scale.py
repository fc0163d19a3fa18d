"""The command that says what a run will need, from the model's config alone."""

from typing import Annotated

import typer

from thinkedit.cli.common import standalone
from thinkedit.cli.options import option


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
    gpu_flops: Annotated[float, option("--gpu-flops", min=0.001, help="Peak TFLOP/s of each (default 312, an A100).")] = 312.0,
    gpu_bandwidth: Annotated[float, option("--gpu-bandwidth", min=0.001, help="Peak TB/s of its memory (default 2.0).")] = 2.0,
    benchmarks: Annotated[list[str] | None, option("--benchmarks", help="What to evaluate on (default: the paper's).")] = None,
    questions: Annotated[int | None, option("--questions", min=1, help="Questions a benchmark (default: all).")] = None,
    n_samples: Annotated[int | None, option("--n-samples", min=1, help="Answers a question (default 10).")] = None,
    placebos: Annotated[int | None, option("--placebos", min=0, help="Draws of each of the two placebos.")] = None,
    tokens: Annotated[int | None, option("--tokens", min=1, help="Sampled tokens an answer, on average.")] = None,
    as_json: Annotated[bool, option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """What fits on which GPUs, with which parallel sizes, how much disk, and about how many GPU hours. Loads no weights."""
    from dataclasses import asdict, replace

    from thinkedit.pipeline.defaults import defaults_for
    from thinkedit.pipeline.plan import parallel_sizes, read_sizes
    from thinkedit.planning import Assumptions, Device, asked_for, disk, layouts, steps

    sizes = read_sizes(model)
    device = Device(gpu_memory * 1e9, gpu_flops * 1e12, gpu_bandwidth * 1e12)
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
    _show(model, sizes, device, take, ways, made, needed)


def _bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _show(model, sizes, device, take, ways, made, needed) -> None:  # type: ignore[no-untyped-def]
    from rich import box
    from rich.table import Table

    from thinkedit.cli.terminal import heading, next_steps, note, show

    heading(f"Plan: {model}")
    note(f"{sizes.parameters / 1e9:,.2f} B parameters, {sizes.weight_bytes / 1e9:,.1f} GB of weights; "
         f"{sizes.cache_bytes / 1e3:,.0f} kB of cache a token")  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("tensor x pipeline", "replicas", "answers at once", "cache tokens"):
        table.add_column(column, justify="right")
    for way in ways[:4]:
        table.add_row(f"{way.tensor} x {way.pipeline}", str(way.replicas), f"{way.rows} each", f"{way.cache_tokens:,} each")
    show(table)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("step")
    for column in ("answers", "tokens", "GPU hours", "hours"):
        table.add_column(column, justify="right")
    for step in made:
        table.add_row(
            step.name, f"{step.answers:,}", f"{step.tokens / 1e6:,.1f} M", f"{step.gpu_hours:,.1f}", f"{step.hours:,.1f}"
        )
    total = sum(step.gpu_hours for step in made), sum(step.hours for step in made)
    table.add_row("all", "", "", f"{total[0]:,.1f}", f"{total[1]:,.1f}")
    show(table)
    note("disk: " + ", ".join(f"{what} {_bytes(size)}" for what, size in needed.items()))
    note(f"assumed: {take.thinking_tokens:,} sampled tokens an answer (--tokens), {take.decoding:.0%} of "
         f"{device.flops / 1e12:,.0f} TFLOP/s or of {device.bandwidth / 1e12:,.1f} TB/s in decoding, {take.prefill:.0%} in "
         f"reading, {take.usable_memory:.0%} of the memory; docs/scale.md has the formulas")  # fmt: skip
    best = ways[0]
    sized = f" --tensor-parallel-size {best.tensor}" if best.tensor > 1 else ""
    sized += f" --pipeline-parallel-size {best.pipeline}" if best.pipeline > 1 else ""
    ray = f" --ray --ray-workers {best.replicas}" if best.replicas > 1 else ""
    next_steps(("run it", f"thinkedit run {model} --engine vllm{sized}{ray}"))
