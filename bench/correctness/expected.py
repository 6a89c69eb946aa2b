"""The reference vectors of the rows of an experiment's plans, as its blocks and its admission need them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.artefacts.export import Artefact
from bench.core.arrays import Vectors
from bench.core.stopwatch import Stopwatch
from bench.correctness import reference
from bench.plan.folder import Plan


class ReferenceVectors:
    """The fp32 Embedder's vectors of plan rows, computed where they are not on disk yet."""

    def __init__(self, artefact: Artefact, pad_id: int, phase: Stopwatch) -> None:
        """
        Args:
            phase: takes the seconds of computing.
        """
        self.artefact, self.pad_id, self.phase = artefact, pad_id, phase

    def of(self, plan: Plan, first: int, count: int) -> Vectors:
        """Vectors (count, dim) of plan rows `first` …"""
        source, rows = plan.distinct(first, count)
        low, high = int(rows.min()), int(rows.max()) + 1
        folder, digest = self.artefact.folder, self.artefact.hash
        with self.phase("reference"):
            vectors = reference.ensure(folder, digest, source.folder, source.hash, low, high - low, self.pad_id)
        return vectors[rows - low]


@dataclass(frozen=True, eq=False)
class Expected:
    """Reference vectors (n, dim) of the plan's rows from `first` on."""

    first: int
    vectors: Vectors

    def of(self, rows: npt.NDArray[np.int64]) -> Vectors:
        return self.vectors[rows - self.first]
