"""Whether an arm gives the same vectors in every process, watched beside a run."""

from __future__ import annotations

from collections.abc import Callable

from bench.correctness.determinism import RunToRun
from bench.measure.worker_pool import WorkerSlot
from bench.plan.folder import Plan
from bench.runs.writer import RunFolder
from bench.workers.client import Order, Served


class DeterminismMonitor:
    """Sees every order that a worker has served, and records the check *run to run* of its arm."""

    def __init__(self, folder: RunFolder, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self._run_to_run = RunToRun()

    def __call__(self, slot: WorkerSlot, plan: Plan, order: Order, served: Served) -> None:
        """Hold the vectors of a plan's first rows, served alone, against those of the arm's first process."""
        arm = slot.prepared.arm
        if arm.role != "measured" or order.first or order.batch > 1 or not plan.warm:
            return
        check = self._run_to_run.see(arm.id, arm.precision, slot.start, plan.hash, served.vectors)
        if check:
            self.folder.add_check(arm.id, check)
            if check.held is False:
                self.say(f"{slot.prepared.name}: {check.name}: {check.detail}")
