"""Loads through the real path: a stalled null worker, and a run of the null worker over small scenarios of every kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import catalog
from bench.stats.load import Requests, closed_loop
from bench.stats.sample import percentile
from tests.support import driver
from tests.support.driver import Driver
from tests.support.sandbox import Sandbox

pytestmark = [pytest.mark.alone, pytest.mark.slow]

STALL_S, RATE = 0.4, 400.0


def as_served(found: driver.Served) -> Requests:
    nothing = np.zeros(found.rows, dtype=np.int64)
    zeros = np.zeros(found.rows)
    return Requests(nothing, nothing, found.request, nothing, found.due_ns, found.start_ns, found.end_ns, zeros, zeros, zeros)


def test_a_stall_reaches_the_open_loops_p99_and_not_the_closed_loop_of_one_client(tmp_path: Path) -> None:
    """0.4 s of standing still within 2 s at 400 requests a second: 160 of 800 come during it, and all of them wait."""
    plan = driver.make_plan(tmp_path / "plan", [np.arange(1, 9)] * 800, np.ones(800))
    null = catalog.load().frameworks["null-python"]
    with Driver(null, tmp_path, tmp_path, "--fault", f"stall=0.5:{STALL_S}") as worker:
        open_loop = worker.serve(plan, rate=RATE)
    with Driver(null, tmp_path, tmp_path, "--fault", f"stall=0:{STALL_S}") as worker:
        back_to_back = worker.serve(plan)
    assert max(back_to_back.end_ns - back_to_back.start_ns) > STALL_S * 1e9, "the stall is there"
    open_p99 = percentile(open_loop.end_ns - open_loop.due_ns, 0.99) / 1e9
    closed_p99 = percentile(closed_loop(as_served(back_to_back), 1).latency, 0.99) / 1e9
    assert open_p99 > 0.8 * STALL_S, "of 160 that wait, the longest 8 wait almost all of it"
    assert closed_p99 < 0.1 * STALL_S, "one of 800"


SMALL = """\
scenarios:
  closed-1: {title: closed, load: closed, clients: [1, 4], rows: 300}
  closed-batched-4: {title: batched, load: closed, batch: 4, clients: [4], rows: 300}
  closed-batched-8: {title: batched, load: closed, batch: 8, clients: [8, 16], rows: 300}
  low: &open {title: open, load: open, arrivals: poisson, rate_per_s: 400, piece: 40, discard: 0.25, rows: 300}
  replayed: {<<: *open, arrivals: trace, trace: day.csv, batch: 8}
  bulk-sorted: {title: bulk, load: offline, batch: 8, piece: 16, order: sorted, rows: 200}
  sweep: {title: sweep, load: offline, lengths: [8, 16, 64, 300], rows: 150}
  new-shape: {title: new, load: offline, shapes: new, process: fresh, piece: 8, rows: 150}
suites:
  small: {scenarios: [closed-1, closed-batched-4, closed-batched-8, low, replayed, bulk-sorted, sweep, new-shape], controls: false}
"""


@pytest.mark.e2e
def test_every_kind_of_scenario_ends_in_the_leaderboard(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "scenarios.yaml").write_text(SMALL)
    (own / "day.csv").write_text("t\n" + "".join(f"{k + 0.5 * (k % 3)}\n" for k in range(100)))
    sandbox = Sandbox(tmp_path)
    names = catalog.load(own).suites["small"].scenarios
    asked = ("bench", "--model", "minilm", "--framework", "null-python", "--catalog", str(own), "--scenario", "small")
    planned = sandbox.invoke(*asked, "--dry-run")
    assert planned.returncode == 0 and all(name in planned.stdout for name in names), planned.stdout
    done = sandbox.invoke(*asked, "--requests", "24")
    assert done.returncode == 0, done.stderr
    rows = {row["scenario"]: row for row in sandbox.rows("select * from leaderboard")}
    derived = ["closed-4", "closed-batched-1", "closed-batched-16", "sweep-8", "sweep-300", "new-shape-known"]
    assert set(rows) >= {*names, *derived}
    assert {row["status"] for row in rows.values()} <= {"OK", "PARTIAL"}, {name: row["reason"] for name, row in rows.items()}
    assert rows["low"]["rate_per_s"] == 400 and rows["low"]["rho"] < 0.1 and rows["low"]["late_p99_ms"] is not None
    fits = sandbox.rows("select distinct scenario, term from fits")
    assert {row["term"] for row in fits if row["scenario"] == "sweep"} == {"base_ms", "per_token_us", "per_token2_ns"}
    block = sandbox.runs[0] / "blocks" / "low" / "000"
    kept, discarded = (pd.read_parquet(block / f"{name}.parquet") for name in ("samples", "discards"))
    assert (len(kept), len(discarded)) == (30, 10) and discarded["request"].max() < kept["request"].min()
    new = sandbox.rows("select block from blocks where scenario = 'new-shape'")
    slices = [
        json.loads((sandbox.runs[0] / "blocks" / "new-shape" / f"{row['block']:03d}" / "block.json").read_text())["slices"] for row in new
    ]
    assert len({pieces[0]["start"] for pieces in slices}) == len(new) >= 3, "every block in a new process"
