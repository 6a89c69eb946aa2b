"""The parent's side of WORKER.md: start a worker, have it serve orders, freeze and thaw it, and never outlive a deadline.

The parent blocks in `poll` while a worker runs; it computes nothing then.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from bench.core import files, paths
from bench.core.arrays import Vectors
from bench.core.errors import BenchError
from bench.machine import counters
from bench.machine.lock import MachineLock

#: Environment variables a worker inherits besides those its catalogue entry sets: what may change speed is set by us or absent.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")
LOAD_TIMEOUT_S, LOAD_BYTES_PER_S = 60.0, 20e6
Reading = TypeVar("Reading", counters.Memory, counters.Meter)


class WorkerFailed(Exception):
    """A worker that cannot go on. `status` is CRASH, OOM, TIMEOUT, ENV_INVALID, NOT_APPLICABLE, SKIPPED or PARITY_FAIL; `str()` why."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class SliceFailed(Exception):
    """The worker answered `failed`: this slice is lost, the worker goes on."""


@dataclass(frozen=True)
class Ready:
    """What a worker says when its model is loaded."""

    load_ns: int
    first_ns: int
    second_ns: int
    dim: int
    settings: Mapping[str, Any]


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: the allow-list, then the catalogue's values."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ} | {"PYTHONUNBUFFERED": "1"} | dict(values)


