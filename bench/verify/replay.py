"""`invoke verify`: measure the claims one after another, print promise | measured | held, and keep the outcomes on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import rich.progress
from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.catalog import Catalog
from bench.core.errors import BenchError
from bench.machine import identity, lock
from bench.verify import campaigns, record
from bench.verify.claim import Claim, Conditions, Outcome
from bench.verify.claims import CLAIMS, pick
from bench.verify.live_bench import null_workers
from bench.verify.model import subject
from bench.workers import client
from bench.workers.client import SliceFailed, WorkerFailed

HELD = {True: "yes", False: "NO", None: "not measured"}


def prove(only: str, quick: bool, campaigns_count: int = 0, budget: str = "1m") -> None:
    """`invoke verify`: measure the picked claims, and the one about that many real campaigns of `budget` measuring time each.

    Each outcome is on disk as soon as it is there.

    Raises:
        BenchError: a claim does not hold, or could not be measured.
    """
    if campaigns_count < 0:
        raise BenchError(f"--campaigns {campaigns_count}: wants a whole number of at least 0")
    real_campaigns = campaigns.real_campaigns(campaigns_count, budget)
    claims = [*pick(only, quick), *([real_campaigns] if campaigns_count else [])]
    busy = _busy()
    if not all(claim.quick for claim in claims):
        client.require_linux()
        if busy:
            Console(stderr=True).print(f"{busy}: promises about time want a quiet machine", markup=False, highlight=False)
    path = record.machine_file()
    entries, order = record.read(path), [claim.name for claim in (*CLAIMS, real_campaigns)]
    lasted_s = {name: entry.seconds for name, entry in entries.items()}
    catalogue = catalog.load()
    # The quick ones too: a proof beside a measurement spoils both.
    with lock.hold("the protocol's own proof") as machine_lock:
        _prepare(claims, catalogue)
        for result in _measured(claims, lasted_s, catalogue, machine_lock):
            entries[result.claim.name] = record.entry_of(result.claim, result.outcome, result.seconds)
            record.write(path, entries, order)
    names = [claim.name for claim in claims]
    Console().print(claim_table([entries[name] for name in names]))
    if broken := [name for name in names if entries[name].held is not True]:
        why = f" ({busy} before the first)" if busy else ""
        raise BenchError(
            f"{len(broken)} of {len(names)} promises do not hold here: {', '.join(broken)}{why}; {path} keeps what was measured"
        )


def _busy() -> str | None:
    """The load of the machine, where it is more than it has cores for."""
    load, cores = os.getloadavg()[0], identity.physical_cores()
    return f"load average {load:.1f} on {cores} cores" if load > cores else None


def _prepare(claims: Sequence[Claim], catalogue: Catalog) -> None:
    """Build and export what the claims need, so that no measurement begins with it."""
    if any("nulls" in claim.needs for claim in claims):
        null_workers(catalogue)
    if any("model" in claim.needs for claim in claims):
        subject(catalogue)


def measure_claim(claim: Claim, conditions: Conditions) -> Outcome:
    """Measure one claim. An error that a user can mend leaves it unmeasured; a worker that fails breaks it."""
    try:
        return claim.measure(conditions)
    except BenchError as error:
        return Outcome(str(error), None)
    except (WorkerFailed, SliceFailed) as failure:
        return Outcome(f"a worker failed: {failure}", False)


def claim_table(entries: Sequence[record.Entry]) -> Table:
    """promise | measured | held."""
    table = Table("promise", "measured", "held", title="What the protocol promises, and what was measured here", title_justify="left")
    for entry in entries:
        table.add_row(entry.promise, entry.measured, HELD[entry.held])
    return table


@dataclass(frozen=True)
class Result:
    """A claim that was measured, its outcome, and the seconds that took."""

    claim: Claim
    outcome: Outcome
    seconds: float


def _measured(
    claims: Sequence[Claim], lasted_s: Mapping[str, float], catalogue: Catalog, machine_lock: lock.MachineLock
) -> Iterator[Result]:
    """Measure each claim, behind one bar with the time left, by how long the claims lasted the last time."""
    expected_s = {claim.name: lasted_s.get(claim.name) or claim.seconds for claim in claims}
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as bar:
        task = bar.add_task("", total=sum(expected_s.values()))
        before_s = 0.0
        for claim in claims:
            bar.update(task, description=claim.name)

            def tick(share: float, before_s: float = before_s, span_s: float = expected_s[claim.name]) -> None:
                bar.update(task, completed=before_s + share * span_s)

            began = time.monotonic()
            outcome = measure_claim(claim, Conditions(catalogue, machine_lock, tick))
            before_s += expected_s[claim.name]
            bar.update(task, completed=before_s)
            bar.console.print(f"{claim.name}: {HELD[outcome.held]}: {outcome.measured}", markup=False, highlight=False, soft_wrap=True)
            yield Result(claim, outcome, time.monotonic() - began)
