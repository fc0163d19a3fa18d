"""The commands that make an edit and what can be shipped of it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from thinkedit.cli.common import command, standalone
from thinkedit.cli.options import DirectionFile, option
from thinkedit.cli.terminal import heading, next_steps, note, show
from thinkedit.progress import counted

if TYPE_CHECKING:
    from thinkedit.pipeline.run import Run

Control = Annotated[Literal["attn", "mlp"] | None, option("--control", help="Which direction: attn or mlp.")]
Layers = Annotated[str, option("--layers", help="Which layers: all, 3, 3,5 or 4-9 (default all).")]
Link = Annotated[bool, option("--link", help="Hard links for the files that do not change.")]
MOST_ROWS = 40  # of a table on the terminal; --json has all


@command(
    "edit",
    "thinkedit edit",
    "thinkedit edit --n-heads 3 --strength 0.8",
    "thinkedit edit --heads 0:1,1:5 --to my-edited-model",
    "thinkedit edit --adapter",
    "thinkedit edit --model deepseek-qwen-1.5b --heads published",
)
def edit_command(
    run: "Run",
    n_heads: Annotated[
        int | None, option("--n-heads", help="How many of the best heads (default: the paper's, or 4 %).")
    ] = None,
    heads: Annotated[
        str | None,
        option("--heads", help="These heads instead: layer:head,layer:head, a JSON file, or published (the paper's lists)."),
    ] = None,
    strength: Annotated[float, option("--strength", help="1 takes the direction out whole (default 1).")] = 1.0,
    direction: DirectionFile = None,
    to: Annotated[Path | None, option("--to", help="Where it goes (default: <run>/edited or <run>/adapter).")] = None,
    link: Link = False,
    adapter: Annotated[bool, option("--adapter", help="Write the edit as a LoRA adapter of rank 1 (PEFT, vLLM).")] = False,
) -> None:
    """Step 5, the edit: take the direction out of the chosen heads' output projection and write the model."""
    from thinkedit.named_heads import PUBLISHED, parse_heads
    from thinkedit.pipeline.edit import edit_heads

    heading(f"Editing {run.source.name}")
    chosen: Any = None if heads is None else PUBLISHED if heads == PUBLISHED else parse_heads(heads)
    made = edit_heads(run, chosen, n_heads, strength, direction, to, link, adapter)
    named = ", ".join(f"{layer}:{head}" for layer, head in made.edit.heads)
    note(f"{counted(len(made.edit.heads), 'head')} ({made.share_of_weights:.2%} of the weights): {named}")
    if not adapter:
        note(f"left along the direction after rounding: at most {max(made.left.values()):.1e} of what was there")
    if made.left_out:
        note(f"left out, since they hold the unedited weights: {', '.join(made.left_out)}")
    next_steps(
        ("the adapter" if adapter else "the edited model", str(made.path)),
        ("look at what changed", f"thinkedit verify {run.source.name} {made.path}"),
        ("evaluate it", run.command("evaluate")),
        ("publish it", f"thinkedit push {made.path} --repo USER/NAME"),
    )


@command(
    "export",
    "thinkedit export --gguf",
    "thinkedit export --steer 0.08 --control attn --layers all --to steered --link",
    "thinkedit export --steer -0.08 --control mlp --layers 4-9",
)
def export_command(
    run: "Run",
    gguf: Annotated[bool, option("--gguf", help="Control vectors for llama.cpp (--control mlp).")] = False,
    steer: Annotated[
        float | None, option("--steer", metavar="ALPHA", help="A checkpoint that is steered by ALPHA, for any engine.")
    ] = None,
    control: Control = None,
    layers: Layers = "all",
    direction: DirectionFile = None,
    to: Annotated[Path | None, option("--to", help="Where it goes: a file for --gguf, a directory for --steer.")] = None,
    link: Link = False,
) -> None:
    """Ship the direction itself: as control vectors for llama.cpp, or as a steered checkpoint that any engine serves."""
    from thinkedit.errors import UsageError

    if gguf == (steer is not None):
        raise UsageError("Say what to export: either --gguf (control vectors) or --steer ALPHA (a steered checkpoint).")
    from thinkedit.pipeline.export import export_gguf, export_steered

    heading(f"Exporting the direction of {run.source.name}")
    if steer is None:
        if link:
            raise UsageError("--link goes with --steer; a file of control vectors shares nothing with the model.")
        made = export_gguf(run, control or "mlp", layers, direction, to)
        count = counted(len(made.layers), "control vector")
        note(f"{count}: direction.N is added at the end of the 0-based layer N, times the scale")
        if made.left_out:
            note("layer 0 is left out: llama.cpp applies no control vector there")
        next_steps(
            ("control vectors", str(made.path)),
            ("use them", f"llama-cli -m MODEL.gguf --control-vector-scaled {made.path} 0.08"),
        )
        return
    made = export_steered(run, control or "attn", steer, layers, direction, to, link)
    note(f"alpha {steer:+g} on {control or 'attn'} of {counted(len(made.layers), 'layer')}, as biases")
    next_steps(("the steered model", str(made.path)), ("serve it", f"vllm serve {made.path}"))


