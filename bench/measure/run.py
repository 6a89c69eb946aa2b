"""Measures an experiment scenario by scenario, block by block, within its budget.

Small models stay resident, idle workers frozen; where a suite wants fresh processes for every block, scenarios that serve the same shapes
share them: one block of each, then new processes. Models of 1 GB and more, or too little memory: each arm of a block is a fresh process
that serves all its rows and ends (see MEASUREMENT, Order). A worker that crashes, hangs or is killed becomes a failure with its reason
and the others go on; nothing outlives this process (the workers die with it, and the machine's lock lists them for the next holder).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.catalog import Scenario
from bench.core import paths
from bench.core.progress import Progress, minutes
from bench.machine import lock
from bench.measure import budget, noise_monitor, quality, resume
from bench.measure.blocks import Expected
from bench.measure.budget import WARM_UP_SHARE
from bench.measure.paces import LATE, Paces
from bench.measure.seats import Seats
from bench.plan import workload
from bench.prepare import describe_run, preflight
from bench.prepare.spec import Experiment
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder
from bench.stats.load import unsustainable
from bench.stats.slo import Search

#: Names the scenarios of a run folder that are not decided yet.
Undecided = Callable[[Path], Collection[str]]


class Runner(Paces):
    """One run of one model: which blocks are measured, and in which order."""

    def __init__(
        self, experiment: Experiment, folder: RunFolder, seats: Seats, progress: Progress, undecided: Undecided | None = None
    ) -> None:
        """
        Args:
            undecided: names the scenarios of a run folder that are looked at again with more blocks; none without it.
        """
        super().__init__(experiment, folder, seats, progress, preflight.stays_resident(experiment))
        self.undecided = undecided

    def run(self) -> None:
        """Measure every scenario, then mark the run as done."""
        if not self.resident:
            self.progress.say("one worker at a time: they would not all fit into memory, or their model is large")
        self.seats.measured_s = self.folder.measured_s()
        self.watch = noise_monitor.Watch(self.seats, self.folder)
        self._not_applicable()
        scenarios = list(self.waiting)
        while self.waiting:
            self._each(workload.turns(self.waiting, self.resident and self.experiment.spec.fresh_blocks))
        if self.experiment.spec.requests is None and self.experiment.spec.budget_s is not None:
            for scenario in scenarios:
                self._fill_up(scenario)
            self._look_again(scenarios)
        self.seats.leave_all()
        with self.seats.stage("quality"):
            quality.measure(self.experiment, self.folder, self.seats.held, self.progress.say)
        self.folder.write_done({**self.seats.stage.seconds, "measuring": round(self.seats.measured_s, 3)})

    def _each(self, groups: Sequence[Sequence[Scenario]]) -> None:
        """Every group of scenarios, in their order."""
        self.warmed = {scenario.name for group in groups for scenario in group[1:]}
        for place, group in enumerate(groups):
            self._announce(group)
            if len(group) > 1:
                self._in_turns(group, len(groups) - place)
            else:
                self._scenario(group[0], len(groups) - place)

    def _announce(self, group: Sequence[Scenario]) -> None:
        """Which scenarios come now, and how far the run is, with what it had before it was resumed."""
        scenarios, budget_s = self.experiment.spec.scenarios, self.experiment.spec.budget_s
        if len(scenarios) > 1:
            begun = sum(self.folder.block_count(scenario.name) > 0 for scenario in scenarios)
            spent = minutes(self.seats.measured_s) + (f" of {minutes(budget_s)}" if budget_s is not None else "")
            names = ", ".join(scenario.name for scenario in group)
            self.progress.say(f"{begun} of {len(scenarios)} scenarios have blocks, {spent} measured; next: {names}")

    def _not_applicable(self) -> None:
        """What no arm, or not this one, can serve in a scenario."""
        for scenario in self.experiment.spec.scenarios:
            if reason := self.experiment.not_applicable.get(scenario.name):
                for arm_id in self.arms:
                    self.folder.write_failure(arm_id, scenario.name, "NOT_APPLICABLE", reason)
            for prepared in self.experiment.prepared_arms:
                if prepared.variant.scenarios and scenario.name not in prepared.variant.scenarios:
                    reason = f"{prepared.variant.name} is for {', '.join(prepared.variant.scenarios)}"
                    self.folder.write_failure(prepared.arm.id, scenario.name, "NOT_APPLICABLE", reason)
                if prepared.arm.role == "floor" and scenario.floor_in:
                    reason = f"the harness's floor is the same as in {scenario.floor_in}"
                    self.folder.write_failure(prepared.arm.id, scenario.name, "NOT_APPLICABLE", reason)

    # --- scenarios in turns ----------------------------------------------------------------------------------------------

    def _in_turns(self, scenarios: Sequence[Scenario], groups_left: int) -> None:
        """The blocks of scenarios that serve the same shapes: one of each in the same processes, then new processes.

        Memory stays that of the shape, and a scenario's blocks each come from another process, as when it is measured on its own.
        """
        limit_s, self.turns = self._warm_up_limit_s(self._left_s() / groups_left, scenarios[0]), []
        expected: dict[str, Expected] = {}
        with self.progress.turns(budget.BLOCKS) as comes:
            for block in range(budget.BLOCKS):
                self.seats.leave_all()
                for scenario in scenarios:
                    if block == 0:
                        self._join(scenario, limit_s)
                    allocation = self.folder.allocation(scenario.name)
                    if (
                        allocation is None
                        or scenario not in self.turns
                        or block >= allocation.blocks
                        or self.folder.has_block(scenario.name, block)
                    ):
                        continue
                    if block >= budget.MIN_BLOCKS and self._late(scenario, allocation):
                        self.turns.remove(scenario)
                        self.progress.say(f"{scenario.name}: stopped after {block} of {allocation.blocks} blocks, the budget is used up")
                        continue
                    comes(block, scenario.name, [one.name for one in self.turns])
                    plan = self.experiment.plans[scenario.name]
                    if scenario.name not in expected:
                        expected[scenario.name] = self._expected(plan, plan.warm, allocation.rows_per_arm)
                    self._measured(scenario, block, allocation, expected[scenario.name], limit_s)
        self.turns = []
        self.warmed -= {scenario.name for scenario in scenarios}

    def _join(self, scenario: Scenario, limit_s: float) -> None:
        """Let a scenario take its turns, if there is room for it beside those in front; else it goes on waiting."""
        if self._must_wait(scenario, limit_s):
            return
        self.waiting.remove(scenario)
        if self.folder.allocation(scenario.name) is None:
            if self._no_room(scenario):
                return
            began_s, warm_s = self.seats.measured_s, self.seats.warm_up_s
            self._ready_all(scenario, limit_s)
            alive = self._alive(scenario)
            if not alive or self._allocate(scenario, began_s, self.seats.warm_up_s - warm_s, limit_s, alive) is None:
                return
        self.turns.append(scenario)

    def _alive(self, scenario: Scenario) -> list[str]:
        """The arms that were warmed up for a scenario and have not failed in it."""
        return [arm_id for arm_id in self.arms if (arm_id, scenario.name) in self.seats.costs and not self._failed(arm_id, scenario)]

    # --- one scenario after another --------------------------------------------------------------------------------------

    def _scenario(self, scenario: Scenario, left: int) -> None:
        """All blocks of one scenario, within its share of the budget; `left`: how many are still to come, itself included."""
        began_s, warm_s = self.seats.measured_s, self.seats.warm_up_s
        limit_s = self._warm_up_limit_s(self._left_s() / left, scenario)
        if self._must_wait(scenario, limit_s):
            return
        self.waiting.remove(scenario)
        if self._no_room(scenario):
            return
        if scenario.process != "suite" or self._fresh(scenario):
            self.seats.leave_all()
        # An arm that failed in an earlier scenario gets another chance here.
        self._ready_all(scenario, limit_s)
        alive = self._alive(scenario)
        if not alive:
            return
        if scenario.load == "slo":
            share_s = self._share_s(scenario, self._free_s(scenario, limit_s), self._least_s(scenario, limit_s), limit_s)
            self._search(scenario, alive, limit_s, began_s + LATE * share_s)
            return
        warm_s = self.seats.warm_up_s - warm_s
        allocation = self.folder.allocation(scenario.name) or self._allocate(scenario, began_s, warm_s, limit_s, alive)
        if allocation is not None:
            self._blocks(
                scenario,
                allocation,
                min(limit_s, self._warm_up_limit_s(allocation.blocks * allocation.block_s / (1 - WARM_UP_SHARE), scenario)),
            )

    def _blocks(self, scenario: Scenario, allocation: Allocation, limit_s: float) -> None:
        """The blocks of a allocation that are not there yet, until its share of the budget is used up."""
        plan = self.experiment.plans[scenario.name]
        expected = self._expected(plan, plan.warm, allocation.rows_per_arm)
        every = 1 if self._fresh(scenario) else -(-allocation.blocks // self._starts())
        about = f"{scenario.name}: {allocation.blocks} blocks × {allocation.rounds} rounds × {allocation.rows} rows an arm"
        with self.progress.steps(about, allocation.blocks) as advance:
            for block in range(allocation.blocks):
                if self.folder.has_block(scenario.name, block):
                    advance()
                    continue
                if block >= budget.MIN_BLOCKS and self._late(scenario, allocation):
                    self.progress.say(
                        f"{scenario.name}: stopped after {block} of {allocation.blocks} blocks, its share of the budget is used up"
                    )
                    break
                if self.resident and scenario.process != "kept" and (block or scenario.process == "fresh") and block % every == 0:
                    self.seats.leave_all()
                self._measured(scenario, block, allocation, expected, limit_s)
                advance()

    def _measured(self, scenario: Scenario, block: int, allocation: Allocation, expected: Expected, limit_s: float) -> None:
        """One block, and once more where it was noisy and there is room for that."""
        plan = self.experiment.plans[scenario.name]
        if self.resident:
            self._ready_all(scenario, limit_s)
        if not self.folder.has_discard(scenario.name, block):
            self._block(scenario, block, allocation, plan, expected, limit_s, may_redo=partial(self._may_redo, scenario, allocation, plan))
        if self.folder.has_discard(scenario.name, block) and not self.folder.has_block(scenario.name, block):
            self._once_more(scenario, block, allocation, limit_s)

    def _once_more(self, scenario: Scenario, block: int, allocation: Allocation, limit_s: float) -> None:
        """A block that was put aside as noisy, on rows that no process has served."""
        plan = self.experiment.plans[scenario.name]
        first = noise_monitor.spare_rows(allocation, plan, self.folder.discard_count(scenario.name))
        expected = self._expected(plan, first, allocation.rounds * allocation.rows)
        if self._fresh(scenario):
            self.seats.leave_all()
        if self.resident:
            self._ready_all(scenario, limit_s)
        self._block(scenario, block, allocation, plan, expected, limit_s, once_more=True)

    # --- more blocks -----------------------------------------------------------------------------------------------------

    def _fill_up(self, scenario: Scenario, blocks: int = budget.BLOCKS) -> None:
        """What is left of the budget goes to scenarios short of K = 12 blocks, in their order."""
        allocation, plan = self.folder.allocation(scenario.name), self.experiment.plans[scenario.name]
        if allocation is None or scenario.load == "slo":
            return
        done = self.folder.block_count(scenario.name)
        room = (plan.rows - plan.warm) // (allocation.rounds * allocation.rows) - self.folder.discard_count(scenario.name)
        more = min(blocks - done, int(self._left_s() / self._alone_s(scenario, allocation)), room - done)
        if more > 0:
            self.progress.say(f"{scenario.name}: {more} more blocks from what is left of the budget")
            self._go_on(scenario, replace(allocation, blocks=done + more, until_s=None))

    def _look_again(self, scenarios: Sequence[Scenario]) -> None:
        """Undecided scenarios go on to K = 24, then 48 blocks, in their order and only where all of these fit the budget."""
        for _ in budget.LATER_LOOKS:
            undecided = self.undecided(self.folder.path) if self.undecided else frozenset()
            for scenario in scenarios:
                done, allocation = self.folder.block_count(scenario.name), self.folder.allocation(scenario.name)
                look = budget.next_look(done)
                if scenario.name not in undecided or look is None or allocation is None:
                    continue
                plan, more = self.experiment.plans[scenario.name], look - done
                fits = (
                    more * self._alone_s(scenario, allocation) <= self._left_s()
                    and plan.measured >= (look + self.folder.discard_count(scenario.name)) * allocation.rounds * allocation.rows
                )
                if fits:
                    self.progress.say(f"{scenario.name}: not decided after {done} blocks; goes on to {look}")
                    self._go_on(scenario, replace(allocation, blocks=look, until_s=None))

    def _go_on(self, scenario: Scenario, allocation: Allocation) -> None:
        self.folder.write_allocation(scenario.name, allocation)
        self._blocks(scenario, allocation, self._warm_up_limit_s(allocation.blocks * allocation.block_s, scenario))

    # --- searches --------------------------------------------------------------------------------------------------------

    def _search(self, scenario: Scenario, alive: list[str], limit_s: float, until_s: float) -> None:
        """The search for the largest rate within each limit: a block is one trial of every arm that is still searching."""
        plan, rows = self.experiment.plans[scenario.name], scenario.piece or 0
        costs = {arm_id: self.seats.costs[arm_id, scenario.name] for arm_id in alive}
        for arm_id in alive:
            if not self._searches(arm_id):
                self.folder.write_failure(arm_id, scenario.name, "NOT_APPLICABLE", "only measured arms search for a rate")
        searches = {arm_id: Search(scenario.limits_ms, scenario.q, costs[arm_id].single_s) for arm_id in alive if self._searches(arm_id)}
        with self.progress.search(scenario.name, plan.measured // rows) as comes:
            for block in range(plan.measured // rows):
                if not self.folder.has_block(scenario.name, block):
                    wanted = {arm_id: rate for arm_id, search in searches.items()
                              if not self._failed(arm_id, scenario) and (rate := search.next_rate()) is not None}  # fmt: skip
                    needed_s = sum(budget.arm_s(budget.Shape(1, 1, rows, rate), rows, costs[arm_id]) for arm_id, rate in wanted.items())
                    if not wanted:
                        return
                    if self.seats.measured_s + needed_s > until_s:
                        self._search_ends(scenario, list(wanted), block, needed_s)
                        return
                    comes(block, len(wanted))
                    first = plan.warm + block * rows
                    expected = self._expected(plan, first, rows)
                    self._ready_all(scenario, limit_s)
                    self._block(scenario, block, Allocation(block + 1, 1, rows, needed_s), plan, expected, limit_s, wanted)
                    if not self.folder.has_block(scenario.name, block):
                        return
                self._record_trials(scenario, block, searches)

    def _record_trials(self, scenario: Scenario, block: int, searches: Mapping[str, Search]) -> None:
        for trial in self.folder.trials(scenario.name, block):
            if trial.arm_id in searches:
                over = trial.cut or unsustainable(trial.due_ns, trial.start_ns, trial.end_ns)
                latency, service = (trial.end_ns - since for since in (trial.due_ns, trial.start_ns))
                searches[trial.arm_id].record(trial.rate_per_s, latency.astype(float), service.astype(float), over)

    def _search_ends(self, scenario: Scenario, arms: Sequence[str], block: int, needed_s: float) -> None:
        said = f"the next trial needs {needed_s:.0f} s, which do not fit the budget{self._would_do(scenario, needed_s)}"
        for arm_id in arms if block == 0 else ():
            self.folder.write_failure(arm_id, scenario.name, "SKIPPED", said)
        self.progress.say(f"{scenario.name}: {'skipped' if block == 0 else 'not finished'}, {said}")


def measure(experiment: Experiment, held: lock.MachineLock, progress: Progress, undecided: Undecided | None = None) -> RunFolder:
    """Measure an experiment, going on with a run of the very same one (bench/measure/resume.py) unless `fresh` was asked for."""
    folder = None if experiment.spec.fresh else resume.take_up(experiment)
    if folder:
        progress.say(f"resuming run {folder.run_id}: finished blocks are kept (`--fresh` begins a new one)")
    else:
        run_id = describe_run.new_run_id(experiment)
        folder = RunFolder.start(
            paths.RUNS / run_id,
            describe_run.run(experiment, run_id),
            describe_run.machine(experiment),
            describe_run.failures(experiment),
        )
    seats = Seats(experiment, folder, held, progress)
    with seats.opened():
        Runner(experiment, folder, seats, progress, undecided).run()
    return folder
