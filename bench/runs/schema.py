"""The records of a run folder (RUNS.md) as frozen dataclasses.

`writer.py` writes `Start`, `Block`, `Check`, `Failure` and `Allocation` into a folder, `reader.py` reads a whole one as `RunData`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pandas as pd

from bench.core.arrays import Ints, Vectors

#: The columns of `RunData.samples`: those of samples.parquet, with the scenario and block they lie under.
SAMPLE_COLUMNS = (
    "arm_id", "scenario", "block", "slice", "request", "tokens", "due_ns", "start_ns", "end_ns", "preprocess_ns", "cosine", "max_abs_diff",
)  # fmt: skip
#: Statuses of rows whose vectors passed the correctness gate: their times are shown and compared.
PROVEN = ("OK", "PARTIAL")
#: Under this name the probe's vectors of the fp32 Embedder stand among those of the arms.
REFERENCE = "reference"


@dataclass(frozen=True)
class Footprint:
    """Size on disk in bytes: the artefact's files, the library as a CPU user installs it, the worker's binary.

    `note` says why a size is withheld; `import_note` why the time to import the library is withheld too.
    """

    artefact_bytes: int | None = None
    library_bytes: int | None = None
    binary_bytes: int | None = None
    note: str | None = None
    import_note: str | None = None


@dataclass(frozen=True)
class RunArm:
    """An arm of a run, with the artefact it read and what its worker said of itself.

    `knobs` are the switches that its variant sets; `headline`: it stands for its framework where that has no default;
    `fault` is what was planted in a control arm (`--fault`).
    """

    arm_id: str
    framework: str
    language: str
    precision: str
    variant: str
    sessions: int
    threads: int
    role: str
    artefact_hash: str | None = None
    version: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None
    knobs: Mapping[str, str] | None = None
    headline: bool = False
    note: str | None = None
    footprint: Footprint = field(default_factory=Footprint)
    fault: str | None = None
    precision_note: str | None = None
    compile_s: float | None = None


@dataclass(frozen=True)
class RunScenario:
    """A served scenario of a run. `clients` are the closed loops that are derived from its one service sequence."""

    name: str
    load: str
    batch: int
    clients: tuple[int, ...]
    rate_per_s: float | None
    plan_hash: str | None
    lengths: tuple[int, ...] = ()
    shapes: str = "warm"
    limits_ms: tuple[float, ...] = ()
    q: float = 0.99
    process: str = "suite"


@dataclass(frozen=True)
class Allocation:
    """The part of a budget that a scenario gets (pace.json): `blocks` of `rounds` slice-rounds, in each of which every arm serves `rows`.

    Attributes:
        block_s: expected seconds of a block; where a budget is shared out, with the warm-ups of its fresh processes.
        until_s: seconds of measuring, counted from the beginning of the run, at which the scenario's share is used up; None: no such end.
    """

    blocks: int
    rounds: int
    rows: int
    block_s: float
    until_s: float | None = None

    @property
    def rows_per_arm(self) -> int:
        return self.blocks * self.rounds * self.rows


@dataclass(frozen=True)
class Start:
    """One process start; times in ns, None where the worker could not tell.

    Memory is that when the worker says that it is ready, `first_pss_bytes` that after the first requests of a plan (its first warm-up).
    `page_cache` is cold, warm or unknown; `version` and `settings` are what the worker said of its runtime.
    """

    arm_id: str
    start: int
    spawn_ns: int | None
    load_ns: int | None
    first_ns: int | None
    second_ns: int | None
    load_pss_bytes: int | None = None
    first_pss_bytes: int | None = None
    rss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    page_cache: str | None = None
    page_cache_note: str | None = None
    dim: int | None = None
    version: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Slice:
    """The rows `first` … `first + count` that one arm was ordered to serve in one round of a block, and what it served of them.

    `slice` is the number of the round, `start` that of the process; counters of use are None where the machine does not expose them, or
    where nothing was served.
    """

    arm_id: str
    slice: int
    start: int
    first: int
    count: int
    served: int
    wall_ns: int
    cpu_ns: int | None
    error: str | None
    voluntary_switches: int | None = None
    involuntary_switches: int | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    steal_ns: int | None = None
    throttled_ns: int | None = None
    energy_uj: int | None = None
    rate_per_s: float | None = None


@dataclass(frozen=True)
class ArmMemory:
    """Memory of one arm's process at the end of a block, in bytes. `start` is the process's number.

    The peak is that of the block where `peak_reset`, else that of the process.
    """

    peak_rss_bytes: int | None = None
    rss_bytes: int | None = None
    rss_anon_bytes: int | None = None
    rss_file_bytes: int | None = None
    rss_shmem_bytes: int | None = None
    pss_bytes: int | None = None
    swap_bytes: int | None = None
    threads: int | None = None
    start: int | None = None
    peak_reset: bool | None = None


@dataclass(frozen=True)
class MachineUse:
    """Counters of the whole machine over a block; None where it keeps no such count."""

    steal_ns: int | None = None
    throttled_ns: int | None = None
    throttled_periods: int | None = None
    swapped_out_pages: int | None = None
    pressure_cpu_some_us: int | None = None
    pressure_memory_some_us: int | None = None
    pressure_memory_full_us: int | None = None
    pressure_io_some_us: int | None = None
    pressure_io_full_us: int | None = None


@dataclass(frozen=True)
class ProbeSeconds:
    """Seconds of each look of the machine's probe during a block: multiply-adds on the slowest core, and copies."""

    fma_s: tuple[float, ...]
    copy_s: tuple[float, ...]


