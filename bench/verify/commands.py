"""Other commands of this program, run as a user would, in a house of their own: their own data, site and lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.core import paths
from bench.core.errors import BenchError


def invoke(*words: str, data: Path, scratch: Path, timeout_s: float, waiting: Callable[[], None]) -> None:
    """`invoke WORDS` with `data` in place of data/ and our build/. It takes a lock in `scratch`: the machine's is ours while it runs.

    `waiting` is called twice a second. However we end, the command ends with us.

    Raises:
        BenchError: it failed, or took longer than `timeout_s`; the line is its last words.
    """
    own = {"BENCH_DATA": str(data), "BENCH_SITE": str(scratch / "site"), "BENCH_LOCK": str(scratch / "lock")}
    scratch.mkdir(parents=True, exist_ok=True)
    log, deadline = scratch / "log", time.monotonic() + timeout_s
    with log.open("w") as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words], cwd=paths.ROOT, env={**os.environ, **own}, stdout=said, stderr=said
        )
        try:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.5)
                waiting()
        finally:
            late = child.poll() is None
            child.terminate()
            child.wait()
    if child.returncode:
        last = next((line.strip() for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "no message")
        raise BenchError(f"`invoke {' '.join(words[:3])}`: {f'not done after {timeout_s:.0f} s: ' if late else ''}{last}")
