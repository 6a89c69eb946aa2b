"""One worker process: start it, talk to it, freeze and thaw it, and never outlive a deadline.

The parent blocks in `poll` while a worker runs; it computes nothing then.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.core.errors import BenchError
from bench.machine import counters

#: Environment variables a worker inherits besides those its catalogue entry sets: what may change speed is set by us or absent.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONPATH", "SYSTEMROOT")


Reading = TypeVar("Reading", counters.Memory, counters.Meter)


class WorkerFailed(Exception):
    """A worker that cannot go on. `status` is one of the states of DESIGN, `str()` the reason in one line."""

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


class Worker:
    """A resident worker process in its own process group."""

    def __init__(self, command: Sequence[str], flags: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> None:
        self.log = log
        self.started_ns = time.monotonic_ns()
        self.spawn_ns = 0
        self.ready: Ready | None = None
        self._oom_kills = _oom_kills()
        self._pending = b""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stderr:
            try:
                self.process = subprocess.Popen(
                    [*command, *flags],
                    env=environment({**env, "BENCH_PARENT": str(os.getpid())}),
                    cwd=folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                raise WorkerFailed("SKIPPED", f"{command[0]}: cannot be started ({error.strerror})") from None

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self, timeout_s: float) -> Ready:
        """Wait for the `ready` line."""
        word, rest = self._answer(timeout_s, "load")
        if word != "ready":
            self.kill()
            raise WorkerFailed("CRASH", f"said {word!r} where `ready` was due")
        self.spawn_ns = time.monotonic_ns() - self.started_ns
        try:
            self.ready = Ready(**json.loads(rest))
        except (ValueError, TypeError):
            self.kill()
            raise WorkerFailed("CRASH", f"its `ready` line is not the protocol's: {rest[:80]!r}") from None
        return self.ready

    def serve(self, plan: str, first: int, count: int, rate: float, batch: int, seconds: float, out: str, timeout_s: float) -> int:
        """Serve rows; returns how many were served before the guard.

        Raises:
            SliceFailed: the worker said `failed`.
            WorkerFailed: it died, or gave no answer in time (it is killed then).
        """
        self._say(f"serve {plan} {first} {count} {rate:.9g} {batch} {seconds:.3f} {out}\n")
        word, rest = self._answer(timeout_s, "a slice")
        if word == "served" and rest.isdigit():
            return int(rest)
        if word == "failed":
            raise SliceFailed(rest.partition(" ")[2] or rest)
        self.kill()
        raise WorkerFailed("CRASH", f"said {f'{word} {rest}'[:80]!r} where `served` was due")

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
            self._say("quit\n")
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
        return all([counters.reset_peak(pid) for pid in counters.family(self.pid)])

    def _read(self, reader: Callable[[int], Reading]) -> Reading:
        """The sum over its processes: a session may be one of its own."""
        try:
            return counters.together([reader(pid) for pid in counters.family(self.pid)])
        except (OSError, ValueError, KeyError, IndexError):
            raise self._died() from None

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _say(self, line: str) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._died() from None

    def _answer(self, timeout_s: float, what: str) -> tuple[str, str]:
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
