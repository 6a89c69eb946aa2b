"""Warm-up of a process that serves several scenarios: everything once, later only what it has not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from bench.catalog import Scenario
from bench.measure.clock import BudgetClock
from bench.measure.warm_up import WarmUp
from bench.measure.worker_pool import WorkerSlot
from tests.support import simulation
from tests.support.simulation import Machine, Service

WARM = 70


def scenario(name: str, batch: int = 1) -> Scenario:
    return Scenario(name=name, title=name, load="offline", batch=batch, rows=2 * WARM)


def plan(name: str, lengths: list[int]) -> Any:
    """A plan whose warm rows are of 3 tokens but for the first `lengths`."""
    return simulation.plan(name, 2 * WARM, WARM, [*lengths, *[3] * (2 * WARM - len(lengths))])


def test_a_second_scenario_of_a_batch_is_warmed_up_with_the_lengths_that_are_new() -> None:
    plans = {"one": plan("one", [5, 7, 9]), "two": plan("two", [7, 11, 5, 13]), "wide": plan("wide", [])}
    machine = Machine({"onnx": Service(0.0, 0.0)})
    (prepared,) = simulation.experiment([], machine.services, None).prepared_arms
    warm_up = WarmUp(plans, BudgetClock(None))

    def process() -> WorkerSlot:
        """A new process, and nothing served yet."""
        machine.log.clear()
        worker = cast(Any, machine.worker(prepared.launch(0), Path()))
        return WorkerSlot(prepared, worker, cast(Any, None), 0, Path(), lambda *_: None)

    def asked() -> list[str]:
        """Plan, rows and batch of each order so far."""
        return [" ".join(line.split()[2:6]) for line in machine.log]

    slot = process()
    warm_up.serve(slot, scenario("one"), 3.0)
    whole = asked()
    assert whole and all(order.startswith("one ") and order.endswith("by 1") for order in whole) and f"one 0+{WARM} by 1" in whole
    warm_up.serve(slot, scenario("two"), 3.0)
    assert any(order.startswith("two 0+") for order in asked()) and ("two") in slot.warm, "its service time is not known: all of it"

    slot = process()
    warm_up.serve(slot, scenario("one"), 3.0)
    assert asked() == whole, "a new process is warmed up as the first one was"
    warm_up.serve(slot, scenario("two"), 3.0)
    assert asked()[len(whole) :] == ["two 1+1 by 1", "two 3+1 by 1"], "11 and 13 tokens"
    warm_up.serve(slot, scenario("wide", batch=8), 3.0)
    assert f"wide 0+{WARM // 8 * 8} by 8" in asked(), "batches that it has not served are served"
