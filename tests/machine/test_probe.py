"""The probe: what it calls noise, what it remembers, and that it sees a competing load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.machine import identity, probe
from bench.machine.probe import Calibration, Sample
from bench.runs import noise
from bench.runs.noise import Seconds

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
