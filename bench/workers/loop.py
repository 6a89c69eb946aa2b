"""One `serve` line: rows of a plan, at their due times or back to back, through the sessions; samples and vectors to OUT.

The loop hands arrays over and reads the clock; it knows nothing of what a framework does with the arrays.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.workers.api import Array, Session, one_line
from bench.workers.plan_file import Padder, PlanFile

SPIN_NS = 150_000


class SliceFailed(Exception):
    """A slice that a session or the disk ended early: `rows` rows were answered by then, `str()` says why."""

    def __init__(self, rows: int, reason: str) -> None:
        super().__init__(reason)
        self.rows = rows


@dataclass
class Fault:
    """A planted fault for the controls: every service `slow` times as long, or one stall of `stall_ns` once `stall_at_ns` have passed."""

    text: str
    slow: float = 1.0
    stall_at_ns: int = 0
    stall_ns: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read `slow=F` or `stall=AT_S:FOR_S`."""
        kind, _, value = text.partition("=")
        try:
            if kind == "slow" and 1 <= float(value) < math.inf:
                return cls(text, slow=float(value))
            if kind == "stall":
                at_ns, for_ns = (int(float(seconds) * 1e9) for seconds in value.split(":"))
                if at_ns >= 0 and for_ns >= 0:
                    return cls(text, stall_at_ns=at_ns, stall_ns=for_ns)
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is neither slow=F (F >= 1) nor stall=AT_S:FOR_S")

    def apply(self, t0_ns: int, start_ns: int) -> None:
        """Wait for what the fault adds to a service that began at `start_ns` of a `serve` that began at `t0_ns`."""
        if self.slow > 1:
            wait_until(start_ns + int((time.monotonic_ns() - start_ns) * self.slow))
        if self.stall_ns and start_ns - t0_ns >= self.stall_at_ns:
            # Reset before the wait, so that no other session stalls too.
            stall_ns, self.stall_ns = self.stall_ns, 0
            wait_until(time.monotonic_ns() + stall_ns)


@dataclass(frozen=True)
class Serve:
    """One `serve` line: `count` rows from row `first` of a plan, at `rate` rows per second (0: back to back), up to `batch` together.

    No row is taken later than `seconds` after the start.
    """

    plan: str
    first: int
    count: int
    rate: float
    batch: int
    seconds: float
    out: str

    @classmethod
    def parse(cls, words: Sequence[str]) -> Serve:
        """Read the words of a line.

        Raises:
            ValueError: they are not a `serve`, or OUT exists.
        """
        if len(words) != 8 or words[0] != "serve":
            raise ValueError("wants `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT`, `embed SESSION KIND ROWS SHARED` or `quit`")
        _, plan, first, count, rate, batch, seconds, out = words
        order = cls(plan, int(first), int(count), float(rate), int(batch), float(seconds), out)
        if not (order.first >= 0 and order.count >= 1 and 0 <= order.rate < math.inf and order.batch >= 1 and 0 < order.seconds < math.inf):
            raise ValueError("FIRST >= 0, COUNT >= 1, RATE >= 0, BATCH >= 1 and SECONDS > 0 are wanted")
        if Path(out).exists():
            raise ValueError(f"{out} exists; name a new folder")
        return order


def wait_until(due_ns: int) -> None:
    """Sleep until 150 µs before, then spin: plain sleeps overshoot by tens of µs, differently in each language."""
    early_ns = due_ns - time.monotonic_ns() - SPIN_NS
    if early_ns > 0:
        time.sleep(early_ns / 1e9)
    while time.monotonic_ns() < due_ns:
        pass


class Batch(NamedTuple):
    """Rows that are served together, from row `first` of the plan; `dues_ns` is None where they are due when they are taken."""

    first: int
    rows: int
    dues_ns: list[int] | None


def batches_of(order: Serve, gaps: Array, t0_ns: int) -> Iterator[Batch]:
    """Yield batches until the rows or the time are over: `batch` rows back to back, else the rows that are due by then."""
    row, stop = order.first, order.first + order.count
    guard_ns = t0_ns + int(order.seconds * 1e9)
    if order.rate == 0:
        while row < stop and time.monotonic_ns() < guard_ns:
            rows = min(order.batch, stop - row)
            yield Batch(row, rows, None)
            row += rows
        return
    dues_ns = (t0_ns + np.cumsum(gaps[row:stop]) / order.rate * 1e9).astype(np.int64).tolist()
    while row < stop:
        position = row - order.first
        if dues_ns[position] > guard_ns or time.monotonic_ns() > guard_ns:
            return
        wait_until(dues_ns[position])
        now_ns = time.monotonic_ns()
        rows = 1
        while rows < order.batch and position + rows < len(dues_ns) and dues_ns[position + rows] <= now_ns:
            rows += 1
        yield Batch(row, rows, dues_ns[position : position + rows])
        row += rows