@standalone(
    "verify",
    "thinkedit verify deepseek-qwen-1.5b runs/deepseek-qwen-1.5b/edited",
    "thinkedit verify tiny runs/tiny/adapter --json",
    "thinkedit verify tiny runs/tiny/edited --direction runs/tiny/direction-attn.safetensors",
)
def verify_command(
    base: Annotated[str, typer.Argument(help="The base model: short name, hub id or directory.", show_default=False)],
    edited: Annotated[str, typer.Argument(help="The model or adapter that may be an edit of it.", show_default=False)],
    direction: Annotated[
        Path | None, option("--direction", help="Test against this direction (default: the one found in the change).")
    ] = None,
    json: Annotated[bool, option("--json", help="Print everything as JSON instead of tables.")] = False,
) -> None:
    """Find out what an edited model differs in from its base: heads, strength, what is left, and anything else.

    Exit code 0 where the two are identical or differ by an edit of heads alone, 1 otherwise.
    """
    from json import dumps

    from thinkedit.cli.terminal import Terminal, console
    from thinkedit.pipeline.verify import verify
    from thinkedit.progress import Silent

    if not json:
        heading(f"{edited} against {base}")
    found = verify(base, edited, direction, Silent() if json else Terminal())
    if json:
        print(dumps(found.as_dict(), indent=2))
    else:
        if found.heads:
            show(_heads_table(found))
        if found.others:
            show(_others_table(found))
        for line in found.notes:
            note(line)
        console.print(f"  [{'green' if found.verdict != 'other' else 'red'}]{found.headline}[/]", soft_wrap=True)
    if found.verdict == "other":
        raise typer.Exit(1)


def _heads_table(found: Any) -> Any:
    from rich.table import Table

    table = Table("head", "numbers", "change", "along v", "strength", "left along v", "an edit", title="heads that differ")
    if found.cosine:
        table.add_column("cosine with given")
    for head in found.heads[:MOST_ROWS]:
        cells = [f"{head.layer}:{head.head}", f"{head.numbers:,}", f"{head.size:.2g}", f"{head.explained:.2%}"]
        cells += [f"{head.strength:.3f}", f"{head.left:.1e}", "yes" if head.fits else "no"]
        table.add_row(*cells, *([f"{found.cosine[head.layer]:.4f}"] if found.cosine else []))
    if len(found.heads) > MOST_ROWS:
        table.caption = f"and {len(found.heads) - MOST_ROWS} more (--json has all)"
    return table


def _others_table(found: Any) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("tensor", "what differs", title="other tensors")
    for other in found.others[:MOST_ROWS]:
        table.add_row(escape(other.name), escape(other.what))
    if len(found.others) > MOST_ROWS:
        table.caption = f"and {len(found.others) - MOST_ROWS} more (--json has all)"
    return table


@standalone(
    "push",
    "thinkedit push runs/tiny/edited --repo me/my-edited-model",
    "thinkedit push runs/tiny/adapter --repo me/my-adapter --public --yes",
)
def push_command(
    directory: Annotated[Path, typer.Argument(help="An edited model, an adapter or a steered model.", show_default=False)],
    repo: Annotated[str, option("--repo", help="The repository on the hub: user/name.")],
    private: Annotated[bool, option("--private/--public", help="Who sees a repository that is new (default: private).")] = True,
    yes: Annotated[bool, option("--yes", help="Upload without asking.")] = False,
) -> None:
    """Upload an edited model or adapter to the Hugging Face hub, after showing what would be uploaded."""
    from thinkedit.artifacts.hub import plan_push, push
    from thinkedit.errors import ThinkEditError, UsageError
    from thinkedit.pipeline.card import refresh_card

    plan = plan_push(directory, repo, private)
    heading(f"{directory} to {repo}")
    if refresh_card(directory):
        note("the card now holds the figures of the run")
        plan = plan_push(directory, repo, private)
    show(_plan_table(plan))
    note(f"a new repository will be {'private' if private else 'public'}; one that is there stays as visible as it is")
    for line in plan.warnings:
        note(f"note: {line}")
    if plan.left_out:
        note(f"not uploaded: {', '.join(plan.left_out[:8])}{', ...' if len(plan.left_out) > 8 else ''}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("There is nobody to ask here; give --yes to upload this. Nothing was uploaded.")
        if not typer.confirm("  Upload this?", default=False):
            raise ThinkEditError("Nothing was uploaded.")
    next_steps(("uploaded to", push(plan)))


def _plan_table(plan: Any) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table("file", "size", show_footer=True)
    table.columns[1].justify = "right"
    for name, size in plan.files:
        table.add_row(escape(name), _size(size))
    table.columns[0].footer, table.columns[1].footer = f"{len(plan.files)} files", _size(plan.size)
    return table


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.2f} GB"
