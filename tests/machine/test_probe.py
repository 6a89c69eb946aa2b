"""The probe: what it calls noise, what it remembers, and that it sees a competing load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bench.machine import identity, probe
from bench.machine.probe import Calibration, Sample
from bench.measure import noise_monitor
from bench.measure.seats import Seats
from bench.plan.folder import Plan
from bench.runs import noise
from bench.runs.noise import Seconds
from bench.runs.schema import Allocation, ProbeSeconds
from bench.runs.writer import RunFolder

CALM = Calibration(fma_s=(0.010,), copy_s=(0.003,))


def usual(calibration: Calibration) -> Seconds:
    return noise.median(calibration.fma_s, calibration.copy_s)


def samples(*fma_ms: float, copy_ms: float = 3.0) -> list[Sample]:
    return [Sample(ms / 1e3, copy_ms / 1e3, 0.010, 0.003) for ms in fma_ms]


def test_what_is_usual_is_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU times 10, 10, 99 | 11, 11, 1 | 12, 12, 12: medians 10, 11, 12, in the middle 11; the wall clock does not count."""
    cpu = iter([10, 10, 99, 11, 11, 1, 12, 12, 12])

    class Fixed(probe.Probe):
        def __init__(self) -> None:
            pass

        def sample(self) -> Sample:
            return Sample(fma_s=1e9, copy_s=1e9, fma_cpu_s=float(next(cpu)), copy_cpu_s=2.0)

    assert usual(probe.calibrate(Fixed(), samples=9)) == Seconds(11.0, 2.0)


def test_the_samples_of_a_boot_are_kept_together(tmp_path: Path) -> None:
    """A machine that is at times 12 % slower: what is usual lies between."""
    file = tmp_path / "probe" / "machine-boot.json"
    fast, slow = Calibration((0.0100,) * 10, (0.003,) * 10), Calibration((0.0112,) * 10, (0.003,) * 10)
    learnt = [usual(probe.remember(calibration, file)) for calibration in (fast, slow, fast)]
    assert [seconds.fma_s for seconds in learnt] == [0.0100, pytest.approx(0.0106), 0.0100]
    file.write_text('{"fma_s": 1')
    assert probe.remember(slow, file) == slow, "a file that was cut off is made anew"
    assert len(json.loads(file.read_text())["fma_s"]) == 10
    for _ in range(60):
        probe.remember(fast, file)
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
    probed = probe.Probe(identity.physical_cores())
    before = usual(probe.calibrate(probed, 9))
    with competing():
        seen = [probed.sample() for _ in range(9)]
        block = noise.median([sample.fma_s for sample in seen], [sample.copy_s for sample in seen])
        for quiet in (before, usual(probe.calibrate(probed, 9))):
            assert all(noise.notes([block] * 12, quiet)), (seen, quiet)
            assert block.fma_s > 1.4 * quiet.fma_s


def test_all_cores_together_against_one() -> None:
    speedup = probe.parallel_speedup(probe.Probe(identity.physical_cores()), 5)
    assert 0 < speedup.by_wall <= identity.physical_cores()
    assert 0.3 < speedup.by_cpu <= identity.physical_cores()


# --- blocks ------------------------------------------------------------------------------------------------------------------------


def plan_of(rows: int, warm: int) -> Plan:
    nothing = np.zeros(rows, dtype=np.int64)
    return Plan(Path("p"), "p", "h", rows, warm, "text", nothing, nothing, nothing, nothing)


PACE = Allocation(blocks=12, rounds=2, rows=20, block_s=1.0)


def test_a_noisy_block_is_measured_again_only_where_there_is_room() -> None:
    """564 rows: 64 for warm-up, 12 blocks of 40, and 20 over: half a block. 604 hold one more block."""
    assert not noise_monitor.may_redo(PACE, 0, 0, plan_of(564, 64), 100)
    enough = plan_of(604, 64)
    assert noise_monitor.may_redo(PACE, 0, 0, enough, 12.0)
    assert noise_monitor.spare_rows(PACE, enough, 1) == 64 + 12 * 40
    assert not noise_monitor.may_redo(PACE, 0, 0, enough, 11.9), "the other eleven and this one must fit the time that is left"
    assert noise_monitor.may_redo(PACE, 11, 0, enough, 1.0)
    assert not noise_monitor.may_redo(PACE, 0, 1, enough, 100), "no rows for a second one"
    plenty = plan_of(6400, 64)
    assert [noise_monitor.may_redo(PACE, 0, before, plenty, 100) for before in range(4)] == [True, True, True, False]
    spare = [noise_monitor.spare_rows(PACE, plenty, number) for number in (1, 2, 3)]
    assert spare == [64 + 157 * 40, 64 + 156 * 40, 64 + 155 * 40]


def test_samples_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Free(Seats):
        def __init__(self) -> None:
            self.measured_s = 0.0

    monkeypatch.setattr(noise_monitor.paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(probe, "remember", lambda *_: CALM)
    seats = Free()
    found = noise_monitor.Watch(seats, RunFolder(tmp_path))
    assert json.loads((tmp_path / "probe.json").read_text()) == {"fma_s": 0.010, "copy_s": 0.003}
    monkeypatch.setattr(probe.Probe, "sample", lambda _: samples(25)[0])
    found.look()
    finding = found.finding("closed-1")
    assert finding.note and "2.50 ×" in finding.note and finding.probe.fma_s == (0.025,) * 3
    monkeypatch.setattr(probe.Probe, "sample", lambda _: samples(10)[0])
    for _ in range(5):
        found.look()
    assert found.finding("closed-1") == noise_monitor.Finding(None, ProbeSeconds((0.01,) * 5, (0.003,) * 5))
    assert seats.measured_s > 0
