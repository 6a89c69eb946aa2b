"""A search for the largest Poisson rate that each arm answers within each limit: a block is one trial of every arm still searching."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.catalog import Scenario
from bench.measure import budget
from bench.measure.service_time import ServiceTime
from bench.runs.schema import Trial
from bench.stats.load import unsustainable
from bench.stats.slo import ArmSearch


class RateSearch:
    """The searches of all arms that take part in a scenario."""

    def __init__(self, scenario: Scenario, services: Mapping[str, ServiceTime]) -> None:
        """
        Args:
            services: of the arms that take part, by arm id.
        """
        self.rows, self.services = scenario.piece or 0, services
        self._searches = {arm_id: ArmSearch(scenario.limits_ms, scenario.q, service.single_s) for arm_id, service in services.items()}

    def next_rates(self, arms: Iterable[str]) -> dict[str, float]:
        """The rate of the next trial, requests per second, of each of these arms that has limits to settle."""
        rates = {arm_id: self._searches[arm_id].next_rate() for arm_id in arms if arm_id in self._searches}
        return {arm_id: rate for arm_id, rate in rates.items() if rate is not None}

    def trial_s(self, rates: Mapping[str, float]) -> float:
        """Expected seconds of a trial."""
        shapes = {arm_id: budget.Shape(1, 1, self.rows, rate) for arm_id, rate in rates.items()}
        return sum(budget.arm_s(shape, self.rows, self.services[arm_id]) for arm_id, shape in shapes.items())

    def record(self, trials: Iterable[Trial]) -> None:
        """Learn from the pieces of a finished trial."""
        for trial in trials:
            if trial.arm_id in self._searches:
                overrun = trial.cut or unsustainable(trial.due_ns, trial.start_ns, trial.end_ns)
                latency_ns, service_ns = ((trial.end_ns - since_ns).astype(float) for since_ns in (trial.due_ns, trial.start_ns))
                self._searches[trial.arm_id].record(trial.rate_per_s, latency_ns, service_ns, overrun)
