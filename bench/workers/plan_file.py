"""A plan folder as a worker reads it, and the padded tensors of its rows. numpy and the standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.workers.api import Array

HEADER = "gap,offset,length"


@dataclass
class PlanFile:
    """A plan folder, mapped. Offsets and lengths are plain lists: indexing those is several times cheaper than indexing arrays.

    Attributes:
        gaps: the mean-1 gap before each row.
        offsets, lengths: where a row lies in `elements`.
        elements: ids (int64) or pixels (float32) of all rows, joined.
        image: (3, height, width) of each row; None for tokens.
    """

    gaps: Array
    offsets: list[int]
    lengths: list[int]
    elements: Array
    image: tuple[int, ...] | None

    @classmethod
    def open(cls, folder: Path, image_size: int | None) -> PlanFile:
        """Map a plan folder. `image_size` is the model's; without it the first row tells.

        Raises:
            ValueError, OSError: it is not a plan folder.
        """
        tokens, pixels = folder / "tokens.i64", folder / "pixels.f32"
        if tokens.exists() == pixels.exists():
            raise ValueError(f"{folder} holds not exactly one of tokens.i64 and pixels.f32")
        with (folder / "rows.csv").open() as file:
            if file.readline().rstrip("\n") != HEADER:
                raise ValueError(f"{folder / 'rows.csv'} does not begin with {HEADER}")
            rows = np.loadtxt(file, delimiter=",", ndmin=2)
        offsets, lengths = rows[:, 1].astype(int), rows[:, 2].astype(int)
        elements: Array = np.memmap(tokens, dtype="<i8", mode="c") if tokens.exists() else np.memmap(pixels, dtype="<f4", mode="c")
        outside = np.flatnonzero((lengths < 1) | (offsets < 0) | (offsets + lengths > len(elements)))
        if len(outside):
            raise ValueError(f"row {outside[0]} of {folder} ends outside its array of {len(elements)} elements")
        image = image_shape(int(lengths[0]), image_size) if pixels.exists() else None
        return cls(rows[:, 0], offsets.tolist(), lengths.tolist(), np.asarray(elements), image)


def image_shape(length: int, image_size: int | None) -> tuple[int, int, int]:
    """(3, height, width) of a row of `length` pixels: squares of the model's size, or where it has none, of the row's."""
    side = image_size or math.isqrt(length // 3)
    return 3, side, side


@dataclass
class Padder:
    """Makes the tensors of a batch: views of the plan for a single row, padded copies for more. The mask of single rows is reused."""

    plan: PlanFile
    pad_id: int
    ones: Array = field(init=False)

    def __post_init__(self) -> None:
        self.ones = np.ones((1, max(self.plan.lengths) if self.plan.image is None else 1), dtype=np.int64)

    def make(self, first: int, rows: int) -> tuple[Array, ...]:
        """The tensors of `rows` rows from row `first`: (ids, mask), int64 (rows, tokens), or (pixels,), float32 (rows, 3, H, W)."""
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
