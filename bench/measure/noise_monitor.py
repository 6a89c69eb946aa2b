"""The probe beside a run: samples between slices, and whether a block was measured on a quiet machine.

A noisy block is measured again at most once, on rows that no process has served, where the budget has room for it beside the blocks that
are still to come; after that it is kept. Which of the kept blocks are noisy is judged again when a run is read, beside all blocks of its
scenario.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from bench.core import files, paths
from bench.machine import identity, probe
from bench.measure.clock import BudgetClock
from bench.runs import noise
from bench.runs.noise import Seconds
from bench.runs.schema import ProbeSeconds


@dataclass(frozen=True)
class BlockNoise:
    """The probe's samples beside a block, in order; `note` says why the block is noisy, None where it is not."""

    note: str | None
    probe: ProbeSeconds


class NoiseMonitor:
    """The samples of one run. No worker may be running during a sample."""

    def __init__(self, clock: BudgetClock, record: Path) -> None:
        """Calibrates the probe, paid from the budget.

        Args:
            record: a JSON file for the seconds that the probe usually takes on this machine.
        """
        self.clock = clock
        self._samples: list[probe.Sample] = []
        self._blocks: dict[str, list[Seconds]] = {}
        with clock.measuring():
            self._probe = probe.Probe(identity.physical_cores())
            self._remembered = paths.BUILD / "probe" / f"{identity.machine_id()}-{identity.boot_id()}.json"
            usual = probe.remember(probe.calibrate(self._probe), self._remembered)
            self.usual = noise.median(usual.fma_s, usual.copy_s)
        files.write_json(record, asdict(self.usual))

    def sample(self) -> None:
        """Sample the probe once, paid from the budget."""
        with self.clock.measuring():
            self._samples.append(self._probe.sample())

    def judge(self, scenario: str) -> BlockNoise:
        """The noise of the block that has just ended, beside the scenario's earlier blocks. Later samples belong to the next block."""
        while len(self._samples) < probe.SAMPLES:
            self.sample()
        samples, self._samples = self._samples, []
        probe.remember(probe.medians(samples), self._remembered)
        seconds = ProbeSeconds(tuple(sample.fma_s for sample in samples), tuple(sample.copy_s for sample in samples))
        blocks = self._blocks.setdefault(scenario, [])
        blocks.append(noise.median(seconds.fma_s, seconds.copy_s))
        return BlockNoise(noise.notes(blocks, self.usual)[-1], seconds)
