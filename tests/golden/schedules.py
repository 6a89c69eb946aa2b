"""The schedules of simulated runs: which worker is ordered what, and when, over experiments of every kind.

    python -m tests.golden.schedules     writes schedules.json anew

A change of measuring code that should change no schedule must leave the file as it is.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.core import files
from bench.prepare.spec import Experiment
from tests.support.simulation import Machine, Service, experiment, measure, scenarios

FILE = Path(__file__).with_suffix(".json")
TWO = {"slow": Service(0.02, 0.001), "quick": Service(0.005, 0.0002)}
FAILING = {"slow": Service(0.02, 0.001, fails=(60, 61, 90)), "quick": Service(0.005, 0.0002, dies=(75,)), "third": Service(0.004, 0.0002)}
GIVEN_UP = {"slow": Service(0.02, 0.001, fails=(40, 41, 42)), "quick": Service(0.005, 0.0002, dies=(35,))}


@dataclass(frozen=True)
class Case:
    """An experiment, the services of its arms, and what happens to it."""

    services: Mapping[str, Service]
    loads: tuple[str, ...]
    budget_s: float | None
    spec: Mapping[str, Any] = field(default_factory=dict)
    floors: tuple[str, ...] = ()
    resident: bool = True
    noisy: tuple[int, ...] = ()
    stop_at_s: float = float("inf")
    kept: str = ""

    def experiment(self) -> Experiment:
        loads = [replace(load, process="kept") if load.name == self.kept else load for load in scenarios(*self.loads)]
        return experiment(loads, self.services, self.budget_s, self.floors, **self.spec)


FRESH = {"fresh_blocks": True}
CASES: Mapping[str, Case] = {
    "with a null worker": Case(
        {**TWO, "null": Service(0.00001, 0.0)}, ("closed-1", "offline-32", "poisson-mid", "poisson-high"), 120.0, floors=("null",)
    ),
    "in turns": Case(
        TWO, ("closed-1", "offline-32", "closed-batched-4", "poisson-mid", "new-shape", "bulk-unsorted", "length-sweep"), 200.0, FRESH
    ),
    "without a budget": Case(TWO, ("closed-1", "new-shape"), None, FRESH),
    "one worker at a time": Case(TWO, ("closed-1", "offline-32", "poisson-mid"), 150.0, FRESH, resident=False),
    "one worker at a time, small budget": Case(TWO, ("closed-1", "offline-32"), 40.0, resident=False),
    "small budget": Case(TWO, ("closed-1", "offline-32", "poisson-mid", "bulk-unsorted", "length-sweep"), 25.0),
    "tiny budget": Case(TWO, ("closed-1", "offline-32", "poisson-mid"), 3.0),
    "requests": Case(TWO, ("closed-1", "offline-32", "poisson-mid"), 60.0, {"requests": 50}),
    "search": Case(TWO, ("closed-1", "slo"), 400.0),
    "search cut short": Case(TWO, ("closed-1", "slo", "poisson-mid"), 90.0),
    "noisy": Case(TWO, ("closed-1", "offline-32"), 120.0, noisy=(*range(30, 38), *range(60, 67))),
    "failing": Case(FAILING, ("closed-1", "offline-32", "poisson-mid"), 120.0),
    "failing in turns": Case(GIVEN_UP, ("closed-1", "closed-batched-4", "offline-1"), 100.0, FRESH),
    "interrupted": Case(TWO, ("closed-1", "offline-32", "poisson-mid"), 90.0, stop_at_s=40.0),
    "interrupted in turns": Case(TWO, ("closed-1", "offline-1", "poisson-mid"), 150.0, FRESH, stop_at_s=60.0),
    "kept process": Case(TWO, ("closed-1", "offline-8"), 100.0, FRESH, kept="closed-1"),
}


def log(case: Case, folder: Path) -> list[str]:
    """All that happened: orders with their times, what was said, and the blocks, allocations and failures in the run folder."""
    machine = Machine(case.services, case.noisy, case.stop_at_s)
    lines = machine.log
    measure(folder, case.experiment(), machine, case.resident)
    if case.stop_at_s < float("inf"):
        resumed = Machine(case.services)
        measure(folder, case.experiment(), resumed, case.resident)
        lines = [*lines, *resumed.log]
    return [*lines, *outcome(folder)]


def outcome(folder: Path) -> list[str]:
    """A line per allocation, block and failure of a run folder; numbers to six digits, so that no last bit of a fit matters."""
    lines = []
    for file in sorted(folder.glob("blocks/*/pace.json")):
        allocation = files.read_json(file)
        numbers = ", ".join(f"{key} {value if value is None else f'{value:.6g}'}" for key, value in sorted(allocation.items()))
        lines.append(f"{file.parent.name}: {numbers}")
    for file in sorted(folder.glob("blocks/*/*/block.json")):
        block = files.read_json(file)
        slices, measured_s = len(block["slices"]), block["measured_s"]
        lines.append(f"{block['scenario']} {block['block']}: {slices} slices by {measured_s} s, noisy {block['noisy']}")
    for file in sorted(folder.glob("failures/*.json")):
        failure = files.read_json(file)
        lines.append(f"{failure['arm_id']} {failure['scenario']}: {failure['status']}: {failure['reason']}")
    return [*lines, f"{len(list(folder.glob('discards/*/*')))} put aside"]


def summary(lines: list[str]) -> dict[str, Any]:
    """How many lines, and their digest."""
    return {"lines": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}


def write() -> None:
    summaries = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            summaries[name] = summary(log(case, Path(folder) / "run"))
    files.write_json(FILE, summaries)


if __name__ == "__main__":
    write()
