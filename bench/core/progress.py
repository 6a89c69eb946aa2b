"""What a person sees while the machine works: a bar with the time left (in a log, a line now and then), and one line per event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import rich.progress
from rich.console import Console
from rich.text import Text

from bench.core.formatting import duration

#: Seconds between two lines on how far the work is, where stderr is no terminal.
LINE_EVERY_S = 60.0
#: A step that is expected to take longer is announced before it begins, where stderr is no terminal.
ANNOUNCED_S = 10.0


class Reached(Protocol):
    def __call__(self, done: int, total: int, about: str, since: int = 0) -> None:
        """Says how many steps of how many are done, and what comes next. The time left is judged by the steps after `since`."""


class TimeLeft:
    """Estimates what the remaining steps will take, by those that are done."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self.first: int | None = None  # a resumed run does not begin at 0
        self.began_s = clock_s()

    def __call__(self, done: int, total: int, since: int) -> float | None:
        """Seconds; None before the first step that counts."""
        if self.first is None or done <= max(since, self.first):
            self.first, self.began_s = done, self.clock_s()
            return None
        return (self.clock_s() - self.began_s) / (done - self.first) * (total - done)


class Progress:
    """Prints to stderr, so that what a command prints on stdout stays clean."""

    def __init__(self, console: Console | None = None, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.console = console or Console(stderr=True)
        self.clock_s = clock_s

    def say(self, line: str) -> None:
        """Print one line as it is."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def turns(self, blocks: int) -> Iterator[Callable[[int, str, Sequence[str]], None]]:
        """A bar over scenarios that are measured in turns; the yielded function says which block of which one comes next, and the names of
        all that take turns. The first block, in which they are warmed up for the first time, tells nothing of the time left."""
        with self._steps() as reached:
            yield lambda block, name, names: reached(
                block * len(names) + names.index(name) if block else 0,
                len(names) * blocks,
                f"{len(names)} scenarios in turns: block {block + 1} of {name}",
                since=len(names),
            )

    @contextmanager
    def steps(self, about: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar over `total` steps; the yielded function says that one more is done."""
        done = 0
        with self._steps() as reached:

            def one_more() -> None:
                nonlocal done
                done += 1
                reached(done, total, about)

            reached(0, total, about)
            yield one_more

    @contextmanager
    def search(self, name: str, trials: int) -> Iterator[Callable[[int, int], None]]:
        """A bar over a search of at most `trials` trials; the yielded function says which one comes next and how many arms take part."""
        with self._steps("at most") as reached:
            yield lambda trial, arms: reached(trial, trials, f"{name}: trial {trial + 1} of at most {trials}, {arms} arms still searching")

    @contextmanager
    def step(self, title: str, expected_s: float | None = None) -> Iterator[None]:
        """A step that cannot be counted: `waiting` meanwhile, and a line with its seconds when it has ended well.

        Where stderr is no terminal, one that is expected to take long is announced.
        """
        if expected_s and expected_s > ANNOUNCED_S and not self.console.is_terminal:
            self.say(f"{title}: about {expected_s:.0f} s")
        began_s = self.clock_s()
        with self.waiting(title, expected_s):
            yield
        self.say(f"{title}: {self.clock_s() - began_s:.0f} s")

    @contextmanager
    def waiting(self, title: str, expected_s: float | None = None) -> Iterator[None]:
        """In a terminal a line that vanishes at its end: the time passed, and the time left where `expected_s` is known."""

        def left(task: rich.progress.Task) -> str:
            if expected_s is None:
                return ""
            left_s = expected_s - (task.elapsed or 0.0)
            return f"about {left_s:.0f} s left" if left_s > 0 else "longer than expected"

        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.TimeElapsedColumn(),
            _Computed(left),
        )
        with rich.progress.Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            bar.add_task(title, total=None)
            yield

    @contextmanager
    def counted(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A bar that vanishes at its end; the yielded function says how many items of how many are done, and which one is at work."""
        columns = (
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TextColumn("{task.fields[count]}"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[item]}", markup=False),
        )
        with rich.progress.Progress(*columns, console=self.console, transient=True, refresh_per_second=2) as bar:
            task = bar.add_task(title, total=None, count="", item="")
            yield lambda done, total, item: bar.update(task, completed=done, total=total, count=f"{done}/{total}", item=item[:40])

    @contextmanager
    def _steps(self, sure: str = "about") -> Iterator[Reached]:
        """A bar in a terminal, a line now and then elsewhere. `sure`: how far the time left can be trusted."""
        time_left, said_s = TimeLeft(self.clock_s), self.clock_s()

        def said(left_s: float | None) -> str:
            return "" if left_s is None else f"{sure} {duration(left_s)} left"

        def line(done: int, total: int, about: str, since: int = 0) -> None:
            nonlocal said_s
            left_s = time_left(done, total, since)
            if left_s is not None and self.clock_s() - said_s >= LINE_EVERY_S:
                self.say(f"{about}: {done} of {total} done, {said(left_s)}")
                said_s = self.clock_s()

        if not self.console.is_terminal:
            yield line
            return
        columns = (
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[left]}"),
        )
        with rich.progress.Progress(*columns, console=self.console, refresh_per_second=2) as bar:
            task = bar.add_task("", total=None, left="")
            yield lambda done, total, about, since=0: bar.update(
                task, completed=done, total=total, description=about, left=said(time_left(done, total, since))
            )


class _Computed(rich.progress.ProgressColumn):
    """A column whose text is computed at each refresh."""

    def __init__(self, text: Callable[[rich.progress.Task], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: rich.progress.Task) -> Text:
        return Text(self._text(task))
