"""One `serve` line: rows of a plan, at their due times or back to back, through the sessions; samples and vectors to OUT.

The loop knows no tensors beyond the arrays it hands over, and a framework knows no clocks.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.workers.api import Array, Loaded, Session
from bench.workers.plan_file import Padder, PlanFile

SPIN_NS = 150_000


@dataclass
class Fault:
    """A planted fault for the controls: services `slow` times as long, or one stall of `stall_ns` at `stall_at_ns`."""

    text: str
    slow: float = 1.0
    stall_at_ns: int = 0
    stall_ns: int = 0

    @classmethod
    def parse(cls, text: str) -> Fault:
        kind, _, value = text.partition("=")
        try:
            if kind == "slow" and float(value) >= 1:
                return cls(text, slow=float(value))
            if kind == "stall":
                at, _, length = value.partition(":")
                return cls(text, stall_at_ns=int(float(at) * 1e9), stall_ns=int(float(length) * 1e9))
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is neither slow=F (F >= 1) nor stall=AT_S:FOR_S")

    def apply(self, t0_ns: int, start_ns: int) -> None:
        """Spin or sleep for what the fault adds to a service that began at `start_ns`."""
        if self.slow > 1:
            wait_until(start_ns + int((time.monotonic_ns() - start_ns) * self.slow))
        if self.stall_ns and start_ns - t0_ns >= self.stall_at_ns:
            wait_until(time.monotonic_ns() + self.stall_ns)
            self.stall_ns = 0


@dataclass(frozen=True)
class Serve:
    """One `serve` line."""

    plan: str
    first: int
    count: int
    rate: float
    batch: int
    seconds: float
    out: str

    @classmethod
    def parse(cls, words: Sequence[str]) -> Serve:
        plan, first, count, rate, batch, seconds, out = words
        order = cls(plan, int(first), int(count), float(rate), int(batch), float(seconds), out)
        if order.first < 0 or order.count < 1 or order.rate < 0 or order.batch < 1 or order.seconds <= 0:
            raise ValueError("FIRST >= 0, COUNT >= 1, RATE >= 0, BATCH >= 1 and SECONDS > 0 are wanted")
        return order


def wait_until(due_ns: int) -> None:
    """Sleep until 150 µs before, then spin: plain sleeps overshoot by tens of µs, differently in each language."""
    early = due_ns - time.monotonic_ns() - SPIN_NS
    if early > 0:
        time.sleep(early / 1e9)
    while time.monotonic_ns() < due_ns:
        pass


def _batches(order: Serve, gaps: Array, t0_ns: int) -> Iterator[tuple[int, int, list[int] | None]]:
    """Yield (first row, rows, due times): back to back always `batch` rows, with a rate the rows that are due by now."""
    row, stop = order.first, order.first + order.count
    guard_ns = t0_ns + int(order.seconds * 1e9)
    if order.rate == 0:
        while row < stop and time.monotonic_ns() < guard_ns:
            rows = min(order.batch, stop - row)
            yield row, rows, None
            row += rows
        return
    dues = (t0_ns + np.cumsum(gaps[row:stop]) / order.rate * 1e9).astype(np.int64).tolist()
    while row < stop:
        position = row - order.first
        if dues[position] > guard_ns or time.monotonic_ns() > guard_ns:
            return
        wait_until(dues[position])
        now = time.monotonic_ns()
        rows = 1
        while rows < order.batch and position + rows < len(dues) and dues[position + rows] <= now:
            rows += 1
        yield row, rows, dues[position : position + rows]
        row += rows


class _Locked:
    """A generator that several sessions take from in order."""

    def __init__(self, items: Iterator[tuple[int, int, list[int] | None]]) -> None:
        self._items, self._lock = items, threading.Lock()

    def __iter__(self) -> _Locked:
        return self

    def __next__(self) -> tuple[int, int, list[int] | None]:
        with self._lock:
            return next(self._items)


@dataclass
class Recorder:
    """Samples and vectors of one `serve`, in plan order whatever session served them."""

    first: int
    times: list[tuple[int, int, int] | None]
    vectors: Array
    batches: int = 0

    def done(self) -> list[int]:
        """Positions that were served, in order."""
        return [position for position, times in enumerate(self.times) if times is not None]

    def write(self, out: Path) -> int:
        """Write OUT under a temporary name and rename it; returns the rows served."""
        temporary = out.with_name(out.name + ".tmp")
        temporary.mkdir(parents=True)
        done = self.done()
        lines = ["request,due_ns,start_ns,end_ns\n"]
        for position in done:
            times = self.times[position]
            assert times is not None
            lines.append(f"{self.first + position},{times[0]},{times[1]},{times[2]}\n")
        (temporary / "samples.csv").write_text("".join(lines))
        vectors = self.vectors if len(done) == len(self.times) else self.vectors[done]
        (temporary / "vectors.bin").write_bytes(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        slice_json = {"rows": len(done), "dim": int(self.vectors.shape[1]), "dtype": "float32", "batches": self.batches}
        (temporary / "slice.json").write_text(json.dumps(slice_json))
        temporary.rename(out)
        return len(done)


def _drive(
    session: Session,
    padder: Padder,
    taken: Iterator[tuple[int, int, list[int] | None]],
    recorder: Recorder,
    t0_ns: int,
    fault: Fault | None,
) -> None:
    """Serve batches one after another in this thread."""
    clock, make, times, vectors, base = time.monotonic_ns, padder.make, recorder.times, recorder.vectors, recorder.first
    for first, rows, dues in taken:
        start = clock()
        result = session(*make(first, rows))
        if fault is not None:
            fault.apply(t0_ns, start)
        end = clock()
        position = first - base
        vectors[position : position + rows] = result
        if rows == 1:
            times[position] = (start if dues is None else dues[0], start, end)
        else:
            for row in range(rows):
                times[position + row] = (start if dues is None else dues[row], start, end)
        recorder.batches += 1


@dataclass
class Server:
    """A loaded model that answers `serve` lines."""

    loaded: Loaded
    pad_id: int
    fault: Fault | None
    plans: dict[str, PlanFile] = field(default_factory=dict)

    def serve(self, order: Serve) -> int:
        """Serve one slice and write OUT; returns the rows served. Raises what a session raised."""
        if order.plan not in self.plans:
            self.plans[order.plan] = PlanFile.open(Path(order.plan), self.loaded.image_size)
        plan = self.plans[order.plan]
        if order.first + order.count > len(plan.lengths):
            raise ValueError(f"plan {order.plan} has {len(plan.lengths)} rows, asked for up to {order.first + order.count}")
        sessions = self.loaded.sessions
        makers = [Padder(plan, self.pad_id) for _ in sessions]
        recorder = Recorder(order.first, [None] * order.count, np.zeros((order.count, self.loaded.dim), dtype=np.float32))
        t0_ns = time.monotonic_ns()
        taken = _batches(order, plan.gaps, t0_ns)
        if len(sessions) == 1:
            _drive(sessions[0], makers[0], taken, recorder, t0_ns, self.fault)
        else:
            self._drive_all(makers, taken, recorder, t0_ns)
        return recorder.write(Path(order.out))

    def _drive_all(
        self, makers: Sequence[Padder], taken: Iterator[tuple[int, int, list[int] | None]], recorder: Recorder, t0_ns: int
    ) -> None:
        shared, errors = _Locked(taken), []

        def serve_one(session: Session, padder: Padder) -> None:
            try:
                _drive(session, padder, shared, recorder, t0_ns, self.fault)
            except BaseException as error:  # a session's failure must fail the slice, not vanish with its thread
                errors.append(error)

        threads = [threading.Thread(target=serve_one, args=pair) for pair in zip(self.loaded.sessions, makers, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
