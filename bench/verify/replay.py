"""`invoke verify`: measure the promises one after another, print promise | measured | held, and keep what was found."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence

import rich.progress
from rich.console import Console
from rich.table import Table

from bench.core.errors import BenchError
from bench.machine import identity, lock
from bench.verify import campaigns, record
from bench.verify.claim import Claim, Found, Tick
from bench.verify.claims import CLAIMS, pick
from bench.verify.live_bench import nulls
from bench.verify.model import subject
from bench.workers import client
from bench.workers.client import SliceFailed, WorkerFailed

HELD = {True: "yes", False: "NO", None: "not measured"}


def run(only: str, quick: bool, count: int = 0, budget: str = "1m") -> None:
    """Measure what was picked, and `count` real campaigns of `budget`; each result is on disk as soon as it is there.

    Raises:
        BenchError: a promise is not held, or could not be measured.
    """
    if count < 0:
        raise BenchError(f"--campaigns {count}: wants a whole number of at least 0")
    chosen = pick(only, quick)
    real = campaigns.many(count, budget)
    if count:
        chosen.append(real)
    if not all(promise.quick for promise in chosen):
        client.require_linux()
    path = record.file()
    entries = record.read(path)
    busy = _busy()
    if busy and not all(promise.quick for promise in chosen):
        Console(stderr=True).print(f"{busy}: promises about time want a quiet machine", markup=False, highlight=False)
    # The quick ones too: a proof beside a measurement spoils both.
    with lock.hold("the protocol's own proof") as held:
        if any("nulls" in promise.needs for promise in chosen):
            nulls()
        if any("model" in promise.needs for promise in chosen):
            subject()
        for promise, found, seconds in _measured(chosen, {name: entry.seconds for name, entry in entries.items()}, held):
            entries[promise.name] = record.entry(promise, found, seconds)
            record.write(path, entries, [known.name for known in (*CLAIMS, real)])
    names = [promise.name for promise in chosen]
    Console().print(table([entries[name] for name in names]))
    if broken := [name for name in names if entries[name].held is not True]:
        why = f" ({busy} before the first)" if busy else ""
        raise BenchError(
            f"{len(broken)} of {len(names)} promises do not hold here: {', '.join(broken)}{why}; {path} keeps what was measured"
        )


def _busy() -> str | None:
    """What others do to this machine, where it is more than it has cores for."""
    load, cores = os.getloadavg()[0], identity.physical_cores()
    return f"load average {load:.1f} on {cores} cores" if load > cores else None


def measure(promise: Claim, held: lock.MachineLock, tick: Tick) -> Found:
    """Measure one promise. What a user can mend leaves it unmeasured; a worker that fails breaks it."""
    try:
        return promise.measure(held, tick)
    except BenchError as error:
        return Found(str(error), None)
    except (WorkerFailed, SliceFailed) as failure:
        return Found(f"a worker failed: {failure}", False)


def table(entries: Sequence[record.Entry]) -> Table:
    """promise | measured | held."""
    made = Table("promise", "measured", "held", title="What the protocol promises, and what was measured here", title_justify="left")
    for entry in entries:
        made.add_row(entry.promise, entry.measured, HELD[entry.held])
    return made


def _measured(chosen: Sequence[Claim], lasted: Mapping[str, float], held: lock.MachineLock) -> Iterator[tuple[Claim, Found, float]]:
    """Each promise with what was found and the seconds it took, behind one bar with the time left."""
    expected = {promise.name: lasted.get(promise.name) or promise.seconds for promise in chosen}
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("", total=sum(expected.values()))
        before = 0.0
        for promise in chosen:
            bar.update(task, description=promise.name)
            began, base, span = time.monotonic(), before, expected[promise.name]

            def tick(share: float, base: float = base, span: float = span) -> None:
                bar.update(task, completed=base + share * span)

            found = measure(promise, held, tick)
            before += span
            bar.update(task, completed=before)
            bar.console.print(f"{promise.name}: {HELD[found.held]}: {found.measured}", markup=False, highlight=False, soft_wrap=True)
            yield promise, found, time.monotonic() - began
