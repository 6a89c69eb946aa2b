"""Measures an experiment scenario by scenario, block by block, within its budget.

Small models stay resident, idle workers frozen. Models of 1 GB and more, or too little memory: each arm of a block is a fresh process that
serves all its rows and ends (see MEASUREMENT, Order). A worker that crashes, hangs or is killed becomes a failure with its reason
and the others go on; nothing outlives this process (the workers die with it, and the machine's lock lists them for the next holder).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench import budget, costs, lock, memory, quality, watch
from bench.blocks import Blocks
from bench.budget import WARM_UP_SHARE
from bench.catalog import Scenario
from bench.experiment import Experiment
from bench.plan import Plan
from bench.progress import Progress
from bench.runfolder import RunFolder
from bench.seats import WARM_UP_S, Seats
from bench.stats_load import unsustainable
from bench.stats_slo import Search

#: A scenario whose blocks take longer than expected is stopped when it has used this much of its share.
LATE = 1.1
#: The same where the share holds no more than K = 12 blocks of one round: these come before the next scenario.
LATE_LEAST = 1.5
#: The last scenario may use this much of what is left: its twelfth block is worth more than the second it is late.
OVER = 1.05
#: Each arm is started afresh at least this often in a run.
MIN_STARTS = 3

#: Names the scenarios of a run folder that are not decided yet.
Undecided = Callable[[Path], Collection[str]]


class Runner(Blocks):
    """One run of one model: which blocks are measured, in which order and for how long."""

    def __init__(
        self, experiment: Experiment, folder: RunFolder, seats: Seats, progress: Progress, undecided: Undecided | None = None
    ) -> None:
        """
        Args:
            undecided: names the scenarios of a run folder that are looked at again with more blocks; none without it.
        """
        super().__init__(experiment, folder, seats, progress, memory.stays_resident(experiment))
        self.undecided = undecided

    def run(self) -> None:
        """Measure every scenario, then mark the run as done."""
        if not self.resident:
            self.progress.say("one worker at a time: they would not all fit into memory, or their model is large")
        self.seats.measured_s = self.folder.measured_s()
        self.watch = watch.Watch(self.seats, self.folder)
        for scenario in self.experiment.wish.scenarios:
            if reason := self.experiment.pointless.get(scenario.name):
                for arm_id in self.arms:
                    self.folder.failure(arm_id, scenario.name, "NOT_APPLICABLE", reason)
            for lane in self.experiment.lanes:
                if lane.variant.scenarios and scenario.name not in lane.variant.scenarios:
                    reason = f"{lane.variant.name} is for {', '.join(lane.variant.scenarios)}"
                    self.folder.failure(lane.arm.id, scenario.name, "NOT_APPLICABLE", reason)
                if lane.arm.role == "floor" and scenario.floor_in:
                    reason = f"the harness's floor is the same as in {scenario.floor_in}"
                    self.folder.failure(lane.arm.id, scenario.name, "NOT_APPLICABLE", reason)
        scenarios = [scenario for scenario in self.experiment.wish.scenarios if scenario.name in self.experiment.plans]
        for position, scenario in enumerate(scenarios):
            self._scenario(scenario, scenarios[position + 1 :])
        if self.experiment.wish.requests is None and self.experiment.wish.budget_s is not None:
            for scenario in scenarios:
                self._fill_up(scenario)
            self._look_again(scenarios)
        self.seats.leave_all()
        with self.seats.stage("quality"):
            quality.measure(self.experiment, self.folder, self.seats.held, self.progress.say)
        self.folder.done({**self.seats.stage.seconds, "measuring": round(self.seats.measured_s, 3)})

    def _left_s(self) -> float:
        """Seconds left of the budget; infinite where every scenario takes its own cost."""
        wish = self.experiment.wish
        return math.inf if wish.budget_s is None else wish.budget_s - wish.controls_s - self.seats.measured_s

    def _fill_up(self, scenario: Scenario, blocks: int = budget.BLOCKS) -> None:
        """What is left of the budget goes to scenarios short of K = 12 blocks, in their order."""
        pace, plan = self.folder.pace(scenario.name), self.experiment.plans[scenario.name]
        if pace is None or scenario.load == "slo":
            return
        done = self.folder.block_count(scenario.name)
        room = (plan.rows - plan.warm) // (pace.rounds * pace.rows) - self.folder.discard_count(scenario.name)
        more = min(blocks - done, int(self._left_s() / self._block_s(scenario, pace)), room - done)
        if more > 0:
            self.progress.say(f"{scenario.name}: {more} more blocks from what is left of the budget")
            self._go_on(scenario, replace(pace, blocks=done + more, until_s=None))

    def _look_again(self, scenarios: Sequence[Scenario]) -> None:
        """Undecided scenarios go on to K = 24, then 48 blocks, in their order and only where all of these fit the budget."""
        for _ in budget.LATER_LOOKS:
            undecided = self.undecided(self.folder.path) if self.undecided else frozenset()
            for scenario in scenarios:
                done, pace = self.folder.block_count(scenario.name), self.folder.pace(scenario.name)
                look = budget.next_look(done)
                if scenario.name not in undecided or look is None or pace is None:
                    continue
                plan, more = self.experiment.plans[scenario.name], look - done
                fits = (
                    more * self._block_s(scenario, pace) <= self._left_s()
                    and plan.measured >= (look + self.folder.discard_count(scenario.name)) * pace.rounds * pace.rows
                )
                if fits:
                    self.progress.say(f"{scenario.name}: not decided after {done} blocks; goes on to {look}")
                    self._go_on(scenario, replace(pace, blocks=look, until_s=None))

    def _block_s(self, scenario: Scenario, pace: budget.Pace) -> float:
        """What a further block takes: as the finished ones did, their starts' warm-ups included."""
        spent, done = self.folder.scenario_s(scenario.name), self.folder.block_count(scenario.name)
        return max(pace.block_s, spent / done) if done else pace.block_s

    def _go_on(self, scenario: Scenario, pace: budget.Pace) -> None:
        self.folder.set_pace(scenario.name, pace)
        self._blocks(scenario, pace, self._warm_up_limit_s(pace.blocks * pace.block_s, scenario))

    def _scenario(self, scenario: Scenario, later: Sequence[Scenario]) -> None:
        """All blocks of one scenario, within its share of the budget; `later` ones are still to come."""
        began_s, warm_s = self.seats.measured_s, self.seats.warm_up_s
        limit_s = self._warm_up_limit_s(self._left_s() / (1 + len(later)), scenario)
        if self._left_s() <= 0 and self.folder.pace(scenario.name) is None and self.experiment.wish.requests is None:
            self._used_up(scenario)
            return
        if scenario.process != "suite" or self._fresh(scenario):
            self.seats.leave_all()
        # An arm that failed in an earlier scenario gets another chance here.
        self._ready_all(scenario, limit_s)
        alive = [arm_id for arm_id in self.arms if (arm_id, scenario.name) in self.seats.costs and not self._failed(arm_id, scenario)]
        if not alive:
            return
        if scenario.load == "slo":
            share_s = budget.share_s(self._left_s(), self._least_s(scenario, 0.0), [self._least_s(one, 0.0) for one in later])
            self._search(scenario, alive, limit_s, began_s + LATE * share_s)
            return
        warm_s = self.seats.warm_up_s - warm_s
        pace = self.folder.pace(scenario.name) or self._pace(scenario, later, began_s, warm_s, alive)
        if pace is not None:
            self._blocks(scenario, pace, min(limit_s, self._warm_up_limit_s(pace.blocks * pace.block_s / (1 - WARM_UP_SHARE), scenario)))

    def _used_up(self, scenario: Scenario) -> None:
        """Nothing is left to warm up with: what the scenario needs is estimated from what a request cost elsewhere."""
        needed_s = budget.MIN_BLOCKS / budget.BLOCKS * self._least_s(scenario, 0.0)
        reason = f"the budget is used up; 3 blocks need about {needed_s:.0f} s{self._would_do(needed_s)}"
        for arm_id in self.arms:
            if not self._failed(arm_id, scenario):
                self.folder.failure(arm_id, scenario.name, "SKIPPED", reason)
        self.progress.say(f"{scenario.name}: skipped, {reason}")

    def _least_s(self, scenario: Scenario, warm_s: float) -> float:
        """What K = 12 blocks of one round (a search: its trials) will cost, by what requests cost elsewhere.

        `warm_s`: what the warm-up of all arms takes, where blocks run in fresh processes.
        """
        plans, batches = self.experiment.plans, {one.name: one.batch for one in self.experiment.wish.scenarios}
        known: dict[str, list[costs.Known]] = {}
        for (arm_id, name), cost in self.seats.costs.items():
            if not self._failed(arm_id, scenario) and (scenario.load != "slo" or self._searches(arm_id)):
                known.setdefault(arm_id, []).append(costs.Known(plans[name], batches[name], cost))
        expected = [costs.elsewhere(one, plans[scenario.name], scenario.batch) for one in known.values()]
        if not expected:
            return 0.0
        if scenario.load == "slo":
            return budget.TRIALS * budget.trial_s(scenario.piece or 0, expected)
        start_s = warm_s if self._fresh(scenario) else 0.0
        return budget.least_s(budget.Shape.of(scenario), expected, plans[scenario.name].measured, start_s)

    def _blocks(self, scenario: Scenario, pace: budget.Pace, limit_s: float) -> None:
        """The blocks of a pace that are not there yet, until its share of the budget is used up."""
        plan = self.experiment.plans[scenario.name]
        expected = self._expected(plan, plan.warm, pace.rows_per_arm)
        every = 1 if self._fresh(scenario) else -(-pace.blocks // self._starts())
        with self.progress.scenario(scenario, pace) as advance:
            for block in range(pace.blocks):
                if self.folder.has_block(scenario.name, block):
                    advance()
                    continue
                late = pace.until_s is not None and self.seats.measured_s + pace.block_s > pace.until_s
                if late and block >= budget.MIN_BLOCKS:
                    self.progress.say(f"{scenario.name}: stopped after {block} of {pace.blocks} blocks, its share of the budget is used up")
                    break
                if self.resident and scenario.process != "kept" and (block or scenario.process == "fresh") and block % every == 0:
                    self.seats.leave_all()
                if self.resident:
                    self._ready_all(scenario, limit_s)
                if not self.folder.has_discard(scenario.name, block):
                    may_redo = partial(self._may_redo, scenario, pace, plan)
                    self._block(scenario, block, pace, plan, expected, limit_s, may_redo=may_redo)
                if self.folder.has_discard(scenario.name, block) and not self.folder.has_block(scenario.name, block):
                    self._once_more(scenario, block, pace, plan, limit_s)
                advance()

    def _once_more(self, scenario: Scenario, block: int, pace: budget.Pace, plan: Plan, limit_s: float) -> None:
        """A block that was put aside as noisy, on rows that no process has served."""
        first = watch.spare_rows(pace, plan, self.folder.discard_count(scenario.name))
        expected = self._expected(plan, first, pace.rounds * pace.rows)
        if self._fresh(scenario):
            self.seats.leave_all()
        if self.resident:
            self._ready_all(scenario, limit_s)
        self._block(scenario, block, pace, plan, expected, limit_s, once_more=True)

    def _may_redo(self, scenario: Scenario, pace: budget.Pace, plan: Plan) -> bool:
        left_s = self._left_s() if pace.until_s is None else pace.until_s - self.seats.measured_s
        done, discards = self.folder.block_count(scenario.name), self.folder.discard_count(scenario.name)
        return watch.may_redo(replace(pace, block_s=self._block_s(scenario, pace)), done, discards, plan, left_s)

    def _search(self, scenario: Scenario, alive: list[str], limit_s: float, until_s: float) -> None:
        """The search for the largest rate within each limit: a block is one trial of every arm that is still searching."""
        plan, rows = self.experiment.plans[scenario.name], scenario.piece or 0
        costs = {arm_id: self.seats.costs[arm_id, scenario.name] for arm_id in alive}
        for arm_id in alive:
            if not self._searches(arm_id):
                self.folder.failure(arm_id, scenario.name, "NOT_APPLICABLE", "only measured arms search for a rate")
        searches = {arm_id: Search(scenario.limits_ms, scenario.q, costs[arm_id].single_s) for arm_id in alive if self._searches(arm_id)}
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
                first = plan.warm + block * rows
                expected = self._expected(plan, first, rows)
                self._ready_all(scenario, limit_s)
                self._block(scenario, block, budget.Pace(block + 1, 1, rows, needed_s), plan, expected, limit_s, wanted)
                if not self.folder.has_block(scenario.name, block):
                    return
            for trial in self.folder.trials(scenario.name, block):
                if trial.arm_id in searches:
                    over = trial.cut or unsustainable(trial.due_ns, trial.start_ns, trial.end_ns)
                    latency, service = (trial.end_ns - since for since in (trial.due_ns, trial.start_ns))
                    searches[trial.arm_id].record(trial.rate_per_s, latency.astype(float), service.astype(float), over)

    def _searches(self, arm_id: str) -> bool:
        """A null worker answers at any rate: there is nothing to find."""
        return self.arms[arm_id].arm.role == "measured"

    def _search_ends(self, scenario: Scenario, arms: Sequence[str], block: int, needed_s: float) -> None:
        said = f"the next trial needs {needed_s:.0f} s, which do not fit the budget{self._would_do(needed_s)}"
        for arm_id in arms if block == 0 else ():
            self.folder.failure(arm_id, scenario.name, "SKIPPED", said)
        self.progress.say(f"{scenario.name}: {'skipped' if block == 0 else 'not finished'}, {said}")

    def _pace(self, scenario: Scenario, later: Sequence[Scenario], began_s: float, warm_s: float, alive: list[str]) -> budget.Pace | None:
        """The shape of the scenario; where three blocks do not fit, every arm's row says what would do.

        `warm_s`: what the warm-up of all arms took. It comes again with every fresh start, and is paid from the same share: with every
        block where each runs in fresh processes, else a few times.
        """
        plan, wish, shape = self.experiment.plans[scenario.name], self.experiment.wish, budget.Shape.of(scenario)
        own = [self.seats.costs[arm_id, scenario.name] for arm_id in alive]
        if wish.budget_s is None:
            work_s = budget.own_work_s(shape, own, warm_s if self._fresh(scenario) else 0.0, plan.measured)
            # `pace` keeps a reserve of a share; where a scenario takes its own cost there is nothing to keep it from.
            found = budget.pace(work_s / budget.ROUNDS_SHARE, shape, plan.measured, own, wish.requests)
        else:
            left_s = wish.budget_s - wish.controls_s - began_s
            start_s, later_s = (warm_s, 0.0) if self._fresh(scenario) else (0.0, warm_s * (self._starts() - 1))
            spent_s = self.seats.measured_s - began_s - start_s  # what is spent has warmed up the first block already
            least_s = budget.least_s(shape, own, plan.measured, start_s)
            least_s += spent_s + min(later_s, least_s * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
            share_s = budget.share_s(left_s, least_s, [self._least_s(one, warm_s) for one in later])
            overhead_s = spent_s + min(later_s, WARM_UP_SHARE * (share_s - spent_s))
            found = budget.pace(share_s - overhead_s, shape, plan.measured, own, wish.requests, start_s)
            if isinstance(found, budget.Pace) and wish.requests is None:
                found = replace(found, until_s=began_s + min(max(share_s * LATE, least_s * LATE_LEAST), left_s * OVER))
        if isinstance(found, budget.TooSmall):
            short = "the plan has too few rows" if plan.measured < budget.MIN_BLOCKS * max(shape.unit, shape.piece or 1) else None
            reason = short or f"3 blocks need {found.needed_s:.0f} s, which do not fit the budget{self._would_do(found.needed_s)}"
            for arm_id in alive:
                self.folder.failure(arm_id, scenario.name, "SKIPPED", reason)
            self.progress.say(f"{scenario.name}: skipped, {reason}")
            return None
        self.folder.set_pace(scenario.name, found)
        return found

    def _would_do(self, needed_s: float) -> str:
        """The smallest budget that surely has room: what is spent, and as much again for each scenario as this one needs."""
        if self.experiment.wish.budget_s is None:
            return ""
        enough_s = max(self.experiment.wish.budget_s, self.seats.measured_s) + needed_s * 1.2 * len(self.experiment.wish.scenarios)
        return f": `--budget {enough_s:.0f}s` would do"

    def _fresh(self, scenario: Scenario) -> bool:
        """Does every block of the scenario run in new processes?"""
        return scenario.process == "fresh" or (self.experiment.wish.fresh_blocks and scenario.process == "suite")

    def _starts(self) -> int:
        """Process starts of each arm within a scenario, so that a run has at least MIN_STARTS."""
        return max(2, -(-MIN_STARTS // len(self.experiment.wish.scenarios)))

    def _warm_up_limit_s(self, share_s: float, scenario: Scenario) -> float:
        """Seconds for one arm's warm-up. Where every scenario takes its own cost that follows from the warm-up, not the other way round."""
        if self.experiment.wish.budget_s is None:
            return WARM_UP_S
        measured = sum(lane.arm.role != "floor" for lane in self.experiment.lanes)
        starts = self._starts() if self.resident else budget.MIN_BLOCKS + 1
        if self._fresh(scenario):
            starts = budget.BLOCKS
        return min(WARM_UP_S, WARM_UP_SHARE * share_s / (max(1, measured) * starts))


def measure(experiment: Experiment, held: lock.MachineLock, progress: Progress, undecided: Undecided | None = None) -> RunFolder:
    """Measure an experiment, resuming an interrupted run of the very same one unless `fresh` was asked for."""
    folder = None if experiment.wish.fresh else RunFolder.resumable(experiment)
    if folder:
        progress.say(f"resuming run {folder.run_id}: finished blocks are kept")
    else:
        folder = RunFolder.start(experiment)
    seats = Seats(experiment, folder, held, progress)
    with seats.opened():
        Runner(experiment, folder, seats, progress, undecided).run()
    return folder