@dataclass(frozen=True)
class Block:
    """A block of a scenario.

    Attributes:
        note: why the block is noisy, None where it is not: in block.json as the run saw it, in `RunData` judged again (noise.py).
        memory: by arm, at the end of the block.
        resident: the workers of all arms stayed in memory.
        measured_s: seconds of the budget that the run had used by the end of the block.
        discard: the share of each open-loop piece that was kept apart as discards.
    """

    scenario: str
    block: int
    started_at: datetime
    ended_at: datetime
    note: str | None
    slices: tuple[Slice, ...]
    memory: Mapping[str, ArmMemory]
    probe: ProbeSeconds
    machine: MachineUse = MachineUse()
    resident: bool = True
    measured_s: float = 0.0
    discard: float = 0.0

    @property
    def noisy(self) -> bool:
        return self.note is not None

    @property
    def seconds(self) -> float:
        """By the wall clock."""
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, eq=False)
class Trial:
    """The piece that one arm served at one rate in a block of a search: int64 ns, by request. `cut`: its guard ended it."""

    arm_id: str
    rate_per_s: float
    cut: bool
    due_ns: Ints
    start_ns: Ints
    end_ns: Ints


@dataclass(frozen=True)
class Check:
    """A check of an arm beside its timed requests; `held` is None where there was nothing to judge."""

    name: str
    n: int | None
    value: float | None
    lo: float | None
    hi: float | None
    held: bool | None
    detail: str | None


@dataclass(frozen=True)
class Failure:
    """A cell that failed; scenario `*` means every scenario that has no block of this arm."""

    arm_id: str
    scenario: str
    status: str
    reason: str


@dataclass(frozen=True)
class QualityData:
    """The quality files of a run folder.

    Attributes:
        items: a row per arm × set × item (RUNS.md, quality/<arm_id>.parquet).
        probes: by arm, and under REFERENCE of the fp32 Embedder, the vectors of the probe set (queries + documents, dim).
        queries: how many of the probe set's rows are queries.
        relevant: per query the documents that answer it.
        failed: by arm why nothing was measured.
        set_hash: of the plan of the probe set: equal hashes are the same texts.
    """

    items: pd.DataFrame
    probes: Mapping[str, Vectors]
    queries: int
    relevant: tuple[frozenset[int], ...]
    failed: Mapping[str, str]
    set_hash: str = ""


@dataclass(frozen=True)
class RunData:
    """One run of one model.

    Attributes:
        checks: by arm.
        samples: the columns SAMPLE_COLUMNS, a row per request that was served in a recorded slice.
    """

    run_id: str
    campaign_id: str
    measured_at: datetime
    machine_id: str
    machine: str
    model: str
    model_bytes: int
    weights: str
    finished: bool
    arms: tuple[RunArm, ...]
    scenarios: tuple[RunScenario, ...]
    starts: tuple[Start, ...]
    blocks: tuple[Block, ...]
    checks: Mapping[str, tuple[Check, ...]]
    failures: tuple[Failure, ...]
    samples: pd.DataFrame
    quality: QualityData | None = None
