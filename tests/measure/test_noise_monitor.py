"""A noisy block in the runner: put aside once, measured again on fresh rows, then kept and flagged; workers are fakes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench import catalog
from bench.artefacts.export import Artefact
from bench.catalog import Arm
from bench.catalog.frameworks import DEFAULT
from bench.core.progress import Progress
from bench.machine import counters
from bench.measure import noise_monitor
from bench.measure.run import Runner
from bench.measure.seats import Seat
from bench.plan.folder import Plan
from bench.prepare.spec import PreparedArm
from bench.runs import reader
from bench.runs.schema import Allocation, ProbeSeconds
from bench.runs.writer import RunFolder
from bench.workers.client import Served

KNOWN = catalog.load()
SCENARIO = KNOWN.scenarios["closed-1"]
WARM, ROWS = 64, 20
ALLOCATION = Allocation(blocks=4, rounds=1, rows=ROWS, block_s=1.0, until_s=100.0)


class Worker:
    """Awake or frozen does not matter, and it needs no memory."""

    def thaw(self) -> None: ...

    def freeze(self) -> None: ...

    def reset_peak(self) -> bool:
        return True

    def memory(self) -> counters.Memory:
        return counters.Memory(1, 1, None, None, None, None, None, 1)


class Seats:
    """One worker that serves any rows at once; `served` keeps the first row of each slice. A second of measuring per slice."""

    def __init__(self) -> None:
        framework = KNOWN.frameworks["onnx-python"]
        arm = Arm("onnx-python", "python", "minilm", "wheel", "fp32", "default", 1, 1, "measured")
        self.prepared = PreparedArm(arm, framework, DEFAULT, ("worker",), {}, Artefact(Path("nowhere"), "onnx", "fp32", "hash", 1), {})
        self.taken = {arm.id: Seat(self.prepared, Worker(), 0)}  # type: ignore[arg-type]
        self.measured_s, self.served, self.referred = 0.0, [], []  # type: ignore[var-annotated]

    @contextmanager
    def measuring(self) -> Iterator[None]:
        yield
        self.measured_s += 1.0

    def leave_all(self) -> None: ...

    def retire_on_failure(self, *_: Any) -> Any:
        return nullcontext()

    def reference(self, _: Plan, first: int, count: int) -> Any:
        self.referred.append((first, count))
        return np.ones((count, 1), dtype=np.float32)

    def slice(self, seat: Seat, scenario: Any, plan: Plan, first: int, rows: int, rate: float | None) -> tuple[Served, None]:
        self.served.append(first)
        at = np.arange(first, first + rows)
        frame = pd.DataFrame({"request": at, "due_ns": at, "start_ns": at, "end_ns": at + 1})
        return Served(frame, np.ones((rows, 1), dtype=np.float32), rows, counters.Meter(0, None, None, 0, 0, None, None, None)), None


class Watch(noise_monitor.Watch):
    """Says of the blocks, in the order measured, which were noisy."""

    def __init__(self, noisy: Sequence[bool]) -> None:
        self.noisy = iter(noisy)

    def look(self) -> None: ...

    def finding(self, scenario: str) -> noise_monitor.Finding:
        return noise_monitor.Finding("planted" if next(self.noisy) else None, ProbeSeconds((1.0,), (1.0,)))


class OneScenario(Runner):
    """A runner that has come as far as the blocks of a scenario."""

    def __init__(self, folder: Path, noisy: Sequence[bool], rows: int, until_s: float | None = 100.0) -> None:
        zeros = np.zeros(rows, dtype=np.int64)
        plan = Plan(Path("p"), "p", "h", rows, WARM, "text", zeros, zeros, zeros, zeros)
        spec = SimpleNamespace(seed=1, scenarios=(SCENARIO,), fresh_blocks=False, budget_s=until_s, controls_s=0.0, requests=None)
        self.fakes = Seats()
        self.experiment: Any = SimpleNamespace(spec=spec, plans={SCENARIO.name: plan}, prepared_arms=(self.fakes.prepared,))
        self.folder, self.seats, self.resident = RunFolder(folder), self.fakes, True  # type: ignore[assignment]
        self.progress = Progress(Console(file=io.StringIO()))
        self.arms = {self.fakes.prepared.arm.id: self.fakes.prepared}
        self.watch, self.waiting, self.turns, self.warmed = Watch(noisy), [], [], set()

    def _ready_all(self, *_: Any) -> None: ...

    def blocks(self, allocation: Allocation = ALLOCATION) -> list[tuple[int, bool]]:
        """Run them; (first row, noisy) of each block that was kept."""
        self._blocks(SCENARIO, allocation, 1.0)
        kept = [json.loads(file.read_text()) for file in sorted(self.folder.path.glob("blocks/*/*/block.json"))]
        return [(block["slices"][0]["first"], block["noisy"]) for block in kept]


def test_a_noisy_block_is_measured_once_more_on_fresh_rows(tmp_path: Path) -> None:
    """Four blocks of 20 rows of a plan that holds ten: the spare ones come from its end."""
    runner = OneScenario(tmp_path, [False, True, False, False, False], WARM + 10 * ROWS)
    assert runner.blocks() == [(64, False), (64 + 9 * ROWS, False), (104, False), (124, False)]
    assert runner.fakes.served == [64, 84, 64 + 9 * ROWS, 104, 124]
    assert runner.fakes.referred == [(64, 80), (64 + 9 * ROWS, ROWS)], "the spare rows have a reference of their own"
    aside = tmp_path / "discards" / "closed-1" / "001"
    assert json.loads((aside / "block.json").read_text())["note"] == "planted" and (aside / "samples.parquet").exists()
    assert runner.folder.block_count("closed-1") == 4 and runner.folder.discard_count("closed-1") == 1


def test_noisy_again_is_kept_and_flagged(tmp_path: Path) -> None:
    """And on a machine that is always noisy only a quarter of the blocks is tried again, each of them once."""
    runner = OneScenario(tmp_path, [True] * 15, WARM + 20 * ROWS)
    spare = [64 + number * ROWS for number in (19, 18, 17)]
    assert runner.blocks(Allocation(12, 1, ROWS, 1.0, 100.0)) == [(first, True) for first in (*spare, *range(124, 304, ROWS))]
    assert runner.fakes.served == [64, spare[0], 84, spare[1], 104, spare[2], *range(124, 304, ROWS)]


@pytest.mark.parametrize(("rows", "until_s"), [(WARM + 4 * ROWS, 100.0), (WARM + 10 * ROWS, 4.0)], ids=["no rows", "no time"])
def test_without_room_it_is_flagged_at_once(tmp_path: Path, rows: int, until_s: float) -> None:
    runner = OneScenario(tmp_path, [True] * 4, rows)
    allocation = Allocation(4, 1, ROWS, 1.0, until_s)
    assert runner.blocks(allocation) == [(64, True), (84, True), (104, True), (124, True)]
    assert not (tmp_path / "discards").exists()


def test_interrupted_between_the_two_it_is_not_measured_a_third_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = OneScenario(tmp_path, [True], WARM + 10 * ROWS)
    monkeypatch.setattr(first, "_once_more", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        first.blocks()
    again = OneScenario(tmp_path, [True, False, False, False], WARM + 10 * ROWS)
    assert again.blocks() == [(64 + 9 * ROWS, True), (84, False), (104, False), (124, False)]
    assert again.fakes.served[0] == 64 + 9 * ROWS


def test_readers_do_not_see_what_was_put_aside(tmp_path: Path) -> None:
    from tests.support import runs

    folder = runs.write(tmp_path, runs.Spec(arms=(runs.Fake("pytorch"),)))
    before = reader.read_run(folder)
    samples = pd.read_parquet(folder / "blocks" / "closed-1" / "000" / "samples.parquet")
    RunFolder(folder).write_discard(replace(before.blocks[0], block=3), samples)
    after = reader.read_run(folder)
    assert len(after.blocks) == len(before.blocks) == 12 and after.samples.equals(before.samples)
