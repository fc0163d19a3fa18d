"""What the terminal shows: progress with rate and time left, tables, and what to do next."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from thinkedit.plain_text import printable, redacted
from thinkedit.progress import Advance, counted

console = Console(highlight=False)


class Terminal:
    """Shows progress on a terminal; where there is none, one line a piece of work."""

    def say(self, line: str) -> None:
        console.print(f"  {escape(printable(redacted(line)))}")

    @contextmanager
    def work(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(escape(printable(title)), total=total, rate="", left="")
            done, before, started = 0, 0, time.monotonic()

            def advance(count: int, *, kept: bool = False) -> None:
                nonlocal done, before
                done, before = (done, before + count) if kept else (done + count, before)
                speed = done / max(1e-9, time.monotonic() - started)
                left = f"{timedelta(seconds=round((total - before - done) / speed))} left" if done else ""
                bar.update(task, advance=count, rate=f"{speed:,.1f}/s" if done else "", left=left)

            yield advance
            elapsed = time.monotonic() - started
        made = f"{counted(done, unit)} in {elapsed:,.1f} s"
        already = f", {before:,} kept from before" if before else ""
        console.print(f"  [green]✓[/] {escape(printable(title))}  [dim]{made}{already}[/]")


def heading(text: str) -> None:
    console.print(Text(printable(text), style="bold"))


def show(table: object) -> None:
    console.print(table)


def note(text: str) -> None:
    console.print(f"  {escape(printable(text))}")


def next_steps(*steps: tuple[str, str]) -> None:
    """What people want next, as a command each."""
    console.print()
    width = max(len(what) for what, _ in steps)
    for what, command in steps:
        console.print(f"  [dim]{escape(what.ljust(width))}[/]  {escape(printable(command))}", soft_wrap=True)
