"""Measures an experiment scenario by scenario, block by block, within its budget.

Small models stay resident, idle workers frozen; where a suite wants new processes for every block, scenarios that serve the same shapes
share them: one block of each, then new processes. Models of 1 GB and more, or too little memory: each arm of a block is a new process
that serves all its rows and ends (why: site_src/pages/methodology.md.j2#order). A worker that crashes, hangs or is killed becomes a
failure with its reason and the others go on; nothing outlives this process (the workers die with it, and the machine's lock lists them for
the next holder).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.catalog import Scenario
from bench.core import paths
from bench.core.formatting import duration
from bench.core.progress import Progress
from bench.core.stopwatch import Stopwatch
from bench.correctness.admission import Admission
from bench.correctness.expected import ReferenceVectors
from bench.machine import lock
from bench.measure import quality, resume
from bench.measure.allocator import Allocator, Load, Refused
from bench.measure.block import BlockMeasurer
from bench.measure.blocks import Blocks, Turn
from bench.measure.budget import BLOCKS, LATER_LOOKS, WARM_UP_SHARE
from bench.measure.clock import BudgetClock
from bench.measure.determinism_monitor import DeterminismMonitor
from bench.measure.failures import Failures
from bench.measure.ledger import Ledger
from bench.measure.noise_monitor import NoiseMonitor
from bench.measure.readiness import Readiness
from bench.measure.search import RateSearch
from bench.measure.warm_up import WarmUp
from bench.measure.worker_pool import WorkerPool
from bench.plan import workload
from bench.prepare import describe_run, preflight
from bench.prepare.spec import Experiment
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder
from bench.stats.rows import MIN_BLOCKS
from bench.workers.client import Launch, Worker

#: Names the scenarios of a run folder that are not decided yet.
Undecided = Callable[[Path], Collection[str]]


def measure(experiment: Experiment, held: lock.MachineLock, progress: Progress, undecided: Undecided | None = None) -> RunFolder:
    """Measure an experiment, going on with a run of the very same one (see resume.py) unless `fresh` was asked for."""
    folder = None if experiment.spec.fresh else resume.take_up(experiment)
    if folder:
        progress.say(f"resuming run {folder.run_id}: finished blocks are kept (`--fresh` begins a new one)")
    else:
        run_id = describe_run.new_run_id(experiment)
        facts, machine = describe_run.run(experiment, run_id), describe_run.machine(experiment)
        folder = RunFolder.start(paths.RUNS / run_id, facts, machine, describe_run.failures(experiment))
    Run(experiment, folder, held, progress, undecided).measure()
    return folder


class Run:
    """One run of one model: which blocks are measured, and in which order."""

    def __init__(
        self,
        experiment: Experiment,
        folder: RunFolder,
        held: lock.MachineLock,
        progress: Progress,
        undecided: Undecided | None = None,
        start_worker: Callable[[Launch, Path], Worker] = Worker,
    ) -> None:
        """
        Args:
            undecided: names the scenarios of a run folder that go on to more blocks; none without it.
        """
        spec = experiment.spec
        self.experiment, self.spec, self.folder, self.held = experiment, spec, folder, held
        self.progress, self.undecided = progress, undecided
        self.arms = {prepared.arm.id: prepared for prepared in experiment.prepared_arms}
        self.resident = preflight.stays_resident(experiment)
        self.phase = Stopwatch()
        self.phase.seconds.update(experiment.stages)
        self.clock = BudgetClock(spec.budget_s, spec.controls_s, folder.measured_s())
        self.ledger = Ledger.read(folder, [scenario.name for scenario in spec.scenarios], list(self.arms))
        determinism = DeterminismMonitor(folder, progress.say)
        self.pool = WorkerPool(folder, held, self.phase, experiment.pad_id, determinism, start_worker)
        self.failures = Failures(folder, self.ledger, self.pool, progress.say)
        self.warm_up = WarmUp(experiment.plans, self.clock)
        roles = {arm_id: prepared.arm.role for arm_id, prepared in self.arms.items()}
        self.load = Load(spec.scenarios, experiment.plans, roles, spec.fresh_blocks, spec.requests, self.resident)
        self.allocator = Allocator(self.load, self.ledger, self.clock, self.warm_up.service_times)

    def _blocks(self) -> Blocks:
        """The measuring of blocks, composed; calibrates the probe."""
        experiment, say = self.experiment, self.progress.say
        reference = ReferenceVectors(experiment.reference, experiment.pad_id, self.phase)
        admission = Admission(experiment, reference, self.folder.run_id, self.phase, self.clock.measuring)
        readiness = Readiness(self.spec.model.dim, self.folder, self.pool, self.warm_up, admission, say)
        monitor = NoiseMonitor(self.clock, self.folder.path / "probe.json")
        measurer = BlockMeasurer(
            arms=experiment.prepared_arms,
            pool=self.pool,
            readiness=readiness,
            clock=self.clock,
            monitor=monitor,
            failures=self.failures,
            seed=self.spec.seed,
            resident=self.resident,
        )
        return Blocks(
            experiment=experiment,
            folder=self.folder,
            ledger=self.ledger,
            allocator=self.allocator,
            pool=self.pool,
            readiness=readiness,
            failures=self.failures,
            measurer=measurer,
            reference=reference,
            say=say,
            resident=self.resident,
        )

    def measure(self) -> None:
        """Measure every scenario, then mark the run as done."""
        if not self.resident:
            self.progress.say("one worker at a time: they would not all fit into memory, or their model is large")
        with self.pool.opened():
            self.blocks = self._blocks()
            self._record_not_applicable()
            self._measure_scenarios()
            self.pool.end_all()
            with self.phase("quality"):
                quality.measure(self.experiment, self.folder, self.held, self.progress.say)
        self.folder.write_done({**self.phase.seconds, "measuring": round(self.clock.measured_s, 3)})

    def _measure_scenarios(self) -> None:
        """Every scenario in its order; then more blocks from the rest of a budget."""
        scenarios = list(self.allocator.waiting)
        while waiting := self.allocator.waiting:
            groups = workload.turns(waiting, self.resident and self.spec.fresh_blocks)
            self.allocator.warmed = {scenario.name for group in groups for scenario in group[1:]}
            for place, group in enumerate(groups):
                self._announce(group)
                self._measure_group(group, len(groups) - place)
        if self.spec.requests is None and self.spec.budget_s is not None:
            for scenario in scenarios:
                self._fill_up(scenario)
            self._look_again(scenarios)

    def _announce(self, group: Sequence[Scenario]) -> None:
        """Say which scenarios come now, and how far the run is, with what it had before it was resumed."""
        scenarios, budget_s = self.spec.scenarios, self.spec.budget_s
        if len(scenarios) > 1:
            begun = sum(bool(self.ledger[scenario.name].blocks) for scenario in scenarios)
            spent = duration(self.clock.measured_s) + (f" of {duration(budget_s)}" if budget_s is not None else "")
            names = ", ".join(scenario.name for scenario in group)
            self.progress.say(f"{begun} of {len(scenarios)} scenarios have blocks, {spent} measured; next: {names}")

    def _record_not_applicable(self) -> None:
        """Record the cells of scenarios that no arm, or not this one, can serve."""
        for scenario in self.spec.scenarios:
            if reason := self.experiment.not_applicable.get(scenario.name):
                for arm_id in self.arms:
                    self.failures.record(arm_id, scenario.name, "NOT_APPLICABLE", reason)
            for prepared in self.experiment.prepared_arms:
                if prepared.variant.scenarios and scenario.name not in prepared.variant.scenarios:
                    reason = f"{prepared.variant.name} is for {', '.join(prepared.variant.scenarios)}"
                    self.failures.record(prepared.arm.id, scenario.name, "NOT_APPLICABLE", reason)
                if prepared.arm.role == "floor" and scenario.floor_in:
                    reason = f"the harness's floor is the same as in {scenario.floor_in}"
                    self.failures.record(prepared.arm.id, scenario.name, "NOT_APPLICABLE", reason)

    # --- a group: one scenario, or several in turns ----------------------------------------------------------------------

    def _measure_group(self, group: Sequence[Scenario], groups_left: int) -> None:
        """Measure one scenario, or one block of each of several in the same processes, then new processes.

        In turns memory stays that of the shape, and a scenario's blocks each come from another process, as when it is measured alone.
        """
        limit_s = self.allocator.warm_up_limit_s(self.clock.left_s / groups_left, group[0])
        if len(group) > 1:
            self._measure_blocks(self._in_turns(group, limit_s))
        elif group[0].load == "slo":
            self._search(group[0], limit_s)
        elif turn := self._join(group[0], limit_s):
            self._measure_blocks(self._alone(turn))

    def _measure_blocks(self, blocks: Iterable[tuple[int, Turn]]) -> None:
        """Measure blocks as they come."""
        for block, turn in blocks:
            self.blocks.measure(turn, block)

    def _in_turns(self, group: Sequence[Scenario], limit_s: float) -> Iterator[tuple[int, Turn]]:
        """The missing blocks of scenarios in turns, each round in new processes.

        In the first round a scenario joins if the budget covers it plus what earlier ones still need; the others stay in `waiting`.
        """
        turns: dict[str, Turn] = {}
        with self.progress.turns(BLOCKS) as comes:
            for block in range(BLOCKS):
                self.pool.end_all()
                for scenario in group:
                    if block == 0 and (joined := self._join_turn(scenario, limit_s)):
                        turns[scenario.name] = joined
                        self.allocator.turns.append(scenario)
                    turn = turns.get(scenario.name)
                    if turn is None or not self._lacks(turn, block):
                        continue
                    if self._is_late(turn, block):
                        self.progress.say(
                            f"{scenario.name}: stopped after {block} of {turn.allocation.blocks} blocks, the budget is used up"
                        )
                        self.allocator.turns.remove(scenario)
                        del turns[scenario.name]
                        continue
                    comes(block, scenario.name, list(turns))
                    yield block, turn
        self.allocator.turns = []
        self.allocator.warmed -= {scenario.name for scenario in group}

    def _alone(self, turn: Turn) -> Iterator[tuple[int, Turn]]:
        """The missing blocks of one scenario; where workers stay in memory, in new processes every so many blocks."""
        scenario, allocation = turn.scenario, turn.allocation
        about = f"{scenario.name}: {allocation.blocks} blocks × {allocation.rounds} rounds × {allocation.rows} rows an arm"
        every = 1 if self.load.is_fresh(scenario) else -(-allocation.blocks // self.allocator.starts())
        with self.progress.steps(about, allocation.blocks) as advance:
            for block in range(allocation.blocks):
                if self._lacks(turn, block):
                    if self._is_late(turn, block):
                        why = "its share of the budget is used up"
                        self.progress.say(f"{scenario.name}: stopped after {block} of {allocation.blocks} blocks, {why}")
                        return
                    begins = block or scenario.process == "fresh"
                    if self.resident and scenario.process != "kept" and begins and block % every == 0:
                        self.pool.end_all()
                    yield block, turn
                advance()

    def _lacks(self, turn: Turn, block: int) -> bool:
        return block < turn.allocation.blocks and block not in self.ledger[turn.scenario.name].blocks

    def _is_late(self, turn: Turn, block: int) -> bool:
        """Has a scenario used its share? Not before its third block: fewer give no row."""
        return block >= MIN_BLOCKS and self.allocator.is_late(turn.scenario, turn.allocation)

    # --- a scenario's allocation -----------------------------------------------------------------------------------------

    def _join(self, scenario: Scenario, limit_s: float) -> Turn | None:
        """A scenario that is measured alone: warmed up, with its allocation; None where it waits, is refused, or no arm serves it."""
        began_s, warm_s = self.clock.measured_s, self.clock.warm_up_s
        if not self._begin(scenario, limit_s):
            return None
        arms = self._warmed_up(scenario, limit_s, self._renews(scenario))
        if not arms:
            return None
        allocation = self._allocation(scenario, began_s, self.clock.warm_up_s - warm_s, limit_s, arms)
        if allocation is None:
            return None
        share_s = allocation.blocks * allocation.block_s / (1 - WARM_UP_SHARE)
        limit_s = min(limit_s, self.allocator.warm_up_limit_s(share_s, scenario))
        return Turn(scenario, self.experiment.plans[scenario.name], allocation, limit_s)

    def _join_turn(self, scenario: Scenario, limit_s: float) -> Turn | None:
        """The same in turns: processes are shared, and a resumed scenario is warmed up when its next block comes."""
        if not self._begin(scenario, limit_s):
            return None
        allocation = self.ledger[scenario.name].allocation
        if allocation is None:
            began_s, warm_s = self.clock.measured_s, self.clock.warm_up_s
            arms = self._warmed_up(scenario, limit_s, renew=False)
            allocation = self._allocation(scenario, began_s, self.clock.warm_up_s - warm_s, limit_s, arms) if arms else None
        return Turn(scenario, self.experiment.plans[scenario.name], allocation, limit_s) if allocation else None

    def _renews(self, scenario: Scenario) -> bool:
        """Does a scenario want processes that have served no other?"""
        return scenario.process != "suite" or self.load.is_fresh(scenario)

    def _begin(self, scenario: Scenario, limit_s: float) -> bool:
        """Is it a scenario's turn, and is there any hope that it fits the budget?"""
        if self.allocator.must_wait(scenario, limit_s):
            return False
        self.allocator.waiting.remove(scenario)
        return not self._refused(scenario, self.allocator.hopeless(scenario))

    def _warmed_up(self, scenario: Scenario, limit_s: float, renew: bool) -> list[str]:
        """Ids of the arms that were warmed up for a scenario. `renew`: in processes that have served no other."""
        if renew:
            self.pool.end_all()
        self.blocks.make_all_ready(scenario, limit_s)
        service_times = self.warm_up.service_times
        return [arm_id for arm_id in self.arms if (arm_id, scenario.name) in service_times and self.ledger.serves(arm_id, scenario.name)]

    def _allocation(self, scenario: Scenario, began_s: float, warm_s: float, limit_s: float, arms: Sequence[str]) -> Allocation | None:
        """The allocation of a scenario, recorded; that of a resumed run stays. None where it is refused."""
        if (earlier := self.ledger[scenario.name].allocation) is not None:
            return earlier
        answer = self.allocator.allocate(scenario, began_s, warm_s, limit_s, arms)
        if isinstance(answer, Refused):
            self._refused(scenario, answer)
            return None
        self._set_allocation(scenario, answer)
        return answer

    def _refused(self, scenario: Scenario, refusal: Refused | None) -> bool:
        """Was a scenario refused? Then every arm that could have served it gets the reason."""
        if refusal is None:
            return False
        for arm_id in self.arms:
            if self.ledger.serves(arm_id, scenario.name):
                self.failures.record(arm_id, scenario.name, "SKIPPED", refusal.reason)
        self.progress.say(f"{scenario.name}: skipped, {refusal.reason}")
        return True

    def _set_allocation(self, scenario: Scenario, allocation: Allocation) -> None:
        self.folder.write_allocation(scenario.name, allocation)
        self.ledger[scenario.name].allocation = allocation

    # --- more blocks -----------------------------------------------------------------------------------------------------

    def _fill_up(self, scenario: Scenario) -> None:
        """The rest of the budget goes to scenarios short of K = 12 blocks, in their order."""
        entry, more = self.ledger[scenario.name], self.allocator.more_blocks(scenario)
        if entry.allocation and more > 0:
            self.progress.say(f"{scenario.name}: {more} more blocks from what is left of the budget")
            self._go_on(scenario, replace(entry.allocation, blocks=len(entry.blocks) + more, until_s=None))

    def _look_again(self, scenarios: Sequence[Scenario]) -> None:
        """Undecided scenarios go on to K = 24, then 48 blocks, in their order and only where all of these fit the budget."""
        for _ in LATER_LOOKS:
            undecided = self.undecided(self.folder.path) if self.undecided else frozenset()
            for scenario in scenarios:
                entry = self.ledger[scenario.name]
                look = self.allocator.next_look(scenario) if scenario.name in undecided else None
                if entry.allocation and look is not None:
                    self.progress.say(f"{scenario.name}: not decided after {len(entry.blocks)} blocks; goes on to {look}")
                    self._go_on(scenario, replace(entry.allocation, blocks=look, until_s=None))

    def _go_on(self, scenario: Scenario, allocation: Allocation) -> None:
        self._set_allocation(scenario, allocation)
        limit_s = self.allocator.warm_up_limit_s(allocation.blocks * allocation.block_s, scenario)
        self._measure_blocks(self._alone(Turn(scenario, self.experiment.plans[scenario.name], allocation, limit_s)))

    # --- searches --------------------------------------------------------------------------------------------------------

    def _search(self, scenario: Scenario, limit_s: float) -> None:
        """Trials until every limit of every arm is settled, the plan has no rows left, or the scenario's share is used up."""
        began_s = self.clock.measured_s
        arms = self._warmed_up(scenario, limit_s, self._renews(scenario)) if self._begin(scenario, limit_s) else []
        if not arms:
            return
        until_s = self.allocator.search_until_s(scenario, began_s, limit_s)
        for arm_id in arms:
            if not self.load.searches(arm_id):
                self.failures.record(arm_id, scenario.name, "NOT_APPLICABLE", "only measured arms search for a rate")
        searching = [arm_id for arm_id in arms if self.load.searches(arm_id)]
        search = RateSearch(scenario, {arm_id: self.warm_up.service_times[arm_id, scenario.name] for arm_id in searching})
        plan, entry = self.experiment.plans[scenario.name], self.ledger[scenario.name]
        with self.progress.search(scenario.name, plan.measured // search.rows) as comes:
            for block in range(plan.measured // search.rows):
                if block not in entry.blocks:
                    rates = search.next_rates(arm_id for arm_id in searching if self.ledger.serves(arm_id, scenario.name))
                    needed_s = search.trial_s(rates)
                    if not rates:
                        return
                    if self.clock.measured_s + needed_s > until_s:
                        self._end_search(scenario, list(rates), block, needed_s)
                        return
                    comes(block, len(rates))
                    self.blocks.measure_trial(scenario, search.rows, block, rates, limit_s)
                    if block not in entry.blocks:
                        return
                search.record(self.folder.trials(scenario.name, block))

    def _end_search(self, scenario: Scenario, arms: Sequence[str], block: int, needed_s: float) -> None:
        """The next trial does not fit: said, and where it would have been the first the arms are skipped."""
        reason = f"the next trial needs {duration(needed_s)}, which do not fit the budget{self.allocator.would_do(scenario, needed_s)}"
        for arm_id in arms if block == 0 else ():
            self.failures.record(arm_id, scenario.name, "SKIPPED", reason)
        self.progress.say(f"{scenario.name}: {'skipped' if block == 0 else 'not finished'}, {reason}")
