"""A run as frozen dataclasses: the records of a run folder (RUNS.md), and the rows that the statistics make of them.

`writer.py` writes `Start`, `Block`, `Check`, `Failure` and `Allocation` into a run folder, `reader.py` reads a whole one as `RunData`;
`bench/stats` turns that into `Result`, `Comparison`, `Fit`, `Quality` and `Swap`, whose fields are the columns of the tables of the same
names in schema.sql, where their units and meaning stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]

#: The columns of `RunData.samples`: those of samples.parquet, with the scenario and block they lie under.
SAMPLE_COLUMNS = (
    "arm_id", "scenario", "block", "slice", "request", "tokens", "due_ns", "start_ns", "end_ns", "preprocess_ns", "cosine", "max_abs_diff",
)  # fmt: skip
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
class Controls:
    """Whether the controls (a twin, an arm made 5 % slower) came out as they must, and where not, why."""

    held: bool
    note: str | None = None


@dataclass(frozen=True)
class Quality:
    """A row of the table `quality`: a measure of one arm on one set, and its ratio to fp32. `held` is None where nothing is judged."""

    arm_id: str
    measure: str
    quality_set: str
    n: int
    value: float | None
    reference: float | None
    kept: float | None
    kept_lo: float | None
    kept_hi: float | None
    held: bool | None
    note: str | None


@dataclass(frozen=True)
class Swap:
    """A row of the table `swaps`: an index that `built_arm` built, asked by `asked_arm`, against the same index asked by its builder."""

    built_arm: str
    asked_arm: str
    queries: int
    overlap: float
    overlap_lo: float | None
    ndcg: float | None
    ndcg_kept: float | None
    ndcg_kept_lo: float | None
    verdict: str


@dataclass(frozen=True)
class QualityData:
    """The quality files of a run folder.

    `items` has a row per arm × set × item (RUNS.md, quality/<arm_id>.parquet); `probes` per arm, and under `reference` of the fp32
    Embedder, float32 (queries + documents, dim); `failed` per arm why nothing was measured; `set_hash` says which texts they are of.
    """

    items: pd.DataFrame
    probes: Mapping[str, npt.NDArray[np.float32]]
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
    controls: Controls | None = None
    quality: QualityData | None = None


@dataclass(frozen=True)
class Result:
    """A row of the table `results`."""

    run_id: str
    campaign_id: str
    arm_id: str
    role: str
    measured_at: datetime
    machine_id: str
    machine: str
    model: str
    weights: str
    framework: str
    framework_version: str | None
    language: str
    precision: str
    variant: str
    sessions: int
    threads: int
    scenario: str
    served_scenario: str | None
    clients: int | None
    rate_per_s: float | None
    batch: int
    status: str
    reason: str | None
    plan_hash: str | None
    artefact_hash: str | None
    stats_version: int
    ranked: bool = False
    rank_note: str | None = None
    blocks: int | None = None
    noisy_blocks: int | None = None
    n: int | None = None
    n_eff: float | None = None
    errors: int | None = None
    mean_ms: float | None = None
    stdev_ms: float | None = None
    max_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    p50_lo_ms: float | None = None
    p50_hi_ms: float | None = None
    p99_lo_ms: float | None = None
    p99_hi_ms: float | None = None
    tail_note: str | None = None
    service_p50_ms: float | None = None
    wait_p50_ms: float | None = None
    preprocess_p50_ms: float | None = None
    text_p50_ms: float | None = None
    requests_per_s: float | None = None
    requests_per_s_lo: float | None = None
    requests_per_s_hi: float | None = None
    embeddings_per_s: float | None = None
    tokens_per_s: float | None = None
    token_share: float | None = None
    rho: float | None = None
    late_p99_ms: float | None = None
    little_error: float | None = None
    slo_ms: float | None = None
    slo_fails_per_s: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    second_ms: float | None = None
    start_to_first_ms: float | None = None
    cold_load_ms: float | None = None
    cold_start_to_first_ms: float | None = None
    cold_note: str | None = None
    load_peak_rss_bytes: int | None = None
    pss_load_bytes: int | None = None
    pss_first_bytes: int | None = None
    artefact_bytes: int | None = None
    library_bytes: int | None = None
    binary_bytes: int | None = None
    footprint_note: str | None = None
    peak_rss_bytes: int | None = None
    rss_bytes: int | None = None
    rss_anon_bytes: int | None = None
    rss_file_bytes: int | None = None
    rss_shmem_bytes: int | None = None
    pss_bytes: int | None = None
    swap_bytes: int | None = None
    os_threads: int | None = None
    cpu_percent: float | None = None
    cpu_s_per_1000: float | None = None
    voluntary_switches_per_1000: float | None = None
    involuntary_switches_per_1000: float | None = None
    minor_faults_per_1000: float | None = None
    major_faults_per_1000: float | None = None
    steal_percent: float | None = None
    throttled_percent: float | None = None
    energy_j_per_1000: float | None = None
    energy_note: str | None = None
    min_cosine: float | None = None
    max_abs_diff: float | None = None
    mean_cosine: float | None = None
    quality: float | None = None
    quality_lo: float | None = None
    quality_hi: float | None = None
    quality_metric: str | None = None
    top10_overlap: float | None = None
    precision_note: str | None = None
    compile_ms: float | None = None
    ratio_to_best: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    rank_lo: int | None = None
    rank_hi: int | None = None
    tie_group: int | None = None


@dataclass(frozen=True)
class Comparison:
    """A row of the table `comparisons`: the ratio of A to B, > 1 where A is better."""

    run_id: str
    scenario: str
    arm_a: str
    arm_b: str
    quantity: str
    blocks: int
    ratio: float | None
    ratio_lo: float | None
    ratio_hi: float | None
    p_value: float | None
    p_holm: float | None
    verdict: str
    note: str | None
    stats_version: int


@dataclass(frozen=True)
class Fit:
    """A row of the table `fits`: a number about one arm in one scenario that is no column of the leaderboard, with its interval."""

    run_id: str
    scenario: str
    arm_id: str
    term: str
    unit: str
    blocks: int
    value: float | None
    lo: float | None
    hi: float | None
    note: str | None
    stats_version: int
