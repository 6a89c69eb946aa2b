"""A heavy step in a process of its own: `python -m MODULE`, its job as JSON on stdin, its result as the last line of stdout.

The parent stays small and needs no framework; what the step held is given back when it ends.
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
from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from bench.core import files, paths
from bench.core.errors import BenchError

#: Where nobody watches a status line, a step that is expected to take longer is announced before it begins.
WORTH_ANNOUNCING_S = 10.0


class Left(ProgressColumn):
    """The time left, from what such a step took before."""

    def render(self, task: Task) -> Text:
        expected: float | None = task.fields["expected_s"]
        if expected is None:
            return Text("")
        left = expected - (task.elapsed or 0.0)
        return Text(f"about {left:.0f} s left" if left > 0 else "longer than expected")


def run(module: str, title: str, job: Mapping[str, Any], log: Path, expected_s: float | None = None) -> dict[str, Any]:
    """Do the job, with its time and the time left (where `expected_s` is known) on a status line; its result, with `seconds` and
    `peak_rss_bytes` (its peak resident size).

    Raises:
        BenchError: it failed; the line is its last words, and `log` keeps what it said on stderr.
    """
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), Left())
    if expected_s and expected_s > WORTH_ANNOUNCING_S and not console.is_terminal:
        console.print(f"{title}: about {expected_s:.0f} s", highlight=False, markup=False)
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        files.disk_full_is_said(log),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        log.open("w", encoding="utf-8") as stream,
    ):
        progress.add_task(title, total=None, expected_s=expected_s)
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, stderr=stream, cwd=paths.ROOT, text=True, check=False)
    if done.returncode:
        words = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        last = words[-1].removeprefix("bench.core.errors.BenchError: ") if words else f"exit status {done.returncode}, no message"
        reason = "killed, most likely for want of memory; free some and run the command again" if done.returncode == -9 else last
        raise BenchError(f"{title}: {reason} (all it said: {log})")
    log.unlink()
    seconds = round(time.monotonic() - started, 1)
    console.print(f"{title}: {seconds:.0f} s", highlight=False, markup=False)
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}


def plain(value: Any) -> Any:
    """A dataclass as JSON values; the child validates it again on the other side."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def main(work: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> None:
    """The child's side. What `work` returns becomes part of the result."""
    found = work(json.load(sys.stdin)) or {}
    print(json.dumps({**found, "peak_rss_bytes": _peak_rss_bytes()}))


def _peak_rss_bytes() -> int:
    """Of this process. Not getrusage where /proc is there: that also counts what the parent held before exec."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
