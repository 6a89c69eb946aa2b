"""The Python worker's loop: the protocol of WORKER.md around any `load` function.

A framework's own file in `bench/workers/` gives `version()` and `load(Options) -> Loaded` and calls `run`. This loop knows no
tensors beyond the arrays it hands over, and a framework knows no clocks.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: A session takes (input_ids, attention_mask), both int64 (rows, tokens), or (pixel_values,) float32 (rows, 3, H, W),
#: and returns unit vectors, float32 (rows, dim), in host memory. The array may be reused by its next call.
Session = Callable[..., Array]

PR_SET_PDEATHSIG, PR_SET_TIMERSLACK = 1, 29
SPIN_NS = 150_000
#: The one knob that belongs to the loop: a framework's worker that lists it lets its sessions be processes.
PROCESSES = "processes"


@dataclass(frozen=True)
class Options:
    """What a framework needs to load a model: the artefact folder, the layout and the knobs."""

    folder: Path
    precision: str
    sessions: int
    threads: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """A loaded model: one callable per session, the vector length, the settings as read back from the runtime.

    `fixed_tokens` and `image_size` shape the example of the first call; an image model has an `image_size`.
    """

    sessions: Sequence[Session]
    dim: int
    settings: Mapping[str, Any]
    fixed_tokens: int | None = None
    image_size: int | None = None


class NotApplicable(Exception):
    """The runtime cannot do what was asked; the worker exits with 3."""


class WorkerError(Exception):
    """Something that ends the worker with one line, `THING: CURE`."""


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
            _wait_until(start_ns + int((time.monotonic_ns() - start_ns) * self.slow))
        if self.stall_ns and start_ns - t0_ns >= self.stall_at_ns:
            _wait_until(time.monotonic_ns() + self.stall_ns)
            self.stall_ns = 0


@dataclass
class Plan:
    """A plan folder, mapped. Offsets and lengths are plain lists: indexing those is several times cheaper than indexing arrays."""

    gaps: Array
    offsets: list[int]
    lengths: list[int]
    elements: Array
    image: tuple[int, ...] | None

    @classmethod
    def open(cls, folder: Path, image_size: int | None) -> Plan:
        rows = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1, ndmin=2)
        image, file = None, folder / "tokens.i64"
        if file.exists():
            elements: Array = np.memmap(file, dtype="<i8", mode="c")
        else:
            elements = np.memmap(folder / "pixels.f32", dtype="<f4", mode="c")
            side = image_size or math.isqrt(int(rows[0, 2]) // 3)
            image = (3, side, side)
        return cls(rows[:, 0], rows[:, 1].astype(int).tolist(), rows[:, 2].astype(int).tolist(), np.asarray(elements), image)


@dataclass
class Blocks:
    """Makes the tensors of a batch: views where it can, padded buffers where it must. One per session, since buffers are reused."""

    plan: Plan
    pad_id: int
    longest: int = field(init=False)
    ones: Array = field(init=False)

    def __post_init__(self) -> None:
        self.longest = max(self.plan.lengths)
        self.ones = np.ones((1, self.longest if self.plan.image is None else 1), dtype=np.int64)

    def make(self, first: int, rows: int) -> tuple[Array, ...]:
        """The tensors of `rows` rows from row `first`."""
        plan = self.plan
        offset, length = plan.offsets[first], plan.lengths[first]
        if rows > 1:
            return self.gather(range(first, first + rows))
        if plan.image is not None:
            return (plan.elements[offset : offset + length].reshape(1, *plan.image),)
        return plan.elements[offset : offset + length].reshape(1, length), self.ones[:, :length]

    def gather(self, rows: Sequence[int]) -> tuple[Array, ...]:
        """The tensors of any rows, padded right to the longest."""
        plan = self.plan
        if plan.image is not None:
            return (np.stack([plan.elements[plan.offsets[i] : plan.offsets[i] + plan.lengths[i]] for i in rows]).reshape(-1, *plan.image),)
        width = max(plan.lengths[row] for row in rows)
        ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for position, row in enumerate(rows):
            offset, length = plan.offsets[row], plan.lengths[row]
            ids[position, :length] = plan.elements[offset : offset + length]
            mask[position, :length] = 1
        return ids, mask


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


def _wait_until(due_ns: int) -> None:
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
        _wait_until(dues[position])
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
    blocks: Blocks,
    taken: Iterator[tuple[int, int, list[int] | None]],
    recorder: Recorder,
    t0_ns: int,
    fault: Fault | None,
) -> None:
    """Serve batches one after another in this thread."""
    clock, make, times, vectors, base = time.monotonic_ns, blocks.make, recorder.times, recorder.vectors, recorder.first
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
    plans: dict[str, Plan] = field(default_factory=dict)

    def serve(self, order: Serve) -> int:
        """Serve one slice and write OUT; returns the rows served. Raises what a session raised."""
        if order.plan not in self.plans:
            self.plans[order.plan] = Plan.open(Path(order.plan), self.loaded.image_size)
        plan = self.plans[order.plan]
        if order.first + order.count > len(plan.lengths):
            raise ValueError(f"plan {order.plan} has {len(plan.lengths)} rows, asked for up to {order.first + order.count}")
        sessions = self.loaded.sessions
        makers = [Blocks(plan, self.pad_id) for _ in sessions]
        recorder = Recorder(order.first, [None] * order.count, np.zeros((order.count, self.loaded.dim), dtype=np.float32))
        t0_ns = time.monotonic_ns()
        taken = _batches(order, plan.gaps, t0_ns)
        if len(sessions) == 1:
            _drive(sessions[0], makers[0], taken, recorder, t0_ns, self.fault)
        else:
            self._drive_all(makers, taken, recorder, t0_ns)
        return recorder.write(Path(order.out))

    def _drive_all(
        self, makers: Sequence[Blocks], taken: Iterator[tuple[int, int, list[int] | None]], recorder: Recorder, t0_ns: int
    ) -> None:
        shared, errors = _Locked(taken), []

        def serve_one(session: Session, blocks: Blocks) -> None:
            try:
                _drive(session, blocks, shared, recorder, t0_ns, self.fault)
            except BaseException as error:  # a session's failure must fail the slice, not vanish with its thread
                errors.append(error)

        threads = [threading.Thread(target=serve_one, args=pair) for pair in zip(self.loaded.sessions, makers, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]


def padded_to(session: Session, multiple: int, most: int) -> Session:
    """A session that sees widths of whole multiples only (at most `most` tokens): fewer distinct shapes, more padding.

    The ids that are added are 0 and masked; images pass as they are.
    """

    def serve(*arrays: Array) -> Array:
        if len(arrays) == 1:
            return session(*arrays)
        rows, width = arrays[0].shape
        wide = max(width, min(-(-width // multiple) * multiple, most))
        if wide == width:
            return session(*arrays)
        padded = [np.zeros((rows, wide), dtype=np.int64) for _ in arrays]
        for target, array in zip(padded, arrays, strict=True):
            target[:, :width] = array
        return session(*padded)

    return serve


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, WorkerError | NotApplicable) else f"{type(error).__name__}: {text}"


def _example(loaded: Loaded) -> tuple[Array, ...]:
    """One row of the ids 1…32 (or 1…fixed_tokens), or one image of zeros."""
    if loaded.image_size is not None:
        return (np.zeros((1, 3, loaded.image_size, loaded.image_size), dtype=np.float32),)
    ids = np.arange(1, (loaded.fixed_tokens or 32) + 1, dtype=np.int64).reshape(1, -1)
    return ids, np.ones_like(ids)


def _parser(knobs: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker", allow_abbrev=False)

    def setting(text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not equals or key not in knobs:
            raise argparse.ArgumentTypeError(f"{text!r}: known keys are {', '.join(knobs) or 'none'} (KEY=VALUE)")
        return key, value

    def positive(text: str) -> int:
        number = int(text)
        if number < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
        return number

    parser.add_argument("--version", action="store_true")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8", "int4"))
    parser.add_argument("--sessions", type=positive)
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--pad-id", type=int)
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--fault", type=Fault.parse)
    return parser


def _take_stdout() -> Any:
    """A private copy of stdout; fd 1 then points at stderr, since runtimes print."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private


