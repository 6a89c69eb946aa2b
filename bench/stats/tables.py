"""The rows that the statistics write: their fields are the columns of the tables `results`, `comparisons`, `fits`, `quality` and `swaps`
in schema.sql, where their units and meaning stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

#: Changes with any change that can alter a stored number.
STATS_VERSION = 2


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


def finite(value: float) -> float | None:
    """NULL in place of NaN and infinity."""
    return float(value) if math.isfinite(value) else None
