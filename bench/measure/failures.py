"""What happens to a cell that cannot be measured: it gets a row with its status and the reason, and the run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.measure.ledger import Ledger
from bench.measure.worker_pool import WorkerPool
from bench.prepare.spec import PreparedArm
from bench.runs.writer import RunFolder
from bench.workers.client import SliceFailed, WorkerFailed


class Failures:
    """Records failed cells (arm × scenario) in the run folder and the ledger."""

    def __init__(self, folder: RunFolder, ledger: Ledger, pool: WorkerPool, say: Callable[[str], None]) -> None:
        self.folder, self.ledger, self.pool, self.say = folder, ledger, pool, say

    def record(self, arm_id: str, scenario: str, status: str, reason: str) -> None:
        """Give a cell a status and a reason."""
        self.folder.write_failure(arm_id, scenario, status, reason)
        self.ledger.fail(arm_id, scenario, status)

    @contextmanager
    def contained(self, prepared: PreparedArm, scenario: str) -> Iterator[None]:
        """An arm that fails in the body loses its worker and its cell gets the reason; the body is left."""
        try:
            yield
        except (WorkerFailed, SliceFailed) as failure:
            status = failure.status if isinstance(failure, WorkerFailed) else "CRASH"
            self.record(prepared.arm.id, scenario, status, str(failure))
            self.say(f"{prepared.name}: {status}: {failure}")
            if slot := self.pool.slots.get(prepared.arm.id):
                self.pool.kill(slot)