def bind_to_parent() -> None:
    """Die with the parent, frozen or not, and make sleeps as exact as the kernel can."""
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if os.getppid() == 1 and os.environ.get("BENCH_PARENT", "1") != "1":
        sys.exit(1)  # the parent died before the line above took hold


def _fail(line: str, code: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    # Runtimes' threads may not end by themselves after a failed load.
    os._exit(code)


def run(version: Callable[[], Mapping[str, str]], load: Callable[[Options], Loaded], knobs: Mapping[str, Sequence[str]]) -> None:
    """The worker's `main`. `knobs` maps each `--set` key to the values it takes (none listed: any value)."""
    protocol = _take_stdout()
    bind_to_parent()
    parser = _parser(list(knobs))
    flags = parser.parse_args()
    for key, value in flags.set:
        if knobs[key] and value not in knobs[key]:
            parser.error(f"--set {key}={value}: takes {', '.join(knobs[key])}")
    try:
        if flags.version:
            print(json.dumps(dict(version())), file=protocol, flush=True)
            return
        for name in ("model", "precision", "sessions", "threads", "pad_id"):
            if getattr(flags, name) is None:
                parser.error(f"--{name.replace('_', '-')} is missing")
        if not flags.model.is_dir():
            raise WorkerError(f"artefact folder {flags.model}: not found; run `invoke export`")
        options = Options(flags.model, flags.precision, flags.sessions, flags.threads, dict(flags.set))
        began = time.monotonic_ns()
        loaded = _loaded(load, options)
        load_ns = time.monotonic_ns() - began
        calls_ns = []
        for _ in range(2):
            began = time.monotonic_ns()
            loaded.sessions[0](*_example(loaded))
            calls_ns.append(time.monotonic_ns() - began)
        for session in loaded.sessions[1:]:
            session(*_example(loaded))
    except NotApplicable as reason:
        _fail(f"not-applicable {_one_line(reason)}", 3)
    except Exception as error:
        _fail(f"error: {_one_line(error)}", 1)
    settings = {"sessions": flags.sessions, "threads": flags.threads, **loaded.settings, **dict(flags.set)}
    if flags.fault is not None:
        settings["fault"] = flags.fault.text
    ready = {"load_ns": load_ns, "first_ns": calls_ns[0], "second_ns": calls_ns[1], "dim": loaded.dim, "settings": settings}
    print("ready", json.dumps(ready), file=protocol, flush=True)
    _converse(Server(loaded, flags.pad_id, flags.fault), protocol)


def _loaded(load: Callable[[Options], Loaded], options: Options) -> Loaded:
    """The sessions in this process, or in processes of their own where the knob says so."""
    if options.sessions == 1 or options.settings.get(PROCESSES) != "1":
        return load(options)
    from bench.workers import processes

    return processes.load(load, options)


def _converse(server: Server, protocol: Any) -> None:
    """Answer lines until `quit` or the end of stdin."""
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        try:
            if not words or words[0] != "serve" or len(words) != 8:
                raise ValueError("wants `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit`")
            answer = f"served {server.serve(Serve.parse(words[1:]))}"
        except Exception as error:
            answer = f"failed 0 {_one_line(error)}"
        print(answer, file=protocol, flush=True)
