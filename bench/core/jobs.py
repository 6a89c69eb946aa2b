"""Heavy steps in processes of their own: `python -m MODULE`, the job as JSON on stdin, its result as the last line of stdout.

The parent stays small and needs no framework; the memory of the step is given back when it ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.core import files, paths
from bench.core.errors import BenchError
from bench.core.progress import Progress


def run(module: str, title: str, job: Mapping[str, Any], log: Path, expected_s: float | None = None) -> dict[str, Any]:
    """Run `python -m MODULE` on a job and return its result, with `seconds` and `peak_rss_bytes` (its peak resident size).

    Progress is shown under `title`, with the time left where `expected_s` is known.

    Raises:
        BenchError: it failed; the line is its last words, and `log` keeps what it said on stderr.
    """
    began_s = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with Progress().step(title, expected_s):
        with files.disk_full_is_said(log), log.open("w", encoding="utf-8") as stderr:
            command = [sys.executable, "-m", module]
            process = subprocess.run(
                command, input=json.dumps(job), stdout=subprocess.PIPE, stderr=stderr, cwd=paths.ROOT, text=True, check=False
            )
        if process.returncode:
            raise BenchError(f"{title}: {_reason(process.returncode, log)} (all it said: {log})")
    log.unlink()
    return {"seconds": round(time.monotonic() - began_s, 1), **json.loads(process.stdout.splitlines()[-1])}


def _reason(returncode: int, log: Path) -> str:
    """Why a job failed: its last words, or the signal that ended it."""
    if returncode == -9:
        return "killed, most likely for want of memory; free some and run the command again"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("bench.core.errors.BenchError: ") if lines else f"exit status {returncode}, no message"


def plain(value: Any) -> Any:
    """A dataclass as JSON values, which the child validates again."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def main(work: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> None:
    """The child's side: do `work` on the job that stdin holds; what it returns becomes part of the result."""
    result = work(json.load(sys.stdin)) or {}
    print(json.dumps({**result, "peak_rss_bytes": _peak_rss_bytes()}))


def _peak_rss_bytes() -> int:
    """Peak resident size of this process. /proc comes before getrusage, which also counts what the parent held before exec."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
