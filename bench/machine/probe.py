"""A short fixed probe of the machine: multiply-adds on all cores at once, then copies in memory, always the same work.

A sample takes a few ms and is taken in every round of slices while all workers are stopped, so that it shows what else the machine does.
It is judged (bench/runs/noise.py) by the wall clock against what the same work costs in CPU time: a neighbour that takes the core away
lengthens the one and not the other, so even a probe that was first calibrated beside a competing load finds that load.

Each thread keeps to a core of its own, since two that wake on one core share it for a tick of the scheduler, and the same work runs once
unrecorded, since the worker that was served last has filled the caches: neither may pass for a neighbour.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core import files
from bench.machine import identity

#: Products of 48 × 48 matrices: small enough that no BLAS gives them to threads of its own, and numpy lets go of its lock meanwhile.
#: On all cores that takes about 10 ms: a waking thread runs undisturbed for a tick or two of the scheduler (4 ms each), whoever else
#: wants the core.
SIDE, STACK, CALLS = 48, 64, 96
COPY_FLOATS, COPIES = 1 << 20, 8
#: Unrecorded calls and copies before each sample.
WARM_CALLS, WARM_COPIES = 4, 1
#: A block is judged by the median of at least this many samples.
SAMPLES = 3
CALIBRATION_SAMPLES, CALIBRATION_GAP_S = 15, 0.1
#: Floats that are written between two samples of a calibration, in place of a worker's slice, so that the caches are filled.
BETWEEN_FLOATS = 16 << 20
#: The newest so many medians of a boot are kept.
MOST_KEPT = 500

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One sample of the probe: seconds by the wall clock, and CPU seconds, of the slowest core's multiply-adds and of the copies."""

    fma_s: float
    copy_s: float
    fma_cpu_s: float
    copy_cpu_s: float


class Probe:
    """The buffers and threads of a probe on `cores` cores, a thread to each; idle between samples."""

    def __init__(self, cores: int) -> None:
        draw = np.random.default_rng(1)
        self.cores = cores
        self._left = draw.standard_normal((STACK, SIDE, SIDE), dtype=np.float32)
        self._right = draw.standard_normal((SIDE, SIDE), dtype=np.float32)
        self._results = [np.empty_like(self._left) for _ in range(cores)]
        self._source = np.ones(COPY_FLOATS, dtype=np.float32)
        self._target = np.empty_like(self._source)
        self._threads = [ThreadPoolExecutor(1, "probe", _keep_to, (cpu,)) for cpu in identity.one_cpu_per_core()[:cores]]
        self.sample()

    def sample(self) -> Sample:
        """Take one sample now."""
        fma = self.multiply(self.cores)
        self._copy(WARM_COPIES)
        copy = _timed(lambda: self._copy(COPIES))
        return Sample(max(wall for wall, _ in fma), copy[0], max(cpu for _, cpu in fma), copy[1])

    def multiply(self, threads: int) -> list[tuple[float, float]]:
        """(wall, CPU) seconds of the multiply-adds in each of `threads` threads at once."""
        pairs = zip(self._threads[:threads], self._results, strict=False)
        return [future.result() for future in [thread.submit(self._timed_multiply, result) for thread, result in pairs]]

    def _timed_multiply(self, result: Floats) -> tuple[float, float]:
        self._multiply(result, WARM_CALLS)
        return _timed(lambda: self._multiply(result, CALLS))

    def _multiply(self, result: Floats, calls: int) -> None:
        for _ in range(calls):
            np.matmul(self._left, self._right, out=result)

    def _copy(self, copies: int) -> None:
        for _ in range(copies):
            np.copyto(self._target, self._source)


def _keep_to(cpu: int) -> None:
    """Pin the calling thread to this logical CPU, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cpu})


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """(wall, CPU) seconds of the calling thread."""
    wall, cpu = time.monotonic_ns(), time.thread_time_ns()
    work()
    return (time.monotonic_ns() - wall) / 1e9, (time.thread_time_ns() - cpu) / 1e9


@dataclass(frozen=True)
class Calibration:
    """CPU seconds of the multiply-adds and of the copies: medians of SAMPLES samples each, as many of the one as of the other."""

    fma_s: tuple[float, ...]
    copy_s: tuple[float, ...]

    def after(self, earlier: Calibration) -> Calibration:
        """The earlier medians and then these, of which the newest MOST_KEPT are kept."""
        return Calibration((earlier.fma_s + self.fma_s)[-MOST_KEPT:], (earlier.copy_s + self.copy_s)[-MOST_KEPT:])


def calibrate(probe: Probe, samples: int = CALIBRATION_SAMPLES) -> Calibration:
    """Samples as they are taken in a run: now and then, and after other work. Takes about 2 s."""
    between, taken = np.ones(BETWEEN_FLOATS, dtype=np.float32), []
    for _ in range(samples):
        between += 1
        time.sleep(CALIBRATION_GAP_S)
        taken.append(probe.sample())
    return medians(taken)


def medians(samples: Sequence[Sample]) -> Calibration:
    """CPU seconds as medians of SAMPLES samples each, as a block is judged by them."""
    parts = [samples[first : first + SAMPLES] for first in range(0, len(samples) - SAMPLES + 1, SAMPLES)]
    return Calibration(
        tuple(statistics.median(sample.fma_cpu_s for sample in part) for part in parts),
        tuple(statistics.median(sample.copy_cpu_s for sample in part) for part in parts),
    )


def remember(calibration: Calibration, file: Path) -> Calibration:
    """Add a calibration to those of this boot, which `file` keeps, and return all of them.

    A machine's speed drifts by more over hours (clock, temperature, other guests of the host) than within a second: the median of all
    calibrations lies in the middle of that drift.
    """
    try:
        before = files.read_json(file)
        calibration = calibration.after(Calibration(tuple(before["fma_s"]), tuple(before["copy_s"])))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # the file is not there yet, or was cut off: this calibration begins it
    files.write_json(file, asdict(calibration))
    return calibration


@dataclass(frozen=True)
class ParallelSpeedup:
    """How many cores' worth of work all cores do at once, against one alone: by the wall clock (the best try) and by CPU time.

    In a guest two virtual CPUs may be two threads of one core: both figures are then nearer 1 than 2. Where the figure by the wall clock
    alone is low, the host or a neighbour took a core away meanwhile.
    """

    by_wall: float
    by_cpu: float


def parallel_speedup(probe: Probe, tries: int = 15) -> ParallelSpeedup:
    """Run the multiply-adds alone and on all cores at once, in turns. Takes about 0.1 s."""
    alone, all_at_once = [], []
    for _ in range(tries):
        alone += probe.multiply(1)
        all_at_once.append([max(times) for times in zip(*probe.multiply(probe.cores), strict=True)])
    wall = min(wall for wall, _ in alone) / min(wall for wall, _ in all_at_once)
    cpu = statistics.median(cpu for _, cpu in alone) / statistics.median(cpu for _, cpu in all_at_once)
    return ParallelSpeedup(probe.cores * min(1.0, wall), probe.cores * min(1.0, cpu))
