"""The options that every command has, and how a command is made of a function with options of its own."""

import functools
import inspect
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from thinkedit.errors import Interrupted, UsageError
from thinkedit.pipeline.run import Options, Run

MODEL = "Model and machine"
ASKING = "Prompt and sampling"

app = typer.Typer(
    name="thinkedit",
    help="Find, steer and edit how long a reasoning model thinks.",
    epilog="Start with: [bold]thinkedit run[/] (the embedded model, no network, a few minutes), "
    "then [bold]thinkedit run deepseek-qwen-1.5b[/].",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def option(*names: str, help: str, panel: str | None = None, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **more)


def _common(
    model: Annotated[
        str | None,
        option("--model", help="Short name, hub id or directory (default: that of --out, else tiny).", panel=MODEL),
    ] = None,
    out: Annotated[Path | None, option("--out", help="Run directory (default: runs/<model>).", panel=MODEL)] = None,
    engine: Annotated[str, option("--engine", help="What runs the model: transformers.", panel=MODEL)] = "transformers",
    device: Annotated[str | None, option("--device", help="cpu, cuda, cuda:1 (default: the GPU if any).", panel=MODEL)] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        option("--dtype", help="Number format (default: float32 on CPU, else the checkpoint's).", panel=MODEL),
    ] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", min=1, help="Rows at once (default: what fits).", panel=MODEL)
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


def command(name: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers `function(run, **own options)` as a command that also has the common options."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(function, eval_str=True).parameters
        shared = {n: p for n, p in inspect.signature(_common, eval_str=True).parameters.items() if n not in own}
        parameters = [p for n, p in own.items() if n != "run"] + list(shared.values())

        @functools.wraps(function)
        def call(**given: Any) -> None:
            from thinkedit.cli.terminal import Terminal

            common: dict[str, Any] = {
                n: given.pop(n) if n in shared else given.get(n) for n in inspect.signature(_common).parameters
            }
            common.pop("debug")
            model, out = common.pop("model"), common.pop("out")
            command_line = shlex.join(["thinkedit", *sys.argv[1:]])
            try:
                with Run(model, out, Options(**common), Terminal(), command_line) as run:
                    function(run, **given)
            except KeyboardInterrupt:  # the parser would end the program without a word
                kept = "What was finished is kept; the same command goes on from there."
                raise Interrupted(f"Interrupted. {kept}") from None

        call.__signature__ = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in parameters])  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        lines = "\n\n".join(f"    $ {example}" for example in examples)
        app.command(name, help=inspect.getdoc(function), epilog=f"[bold]Examples[/]\n\n{lines}")(call)
        return function

    return register


def one(values: list[str] | None, name: str) -> str | None:
    """The only value of an option that some commands take several of."""
    if values and len(values) > 1:
        raise UsageError(f"{name} takes one value here, not {len(values)}: {', '.join(values)}.")
    return values[0] if values else None


def parse_columns(text: str | None) -> dict[str, str] | None:
    """Columns of a local file from "question=problem,answer=solution"."""
    if text is None:
        return None
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name and equals and column for name, equals, column in pairs):
        raise UsageError(f"--columns {text!r} is not understood; write --columns question=problem,answer=solution.")
    return {name.strip(): column.strip() for name, _, column in pairs}


def parse_controls(values: list[str] | None) -> tuple[Literal["attn", "mlp"], ...]:
    chosen = tuple(dict.fromkeys(values or ("attn", "mlp")))
    if not set(chosen) <= {"attn", "mlp"}:
        raise UsageError(f"--control takes attn, mlp or both, not {', '.join(chosen)}.")
    return chosen  # type: ignore[return-value]
