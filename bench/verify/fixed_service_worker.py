"""A worker whose service time is known beforehand: the shared loop with a session that takes so many milliseconds and no more.

    python -m bench.verify.fixed_service_worker [worker flags] --set ms=5 [--set seen=FILE]

It waits until its time is over, so that a busy machine changes it little. With `seen`, it counts finished rows in that file (one
little-endian int64, mapped): somebody outside can look at it whenever he likes, with his own clock.
"""

from __future__ import annotations

import mmap
import platform
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.worker import Array, Loaded, NotApplicable, Options, Session, WorkerError, run

DIM = 8
SPIN_S = 0.0002


def version() -> Mapping[str, str]:
    build = f"numpy {np.__version__}"
    return {"framework": "fixed-service", "language": "python", "runtime": "none", "version": platform.python_version(), "build": build}


def load(options: Options) -> Loaded:
    if options.precision != "fp32" or options.sessions != 1:
        raise NotApplicable("the fixed-service worker has fp32 and one session only")
    try:
        took_s = float(options.settings.get("ms", "")) / 1e3
    except ValueError:
        raise WorkerError("--set ms: a number of milliseconds is wanted") from None
    seen = options.settings.get("seen")
    return Loaded([session(took_s, counter(Path(seen)) if seen else None)], DIM, {"precision": "fp32"})


def counter(file: Path) -> Callable[[int], None]:
    """Adds to the count in `file`, which must hold 8 bytes."""
    with file.open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 8)
    finished = 0

    def add(rows: int) -> None:
        nonlocal finished
        finished += rows
        mapped[:8] = struct.pack("<q", finished)

    return add


def session(took_s: float, add: Callable[[int], None] | None) -> Session:
    """A session that takes `took_s` seconds a call, whatever the number of rows."""
    vector = np.eye(1, DIM, dtype=np.float32)

    def serve(ids: Array, mask: Array) -> Array:
        until = time.monotonic() + took_s
        time.sleep(max(0.0, took_s - SPIN_S))
        while time.monotonic() < until:
            pass
        if add:
            add(len(ids))
        return np.repeat(vector, len(ids), axis=0)

    return serve


if __name__ == "__main__":
    run(version, load, {"ms": (), "seen": ()})
