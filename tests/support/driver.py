"""The test side of the worker protocol: start a worker, send lines, read lines, and read the files in OUT.

Nothing of `bench.workers.client` is used, so that the conformance test holds the workers to WORKER.md and not to that client's habits.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.catalog import Framework
from bench.prepare import launch

TIMEOUT_S = 300


@dataclass(frozen=True)
class Served:
    """The files of one OUT folder: `samples` has the columns request, due_ns, start_ns, end_ns."""

    rows: int
    samples: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]
    about: Mapping[str, Any]

    request = property(lambda self: self.samples[:, 0])
    due_ns = property(lambda self: self.samples[:, 1])
    start_ns = property(lambda self: self.samples[:, 2])
    end_ns = property(lambda self: self.samples[:, 3])

    @property
    def batch_sizes(self) -> list[int]:
        """Rows that began at the same time, in order."""
        return [int(size) for size in np.unique(self.start_ns, return_counts=True)[1]]


@dataclass(frozen=True)
class TestPlan:
    """A plan folder made for a test, and its contents."""

    __test__ = False
    name: str
    gaps: npt.NDArray[np.float64]
    rows: list[npt.NDArray[Any]]


def make_plan(folder: Path, rows: Sequence[npt.NDArray[Any]], gaps: npt.NDArray[np.float64]) -> TestPlan:
    """Write a plan folder as WORKER.md describes it: tokens of int64, pixels of float32."""
    folder.mkdir(parents=True)
    joined = np.concatenate([row.reshape(-1) for row in rows])
    joined.tofile(folder / ("tokens.i64" if joined.dtype == np.int64 else "pixels.f32"))
    offsets = np.concatenate([[0], np.cumsum([row.size for row in rows])])
    lines = [f"{gap:.9f},{offset},{row.size}" for gap, offset, row in zip(gaps, offsets[:-1], rows, strict=True)]
    (folder / "rows.csv").write_text("\n".join(["gap,offset,length", *lines, ""]))
    return TestPlan(folder.name, np.round(gaps, 9), list(rows))


class SharedMemory:
    """The file of `embed`, as WORKER.md describes it: vectors, lengths, elements."""

    def __init__(self, path: Path, size: int = 1 << 20) -> None:
        path.write_bytes(bytes(size))
        self.path = path
        self.content = np.memmap(path, dtype=np.uint8, mode="r+")

    def put(self, rows: Sequence[npt.NDArray[Any]], dim: int) -> None:
        """Write lengths and elements; the place of the vectors is filled with garbage."""
        place = -(-len(rows) * dim * 4 // 8) * 8
        lengths = np.array([row.size for row in rows], dtype="<i8")
        content = np.concatenate([lengths.view(np.uint8), *(np.ascontiguousarray(row).reshape(-1).view(np.uint8) for row in rows)])
        self.content[:place] = 0xFF
        self.content[place : place + len(content)] = content

    def vectors(self, rows: int, dim: int) -> npt.NDArray[np.float32]:
        """A copy of the vectors (rows, dim)."""
        return np.array(self.content[: rows * dim * 4].view("<f4").reshape(rows, dim))


def environment(framework: Framework, sessions: int, threads: int) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a worker, templates filled in; beside those only what a program needs to run."""
    command, env = launch.command_and_env(framework, sessions, threads)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return list(command), {**kept, **env}


def flags(model: Path, sessions: int = 1, threads: int = 1, precision: str = "fp32") -> list[str]:
    return ["--model", str(model), "--precision", precision, "--sessions", str(sessions), "--threads", str(threads), "--pad-id", "0"]


def run(framework: Framework, *arguments: str, **more_env: str) -> subprocess.CompletedProcess[str]:
    """One short run with these arguments and nothing on stdin."""
    command, env = environment(framework, 1, 1)
    return subprocess.run(
        [*command, *arguments], env=env | more_env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


class Driver:
    """A started worker that has said `ready`. `folder` is where it runs: plans and OUT are named relative to it."""

    def __init__(
        self, framework: Framework, model: Path, folder: Path, *more: str, sessions: int = 1, threads: int = 1, precision: str = "fp32"
    ) -> None:
        command, env = environment(framework, sessions, threads)
        self.folder = folder
        self.log = folder / f"{framework.name}-{time.monotonic_ns()}.log"
        self._outs = 0
        self._rest = b""
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*command, *flags(model, sessions, threads, precision), *more],
                env=env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            )  # fmt: skip
        word, _, rest = self.line().partition(" ")
        assert word == "ready", f"{word} {rest}"
        self.ready: dict[str, Any] = json.loads(rest)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                pipe.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def say(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> str:
        """Say one line and return the one that comes back."""
        self.say(line)
        return self.line()

    def has_answered(self) -> bool:
        """Is there something to read?"""
        return bool(self._rest or select.select([self.process.stdout], [], [], 0)[0])

    def out(self) -> str:
        """A name for an OUT folder that was not used before."""
        self._outs += 1
        return f"out-{self.pid}-{self._outs}"

    def serve(
        self, plan: TestPlan, first: int = 0, count: int | None = None, rate: float = 0, batch: int = 1, seconds: float = 200
    ) -> Served:
        """Send `serve`, which must not fail, and read OUT."""
        out = self.out()
        wanted = len(plan.rows) - first if count is None else count
        answer = self.ask(f"serve {plan.name} {first} {wanted} {rate:g} {batch} {seconds:g} {out}")
        word, _, number = answer.partition(" ")
        assert word == "served" and number.isdigit(), answer
        folder = self.folder / out
        assert not (self.folder / f"{out}.tmp").exists()
        header, *lines = (folder / "samples.csv").read_text().splitlines()
        assert header == "request,due_ns,start_ns,end_ns"
        samples = np.array([[int(field) for field in line.split(",")] for line in lines], dtype=np.int64).reshape(-1, 4)
        about = json.loads((folder / "slice.json").read_text())
        vectors = np.fromfile(folder / "vectors.bin", dtype="<f4").reshape(-1, self.ready["dim"])
        assert len(samples) == len(vectors) == int(number)
        return Served(int(number), samples, vectors, about)

    def embed(self, memory: SharedMemory, rows: Sequence[npt.NDArray[Any]], session: int = 0) -> npt.NDArray[np.float32]:
        """`embed`, which must not fail; the vectors that are in the memory then."""
        word, number, service_ns = self.ask(self.embed_line(memory, rows, session)).split(" ", 2)
        assert (word, number) == ("embedded", str(session)) and int(service_ns) > 0
        return memory.vectors(len(rows), self.ready["dim"])

    def embed_line(self, memory: SharedMemory, rows: Sequence[npt.NDArray[Any]], session: int = 0) -> str:
        """Put rows into the memory; the line that has them embedded."""
        memory.put(rows, self.ready["dim"])
        return f"embed {session} {'tokens' if rows[0].dtype == np.int64 else 'pixels'} {len(rows)} {memory.path}"

    def exit_status(self) -> int:
        return self.process.wait(60)

    def line(self) -> str:
        """The next line from the worker."""
        assert self.process.stdout
        descriptor, deadline = self.process.stdout.fileno(), time.monotonic() + TIMEOUT_S
        while b"\n" not in self._rest:
            ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no answer in {TIMEOUT_S} s"
            chunk = os.read(descriptor, 1 << 16)
            assert chunk, f"the worker ended: {self.log.read_text(errors='replace')[-2000:]}"
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()
