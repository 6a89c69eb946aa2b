"""Warm-up of a process that serves several scenarios: everything once, later only what it has not served."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from bench.catalog import Scenario
from bench.machine.counters import Meter
from bench.measure.seats import Seat, Seats
from bench.plan.folder import Plan
from bench.workers.client import Served

WARM = 70
NOTHING_USED = Meter(0, None, None, 0, 0, None, None, None)


def plan(name: str, lengths: list[int]) -> Plan:
    """A plan whose warm rows are of 3 tokens but for the first `lengths`."""
    rows = np.full(2 * WARM, 3)
    rows[: len(lengths)] = lengths
    zeros = np.zeros(2 * WARM, dtype=np.int64)
    return Plan(Path(name), name, name, 2 * WARM, WARM, "text", rows, zeros, zeros, zeros)


class Fake(Seats):
    """Seats whose worker serves everything in no time; `asked` holds (scenario, first, count, batch)."""

    def __init__(self, **plans: Plan) -> None:
        self.experiment: Any = SimpleNamespace(plans=plans)
        self.folder: Any = SimpleNamespace(write_first_pss=lambda *_: None, has_checks=lambda _: True)
        self.taken, self.costs, self.warm_up_s, self.measured_s = {}, {}, 0.0, 0.0
        self.asked: list[tuple[str, int, int, int]] = []

    def serve(self, seat: Seat, plan: Plan, first: int, count: int, batch: int, seconds: float, rate_per_s: float = 0.0) -> Served:
        self.asked.append((plan.name, first, count, batch))
        rows = np.arange(first, first + count)
        start = rows // batch * 1_000_000
        frame = pd.DataFrame({"request": rows, "due_ns": 0, "start_ns": start, "end_ns": start + 1_000})
        return Served(frame, np.zeros((count, 1), dtype=np.float32), 0, NOTHING_USED)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        yield


def scenario(name: str, batch: int = 1) -> Scenario:
    return Scenario(name=name, title=name, load="offline", batch=batch, rows=2 * WARM)


def test_a_second_scenario_of_a_batch_is_warmed_up_with_the_lengths_that_are_new() -> None:
    seats = Fake(one=plan("one", [5, 7, 9]), two=plan("two", [7, 11, 5, 13]), wide=plan("wide", []))
    prepared: Any = SimpleNamespace(arm=SimpleNamespace(id="a", role="measured"), fault=None)

    def process() -> Seat:
        """A new process, and nothing served yet."""
        worker: Any = SimpleNamespace(thaw=lambda: None, memory=lambda: SimpleNamespace(pss_bytes=1))
        seats.taken["a"] = Seat(prepared, worker, 0)
        seats.asked.clear()
        return seats.taken["a"]

    process()
    seats.ready(prepared, scenario("one"), 3.0)
    whole = list(seats.asked)
    assert {(name, batch) for name, _, _, batch in whole} == {("one", 1)} and max(count for _, _, count, _ in whole) == WARM
    seats.ready(prepared, scenario("two"), 3.0)
    assert {name for name, *_ in seats.asked[len(whole) :]} == {"two"} and ("a", "two") in seats.costs, "its cost is not known: all of it"

    process()
    seats.ready(prepared, scenario("one"), 3.0)
    assert seats.asked == whole, "a new process is warmed up as the first one was"
    seats.ready(prepared, scenario("two"), 3.0)
    assert seats.asked[len(whole) :] == [("two", 1, 1, 1), ("two", 3, 1, 1)], "11 and 13 tokens"
    seats.ready(prepared, scenario("wide", batch=8), 3.0)
    assert ("wide", 0, WARM // 8 * 8, 8) in seats.asked, "batches that it has not served are served"
    asked = len(seats.asked)
    seats.ready(prepared, scenario("two"), 3.0)
    assert len(seats.asked) == asked, "warm is warm"
