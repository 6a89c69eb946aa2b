"""A plan folder as a worker reads it, and the padded tensors of its rows. numpy and the standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.workers.api import Array


@dataclass
class PlanFile:
    """A plan folder, mapped. Offsets and lengths are plain lists: indexing those is several times cheaper than indexing arrays."""

    gaps: Array
    offsets: list[int]
    lengths: list[int]
    elements: Array
    image: tuple[int, ...] | None

    @classmethod
    def open(cls, folder: Path, image_size: int | None) -> PlanFile:
        rows = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1, ndmin=2)
        image, file = None, folder / "tokens.i64"
        if file.exists():
            elements: Array = np.memmap(file, dtype="<i8", mode="c")
        else:
            elements = np.memmap(folder / "pixels.f32", dtype="<f4", mode="c")
            side = image_size or math.isqrt(int(rows[0, 2]) // 3)
            image = (3, side, side)
        return cls(rows[:, 0], rows[:, 1].astype(int).tolist(), rows[:, 2].astype(int).tolist(), np.asarray(elements), image)


@dataclass
class Padder:
    """Makes the tensors of a batch: views where it can, padded buffers where it must. One per session, since buffers are reused."""

    plan: PlanFile
    pad_id: int
    longest: int = field(init=False)
    ones: Array = field(init=False)

    def __post_init__(self) -> None:
        self.longest = max(self.plan.lengths)
        self.ones = np.ones((1, self.longest if self.plan.image is None else 1), dtype=np.int64)

    def make(self, first: int, rows: int) -> tuple[Array, ...]:
        """The tensors of `rows` rows from row `first`."""
        plan = self.plan
        offset, length = plan.offsets[first], plan.lengths[first]
        if rows > 1:
            return self.gather(range(first, first + rows))
        if plan.image is not None:
            return (plan.elements[offset : offset + length].reshape(1, *plan.image),)
        return plan.elements[offset : offset + length].reshape(1, length), self.ones[:, :length]

    def gather(self, rows: Sequence[int]) -> tuple[Array, ...]:
        """The tensors of any rows, padded right to the longest."""
        plan = self.plan
        if plan.image is not None:
            return (np.stack([plan.elements[plan.offsets[i] : plan.offsets[i] + plan.lengths[i]] for i in rows]).reshape(-1, *plan.image),)
        width = max(plan.lengths[row] for row in rows)
        ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for position, row in enumerate(rows):
            offset, length = plan.offsets[row], plan.lengths[row]
            ids[position, :length] = plan.elements[offset : offset + length]
            mask[position, :length] = 1
        return ids, mask
