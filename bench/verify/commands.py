"""Other commands of this program, run as a user would run them, but in a sandbox: their own data folder, site and lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.core import paths
from bench.core.errors import BenchError

POLL_S = 0.5


def invoke(*words: str, data: Path, scratch: Path, timeout_s: float, on_wait: Callable[[], None]) -> None:
    """Run `invoke WORDS` to its end, with `data` in place of data/ and our build/.

    It takes a lock in `scratch`, because the machine's is held by this process. `on_wait` is called every POLL_S seconds. The command is
    ended with this function, however that ends.

    Raises:
        BenchError: it failed, or took longer than `timeout_s`; the message ends with the last line that it printed.
    """
    sandbox = {"BENCH_DATA": str(data), "BENCH_SITE": str(scratch / "site"), "BENCH_LOCK": str(scratch / "lock")}
    scratch.mkdir(parents=True, exist_ok=True)
    log, deadline = scratch / "log", time.monotonic() + timeout_s
    with log.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "invoke", *words], cwd=paths.ROOT, env={**os.environ, **sandbox}, stdout=output, stderr=output
        )
        try:
            while child.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_S)
                on_wait()
        finally:
            late = child.poll() is None
            child.terminate()
            child.wait()
    if child.returncode:
        last = next((line.strip() for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "no message")
        raise BenchError(f"`invoke {' '.join(words[:3])}`: {f'not done after {timeout_s:.0f} s: ' if late else ''}{last}")
