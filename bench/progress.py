"""What a person sees while the machine works: a bar with the time left, and one line per event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rich.progress
from rich.console import Console

from bench.budget import Pace
from bench.catalog import Scenario


class Progress:
    """Prints to stderr, so that what a command prints on stdout stays clean."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def turns(self, names: Sequence[str], blocks: int) -> Iterator[Callable[[int, str], None]]:
        """A bar over scenarios that are measured in turns; the yielded function says which block of which one comes next."""
        total = len(names) * blocks
        with self._bar(f"{len(names)} scenarios in turns", total) as (bar, task):

            def comes(block: int, name: str) -> None:
                done = block * len(names) + names.index(name)
                bar.update(task, completed=done, description=f"{len(names)} scenarios in turns: block {block + 1} of {name}")

            yield comes
            bar.update(task, completed=total)

    @contextmanager
    def scenario(self, scenario: Scenario, pace: Pace) -> Iterator[Callable[[], None]]:
        """A bar over the blocks of a scenario; the yielded function says that one more is done."""
        about = f"{scenario.name}: {pace.blocks} blocks × {pace.rounds} rounds × {pace.rows} rows an arm"
        with self._bar(about, pace.blocks) as (bar, task):
            yield lambda: bar.advance(task)

    @contextmanager
    def _bar(self, about: str, total: int) -> Iterator[tuple[rich.progress.Progress, rich.progress.TaskID]]:
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self.console, refresh_per_second=2) as bar:
            yield bar, bar.add_task(about, total=total)
