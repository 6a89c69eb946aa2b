"""The probe: what it calls noise, what it remembers, and that it sees a competing load."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import budget, machine, probe, watch
from bench.plan import Plan
from bench.probe import Calibration, Look, Quiet
from bench.runfolder import RunFolder
from bench.seats import Seats

CALM = Quiet(fma_s=0.010, copy_s=0.003, fma_spread=0.01, copy_spread=0.10)


def looks(*fma_ms: float, copy_ms: float = 3.0) -> list[Look]:
    return [Look(ms / 1e3, copy_ms / 1e3, 0.010, 0.003) for ms in fma_ms]


@pytest.mark.parametrize(
    ("taken", "note"),
    [
        (looks(10, 10, 10), None),
        (looks(10.2, 10.2, 10.2), None),  # 2 % is less than 3 %, whatever the machine's own spread
        (looks(10.4, 10.4, 10.4), "multiply-adds took 1.04 ×"),
        (looks(10, 10, 30), None),  # the median, not one hiccup
        (looks(10, 30, 30), "multiply-adds took 3.00 ×"),
        (looks(5, 5, 5), None),  # faster than ever is no neighbour
        (looks(10, 10, 10, copy_ms=3.3), None),  # ln 1.1 = 0.095: within this machine's own 10 %
        (looks(10, 10, 10, copy_ms=3.4), "copies took 1.13 × their quiet time (more than 1.11 ×)"),
    ],
)
def test_what_is_noise(taken: list[Look], note: str | None) -> None:
    found = probe.noise(taken, CALM)
    assert found is None if note is None else note in str(found)


def test_spread_is_that_of_medians_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU times 10, 10, 99 | 11, 11, 1 | 12, 12, 12: medians 10, 11, 12 around 11; the wall clock does not count."""
    cpu = iter([10, 10, 99, 11, 11, 1, 12, 12, 12])

    class Fixed(probe.Probe):
        def __init__(self) -> None:
            pass

        def look(self) -> Look:
            return Look(fma_s=1e9, copy_s=1e9, fma_cpu_s=float(next(cpu)), copy_cpu_s=2.0)

    found = probe.calibrate(Fixed(), looks=9).usual()
    assert (found.fma_s, found.copy_s, found.copy_spread) == (11.0, 2.0, 0.0)
    assert found.fma_spread == pytest.approx(2 * 1.4826 * math.log(12 / 11))
    assert (found.fma_threshold, found.copy_threshold) == (found.fma_spread, 0.03)


def test_the_looks_of_a_boot_are_kept_together(tmp_path: Path) -> None:
    """A machine that is at times 12 % slower: within a second it seems quiet, over a boot it does not."""
    file = tmp_path / "probe" / "machine-boot.json"
    fast, slow = Calibration((0.0100,) * 10, (0.003,) * 10), Calibration((0.0112,) * 10, (0.003,) * 10)
    found = [probe.learn(taken, file) for taken in (fast, slow, fast)]
    assert [calm.fma_s for calm in found] == [0.0100, pytest.approx(0.0106), 0.0100]
    assert found[0].fma_spread == 0 and found[1].fma_spread == pytest.approx(2 * 1.4826 * math.log(0.0112 / 0.0106), rel=0.05)
    assert found[2].fma_spread == 0, "a third of the looks is the tail of noise, not its middle"
    file.write_text('{"fma_s": 1')
    assert probe.learn(slow, file).fma_s == 0.0112, "a file that was cut off is made anew"
    assert len(json.loads(file.read_text())["fma_s"]) == 10
    for _ in range(60):
        probe.learn(fast, file)
    assert len(json.loads(file.read_text())["copy_s"]) == probe.MOST_KEPT


@contextmanager
def competing() -> Iterator[None]:
    """One busy process on every core this one may use."""
    pin = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile True: pass"
    busy = [subprocess.Popen([sys.executable, "-c", pin, str(cpu)], stdout=subprocess.PIPE) for cpu in sorted(os.sched_getaffinity(0))]
    try:
        for process in busy:
            assert process.stdout and process.stdout.readline()
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
            assert process.stdout
            process.stdout.close()


def test_a_competing_load_is_noise_even_where_it_was_there_from_the_start() -> None:
    """No assertion on a quiet machine: this one may be busy. The quiet time comes from CPU time, so it is right under load too."""
    probed = probe.Probe(machine.physical_cores())
    before = probe.calibrate(probed, 9).usual()
    with competing():
        taken = [probed.look() for _ in range(9)]
        for calm in (before, probe.calibrate(probed, 9).usual()):
            assert probe.noise(taken, replace(calm, fma_spread=0.3, copy_spread=0.3)), (taken, calm)
            assert np.median([look.fma_s for look in taken]) > 1.4 * calm.fma_s


def test_all_cores_together_against_one() -> None:
    found = probe.together(probe.Probe(machine.physical_cores()), 5)
    assert 0 < found.by_wall <= machine.physical_cores()
    assert 0.3 < found.by_cpu <= machine.physical_cores()


# --- blocks ------------------------------------------------------------------------------------------------------------------------


def plan_of(rows: int, warm: int) -> Plan:
    nothing = np.zeros(rows, dtype=np.int64)
    return Plan(Path("p"), "p", "h", rows, warm, "text", nothing, nothing, nothing, nothing)


PACE = budget.Pace(blocks=12, rounds=2, rows=20, block_s=1.0)


def test_a_noisy_block_is_measured_again_only_where_there_is_room() -> None:
    """564 rows: 64 for warm-up, 12 blocks of 40, and 20 over: half a block. 604 hold one more block."""
    assert not watch.may_redo(PACE, 0, 0, plan_of(564, 64), 100)
    enough = plan_of(604, 64)
    assert watch.may_redo(PACE, 0, 0, enough, 12.0)
    assert watch.spare_rows(PACE, enough, 1) == 64 + 12 * 40
    assert not watch.may_redo(PACE, 0, 0, enough, 11.9), "the other eleven and this one must fit the time that is left"
    assert watch.may_redo(PACE, 11, 0, enough, 1.0)
    assert not watch.may_redo(PACE, 0, 1, enough, 100), "no rows for a second one"
    plenty = plan_of(6400, 64)
    assert [watch.may_redo(PACE, 0, before, plenty, 100) for before in range(4)] == [True, True, True, False]
    spare = [watch.spare_rows(PACE, plenty, number) for number in (1, 2, 3)]
    assert spare == [64 + 157 * 40, 64 + 156 * 40, 64 + 155 * 40]


def test_looks_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Free(Seats):
        def __init__(self) -> None:
            self.measured_s = 0.0

    monkeypatch.setattr(watch.paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(probe, "learn", lambda *_: CALM)
    seats = Free()
    found = watch.Watch(seats, RunFolder(tmp_path))
    assert json.loads((tmp_path / "probe.json").read_text())["copy_threshold"] == 0.1
    monkeypatch.setattr(probe.Probe, "look", lambda _: looks(25)[0])
    found.look()
    facts = found.finding().facts()
    assert facts["noisy"] and "2.50 ×" in facts["note"] and facts["probe"]["fma_s"] == [0.025] * 3
    monkeypatch.setattr(probe.Probe, "look", lambda _: looks(10)[0])
    for _ in range(5):
        found.look()
    assert found.finding().facts() == {"noisy": False, "note": None, "probe": {"fma_s": [0.01] * 5, "copy_s": [0.003] * 5}}
    assert seats.measured_s > 0
