"""A worker with a fixed service time: the shared loop with a session that takes the given milliseconds, whatever it is asked.

    python -m bench.verify.fixed_service_worker [worker flags] --set ms=5 [--set counter=FILE]

It waits until a point in time, so that a busy machine changes the service little. With `counter`, it counts finished rows in that file
(one little-endian int64, mapped), which another process can read at any time by its own clock.
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
#: The last part of a service is waited for without sleeping.
SPIN_S = 0.0002


def version() -> Mapping[str, str]:
    build = f"numpy {np.__version__}"
    return {"framework": "fixed-service", "language": "python", "runtime": "none", "version": platform.python_version(), "build": build}


def load(options: Options) -> Loaded:
    if options.precision != "fp32" or options.sessions != 1:
        raise NotApplicable("the fixed-service worker has fp32 and one session only")
    try:
        service_s = float(options.settings.get("ms", "")) / 1e3
    except ValueError:
        raise WorkerError("--set ms: a number of milliseconds is wanted") from None
    file = options.settings.get("counter")
    return Loaded([session(service_s, counter(Path(file)) if file else None)], DIM, {"precision": "fp32"})


def counter(file: Path) -> Callable[[int], None]:
    """A function that adds rows to the count in `file`, which must hold 8 bytes."""
    with file.open("r+b") as stream:
        mapped = mmap.mmap(stream.fileno(), 8)
    finished = 0

    def add(rows: int) -> None:
        nonlocal finished
        finished += rows
        mapped[:8] = struct.pack("<q", finished)

    return add


def session(service_s: float, add: Callable[[int], None] | None) -> Session:
    """A session that takes `service_s` seconds a call, whatever the number of rows; it tells `add` how many it has finished."""
    vector = np.eye(1, DIM, dtype=np.float32)

    def serve(ids: Array, mask: Array) -> Array:
        until = time.monotonic() + service_s
        time.sleep(max(0.0, service_s - SPIN_S))
        while time.monotonic() < until:
            pass
        if add:
            add(len(ids))
        return np.repeat(vector, len(ids), axis=0)

    return serve


if __name__ == "__main__":
    run(version, load, {"ms": (), "counter": ()})
