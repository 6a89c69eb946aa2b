"""Sessions as processes: S forked children, each with one session of the framework, behind the shared loop of the parent.

The loop sees sessions like any other. A call hands its tensors over in memory that both sides map and waits on a pipe for the answer; what
that costs is service time, as it would be behind any dispatcher.
"""

from __future__ import annotations

import mmap
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.workers.api import Array, Loaded, NotApplicable, Options, Session, WorkerError, bind_to_parent

#: Memory that a child shares with its parent: room for 64 images. It is taken page by page, as far as it is used.
INPUT_BYTES, OUTPUT_BYTES = 64 << 20, 16 << 20


@dataclass(frozen=True)
class Facts:
    """What a child says of its session."""

    dim: int
    settings: Mapping[str, Any]
    fixed_tokens: int | None
    image_size: int | None


class Child:
    """A forked process with one session; nobody shares it."""

    def __init__(self, load: Callable[[Options], Loaded], options: Options) -> None:
        # Forked before the framework has started a thread: `load` is called on the other side only.
        context = multiprocessing.get_context("fork")
        self.inputs, self.outputs = mmap.mmap(-1, INPUT_BYTES), mmap.mmap(-1, OUTPUT_BYTES)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(load, options, theirs, self.inputs, self.outputs), daemon=True)
        self.process.start()
        theirs.close()

    def answer(self, call: Any = None) -> Any:
        """What the child says next, to a call where there is one.

        Raises:
            NotApplicable, WorkerError, RuntimeError: what it failed with, or that it has ended.
        """
        try:
            if call is not None:
                self.pipe.send(call)
            kind, what = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise WorkerError(f"session process {self.process.pid} has ended: see the lines above") from None
        if kind == "failed":
            raise what
        return what

    def session(self, dim: int) -> Session:
        """A session that is computed in the child. Its answer lies in the shared memory until the next call."""

        def serve(*arrays: Array) -> Array:
            place, shapes = 0, []
            for array in arrays:
                if place + array.nbytes > INPUT_BYTES or len(array) * dim * 4 > OUTPUT_BYTES:
                    raise ValueError(f"a batch of {array.nbytes} bytes does not fit the {INPUT_BYTES} that a session's process shares")
                np.frombuffer(self.inputs, array.dtype, array.size, place).reshape(array.shape)[...] = array
                shapes.append((place, array.dtype.str, array.shape))
                place += array.nbytes
            rows = self.answer(shapes)
            return np.frombuffer(self.outputs, np.float32, rows * dim).reshape(rows, dim)

        return serve


def load(of_framework: Callable[[Options], Loaded], options: Options) -> Loaded:
    """As many children as sessions, loaded side by side, each with its own threads and its own weights."""
    children = [Child(of_framework, replace(options, sessions=1)) for _ in range(options.sessions)]
    facts: list[Facts] = [child.answer() for child in children]
    first = facts[0]
    return Loaded([child.session(first.dim) for child in children], first.dim, first.settings, first.fixed_tokens, first.image_size)


def _serve(of_framework: Callable[[Options], Loaded], options: Options, pipe: Connection, inputs: mmap.mmap, outputs: mmap.mmap) -> None:
    """The life of a child: load, then answer calls until the parent ends."""
    bind_to_parent()
    with suppress(EOFError, KeyboardInterrupt):
        try:
            loaded = of_framework(options)
            session, dim = loaded.sessions[0], loaded.dim
            pipe.send(("ready", Facts(dim, dict(loaded.settings), loaded.fixed_tokens, loaded.image_size)))
        except Exception as error:
            pipe.send(("failed", _plain(error)))
            return
        while True:
            shapes = pipe.recv()
            try:
                arrays = [np.frombuffer(inputs, dtype, int(np.prod(shape)), place).reshape(shape) for place, dtype, shape in shapes]
                vectors = session(*arrays)
                np.frombuffer(outputs, np.float32, vectors.size).reshape(vectors.shape)[...] = vectors
                pipe.send(("done", len(vectors)))
            except Exception as error:
                pipe.send(("failed", _plain(error)))


def _plain(error: Exception) -> Exception:
    """An error that can cross a pipe: ours as they are, a framework's as its words."""
    print(f"session process: {error!r}", file=sys.stderr, flush=True)
    return error if isinstance(error, NotApplicable | WorkerError) else RuntimeError(f"{type(error).__name__}: {error}")
