"""What the demo shows: a line for each step with progress, then the table and what it means."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from router.simulation.demo_figures import Result, Way
from router.simulation.demo_place import Place
from router.simulation.demo_summary import LEADLINE, Summary

NAME_WIDTH = 18


class _Count(MofNCompleteColumn):
    """How many of how many; nothing for a step that is one piece."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        return Text() if task.total is None else super().render(task)


class Step:
    """A step under way."""

    def __init__(self, name: str, progress: Progress, total: int | None) -> None:
        self.name, self.text = name, ""
        self._progress = progress
        self._task = progress.add_task(f"{name:<{NAME_WIDTH}}", total=total)

    def advance(self) -> None:
        """Counts one piece of it as done."""
        self._progress.advance(self._task)

    def done(self, text: str) -> None:
        """Says what came of it."""
        self.text = text

    def hide(self) -> None:
        """Takes its bar away."""
        self._progress.remove_task(self._task)


class Screen:
    """Steps go to standard error, the result to standard output."""

    def __init__(self, steps: Console, result: Console) -> None:
        self._steps, self._result = steps, result
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(32), _Count())
        self._progress = Progress(*columns, console=steps, disable=not steps.is_terminal)

    @classmethod
    def of_terminal(cls) -> Screen:
        """The screen on this process's own streams."""
        return cls(Console(stderr=True, highlight=False), Console(highlight=False))

    @contextmanager
    def opened(self, place: Place) -> Iterator[None]:
        """Shows steps from the first line on."""
        self._steps.print("\n[bold]Leadline demo[/]: the whole loop on this machine, in minutes.")
        self._steps.print(
            "The models and their answers are simulated; everything else is real. "
            f"Files go to [cyan]{escape(str(place.directory))}[/].\n",
            soft_wrap=True,
        )
        with self._progress:
            yield

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Shows a step while it lasts, then one line of what came of it."""
        begun, step, ended = time.monotonic(), Step(name, self._progress, total), "[red]x[/]"
        try:
            yield step
            ended = "[green]\u2713[/]"
        finally:
            step.hide()
            seconds = f"{time.monotonic() - begun:4.1f} s"
            self._steps.print(
                f" {ended} {name:<{NAME_WIDTH}} [dim]{seconds}[/]  {escape(step.text)}",
                soft_wrap=True,
            )

    def show(self, result: Result, summary: Summary, place: Place) -> None:
        """Prints the table, what it says, what is simulated, and where to go from here."""
        say = self._result.print
        say()
        say(_table(summary.ways, summary.cost_shares, result.plan.then))
        say(Text(summary.verdict, style="bold"))
        for line in summary.notes:
            say(Text(line))
        say()
        pointers = Table.grid(padding=(0, 2))
        for name, text in summary.pointers(place):
            pointers.add_row(Text(name, style="bold"), Text(text, overflow="fold"))
        say(pointers)

    def fail(self, lines: Sequence[str]) -> None:
        """Shows the end of a failed process's log."""
        for line in lines:
            self._steps.print(Text(f"  | {line}", style="dim"))


def _table(ways: Sequence[Way], cost_shares: Sequence[float], questions: int) -> Table:
    title = f"The same {questions:,} questions, unseen in training, answered in three ways"
    table = Table(
        title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", title_style="bold"
    )
    table.add_column("way", overflow="fold")
    for name in ("accuracy", "95 % range", "USD/1,000", "rel. cost", "p95"):
        table.add_column(name, justify="right", no_wrap=True)
    for way, share in zip(ways, cost_shares, strict=True):
        table.add_row(
            Text.assemble(way.name, "\n", (way.detail, "dim")),
            f"{way.accuracy:.3f}",
            f"{way.interval.low:.3f}\u2013{way.interval.high:.3f}",
            f"{way.usd_per_1000:.2f}",
            f"{share:.2f}",
            f"{way.p95_latency_s:.1f} s",
            style="green" if way.name == LEADLINE else "",
        )
    return table
