"""Memory, CPU time, switches, faults, energy, start-up and size on disk of an arm, from the records of its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.runs.schema import ArmMemory, RunArm, Slice, Start

NS_PER_MS, NS_PER_S = 1e6, 1e9
ENERGY_NOT_EXPOSED = "not exposed"


@dataclass(frozen=True)
class Resources:
    """Columns of `results`, whose meaning stands in schema.sql. None: not measured, or withheld with the note beside it."""

    load_ms: float | None
    first_ms: float | None
    second_ms: float | None
    start_to_first_ms: float | None
    cold_load_ms: float | None
    cold_start_to_first_ms: float | None
    cold_note: str | None
    load_peak_rss_bytes: int | None
    pss_load_bytes: int | None
    pss_first_bytes: int | None
    artefact_bytes: int | None
    library_bytes: int | None
    binary_bytes: int | None
    footprint_note: str | None
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


def resources_of(arm: RunArm, starts: Sequence[Start], slices: Sequence[Slice], memory: Sequence[ArmMemory]) -> Resources:
    """The resources of one arm in one scenario.

    Medians over starts and over blocks, the highest of the peaks; counters (CPU time, switches, energy …) are summed over the slices
    without an error, per 1 000 embeddings. Starts with a cold page cache have columns of their own.

    Args:
        starts: the arm's process starts in the run.
        slices: of the scenario.
        memory: at the end of each block.
    """
    warm = [start for start in starts if start.page_cache != "cold"]
    cold = [start for start in starts if start.page_cache == "cold"]
    served = [piece for piece in slices if not piece.error]
    rows, wall_ns = sum(piece.served for piece in served), sum(piece.wall_ns for piece in served)

    def total(name: str) -> int | None:
        values = [getattr(piece, name) for piece in served]
        return sum(values) if values and None not in values else None

    def per_1000(name: str, unit: float = 1.0) -> float | None:
        count = total(name)
        return count / unit * 1000 / rows if count is not None and rows else None

    def percent(name: str) -> float | None:
        ns = total(name)
        return 100 * ns / wall_ns if ns is not None and wall_ns else None

    def steady(name: str) -> int | None:
        return _whole_median([getattr(block, name) for block in memory])

    size = arm.footprint
    imported = size.import_note is None
    energy = per_1000("energy_uj", 1e6)
    return Resources(
        load_ms=_median_of(warm, lambda start: start.load_ns), first_ms=_median_of(warm, lambda start: start.first_ns),
        second_ms=_median_of(warm, lambda start: start.second_ns),
        start_to_first_ms=_median_of(warm, _start_to_first_ns) if imported else None,
        cold_load_ms=_median_of(cold, lambda start: start.load_ns),
        cold_start_to_first_ms=_median_of(cold, _start_to_first_ns) if imported else None,
        cold_note=None if cold else next((start.page_cache_note for start in reversed(starts) if start.page_cache_note), None),
        load_peak_rss_bytes=max((start.peak_rss_bytes for start in starts if start.peak_rss_bytes is not None), default=None),
        pss_load_bytes=_whole_median([start.load_pss_bytes for start in starts]),
        pss_first_bytes=_whole_median([start.first_pss_bytes for start in starts]),
        artefact_bytes=size.artefact_bytes, library_bytes=size.library_bytes, binary_bytes=size.binary_bytes, footprint_note=size.note,
        peak_rss_bytes=max((block.peak_rss_bytes for block in memory if block.peak_rss_bytes is not None), default=None),
        rss_bytes=steady("rss_bytes"), rss_anon_bytes=steady("rss_anon_bytes"), rss_file_bytes=steady("rss_file_bytes"),
        rss_shmem_bytes=steady("rss_shmem_bytes"), pss_bytes=steady("pss_bytes"),
        swap_bytes=max((block.swap_bytes for block in memory if block.swap_bytes is not None), default=None),
        os_threads=max((block.threads for block in memory if block.threads is not None), default=None),
        cpu_percent=percent("cpu_ns"), cpu_s_per_1000=per_1000("cpu_ns", NS_PER_S),
        voluntary_switches_per_1000=per_1000("voluntary_switches"), involuntary_switches_per_1000=per_1000("involuntary_switches"),
        minor_faults_per_1000=per_1000("minor_faults"), major_faults_per_1000=per_1000("major_faults"),
        steal_percent=percent("steal_ns"), throttled_percent=percent("throttled_ns"), energy_j_per_1000=energy,
        energy_note=ENERGY_NOT_EXPOSED if energy is None and served else None,
    )  # fmt: skip


def swap_note(arms: Sequence[RunArm], swapped: Sequence[int | None]) -> str | None:
    """Why a scenario is not ranked: one of its arms was partly in swap, and pages in swap wait for a disk. None where none was."""
    worst = max(zip(swapped, arms, strict=True), key=lambda pair: pair[0] or 0, default=(None, None))
    return f"swapped: {worst[1].framework} had {worst[0] / 1024:.0f} KiB in swap" if worst[0] and worst[1] else None


def _start_to_first_ns(start: Start) -> int | None:
    """From the start of the process to its first vector. `spawn_ns` lasts until `ready`, which comes after the second vector."""
    return None if start.spawn_ns is None or start.second_ns is None else start.spawn_ns - start.second_ns


def _median_of(starts: Sequence[Start], time_ns: Callable[[Start], int | None]) -> float | None:
    """Median in ms over the starts that have the time."""
    values_ms = [ns / NS_PER_MS for start in starts if (ns := time_ns(start)) is not None]
    return float(np.median(values_ms)) if values_ms else None


def _whole_median(values: Sequence[int | None]) -> int | None:
    measured = [value for value in values if value is not None]
    return round(float(np.median(measured))) if measured else None
