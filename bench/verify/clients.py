"""A real closed loop: C client threads around one Python session, outside the worker contract.

    python -m bench.verify.clients onnx ARTEFACT_FOLDER THREADS
    python -m bench.verify.clients fixed-service MS 1

says `ready`, then answers `clients PLAN FIRST COUNT CLIENTS OUT` with `clients COUNT`. Each client sends one request, waits for its
answer and sends the next; a session thread takes requests in order of arrival, one at a time. OUT is a CSV `sent_ns,answered_ns` as the
clients saw it, in the order sent. It uses nothing of the shared loop of `bench.worker` and derives no client, so that it can be held
against both.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.worker import Array, Options, Session


@dataclass
class Request:
    """A request that was sent; `done` is set when it is answered."""

    row: int
    sent_ns: int
    done: threading.Event = field(default_factory=threading.Event)


def closed_loop(session: Session, inputs: list[tuple[Array, ...]], clients: int) -> list[tuple[int, int]]:
    """(sent, answered) in ns of each request as its client saw them, in the order sent."""
    waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    rows, sending = iter(range(len(inputs))), threading.Lock()
    times_ns: list[tuple[int, int]] = []

    def client() -> None:
        while True:
            with sending:
                row = next(rows, None)
                if row is None:
                    return
                request = Request(row, time.monotonic_ns())
                waiting.put(request)
            request.done.wait()
            times_ns.append((request.sent_ns, time.monotonic_ns()))

    def serve() -> None:
        while (request := waiting.get()) is not None:
            session(*inputs[request.row])
            request.done.set()

    server = threading.Thread(target=serve)
    senders = [threading.Thread(target=client) for _ in range(clients)]
    for thread in (server, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    waiting.put(None)
    server.join()
    return sorted(times_ns)


def inputs_of(plan: Path, first: int, count: int) -> list[tuple[Array, ...]]:
    """Ids and mask of the rows of a text plan, one row each."""
    rows = np.loadtxt(plan / "rows.csv", delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64)[first : first + count]
    tokens = np.fromfile(plan / "tokens.i64", dtype="<i8")
    ids = [tokens[offset : offset + length].reshape(1, -1) for offset, length in rows]
    return [(row, np.ones_like(row)) for row in ids]


def session_of(kind: str, what: str, threads: int) -> Session:
    """`fixed-service` with milliseconds, or `onnx` with the folder of an artefact."""
    if kind == "fixed-service":
        from bench.verify import fixed_service_worker

        return fixed_service_worker.session(float(what) / 1e3, None)
    from bench.workers import onnx

    return onnx.load(Options(Path(what), "fp32", 1, threads, {})).sessions[0]


def main(kind: str, what: str, threads: int) -> None:
    answers: Any = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    session = session_of(kind, what, threads)
    print("ready {}", file=answers)
    for line in sys.stdin:
        words = line.split()
        if words[0] != "clients":
            return
        plan, first, count, clients, out = Path(words[1]), int(words[2]), int(words[3]), int(words[4]), Path(words[5])
        times_ns = closed_loop(session, inputs_of(plan, first, count), clients)
        out.write_text("".join(f"{sent},{answered}\n" for sent, answered in [("sent_ns", "answered_ns"), *times_ns]))
        print("clients", len(times_ns), file=answers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
