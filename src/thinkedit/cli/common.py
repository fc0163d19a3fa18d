"""The options that every command has, and how a command is made of a function with options of its own."""

import functools
import importlib
import inspect
import shlex
import sys
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thinkedit.cli.options import option
from thinkedit.cli.overview import modules
from thinkedit.errors import Interrupted, UsageError
from thinkedit.plain_text import redacted

MODEL = "Model"
MACHINE = "What runs it"
ASKING = "Prompt and sampling"
ASKING_COMMANDS = ("run", "generate", "steer", "evaluate")  # those that may ask many engines at once

app = typer.Typer(
    name="thinkedit",
    help="Find, steer and edit how long a reasoning model thinks.",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _always_a_group() -> None:
    """Keeps the command's name on the command line where only one is loaded."""


def _common(
    model: Annotated[
        str | None,
        option("--model", help="Short name, hub id or directory (default: that of --out, else tiny).", panel=MODEL),
    ] = None,
    out: Annotated[Path | None, option("--out", help="Run directory (default: runs/<model>).", panel=MODEL)] = None,
    engine: Annotated[
        Literal["transformers", "vllm", "openai"] | None,
        option("--engine", help="What runs the model (default: vllm where it is installed on a GPU).", panel=MACHINE),
    ] = None,
    device: Annotated[str | None, option("--device", help="cpu, cuda, cuda:1 (default: a GPU if any).", panel=MACHINE)] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        option("--dtype", help="Number format (default: float32 on CPU, else the checkpoint's).", panel=MACHINE),
    ] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", min=1, help="Rows at once (default: what fits).", panel=MACHINE)
    ] = None,
    tensor_parallel_size: Annotated[
        int, option("--tensor-parallel-size", min=1, help="GPUs that split each layer (vllm).", panel=MACHINE)
    ] = 1,
    pipeline_parallel_size: Annotated[
        int, option("--pipeline-parallel-size", min=1, help="GPUs that split the layers (vllm).", panel=MACHINE)
    ] = 1,
    edit_as: Annotated[
        Literal["adapter", "checkpoint"],
        option("--edit-as", help="How vllm evaluates an edit (default: as an adapter).", panel=MACHINE),
    ] = "adapter",
    base_url: Annotated[
        str | None, option("--base-url", help="An OpenAI-compatible server: http://localhost:8000/v1.", panel=MACHINE)
    ] = None,
    served_model: Annotated[
        str | None, option("--served-model", help="The model's name there (default: the only one).", panel=MACHINE)
    ] = None,
    served_edited: Annotated[
        str | None, option("--served-edited", help="The edited model's name there, if it is served too.", panel=MACHINE)
    ] = None,
    concurrency: Annotated[int, option("--concurrency", min=1, help="Requests at once (default 64).", panel=MACHINE)] = 64,
    ray: Annotated[
        str | None,
        option(
            "--ray", metavar="[ADDRESS]", help="Many engines on Ray: here, or on a cluster (auto, HOST:PORT).", panel=MACHINE
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        option("--ray-workers", min=1, help="Engines on Ray (default: one a GPU, or for four CPU cores).", panel=MACHINE),
    ] = None,
    data_dir: Annotated[
        Path | None, option("--data-dir", help="Read the benchmarks from files here instead of the hub.", panel=MODEL)
    ] = None,
    prompt: Annotated[
        Literal["template", "raw"] | None,
        option("--prompt", help="The chat template, or the paper's <｜User｜>..<｜Assistant｜>.", panel=ASKING),
    ] = None,
    think_tags: Annotated[
        tuple[str, str] | None,
        option("--think-tags", metavar="OPEN CLOSE", help="Where thoughts are not in <think>.", panel=ASKING),
    ] = None,
    temperature: Annotated[
        float | None, option("--temperature", help="0 is greedy (default: the model's).", panel=ASKING)
    ] = None,
    top_p: Annotated[float | None, option("--top-p", help="Nucleus (default: the model's).", panel=ASKING)] = None,
    top_k: Annotated[int | None, option("--top-k", help="0 keeps all (default: the model's).", panel=ASKING)] = None,
    repetition_penalty: Annotated[
        float | None, option("--repetition-penalty", help="1 is none (default: the model's).", panel=ASKING)
    ] = None,
    seed: Annotated[int, option("--seed", help="Seed of all randomness (default 0).", panel=ASKING)] = 0,
    published_quirks: Annotated[
        bool,
        option("--published-quirks", help="Compute as the published scripts do, to compare numbers.", panel=ASKING),
    ] = False,
    debug: Annotated[bool, option("--debug", help="Show the traceback of an error.", panel=MODEL)] = False,
) -> None: ...


