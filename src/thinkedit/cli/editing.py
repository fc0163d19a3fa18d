"""The commands that make an edit and what can be shipped of it."""

from pathlib import Path
from typing import Annotated

from thinkedit.cli.common import command
from thinkedit.cli.options import DirectionFile, option
from thinkedit.cli.terminal import heading, next_steps, note
from thinkedit.pipeline.run import Run


@command(
    "edit",
    "thinkedit edit",
    "thinkedit edit --n-heads 3 --strength 0.8",
    "thinkedit edit --heads 0:1,1:5 --to my-edited-model",
)
def edit_command(
    run: Run,
    n_heads: Annotated[
        int | None, option("--n-heads", help="How many of the best heads (default: the paper's, or 4 %).")
    ] = None,
    heads: Annotated[str | None, option("--heads", help="These heads instead: layer:head,layer:head or a JSON file.")] = None,
    strength: Annotated[float, option("--strength", help="1 takes the direction out whole (default 1).")] = 1.0,
    direction: DirectionFile = None,
    to: Annotated[Path | None, option("--to", help="Where the edited model goes (default: <run>/edited).")] = None,
    link: Annotated[bool, option("--link", help="Hard links for the files that do not change.")] = False,
) -> None:
    """Step 5, the edit: take the direction out of the chosen heads' output projection and write the model."""
    from thinkedit.edit import parse_heads
    from thinkedit.pipeline.edit import edit_heads

    heading(f"Editing {run.source.name}")
    made = edit_heads(run, parse_heads(heads) if heads else None, n_heads, strength, direction, to, link)
    named = ", ".join(f"{layer}:{head}" for layer, head in made.edit.heads)
    note(f"{len(made.edit.heads)} heads ({made.share_of_weights:.2%} of the weights): {named}")
    note(f"left along the direction after rounding: at most {max(made.left.values()):.1e} of what was there")
    next_steps(("the edited model", str(made.path)), ("evaluate it", run.command("evaluate")))