class SharedBatches:
    """Batches that the sessions' threads take in order, until one of them stops it."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._lock, self._stopped = batches, threading.Lock(), False

    def __iter__(self) -> SharedBatches:
        return self

    def __next__(self) -> Batch:
        with self._lock:
            if self._stopped:
                raise StopIteration
            return next(self._batches)

    def stop(self) -> None:
        """Hand out no more. The lock is not waited for: its holder may be waiting for a row to come due."""
        self._stopped = True


@dataclass
class Recorder:
    """Times (due, start, end) and vectors of one slice, in plan order whatever session served them; a row's time is None until then."""

    first: int
    times: list[tuple[int, int, int] | None]
    vectors: Array

    def answered(self) -> list[int]:
        """Positions of the rows that were answered, in order."""
        return [position for position, times in enumerate(self.times) if times is not None]

    def write(self, out: Path, batches: int) -> int:
        """Write OUT under a temporary name and rename it; returns the rows answered."""
        temporary = out.with_name(out.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        answered = self.answered()
        lines = ["request,due_ns,start_ns,end_ns\n"]
        for position in answered:
            times = self.times[position]
            assert times is not None
            lines.append(f"{self.first + position},{times[0]},{times[1]},{times[2]}\n")
        (temporary / "samples.csv").write_text("".join(lines))
        vectors = self.vectors if len(answered) == len(self.times) else self.vectors[answered]
        (temporary / "vectors.bin").write_bytes(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        slice_json = {"rows": len(answered), "dim": int(self.vectors.shape[1]), "dtype": "float32", "batches": batches}
        (temporary / "slice.json").write_text(json.dumps(slice_json))
        temporary.rename(out)
        return len(answered)


def drive(session: Session, padder: Padder, batches: Iterator[Batch], recorder: Recorder, t0_ns: int, fault: Fault | None) -> int:
    """Serve batches one after another in this thread; returns how many."""
    clock, make, times, vectors, base = time.monotonic_ns, padder.make, recorder.times, recorder.vectors, recorder.first
    served = 0
    for first, rows, dues_ns in batches:
        start_ns = clock()
        result = session(*make(first, rows))
        if fault is not None:
            fault.apply(t0_ns, start_ns)
        end_ns = clock()
        if len(result) != rows:
            raise ValueError(f"{len(result)} vectors came back for {rows} rows")
        position = first - base
        vectors[position : position + rows] = result
        if rows == 1:
            times[position] = (start_ns if dues_ns is None else dues_ns[0], start_ns, end_ns)
        else:
            for row in range(rows):
                times[position + row] = (start_ns if dues_ns is None else dues_ns[row], start_ns, end_ns)
        served += 1
    return served


def drive_all(
    sessions: Sequence[Session], padders: Sequence[Padder], batches: Iterator[Batch], recorder: Recorder, t0_ns: int, fault: Fault | None
) -> int:
    """Serve batches in a thread for each session; returns how many. Raises what a session raised, when all threads have ended."""
    shared = SharedBatches(batches)
    served: list[int] = []
    errors: list[BaseException] = []

    def serve(session: Session, padder: Padder) -> None:
        try:
            served.append(drive(session, padder, shared, recorder, t0_ns, fault))
        except BaseException as error:  # a session's failure must fail the slice, not vanish with its thread
            errors.append(error)
            shared.stop()

    threads = [threading.Thread(target=serve, args=pair) for pair in zip(sessions, padders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(served)


def serve(sessions: Sequence[Session], dim: int, plan: PlanFile, pad_id: int, order: Serve, fault: Fault | None) -> int:
    """Serve one slice and write OUT; returns the rows answered.

    Raises:
        SliceFailed: a session raised, or OUT cannot be written.
    """
    padders = [Padder(plan, pad_id) for _ in sessions]
    recorder = Recorder(order.first, [None] * order.count, np.zeros((order.count, dim), dtype=np.float32))
    t0_ns = time.monotonic_ns()
    batches = batches_of(order, plan.gaps, t0_ns)
    try:
        if len(sessions) == 1:
            served = drive(sessions[0], padders[0], batches, recorder, t0_ns, fault)
        else:
            served = drive_all(sessions, padders, batches, recorder, t0_ns, fault)
        return recorder.write(Path(order.out), served)
    except Exception as error:
        raise SliceFailed(len(recorder.answered()), one_line(error)) from error