def load_commands(wanted: str | None = None) -> typer.Typer:
    """The program with the file of the wanted command loaded, or with all of them."""
    for module in modules(wanted):
        importlib.import_module(f"thinkedit.cli.{module}")
    return app


def command_line() -> str:
    """This call as it is kept, so that it can be made again: without what is secret in it."""
    return redacted(shlex.join(["thinkedit", *sys.argv[1:]]))


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers `function(run, **own options)` as a command that also has the common options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function).parameters
        left_out = own if name in ASKING_COMMANDS else {*own, "ray", "ray_workers"}
        shared = {n: p for n, p in inspect.signature(_common).parameters.items() if n not in left_out}

        def call(**given: Any) -> None:
            from dataclasses import fields

            from thinkedit.cli.terminal import Terminal
            from thinkedit.pipeline.machine import MachineOptions
            from thinkedit.pipeline.run import Options, Run

            common: dict[str, Any] = {
                n: given.pop(n) if n in shared else given.get(n) for n in inspect.signature(_common).parameters
            }
            common.pop("debug")
            model, out = common.pop("model"), common.pop("out")
            machine = MachineOptions(**{field.name: common.pop(field.name) for field in fields(MachineOptions)})
            line = command_line()
            with Run(model, out, Options(machine, **common), Terminal(), line) as run:
                try:
                    function(run, **given)
                except KeyboardInterrupt:
                    raise Interrupted(f"Interrupted. {run.kept()}.\nTo go on: {line}") from None
                except OSError as error:  # a full disk does not say which one it is
                    error.filename = error.filename or str(run.directory)
                    raise

        _register(name, call, function, [p for n, p in own.items() if n != "run"] + list(shared.values()), examples)
        return function

    return register


def standalone(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a command that works on files of any origin, outside of a run."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function).parameters.values())
        debug = inspect.signature(_common).parameters["debug"]

        def call(debug: bool, **given: Any) -> None:
            function(**given)

        _register(name, call, function, [*own, debug], examples)
        return function

    return register


def _check_finite(given: Mapping[str, Any]) -> None:
    """The parser takes nan and inf for numbers; none of our options means anything with them."""
    for name, value in given.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, float) and not isfinite(number):
                raise UsageError(f"--{name.replace('_', '-')} {number} makes no sense: a finite number is expected.")


def _register(
    name: str,
    call: Callable[..., None],
    function: Callable[..., None],
    parameters: list[inspect.Parameter],
    examples: tuple[str, ...],
) -> None:
    @functools.wraps(function)
    def guarded(**given: Any) -> None:
        _check_finite(given)
        try:
            call(**given)
        except KeyboardInterrupt:  # the parser would end the program without a word
            kept = "What was finished is kept; the same command goes on from there."
            raise Interrupted(f"Interrupted. {kept}") from None

    guarded.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
    guarded.__annotations__ = {p.name: p.annotation for p in parameters}
    lines = "\n\n".join(f"    $ {example}" for example in examples)
    app.command(name, help=inspect.getdoc(function), epilog=f"[bold]Examples[/]\n\n{lines}")(guarded)
