"""Which run goes on: an interrupted one, or one whose budget was too small; a finished one never does."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from bench.catalog import Scenario
from bench.core import files, paths
from bench.machine import identity
from bench.measure import resume
from bench.measure.budget import BLOCKS
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder
from tests.support.runs import empty_block
from tests.support.sandbox import Sandbox

WORDS = ("bench", "--model", "minilm", "--framework", "onnx-python", "--scenario", "closed-1,poisson-high")
LOADS = (Scenario(name="closed-1", title="x", load="closed", rows=8192), Scenario(name="slo", title="x", load="slo", rows=8192))


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


@pytest.mark.alone
def test_a_larger_budget_goes_on_where_a_smaller_one_ended(sandbox: Sandbox) -> None:
    """Three blocks of poisson-high are four seconds of arrivals: no machine fits them into what closed-1 leaves of four."""
    first = sandbox.invoke(*WORDS, "--budget", "4s")
    assert first.returncode == 0, first.stderr
    (run,) = sandbox.runs
    assert {(one["scenario"], one["status"]) for one in sandbox.failures()} == {("poisson-high", "SKIPPED")}
    before = {file: file.stat().st_mtime_ns for file in run.glob("blocks/closed-1/*/samples.parquet")}
    served = sandbox.rows("SELECT count(*) AS n FROM samples")[0]["n"]
    assert len(before) >= 3 and served
    second = sandbox.invoke(*WORDS, "--budget", "24s")
    assert second.returncode == 0 and f"resuming run {run.name}" in second.stderr, second.stderr
    assert sandbox.runs == [run] and sandbox.failures() == [] and (run / "done.json").exists()
    assert {file: file.stat().st_mtime_ns for file in before} == before, "finished blocks stay"
    about = files.read_json(run / "run.json")
    assert about["budget_s"] == 24 and about["command"].endswith("--budget 24s")
    assert [(earlier["budget_s"], earlier["command"][-2:]) for earlier in about["continues"]] == [(4, "4s")]
    rows = sandbox.rows("SELECT scenario, blocks, n FROM results WHERE served_scenario IS NULL ORDER BY scenario")
    assert [row["scenario"] for row in rows] == ["closed-1", "poisson-high"]
    assert rows[0]["blocks"] >= len(before) and rows[1]["blocks"] >= 3 and rows[1]["n"] > 0
    assert (
        sandbox.rows("SELECT count(*) AS n FROM runs") == [{"n": 1}] and sandbox.rows("SELECT count(*) AS n FROM samples")[0]["n"] > served
    )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    return tmp_path


def experiment(budget_s: float | None, requests: int | None = None) -> Any:
    """Its hash is its budget: two of one budget are the same."""
    spec = SimpleNamespace(scenarios=LOADS, budget_s=budget_s, requests=requests, command="invoke bench")
    plans = {scenario.name: SimpleNamespace(measured=8000) for scenario in LOADS}
    return SimpleNamespace(spec=spec, plans=plans, hash_within=lambda budget: f"{budget}", hash=f"{budget_s}")


def run(runs: Path, name: str, budget_s: float | None, blocks: int = BLOCKS, trials: int = 1, done: bool = True) -> RunFolder:
    folder = RunFolder(runs / name)
    folder.path.mkdir()
    about = {"run_id": name, "measured_at": f"2026-11-20T09:00:0{name}.000000Z", "model": "minilm", "arms": [], "budget_s": budget_s,
             "experiment_hash": f"{budget_s}", "boot_id": identity.boot_id(), "command": "x", "code_commit": "c"}  # fmt: skip
    files.write_json(folder.path / "run.json", about)
    files.write_json(folder.path / "machine.json", {"machine_id": identity.machine_id()})
    for scenario, count in zip(LOADS, (blocks, trials), strict=True):
        if count:
            folder.write_allocation(scenario.name, Allocation(blocks=5, rounds=1, rows=20, block_s=1.0, until_s=3.0))
        for block in range(count):
            folder.write_block(empty_block(scenario.name, block), pd.DataFrame({"arm_id": []}))
    folder.write_failure("a", "slo", "SKIPPED", "no room")
    folder.write_failure("b", "closed-1", "CRASH", "killed")
    folder.write_failure("c", "*", "SKIPPED", "not installed")
    if done:
        folder.write_done({"build": 2.0, "measuring": 9.0})
    return folder


def found(budget_s: float | None, requests: int | None = None) -> str | None:
    folder = resume.take_up(experiment(budget_s, requests))
    return folder and folder.run_id


def test_an_interrupted_run_goes_on_within_its_own_budget(runs: Path) -> None:
    run(runs, "1", 60.0, blocks=4, done=False)
    run(runs, "2", 60.0)
    assert found(60.0) == "1"
    assert sorted(file.name for file in runs.glob("1/failures/*")) == ["c--all.json"], "a crash gets another chance"


@pytest.mark.parametrize(
    ("blocks", "trials", "budget_s", "asked_s", "goes_on"),
    [
        (4, 1, 60.0, 90.0, True),
        (4, 1, 60.0, None, True),
        (12, 0, 60.0, 90.0, True),  # the search had no room
        (12, 1, 60.0, 90.0, False),  # nothing is short
        (4, 1, 60.0, 60.0, False),  # the same again is another run
        (4, 1, 60.0, 30.0, False),
        (4, 1, None, 90.0, False),
    ],
)
def test_a_finished_run_goes_on_only_where_it_was_short(
    runs: Path, blocks: int, trials: int, budget_s: float | None, asked_s: float | None, goes_on: bool
) -> None:
    run(runs, "1", budget_s, blocks, trials)
    assert found(asked_s) == ("1" if goes_on else None)


def test_only_the_newest_run_is_made_larger(runs: Path) -> None:
    run(runs, "1", 60.0, blocks=4)
    run(runs, "2", 90.0)
    assert found(120.0) is None and found(90.0) is None
    assert found(120.0, requests=50) is None


def test_what_goes_on_keeps_its_crashes_and_opens_what_was_skipped(runs: Path) -> None:
    folder = run(runs, "1", 60.0, blocks=4, trials=0)
    assert found(None) == "1"
    assert not folder.is_done()
    assert sorted(file.name for file in runs.glob("1/failures/*")) == ["b--closed-1.json", "c--all.json"]
    allocation = folder.allocation("closed-1")
    assert allocation is not None and allocation.blocks == BLOCKS and allocation.until_s is None, (
        "without a budget twelve blocks, whatever the old share was"
    )
    about = json.loads((folder.path / "run.json").read_text())
    assert about["experiment_hash"] == "None" and about["budget_s"] is None
    folder.write_done({"build": 1.0, "measuring": 30.0})
    assert files.read_json(folder.path / "done.json")["stages"] == {"build": 3.0, "measuring": 30.0}
