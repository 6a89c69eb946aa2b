"""Writes a run folder (RUNS.md), which is the only truth of a run, and reads back what a run that goes on needs of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from bench.core import files, redact
from bench.core.arrays import Vectors
from bench.runs import codec, parquet, reader
from bench.runs.schema import REFERENCE, Allocation, Block, Check, Failure, Start, Trial


class RunFolder:
    """One run's folder, new or to be resumed.

    Every file is written whole, under a temporary name that is then renamed. A run folder is published: paths of this machine are
    replaced by names (core/redact.py) in everything that is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    @classmethod
    def start(cls, path: Path, run: Mapping[str, Any], machine: Mapping[str, Any], failures: Sequence[Failure] = ()) -> RunFolder:
        """Make a new folder.

        Args:
            path: named as the run's id.
            run: the content of run.json.
            machine: the content of machine.json.
            failures: of the arms that cannot run.
        """
        with files.whole_folder(path) as temporary:
            _write(temporary / "run.json", run)
            _write(temporary / "machine.json", machine)
        folder = cls(path)
        for failure in failures:
            folder.write_failure(failure.arm_id, failure.scenario, failure.status, failure.reason)
        return folder

    # --- the run -----------------------------------------------------------------------------------------------------------

    def is_done(self) -> bool:
        return (self.path / "done.json").exists()

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Write run.json anew."""
        _write(self.path / "run.json", run)

    def continues(self) -> Sequence[Mapping[str, Any]]:
        """`continues` of run.json: the run as it was each time before its budget was made larger."""
        file = self.path / "run.json"
        earlier: Sequence[Mapping[str, Any]] = files.read_json(file).get("continues", []) if file.exists() else []
        return earlier

    def write_done(self, stages: Mapping[str, float]) -> None:
        """Write done.json, the last file: `stages` are the seconds of each, to which those of the earlier runs are added.

        The paths of this machine are taken out of the workers' logs first.
        """
        for log in self.path.glob("logs/*.log"):
            log.write_text(redact.portable(log.read_text(errors="replace")))
        seconds_of = dict(stages)
        for earlier in self.continues():
            for stage, seconds in earlier.get("stages", {}).items():
                if stage != "measuring":  # counted on by the blocks
                    seconds_of[stage] = round(seconds_of.get(stage, 0.0) + seconds, 3)
        _write(self.path / "done.json", {"ended_at": codec.timestamp(codec.now()), "stages": seconds_of})

    # --- process starts ----------------------------------------------------------------------------------------------------

    def log(self, arm_id: str, start: int) -> Path:
        """Where the stderr of a worker goes."""
        return self.path / "logs" / f"{arm_id}-{start}.log"

    def start_count(self, arm_id: str) -> int:
        """How many process starts of an arm are recorded."""
        return len(list(self.path.glob(f"starts/{arm_id}-*.json")))

    def write_start(self, start: Start) -> None:
        """Write a start, without `first_pss_bytes`, which is read later."""
        _write(self._start(start.arm_id, start.start), codec.start_to_json(start))

    def write_first_pss(self, arm_id: str, start: int, first_pss_bytes: int | None) -> None:
        """Add the memory after the first warm-up to a start."""
        file = self._start(arm_id, start)
        _write(file, {**files.read_json(file), "first_pss_bytes": first_pss_bytes})

    def _start(self, arm_id: str, start: int) -> Path:
        return self.path / "starts" / f"{arm_id}-{start}.json"

    # --- blocks ------------------------------------------------------------------------------------------------------------

    def allocation(self, scenario: str) -> Allocation | None:
        """The allocation of a scenario; None where it has none yet."""
        file = self._allocation(scenario)
        return Allocation(**files.read_json(file)) if file.exists() else None

    def write_allocation(self, scenario: str, allocation: Allocation) -> None:
        _write(self._allocation(scenario), asdict(allocation))

    def block_count(self, scenario: str) -> int:
        return len(reader.block_files(self.path, scenario))

    def blocks(self, scenario: str) -> list[Block]:
        """The finished blocks of a scenario, in their order."""
        return reader.read_blocks(self.path, scenario)

    def write_block(self, block: Block, samples: pd.DataFrame, discards: pd.DataFrame | None = None) -> None:
        """Write a block whole. `discards` are the first parts of open-loop pieces, which no statistic uses."""
        _write_block(reader.block_folder(self.path, block.scenario, block.block), block, samples, discards)

    def write_discard(self, block: Block, samples: pd.DataFrame) -> None:
        """Put a noisy block aside that is measured again. No reader looks at it; it is kept so that a person can."""
        _write_block(self._discard(block.scenario, block.block), block, samples)

    def discard_numbers(self, scenario: str) -> set[int]:
        """Numbers of the blocks of a scenario that were put aside."""
        return {int(file.parent.name) for file in (self.path / "discards" / scenario).glob("*/block.json")}

    def measured_s(self) -> float:
        """Seconds of the budget that the finished blocks of the run say are used; a resumed run counts on from there."""
        return max((block.measured_s for block in reader.read_blocks(self.path)), default=0.0)

    def trials(self, scenario: str, block: int) -> list[Trial]:
        """The pieces of a finished block of a search, as its statistics need them."""
        folder = reader.block_folder(self.path, scenario, block)
        samples = pq.ParquetFile(folder / "samples.parquet").read().to_pandas()
        trials = []
        for piece in codec.block_from_json(files.read_json(folder / "block.json")).slices:
            served = samples[samples["arm_id"] == piece.arm_id].sort_values("request")
            if len(served) and piece.rate_per_s is not None:
                times = {name: served[name].to_numpy(dtype=np.int64) for name in ("due_ns", "start_ns", "end_ns")}
                trials.append(Trial(piece.arm_id, piece.rate_per_s, piece.served < piece.count, **times))
        return trials

    def _allocation(self, scenario: str) -> Path:
        return self.path / "blocks" / scenario / "pace.json"

    def _discard(self, scenario: str, block: int) -> Path:
        return self.path / "discards" / scenario / f"{block:03d}"

    # --- checks and failures -----------------------------------------------------------------------------------------------

    def has_checks(self, arm_id: str) -> bool:
        return self._checks(arm_id).exists()

    def write_checks(self, arm_id: str, checks: Sequence[Check]) -> None:
        _write(self._checks(arm_id), [asdict(check) for check in checks])

    def add_check(self, arm_id: str, check: Check) -> None:
        """Add a check to those of an arm, in place of an earlier one of its name."""
        earlier = reader.read_checks(self._checks(arm_id)) if self.has_checks(arm_id) else ()
        self.write_checks(arm_id, [*(other for other in earlier if other.name != check.name), check])

    def write_failure(self, arm_id: str, scenario: str, status: str, reason: str) -> None:
        """Write that a cell failed; scenario `*` stands for every scenario of the arm that has no block."""
        failure = {"arm_id": arm_id, "scenario": scenario, "status": status, "reason": reason}
        _write(self._failure(arm_id, scenario), {**failure, "at": codec.timestamp(codec.now())})

    def has_failure(self, arm_id: str, scenario: str) -> bool:
        return self._failure(arm_id, scenario).exists()

    def status_of(self, arm_id: str, scenario: str) -> str | None:
        """The status of a cell that failed; None where it did not."""
        file = self._failure(arm_id, scenario)
        return codec.failure_from_json(files.read_json(file)).status if file.exists() else None

    def forget_failures(self, status: str | None = None) -> None:
        """Remove the failures of single scenarios, of one status where that is given: their cells get another chance."""
        for file in self.path.glob("failures/*.json"):
            failure = codec.failure_from_json(files.read_json(file))
            if failure.scenario != "*" and status in (None, failure.status):
                file.unlink()

    def _checks(self, arm_id: str) -> Path:
        return self.path / "checks" / f"{arm_id}.json"

    def _failure(self, arm_id: str, scenario: str) -> Path:
        return self.path / "failures" / f"{arm_id}--{'all' if scenario == '*' else scenario}.json"

    # --- quality -----------------------------------------------------------------------------------------------------------

    def write_vector_set(self, probe_set: Mapping[str, Any]) -> None:
        """Write vectors/set.json: the queries and documents that every arm embeds, and which documents answer which query."""
        _write(self.path / "vectors" / "set.json", dict(probe_set))

    def write_vectors(self, arm_id: str, vectors: Vectors) -> None:
        """Write an arm's vectors of the probe set, float32 (queries + documents, dim); those of the arm REFERENCE come first."""
        folder = self.path / "vectors"
        base = None if arm_id == REFERENCE else parquet.read_block(folder / f"{REFERENCE}.parquet", None)
        with files.whole_file(folder / f"{arm_id}.parquet") as file:
            parquet.write_vectors(vectors, base, file)

    def write_quality(self, arm_id: str, items: pd.DataFrame) -> None:
        """Write the quality of an arm per query and pair: the columns of quality/<arm_id>.parquet (RUNS.md)."""
        with files.whole_file(self.path / "quality" / f"{arm_id}.parquet") as file:
            items.to_parquet(file, index=False)

    def write_no_quality(self, arm_id: str, note: str) -> None:
        """Write why an arm has no quality."""
        _write(self.path / "quality" / f"{arm_id}.json", {"note": note})


def _write(path: Path, value: Any) -> None:
    files.write_json(path, redact.portable(value))


def _write_block(path: Path, block: Block, samples: pd.DataFrame, discards: pd.DataFrame | None = None) -> None:
    with files.whole_folder(path) as temporary:
        parquet.write_samples(samples, temporary / "samples.parquet")
        if discards is not None:
            parquet.write_samples(discards, temporary / "discards.parquet")
        _write(temporary / "block.json", codec.block_to_json(block))
