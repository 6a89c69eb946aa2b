"""One `embed` line: rows that the parent has put into shared memory, through one session; their vectors come back in the same memory."""

from __future__ import annotations

import itertools
import mmap
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.workers.api import Array, Session, one_line
from bench.workers.plan_file import Padder, PlanFile, image_shape

#: Types of the elements by the word that names them in the line.
KINDS: Mapping[str, np.dtype[Any]] = {"tokens": np.dtype("<i8"), "pixels": np.dtype("<f4")}


@dataclass(frozen=True)
class Embed:
    """One `embed` line: `rows` rows of `kind` in the file `shared`, for session number `session`."""

    session: int
    kind: str
    rows: int
    shared: str

    @classmethod
    def parse(cls, words: Sequence[str], sessions: int) -> Embed:
        """Read the words that follow `embed`.

        Raises:
            ValueError: they are not SESSION KIND ROWS SHARED, or there is no such session.
        """
        if len(words) != 4:
            raise ValueError("wants `embed SESSION KIND ROWS SHARED`")
        order = cls(int(words[0]), words[1], int(words[2]), words[3])
        if not (0 <= order.session < sessions and order.kind in KINDS and order.rows >= 1):
            raise ValueError(f"SESSION < {sessions}, KIND tokens or pixels and ROWS >= 1 are wanted")
        return order


@dataclass(frozen=True)
class SharedRows:
    """The rows of one order as they lie in the shared memory, and the place for their vectors (rows, dim)."""

    rows: PlanFile
    vectors: Array


@dataclass(frozen=True)
class SharedMemory:
    """A file that parent and worker map: vectors (float32, rounded up to 8 bytes), lengths of the rows (int64), their elements joined."""

    content: Array

    @classmethod
    def open(cls, path: Path) -> SharedMemory:
        """Map the whole file for reading and writing."""
        with path.open("r+b") as file:
            return cls(np.frombuffer(mmap.mmap(file.fileno(), 0), dtype=np.uint8))

    def rows(self, order: Embed, dim: int, image_size: int | None) -> SharedRows:
        """The parts of the memory for an order, as views.

        Raises:
            ValueError: its rows do not fit the file.
        """
        size, numbers = len(self.content), order.rows * dim
        lengths_at = (numbers * 4 + 7) // 8 * 8
        elements_at = lengths_at + order.rows * 8
        if elements_at > size:
            raise ValueError(f"{order.rows} rows do not fit {size} bytes of shared memory")
        lengths = self.content[lengths_at:elements_at].view("<i8").tolist()
        if min(lengths) < 1:
            raise ValueError("a row has no elements")
        end = elements_at + sum(lengths) * KINDS[order.kind].itemsize
        if end > size:
            raise ValueError(f"{order.rows} rows do not fit {size} bytes of shared memory")
        elements = self.content[elements_at:end].view(KINDS[order.kind])
        image = image_shape(lengths[0], image_size) if order.kind == "pixels" else None
        rows = PlanFile(np.zeros(0), list(itertools.accumulate(lengths[:-1], initial=0)), lengths, elements, image)
        return SharedRows(rows, self.content[: numbers * 4].view("<f4").reshape(order.rows, dim))


@dataclass
class EmbeddingSession:
    """One session with the memory that its orders named, mapped once and kept."""

    session: Session
    dim: int
    pad_id: int
    image_size: int | None
    memories: dict[str, SharedMemory] = field(default_factory=dict)

    def answer(self, order: Embed) -> str:
        """Embed the rows of one line; the answer to it."""
        try:
            return f"embedded {order.session} {self.embed(order)}"
        except Exception as error:
            return f"not-embedded {order.session} {one_line(error)}"

    def embed(self, order: Embed) -> int:
        """The service time in ns, as `serve` takes it; the vectors are in the shared memory then."""
        if order.shared not in self.memories:
            self.memories[order.shared] = SharedMemory.open(Path(order.shared))
        shared = self.memories[order.shared].rows(order, self.dim, self.image_size)
        padder = Padder(shared.rows, self.pad_id)
        start_ns = time.monotonic_ns()
        vectors = self.session(*padder.make(0, order.rows))
        service_ns = time.monotonic_ns() - start_ns
        if vectors.shape != shared.vectors.shape:
            raise ValueError(f"vectors of shape {vectors.shape} came back, not {shared.vectors.shape}")
        shared.vectors[...] = vectors
        return service_ns


class SideBySide:
    """A thread for each session; each answers its own orders."""

    def __init__(self, sessions: Sequence[EmbeddingSession], say: Callable[[str], None]) -> None:
        self._orders: list[queue.SimpleQueue[Embed]] = [queue.SimpleQueue() for _ in sessions]
        for session, orders in zip(sessions, self._orders, strict=True):
            threading.Thread(target=_answer_all, args=(session, orders, say), daemon=True).start()

    def put(self, order: Embed) -> None:
        """Have the thread of its session answer an order."""
        self._orders[order.session].put(order)


def _answer_all(session: EmbeddingSession, orders: queue.SimpleQueue[Embed], say: Callable[[str], None]) -> None:
    while True:
        say(session.answer(orders.get()))
