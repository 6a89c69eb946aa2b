"""What a run has so far, scenario by scenario, in memory: the folder is read once, and every block is entered as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder


@dataclass
class Entry:
    """One scenario.

    Attributes:
        blocks: numbers of the finished ones; `seconds` is what they took, their warm-ups included.
        discards: numbers of blocks that were noisy and put aside.
    """

    allocation: Allocation | None = None
    blocks: set[int] = field(default_factory=set)
    discards: set[int] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def block_s(self) -> float:
        """Expected seconds of a further block: as the finished ones took, and no less than was allocated."""
        allocated_s = self.allocation.block_s if self.allocation else 0.0
        return max(allocated_s, self.seconds / len(self.blocks)) if self.blocks else allocated_s

    def to_come(self, blocks: int | None = None) -> int:
        """Blocks that the allocation (or `blocks` of them) still lacks."""
        wanted = blocks if blocks is not None else self.allocation.blocks if self.allocation else 0
        return max(0, wanted - len(self.blocks))


class Ledger:
    """The entries of all scenarios, and the status of cells that failed."""

    def __init__(self, scenarios: Iterable[str], failures: Mapping[tuple[str, str], str] | None = None) -> None:
        """
        Args:
            failures: status by (arm id, scenario).
        """
        self._entries = {name: Entry() for name in scenarios}
        self._failures = dict(failures or {})

    @classmethod
    def read(cls, folder: RunFolder, scenarios: Iterable[str], arms: Iterable[str]) -> Ledger:
        """The ledger of a run folder, new or of a run that goes on."""
        names, arm_ids = list(scenarios), list(arms)
        statuses = {(arm_id, name): folder.status_of(arm_id, name) for arm_id in arm_ids for name in names}
        ledger = cls(names, {cell: status for cell, status in statuses.items() if status is not None})
        for name in names:
            blocks = folder.blocks(name)
            ledger._entries[name] = Entry(
                allocation=folder.allocation(name),
                blocks={block.block for block in blocks},
                discards=folder.discard_numbers(name),
                seconds=sum(block.seconds for block in blocks),
            )
        return ledger

    def __getitem__(self, scenario: str) -> Entry:
        return self._entries[scenario]

    def add_block(self, scenario: str, block: int, seconds: float) -> None:
        """Enter a finished block and the seconds that it took."""
        entry = self._entries[scenario]
        entry.blocks.add(block)
        entry.seconds += seconds

    def status(self, arm_id: str, scenario: str) -> str | None:
        """The status of a cell that failed; None where it did not."""
        return self._failures.get((arm_id, scenario))

    def serves(self, arm_id: str, scenario: str) -> bool:
        """Has the cell not failed?"""
        return (arm_id, scenario) not in self._failures

    def fail(self, arm_id: str, scenario: str, status: str) -> None:
        """Enter a failed cell."""
        self._failures[arm_id, scenario] = status
