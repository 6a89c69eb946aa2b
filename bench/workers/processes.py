"""Sessions as processes: S forked children, each with one session of the framework, behind the same loop.

For the loop they are sessions like any other. A call copies its tensors into memory that both processes map and waits on a pipe for the
answer; that hand-over is part of the service time.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from bench.workers.api import Array, Loaded, NotApplicable, Options, Session, WorkerError, bind_to_parent

#: Memory that a child shares with its parent: room for 64 images. The kernel provides only the pages that are used.
INPUT_BYTES, OUTPUT_BYTES = 64 << 20, 16 << 20


@dataclass(frozen=True)
class Description:
    """The fields of a child's `Loaded` that cross the pipe."""

    dim: int
    settings: Mapping[str, Any]
    fixed_tokens: int | None
    image_size: int | None


class Child:
    """A forked process with one session, seen from its parent."""

    def __init__(self, load: Callable[[Options], Loaded], options: Options) -> None:
        # Forked before the framework has started a thread: `load` is called on the other side only.
        context = multiprocessing.get_context("fork")
        self.inputs, self.outputs = mmap.mmap(-1, INPUT_BYTES), mmap.mmap(-1, OUTPUT_BYTES)
        self.pipe, childs_end = context.Pipe()
        arguments = (load, options, os.getpid(), childs_end, self.inputs, self.outputs)
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        childs_end.close()

    def answer(self, call: Any = None) -> Any:
        """Send a call, if one is given, and wait for the next answer.

        Raises:
            NotApplicable, WorkerError, RuntimeError: the child's error, or that it has ended.
        """
        try:
            if call is not None:
                self.pipe.send(call)
            kind, answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise WorkerError(f"session process {self.process.pid} has ended: see the lines above") from None
        if kind == "failed":
            raise answer
        return answer

    def session(self, dim: int) -> Session:
        """A session that is computed in the child. Its answer is a view of the shared memory, valid until the next call."""

        def serve(*arrays: Array) -> Array:
            offset, layout = 0, []
            for array in arrays:
                if offset + array.nbytes > INPUT_BYTES or len(array) * dim * 4 > OUTPUT_BYTES:
                    raise ValueError(f"a batch of {array.nbytes} bytes does not fit the {INPUT_BYTES} that a session's process shares")
                np.frombuffer(self.inputs, array.dtype, array.size, offset).reshape(array.shape)[...] = array
                layout.append((offset, array.dtype.str, array.shape))
                offset += array.nbytes
            rows = self.answer(layout)
            return np.frombuffer(self.outputs, np.float32, rows * dim).reshape(rows, dim)

        return serve


def load(load_framework: Callable[[Options], Loaded], options: Options) -> Loaded:
    """Load the model in as many children as there are sessions, side by side, each with its own threads and its own weights."""
    children = [Child(load_framework, replace(options, sessions=1)) for _ in range(options.sessions)]
    descriptions: list[Description] = [child.answer() for child in children]
    first = descriptions[0]
    return Loaded([child.session(first.dim) for child in children], first.dim, first.settings, first.fixed_tokens, first.image_size)


def _serve(
    load_framework: Callable[[Options], Loaded], options: Options, parent: int, pipe: Connection, inputs: mmap.mmap, outputs: mmap.mmap
) -> None:
    """The child: load, then answer calls until the parent ends."""
    bind_to_parent(parent)
    with suppress(EOFError, KeyboardInterrupt):
        try:
            loaded = load_framework(options)
            session, dim = loaded.sessions[0], loaded.dim
            pipe.send(("ready", Description(dim, dict(loaded.settings), loaded.fixed_tokens, loaded.image_size)))
        except Exception as error:
            pipe.send(("failed", _sendable(error)))
            return
        while True:
            layout = pipe.recv()
            try:
                arrays = [np.frombuffer(inputs, dtype, int(np.prod(shape)), offset).reshape(shape) for offset, dtype, shape in layout]
                vectors = session(*arrays)
                np.frombuffer(outputs, np.float32, vectors.size).reshape(vectors.shape)[...] = vectors
                pipe.send(("done", len(vectors)))
            except Exception as error:
                pipe.send(("failed", _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """An error that can be pickled: this package's own unchanged, a framework's as a RuntimeError with its words."""
    print(f"session process: {error!r}", file=sys.stderr, flush=True)
    return error if isinstance(error, NotApplicable | WorkerError) else RuntimeError(f"{type(error).__name__}: {error}")
