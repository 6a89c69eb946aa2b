"""What a live worker is asked, besides what a run shows (test_run.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from bench.machine.counters import Meter
from bench.measure.worker_pool import WorkerSlot
from bench.workers.client import Order, Served
from tests.support import simulation


class FifteenRows:
    """A worker that serves fifteen rows of any order."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def serve(self, order: Order, scratch: Path, timeout_s: float) -> Served:
        self.orders.append(order)
        rows = np.arange(order.first, order.first + min(order.rows, 15))
        frame = pd.DataFrame({"request": rows, "due_ns": 0, "start_ns": rows, "end_ns": rows + 1})
        return Served(frame, np.zeros((len(rows), 1), dtype=np.float32), 0, Meter(0, None, None, 0, 0, None, None, None))


def slot(worker: FifteenRows, fault: str | None) -> WorkerSlot:
    (prepared,) = simulation.experiment([], {"onnx": simulation.Service()}, None).prepared_arms
    if fault:
        prepared = replace(prepared, arm=replace(prepared.arm, role="stall"), fault=fault)
    return WorkerSlot(prepared, cast(Any, worker), cast(Any, None), 0, Path(), lambda *_: None)


def test_a_stall_is_left_for_a_recorded_slice() -> None:
    """Unrecorded rows end before the planted stall, in as many pieces as it takes; another worker serves them in one."""
    plan, stalls, other = simulation.plan("p", 200), FifteenRows(), FifteenRows()
    samples = slot(stalls, "stall=0.1:0.2").unrecorded(plan, 40, 1, 3.0)
    assert samples["request"].tolist() == list(range(40))
    assert [(order.first, order.rows) for order in stalls.orders] == [(0, 40), (15, 25), (30, 10)]
    assert max(order.guard_s for order in stalls.orders) == pytest.approx(0.08)
    slot(other, None).unrecorded(plan, 40, 1, 3.0)
    assert [(order.first, order.rows, order.guard_s) for order in other.orders] == [(0, 40, 3.0)]
