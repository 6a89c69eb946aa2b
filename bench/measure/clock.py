"""What a run has used of its budget."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class BudgetClock:
    """Seconds of measuring (slices, warm-ups, probes, the repeat test), and how many of the budget are left.

    Loads, builds, reference vectors and hard inputs are not paid from the budget: they run outside `measuring`.
    """

    def __init__(self, budget_s: float | None, paid_s: float = 0.0, measured_s: float = 0.0) -> None:
        """
        Args:
            budget_s: None where every scenario takes its own cost.
            paid_s: of the budget, used before this run (by controls).
            measured_s: used by this run before it was interrupted.
        """
        self.budget_s, self.paid_s = budget_s, paid_s
        self.measured_s = measured_s
        self.warm_up_s = 0.0

    @property
    def left_s(self) -> float:
        """Seconds left of the budget; infinite without one."""
        return math.inf if self.budget_s is None else self.budget_s - self.paid_s - self.measured_s

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """The body is paid from the budget."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.measured_s += time.monotonic() - began_s

    @contextmanager
    def warming_up(self) -> Iterator[None]:
        """The body is paid from the budget, and counted as warm-up."""
        began_s = time.monotonic()
        try:
            with self.measuring():
                yield
        finally:
            self.warm_up_s += time.monotonic() - began_s
