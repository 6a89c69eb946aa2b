"""The probe beside a run: looks between slices, and whether a block was measured on a quiet machine.

A noisy block is measured again at most once, on rows that no process has served, where the budget has room for it beside the blocks that
are still to come; after that it is kept. Which of the blocks that were kept are noisy is judged again when a run is read, beside all
blocks of its scenario. What was put aside lies in `discards/` of the run folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bench.core import files, paths
from bench.machine import identity, probe
from bench.measure.seats import Seats
from bench.plan.folder import Plan
from bench.runs import noise
from bench.runs.noise import Seconds
from bench.runs.schema import Allocation, ProbeSeconds
from bench.runs.writer import RunFolder

#: At most this part of a scenario's blocks is measured again: on a machine that is never quiet that would help nobody.
AGAIN_SHARE = 0.25


@dataclass(frozen=True)
class Finding:
    """What the looks of a block came to: `note` says why it is noisy, None where it is not; `probe` are the looks, in order."""

    note: str | None
    probe: ProbeSeconds


class Watch:
    """The looks of one run. No worker may be at work during a look."""

    def __init__(self, seats: Seats, folder: RunFolder) -> None:
        self.seats, self.folder = seats, folder
        self._looks: list[probe.Sample] = []
        self._blocks: dict[str, list[Seconds]] = {}
        with seats.measuring():
            self._probe = probe.Probe(identity.physical_cores())
            self._kept = paths.BUILD / "probe" / f"{identity.machine_id()}-{identity.boot_id()}.json"
            usual = probe.remember(probe.calibrate(self._probe), self._kept)
            self.usual = noise.median(usual.fma_s, usual.copy_s)
        files.write_json(folder.path / "probe.json", asdict(self.usual))

    def look(self) -> None:
        """One look, paid from the budget."""
        with self.seats.measuring():
            self._looks.append(self._probe.sample())

    def finding(self, scenario: str) -> Finding:
        """What a block's looks came to, beside the blocks of its scenario that this process has measured. The next look belongs to the next
        block."""
        while len(self._looks) < probe.SAMPLES:
            self.look()
        looks, self._looks = self._looks, []
        probe.remember(probe.medians(looks), self._kept)
        blocks = self._blocks.setdefault(scenario, [])
        seconds = ProbeSeconds(tuple(look.fma_s for look in looks), tuple(look.copy_s for look in looks))
        blocks.append(noise.median(seconds.fma_s, seconds.copy_s))
        return Finding(noise.notes(blocks, self.usual)[-1], seconds)


def may_redo(allocation: Allocation, done: int, discards: int, plan: Plan, left_s: float) -> bool:
    """Is there room to measure a block again?

    Args:
        done: blocks that are finished, without the one in question.
        discards: blocks that were put aside before it.
        left_s: what is left of the scenario's share.
    """
    return (
        discards < max(1, int(AGAIN_SHARE * allocation.blocks))
        and left_s >= (allocation.blocks - done) * allocation.block_s
        and spare_rows(allocation, plan, discards + 1) >= plan.warm + allocation.blocks * allocation.rounds * allocation.rows
    )


def spare_rows(allocation: Allocation, plan: Plan, number: int) -> int:
    """The first row of the `number`-th block (from 1) that is measured again: from the end of the plan, in whole blocks."""
    size = allocation.rounds * allocation.rows
    return plan.warm + (plan.measured // size - number) * size
