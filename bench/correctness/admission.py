"""The checks that admit an arm before any time of it is recorded: hard inputs, batch equals single, and unique versus repeat."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from bench.core.stopwatch import Stopwatch
from bench.correctness import check_cache, checks
from bench.correctness.expected import ReferenceVectors
from bench.plan.folder import Plan
from bench.prepare.spec import Experiment, PreparedArm
from bench.runs.schema import Check
from bench.workers.client import Served

#: The unique-versus-repeat tests of all arms take about this part of the budget.
REPEAT_SHARE = 0.1
#: Without a budget the test is as long as in one of this many seconds.
REPEAT_BUDGET_S = 180.0
#: The longest warm-up before the test, in seconds.
WARM_UP_S = 3.0


class Server(Protocol):
    """A running worker of an arm."""

    longest_s: float

    @property
    def patience_s(self) -> float: ...

    def serve(self, plan: Plan, first: int, rows: int, batch: int, guard_s: float) -> Served: ...


class Admission:
    """Judges the arms of an experiment. A verdict on the hard inputs is taken over from an earlier run where nothing has changed since."""

    def __init__(
        self,
        experiment: Experiment,
        reference: ReferenceVectors,
        run_id: str,
        phase: Stopwatch,
        measuring: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """
        Args:
            measuring: the repeat test is paid from the budget inside it; hard inputs are not.
        """
        self.experiment, self.reference, self.run_id, self.phase, self.measuring = experiment, reference, run_id, phase, measuring

    def checks(self, prepared: PreparedArm, server: Server) -> list[Check]:
        """All checks of an arm."""
        cache_key = check_cache.key(self.experiment, prepared)
        results = check_cache.load(cache_key)
        if results is None:
            results = self._hard_inputs(prepared, server)
            check_cache.save(cache_key, self.run_id, results)
        with self.measuring():
            return results + self._unique_versus_repeat(server)

    def _hard_inputs(self, prepared: PreparedArm, server: Server) -> list[Check]:
        hard = self.experiment.hard
        expected = self.reference.of(hard, 0, hard.rows)
        with self.phase("hard inputs"):
            guard_s = 60 + 10 * hard.rows * server.longest_s
            batched = server.serve(hard, 0, hard.rows, checks.HARD_BATCH, guard_s)
            single = server.serve(hard, 0, min(hard.rows, checks.HARD_SINGLES), 1, guard_s)
        return [
            *checks.hard_inputs(prepared.arm.precision, single.vectors, batched.vectors, expected),
            *checks.latency_over_tokens(single.samples, hard.lengths),
            *checks.time_accounted(single.samples, single.wall_ns),
        ]

    def _unique_versus_repeat(self, server: Server) -> list[Check]:
        repeat, limit_s = self.experiment.repeat, self._repeat_limit_s()
        guard_s = 30 + 10 * server.longest_s * checks.REPEAT_PIECE
        warm = server.serve(repeat.plan, 0, repeat.plan.warm, 1, min(WARM_UP_S, limit_s / 4)).samples
        request_s = float((warm["end_ns"] - warm["start_ns"]).median()) / 1e9
        pieces = checks.repeat_pieces(repeat, request_s, limit_s * 3 / 4)
        return checks.unique_versus_repeat([server.serve(repeat.plan, first, pieces.rows, 1, guard_s).samples for first in pieces.firsts])

    def _repeat_limit_s(self) -> float:
        """Seconds of the budget that the test of one arm may take."""
        measured = sum(prepared.arm.role == "measured" for prepared in self.experiment.prepared_arms)
        budget_s = self.experiment.spec.budget_s
        return REPEAT_SHARE * (REPEAT_BUDGET_S if budget_s is None else budget_s) / max(1, measured)
