"""What a person sees while the machine works: a bar with the time left (in a log, a line a minute), and one line per event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import rich.progress
from rich.console import Console

from bench.budget import Pace
from bench.catalog import Scenario

LINE_EVERY_S = 60.0
"""Between two lines on how far the work is, where nobody watches a bar."""

Reached = Callable[[int, str], None]
"""Says how many steps are done, and what comes next."""


class Progress:
    """Prints to stderr, so that what a command prints on stdout stays clean."""

    def __init__(self, console: Console | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self.clock_s = clock_s

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def turns(self, names: Sequence[str], blocks: int) -> Iterator[Reached]:
        """A bar over scenarios that are measured in turns; the yielded function says which block of which one comes next."""
        with self._steps(len(names) * blocks) as reached:
            yield lambda block, name: reached(
                block * len(names) + names.index(name), f"{len(names)} scenarios in turns: block {block + 1} of {name}"
            )

    @contextmanager
    def scenario(self, scenario: Scenario, pace: Pace) -> Iterator[Callable[[], None]]:
        """A bar over the blocks of a scenario; the yielded function says that one more is done."""
        about, done = f"{scenario.name}: {pace.blocks} blocks × {pace.rounds} rounds × {pace.rows} rows an arm", 0
        with self._steps(pace.blocks) as reached:

            def one_more() -> None:
                nonlocal done
                done += 1
                reached(done, about)

            reached(0, about)
            yield one_more

    @contextmanager
    def search(self, scenario: Scenario, trials: int) -> Iterator[Callable[[int, int], None]]:
        """A bar over a search of at most `trials` trials; the yielded function says which one comes next and how many arms take part."""
        with self._steps(trials, "at most") as reached:
            yield lambda trial, arms: reached(trial, f"{scenario.name}: trial {trial + 1} of at most {trials}, {arms} arms still searching")

    @contextmanager
    def _steps(self, total: int, sure: str = "about") -> Iterator[Reached]:
        """A bar in a terminal, a line now and then elsewhere. `sure`: how far the time left can be trusted."""
        if not self.console.is_terminal:
            yield self._lines(total, sure)
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn(f"left, {sure}"),
            rich.progress.TimeRemainingColumn(),
        )
        with rich.progress.Progress(*columns, console=self.console, refresh_per_second=2) as bar:
            task = bar.add_task("", total=total)
            yield lambda done, about: bar.update(task, completed=done, description=about)

    def _lines(self, total: int, sure: str) -> Reached:
        began_s = said_s = self.clock_s()
        first: int | None = None

        def reached(done: int, about: str) -> None:
            nonlocal said_s, first
            now_s = self.clock_s()
            first = done if first is None else first
            if done > first and now_s - said_s >= LINE_EVERY_S:
                left_s = (now_s - began_s) / (done - first) * (total - done)
                self.say(f"{about}: {done} of {total} done, {sure} {minutes(left_s)} left")
                said_s = now_s

        return reached


def minutes(seconds: float) -> str:
    """`95` → `1m35s`, `7300` → `2h01m`: for people."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"
