"""One measurement at a time per machine; workers that a killed harness left are ended before the next one begins."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bench.core.errors import BenchError

#: One file for the machine, whatever clone or user measures.
DEFAULT = Path("/tmp/embedding-model-benchmarking.lock")


@dataclass
class MachineLock:
    """The held lock. Its file lists the workers by pid and start time, so that the next holder can end those of a killed one."""

    file: IO[str]
    about: dict[str, object]
    workers: dict[int, int] = field(default_factory=dict)

    def add(self, pid: int) -> None:
        self.workers[pid] = _started(pid)
        self._write()

    def remove(self, pid: int) -> None:
        self.workers.pop(pid, None)
        self._write()

    def _write(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        json.dump({**self.about, "workers": [[pid, started] for pid, started in self.workers.items()]}, self.file)
        self.file.flush()


@contextmanager
def hold(what: str) -> Iterator[MachineLock]:
    """Hold the machine while `what` (such as the model's name, for the message to others) is measured.

    Raises:
        BenchError: another process holds it; the message says which.
    """
    path = Path(os.environ.get("BENCH_LOCK", DEFAULT))
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    except OSError as error:
        raise BenchError(f"lock file {path}: {error.strerror}; set BENCH_LOCK to a file you may write") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchError(_held_by(path)) from None
        _end_leftovers(file.read())
        lock = MachineLock(file, {"pid": os.getpid(), "what": what, "folder": str(Path.cwd()), "since": time.strftime("%H:%M:%S")})
        lock._write()
        try:
            yield lock
        finally:
            file.seek(0)
            file.truncate()


def _held_by(path: Path) -> str:
    try:
        about = json.loads(path.read_text())
        who = f"process {about['pid']} in {about['folder']}, measuring {about['what']} since {about['since']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return f"the machine is being measured on by {who}: two measurements spoil each other; wait for it to end"


def _end_leftovers(text: str) -> None:
    """SIGKILL the workers that a killed harness left, if their pid still belongs to the same process."""
    try:
        workers = json.loads(text)["workers"]
    except (ValueError, KeyError, TypeError):
        return
    for pid, started in workers:
        if _started(pid) == started:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _started(pid: int) -> int:
    """Start time of a process in clock ticks since boot; −1 where there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1
