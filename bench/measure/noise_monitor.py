"""The probe beside a run: looks between slices, and whether a block was measured on a quiet machine.

A noisy block is measured again at most once, on rows that no process has served, where the budget has room for it beside the blocks that
are still to come; after that it is kept. Which of the blocks that were kept are noisy is judged again when a run is read, beside all
blocks of its scenario. What was put aside lies in `discards/` of the run folder.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bench.core import files, paths
from bench.machine import identity, noise, probe
from bench.machine.noise import Seconds
from bench.measure.budget import Allocation
from bench.measure.runfolder import RunFolder
from bench.measure.seats import Seats
from bench.plan.folder import Plan

#: At most this part of a scenario's blocks is measured again: on a machine that is never quiet that would help nobody.
AGAIN_SHARE = 0.25


@dataclass(frozen=True)
class Finding:
    """What the looks of a block came to: `note` says why it is noisy, None where it is not."""

    note: str | None
    looks: tuple[probe.Look, ...]

    def facts(self) -> dict[str, Any]:
        """As block.json holds it; seconds of each look, in order."""
        seconds = {"fma_s": [look.fma_s for look in self.looks], "copy_s": [look.copy_s for look in self.looks]}
        return {"noisy": self.note is not None, "note": self.note, "probe": seconds}


class Watch:
    """The looks of one run. No worker may be at work during a look."""

    def __init__(self, seats: Seats, folder: RunFolder) -> None:
        self.seats, self.folder = seats, folder
        self._looks: list[probe.Look] = []
        self._blocks: dict[str, list[Seconds]] = {}
        with seats.measuring():
            self._probe = probe.Probe(identity.physical_cores())
            self._kept = paths.BUILD / "probe" / f"{identity.machine_id()}-{identity.boot_id()}.json"
            self.usual = probe.learn(probe.calibrate(self._probe), self._kept)
        files.write_json(folder.path / "probe.json", asdict(self.usual))

    def look(self) -> None:
        """One look, paid from the budget."""
        with self.seats.measuring():
            self._looks.append(self._probe.look())

    def finding(self, scenario: str) -> Finding:
        """What a block's looks came to, beside the blocks of its scenario that this process has measured. The next look belongs to the next
        block."""
        while len(self._looks) < probe.LOOKS:
            self.look()
        looks, self._looks = tuple(self._looks), []
        probe.learn(probe.medians(looks), self._kept)
        blocks = self._blocks.setdefault(scenario, [])
        blocks.append(noise.median([look.fma_s for look in looks], [look.copy_s for look in looks]))
        return Finding(noise.notes(blocks, self.usual)[-1], looks)


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
