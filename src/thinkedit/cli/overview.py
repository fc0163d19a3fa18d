"""The commands by what they are for: which file defines each, and the page that `thinkedit --help` shows.

That page is made of this table alone, without the parser, which takes longer to load than the page to read.
"""

GROUPS = {
    "Everything": {
        "doctor": ("checking", "what will work with a model, before a run"),
        "plan": ("scale", "which GPUs, how much disk and how many hours a run will need"),
        "run": ("steps", "the whole method, from probe to report; goes on where it stopped"),
    },
    "Step by step": {
        "generate": ("steps", "the probe: a response to each of many training questions"),
        "extract": ("steps", "the direction of thinking length, in one forward pass"),
        "steer": ("steps", "answers with the direction added, at many strengths or layer by layer"),
        "heads": ("steps", "the heads that write the unwanted end, ranked, with a heat map"),
        "edit": ("editing", "take the direction out of these heads: a checkpoint or an adapter"),
        "evaluate": ("results", "n answers a question by the base, the edit and its placebos"),
        "analyze": ("results", "tables, pictures and one page, of one run or of several"),
    },
    "Ship it": {
        "export": ("editing", "control vectors for llama.cpp, or a steered checkpoint"),
        "verify": ("editing", "what an edited model differs in from its base, and nothing else?"),
        "push": ("editing", "upload to the Hugging Face hub, after showing what"),
    },
    "Answers that are there already": {
        "import": ("results", "read the published project's files, lm-eval's samples, plain files"),
        "regrade": ("results", "grade saved answers again and show which verdicts change"),
    },
}


def modules(command: str | None) -> list[str]:
    """The files of `thinkedit.cli` to load for a command: all of them where there is no such command."""
    homes = {name: module for commands in GROUPS.values() for name, (module, _) in commands.items()}
    return [homes[command]] if command in homes else list(dict.fromkeys(homes.values()))


def show_overview() -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print("\nFind, steer and edit how long a reasoning model thinks.\n")
    console.print("[bold]thinkedit COMMAND --help[/] shows the options of a command, with examples.\n")
    for title, commands in GROUPS.items():
        table = Table.grid(padding=(0, 2))
        table.add_column(width=8, style="cyan", no_wrap=True)
        table.add_column()
        for name, (_, line) in commands.items():
            table.add_row(name, line)
        console.print(f"[bold]{title}[/]")
        console.print(table)
        console.print()
    console.print("Start with  [bold]thinkedit run[/]  (an embedded model, no network, a few minutes)")
    console.print("and then    [bold]thinkedit run deepseek-qwen-1.5b[/]\n")
