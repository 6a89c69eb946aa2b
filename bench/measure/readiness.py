"""An arm made ready to serve a scenario: its worker started or resumed, warmed up, and admitted once in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bench.catalog import Scenario
from bench.correctness.admission import Admission
from bench.measure.service_time import ServiceTime
from bench.measure.warm_up import WarmUp
from bench.measure.worker_pool import WorkerPool, WorkerSlot
from bench.prepare.spec import PreparedArm
from bench.runs.writer import RunFolder


class Readiness:
    """Makes arms ready, one at a time."""

    def __init__(
        self, dim: int, folder: RunFolder, pool: WorkerPool, warm_up: WarmUp, admission: Admission, say: Callable[[str], None]
    ) -> None:
        """
        Args:
            dim: elements of the model's vectors.
        """
        self.dim, self.folder, self.pool, self.warm_up, self.admission, self.say = dim, folder, pool, warm_up, admission, say

    @property
    def service_times(self) -> Mapping[tuple[str, str], ServiceTime]:
        """By (arm id, scenario), of those that were warmed up."""
        return self.warm_up.service_times

    def ready(self, prepared: PreparedArm, scenario: Scenario, limit_s: float) -> WorkerSlot:
        """A running worker of the arm, warmed up for the scenario within `limit_s`.

        Raises:
            WorkerFailed, SliceFailed: it did not get that far.
        """
        slot = self.pool.slots.get(prepared.arm.id)
        if slot is None:
            slot = self._started(prepared)
        else:
            slot.worker.thaw()
        if scenario.name not in slot.warm:
            self.warm_up.serve(slot, scenario, limit_s)
            if len(slot.warm) == 1:
                self.folder.write_first_pss(prepared.arm.id, slot.start, slot.worker.memory().pss_bytes)
            # A control is the very program that is checked as the measured arm; its timed vectors are compared all the same.
            if prepared.arm.role == "measured" and not self.folder.has_checks(prepared.arm.id):
                self._admit(slot)
        return slot

    def _started(self, prepared: PreparedArm) -> WorkerSlot:
        slot = self.pool.start(prepared, self.dim)
        if slot.start == 0:
            self.say(f"{prepared.name}: loaded in {slot.ready.load_ns / 1e9:.2f} s")
        return slot

    def _admit(self, slot: WorkerSlot) -> None:
        """Record the checks of an arm; those that do not hold are said, and make its rows PARITY_FAIL."""
        checks = self.admission.checks(slot.prepared, slot)
        self.folder.write_checks(slot.prepared.arm.id, checks)
        for check in checks:
            if check.held is False:
                self.say(f"{slot.prepared.name}: {check.name}: {check.detail}")
