"""Whether a framework computes the same vectors in every process: each serves the rows of warm-up, one at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bench.core.arrays import Vectors
from bench.runs.schema import Check
from bench.stats import parity

NAME = "run to run"


@dataclass
class _Seen:
    """The vectors of the first process of an arm for the first rows of a plan, and how those of later processes compare."""

    start: int
    vectors: Vectors
    processes: set[int] = field(default_factory=set)
    rows: int = 0
    max_abs_diff: float = 0.0
    reason: str | None = None
    equal: bool = True


class RunToRun:
    """Compares the vectors of the processes of each arm, row by row."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], _Seen] = {}

    def see(self, arm_id: str, precision: str, start: int, plan_hash: str, vectors: Vectors) -> Check | None:
        """Compare a process with the first one of its arm; the check from the second process on, else None.

        Args:
            start: number of the process.
            vectors: (rows, dim) of the first rows of a plan, served alone. Rows that only one of the two processes has are left out.
        """
        seen = self._seen.setdefault((arm_id, plan_hash), _Seen(start, vectors))
        rows = min(len(vectors), len(seen.vectors))
        if seen.start == start or start in seen.processes or not rows:
            return None
        seen.processes.add(start)
        agreement = parity.compare(vectors[:rows], seen.vectors[:rows])
        diff = float(agreement.max_abs_diff.max())
        seen.rows += rows
        seen.equal &= bool(np.array_equal(vectors[:rows].view(np.uint32), seen.vectors[:rows].view(np.uint32)))
        seen.max_abs_diff = max(seen.max_abs_diff, diff)
        seen.reason = seen.reason or parity.gate(precision, float(agreement.cosine.min()), diff)
        return self._check(arm_id)

    def _check(self, arm_id: str) -> Check:
        """The check of an arm, over all plans that two of its processes have served."""
        compared = [seen for (arm, _), seen in self._seen.items() if arm == arm_id and seen.processes]
        rows, worst = sum(seen.rows for seen in compared), max(seen.max_abs_diff for seen in compared)
        processes = len(set().union(*({seen.start, *seen.processes} for seen in compared)))
        reason = next((seen.reason for seen in compared if seen.reason), None)
        same = "bit-equal" if all(seen.equal for seen in compared) else f"max |Δ| {worst:.1e}"
        detail = f"{rows} rows in {processes} processes: {same}"
        return Check(NAME, rows, worst, None, None, reason is None, f"{detail}: {reason}" if reason else detail)
