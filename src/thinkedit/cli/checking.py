"""The command that looks at a model before anything is done with it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from thinkedit.cli.common import standalone
from thinkedit.cli.options import option


@standalone("doctor", "thinkedit doctor", "thinkedit doctor deepseek-qwen-1.5b", "thinkedit doctor ./my-model --json")
def doctor_command(
    model: Annotated[str, typer.Argument(help="Short name, hub id or directory (default: tiny).", show_default=False)] = "tiny",
    device: Annotated[str | None, option("--device", help="cpu, cuda, cuda:1 (default: a GPU if any).")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None, option("--dtype", help="Number format to load it in.")
    ] = None,
    out: Annotated[Path | None, option("--out", help="Where the run would be (default: runs/<model>).")] = None,
    think_tags: Annotated[
        tuple[str, str] | None,
        option("--think-tags", metavar="OPEN CLOSE", help="Where thoughts are not in <think>."),
    ] = None,
    as_json: Annotated[bool, option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """What will work with a model: files, think tokens, template, room, and a proof. Exit code 1 if it cannot be used."""
    import json
    from dataclasses import asdict

    from thinkedit.cli.terminal import heading, show
    from thinkedit.doctor.examine import examine

    checks = list(examine(model, device, dtype, out, think_tags))
    usable = all(check.state != "fails" for check in checks)
    if as_json:
        print(json.dumps({"model": model, "usable": usable, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        heading(f"Doctor: {model}")
        show(_table(checks))
        failing = ", ".join(check.name for check in checks if check.state == "fails")
        heading("It can be used." if usable else f"It cannot be used as it is: {failing}.")
    raise typer.Exit(0 if usable else 1)


def _table(checks: list) -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from thinkedit.plain_text import printable

    colours = {"ok": "green", "warning": "yellow", "fails": "bold red"}
    table = Table(box=box.SIMPLE_HEAD)
    advised = any(check.advice for check in checks)
    for column in ("", "", "found", *(["what to do"] if advised else [])):
        table.add_column(column, overflow="fold")
    for check in checks:
        cells = [check.found, *([check.advice] if advised else [])]
        table.add_row(Text(check.name), Text(check.state, style=colours[check.state]), *map(Text, map(printable, cells)))
    return table