def state_version(command: Sequence[str], env: Mapping[str, str], timeout_s: float = 120) -> dict[str, str]:
    """Run `command --version`.

    Raises:
        WorkerFailed: the runtime does not load; the reason is its own line.
    """
    try:
        done = subprocess.run([*command, "--version"], env=environment(env), capture_output=True, text=True, timeout=timeout_s, check=False)
    except OSError as error:
        raise WorkerFailed("SKIPPED", f"{command[0]}: cannot be started ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise WorkerFailed("TIMEOUT", f"--version gave no answer in {timeout_s:.0f} s") from None
    if done.returncode != 0:
        raise _failure(done.returncode, done.stderr, oom_kills=None)
    try:
        stated = json.loads(done.stdout)
        return {str(key): str(value) for key, value in stated.items()}
    except (ValueError, AttributeError):
        raise WorkerFailed("CRASH", f"--version printed no JSON object: {done.stdout.strip()[:80]!r}") from None


@dataclass(frozen=True)
class Launch:
    """What starts a worker: its program, its environment and the flags of WORKER.md.

    Attributes:
        model: the artefact folder.
        settings: a `--set` each.
        fault: planted for a control.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    model: Path
    pad_id: int
    precision: str = "fp32"
    sessions: int = 1
    threads: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None

    @property
    def argv(self) -> list[str]:
        """The whole command line."""
        return [
            *self.command,
            *("--model", str(self.model)),
            *("--precision", self.precision),
            *("--sessions", str(self.sessions)),
            *("--threads", str(self.threads)),
            *("--pad-id", str(self.pad_id)),
            *(word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")),
            *(("--fault", self.fault) if self.fault else ()),
        ]


@dataclass(frozen=True)
class Order:
    """Rows `first` … `first + rows − 1` of a plan folder, to be served `batch` at a time.

    Attributes:
        rate_per_s: of the arrivals that the plan's gaps give; 0: back to back.
        guard_s: no request is taken later than this after the start.
    """

    plan: Path
    first: int
    rows: int
    batch: int
    guard_s: float
    rate_per_s: float = 0.0


@dataclass(frozen=True, eq=False)
class Served:
    """What a worker made of an order.

    Attributes:
        samples: a row per request: request, due_ns, start_ns, end_ns (int64).
        vectors: float32 (requests, dim), in the order of `samples`.
        wall_ns: from the order to the answer, by the parent's clock.
        usage: what the worker used meanwhile.
    """

    samples: pd.DataFrame
    vectors: Vectors
    wall_ns: int
    usage: counters.Meter


class LineProcess:
    """A process in its own process group that answers a line with a line. It can be frozen, and never outlives a deadline."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], log: Path, folder: Path | None = None) -> None:
        """
        Args:
            folder: where it runs, build/ by default: plans and OUT folders are named relative to it, so that no path holds white space.
        """
        self.log = log
        self.folder = folder or paths.BUILD
        self.started_ns = time.monotonic_ns()
        self._oom_kills = _oom_kills()
        self._pending = b""
        log.parent.mkdir(parents=True, exist_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stderr:
            try:
                self.process = subprocess.Popen(
                    [*argv],
                    env=environment({**env, "BENCH_PARENT": str(os.getpid())}),
                    cwd=self.folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                raise WorkerFailed("SKIPPED", f"{argv[0]}: cannot be started ({error.strerror})") from None

    @property
    def pid(self) -> int:
        return self.process.pid

    def ask(self, line: str, timeout_s: float, what: str) -> tuple[str, str]:
        """Say a line and wait for the answer to it: its first word, and the rest.

        Raises:
            WorkerFailed: it died, or gave no answer in time (it is killed then).
        """
        self.say(line)
        return self.answer(timeout_s, what)

    def freeze(self) -> None:
        """SIGSTOP the group and wait until every thread is stopped."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + 5
        while self.process.poll() is None and time.monotonic() < deadline:
            if _state(self.pid) == "T":
                return
            time.sleep(0.0002)

    def thaw(self) -> None:
        """SIGCONT the group."""
        self._signal(signal.SIGCONT)

    def quit(self, timeout_s: float = 10) -> None:
        """Ask it to end; kill it if it does not."""
        with suppress(WorkerFailed, subprocess.TimeoutExpired):
            self.thaw()
            self.say("quit")
            self.process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the group; safe to call twice."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def memory(self) -> counters.Memory:
        """Its memory now, the peak since `reset_peak`.

        Raises:
            WorkerFailed: it has died.
        """
        return self._read(counters.memory)

    def meter(self) -> counters.Meter:
        """What it has used so far.

        Raises:
            WorkerFailed: it has died.
        """
        return self._read(counters.meter)

    def reset_peak(self) -> bool:
        """Let the high-water mark of its memory begin anew; False where the kernel does not let us."""
        return all([counters.reset_peak(pid) for pid in counters.with_children(self.pid)])

    def _read(self, reader: Callable[[int], Reading]) -> Reading:
        """The sum over its processes: a session may be one of its own."""
        try:
            return counters.summed([reader(pid) for pid in counters.with_children(self.pid)])
        except (OSError, ValueError, KeyError, IndexError):
            raise self._died() from None

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def say(self, line: str) -> None:
        """Write one line to it."""
        assert self.process.stdin
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._died() from None

    def answer(self, timeout_s: float, what: str) -> tuple[str, str]:
        """One line from the worker, as (first word, rest)."""
        assert self.process.stdout
        descriptor, deadline = self.process.stdout.fileno(), time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        while b"\n" not in self._pending:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.kill()
                raise WorkerFailed("TIMEOUT", f"no answer to {what} within {timeout_s:.0f} s; killed")
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise self._died()
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        word, _, rest = line.decode(errors="replace").partition(" ")
        return word, rest.strip()

    def _died(self) -> WorkerFailed:
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return _failure(self.process.returncode, text, self._oom_kills)


class Worker(LineProcess):
    """A worker with its model loaded, or loading."""

    def __init__(self, launch: Launch, log: Path, folder: Path | None = None) -> None:
        super().__init__(launch.argv, launch.env, log, folder)
        self.spawn_ns = 0
        self._outs = 0

    def wait_ready(self, timeout_s: float) -> Ready:
        """Wait for the `ready` line."""
        word, rest = self.answer(timeout_s, "load")
        if word != "ready":
            self.kill()
            raise WorkerFailed("CRASH", f"said {word!r} where `ready` was due")
        self.spawn_ns = time.monotonic_ns() - self.started_ns
        try:
            return Ready(**json.loads(rest))
        except (ValueError, TypeError):
            self.kill()
            raise WorkerFailed("CRASH", f"its `ready` line is not the protocol's: {rest[:80]!r}") from None

    def serve(self, order: Order, scratch: Path, timeout_s: float) -> Served:
        """Have an order served. OUT is written below `scratch` (a folder below its own), read and removed.

        Raises:
            SliceFailed: the worker said `failed`.
            WorkerFailed: it died, gave no answer in time (it is killed then), or wrote something else than the protocol's files.
        """
        self._outs += 1
        out = scratch / f"{self.pid}-{self._outs}"
        plan_path, out_path = (path.relative_to(self.folder) for path in (order.plan, out))
        line = f"serve {plan_path} {order.first} {order.rows} {order.rate_per_s:.9g} {order.batch} {order.guard_s:.3f} {out_path}"
        before, began_ns = self.meter(), time.monotonic_ns()
        with files.disk_full_is_said(out):
            try:
                word, rest = self.ask(line, timeout_s, "a slice")
                wall_ns = time.monotonic_ns() - began_ns
                if word == "failed":
                    raise SliceFailed(rest.partition(" ")[2] or rest)
                if word != "served" or not rest.isdigit():
                    self.kill()
                    raise WorkerFailed("CRASH", f"said {f'{word} {rest}'[:80]!r} where `served` was due")
                return Served(*read_out(out), wall_ns, self.meter().since(before))
            finally:
                shutil.rmtree(out, ignore_errors=True)


@contextmanager
def running(launch: Launch, log: Path, held: MachineLock, timeout_s: float) -> Iterator[tuple[Worker, Ready]]:
    """A worker that has said `ready`, listed with the machine's lock, and ended when the block is left.

    Raises:
        WorkerFailed: it does not start.
    """
    worker = Worker(launch, log)
    held.add(worker.pid)
    try:
        yield worker, worker.wait_ready(timeout_s)
    finally:
        worker.kill()
        held.remove(worker.pid)


def load_timeout_s(artefact_bytes: int) -> float:
    """How long a worker may take to load an artefact of this size."""
    return LOAD_TIMEOUT_S + artefact_bytes / LOAD_BYTES_PER_S


def read_out(out: Path) -> tuple[pd.DataFrame, Vectors]:
    """The samples and the vectors that a worker wrote; anything else than the protocol's files is the worker's failure.

    Raises:
        WorkerFailed: they are not there, or do not fit each other.
    """
    try:
        samples = pd.read_csv(out / "samples.csv", dtype="int64")
        about = files.read_json(out / "slice.json")
        vectors = np.fromfile(out / "vectors.bin", dtype="<f4").reshape(about["rows"], about["dim"])
        if list(samples.columns) != ["request", "due_ns", "start_ns", "end_ns"] or len(samples) != len(vectors):
            raise ValueError("samples.csv and vectors.bin do not fit")
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise
        raise WorkerFailed("CRASH", f"what it wrote is not the protocol's: {error}") from None
    return samples, vectors


def _failure(code: int, stderr: str, oom_kills: int | None) -> WorkerFailed:
    """Why a worker ended: its own last line where it wrote one, else the signal."""
    for line in reversed(stderr.splitlines()):
        if code == 3 and line.startswith("not-applicable "):
            return WorkerFailed("NOT_APPLICABLE", line.removeprefix("not-applicable ").strip())
        if code == 1 and line.startswith("error: "):
            return WorkerFailed("ENV_INVALID", line.removeprefix("error: ").strip())
    if code < 0:
        name = signal.Signals(-code).name
        if code == -signal.SIGKILL and oom_kills is not None and _oom_kills() > oom_kills:
            return WorkerFailed("OOM", "killed by the kernel: out of memory")
        return WorkerFailed("CRASH", f"CRASH({name}): the process was ended by a signal")
    last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "no message")
    return WorkerFailed("CRASH", f"exit status {code}: {last[:160]}")


def _oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, machine-wide."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _state(pid: int) -> str:
    """The letter of /proc/PID/stat: `T` is stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def require_linux() -> None:
    """Measuring needs /proc and SIGSTOP.

    Raises:
        BenchError: on anything but Linux.
    """
    if not Path("/proc/self/stat").exists():
        raise BenchError("this machine has no /proc: measuring needs Linux (`invoke doctor`, `report` and `site` work here)")
