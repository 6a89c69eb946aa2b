"""Resources of an arm, by hand-worked values: what is a median, what a sum, what is withheld, and what a swapped run is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.runs import reader
from bench.runs.schema import ArmMemory, Footprint, RunArm, RunData, Slice, Start
from bench.stats import leaderboard
from bench.stats.arms import Controls
from bench.stats.resources import ENERGY_NOT_EXPOSED, Resources, resources_of, swap_note
from bench.stats.tables import Result
from tests.support import runs
from tests.support.runs import Fake, Spec

MS, MB = 1_000_000, 1_000_000
SIZE = Footprint(artefact_bytes=90 * MB, library_bytes=40 * MB, binary_bytes=None)
ARM = RunArm("a", "pytorch", "python", "fp32", "default", 1, 2, "measured", footprint=SIZE)


def start(number: int, load_ms: float, page_cache: str = "warm", **more: object) -> Start:
    """A start whose process takes 1 s besides loading, then 30 ms and 10 ms for its first two inferences."""
    ns = int(load_ms * MS)
    return Start("a", number, 1000 * MS + ns + 40 * MS, ns, 30 * MS, 10 * MS, page_cache=page_cache, **more)  # type: ignore[arg-type]


def piece(number: int, served: int = 50, error: str | None = None, **used: int) -> Slice:
    return Slice("a", number, 0, 64, 50, served, 500 * MS, 800 * MS, error, **used)


def found(starts: list[Start], slices: list[Slice], memory: list[ArmMemory], arm: RunArm = ARM) -> Resources:
    return resources_of(arm, starts, slices, memory)


def test_starts_are_medians_and_cold_ones_stand_apart() -> None:
    row = found([start(0, 900, "cold"), start(1, 100), start(2, 300), start(3, 200)], [], [])
    assert (row.load_ms, row.first_ms, row.second_ms) == (200, 30, 10)
    assert row.start_to_first_ms == 1000 + 200 + 30, "ready comes after the second inference"
    assert (row.cold_load_ms, row.cold_start_to_first_ms, row.cold_note) == (900, 1930, None)


def test_no_cold_start_has_its_reason() -> None:
    row = found([start(0, 100, page_cache_note="another process has the files mapped"), start(1, 100)], [], [])
    assert (row.cold_load_ms, row.cold_note) == (None, "another process has the files mapped")


def test_memory_at_the_three_moments() -> None:
    starts = [start(n, 100, load_pss_bytes=pss, first_pss_bytes=pss + 5, peak_rss_bytes=pss * 2) for n, pss in enumerate((100, 300, 200))]
    blocks = [
        ArmMemory(500, 400, 300, 90, 10, 350, 0, 7),
        ArmMemory(900, 600, 500, 90, 10, 550, 0, 9),
        ArmMemory(450, 410, 310, 90, 10, 360, 0, 8),
    ]
    row = found(starts, [], blocks)
    assert (row.pss_load_bytes, row.pss_first_bytes, row.pss_bytes) == (200, 205, 360)
    assert (row.peak_rss_bytes, row.load_peak_rss_bytes) == (900, 600)
    assert (row.rss_bytes, row.rss_anon_bytes, row.rss_file_bytes, row.rss_shmem_bytes) == (410, 310, 90, 10)
    assert (row.swap_bytes, row.os_threads) == (0, 9)


def test_counters_are_summed_over_what_was_served() -> None:
    used = {"voluntary_switches": 30, "involuntary_switches": 5, "minor_faults": 1000, "major_faults": 1, "steal_ns": 50 * MS,
            "throttled_ns": 25 * MS, "energy_uj": 2_000_000}  # fmt: skip
    row = found([], [piece(0, **used), piece(1, **used), piece(2, 0, "planted", **used)], [])
    assert row.cpu_percent == pytest.approx(160) and row.cpu_s_per_1000 == pytest.approx(16)
    assert (row.voluntary_switches_per_1000, row.involuntary_switches_per_1000) == (600, 100)
    assert (row.minor_faults_per_1000, row.major_faults_per_1000) == (20_000, 20)
    assert row.steal_percent == pytest.approx(10) and row.throttled_percent == pytest.approx(5)
    assert (row.energy_j_per_1000, row.energy_note) == (pytest.approx(40), None)


def test_what_one_slice_does_not_know_the_row_does_not_claim() -> None:
    row = found([], [piece(0, energy_uj=5, minor_faults=1), piece(1, minor_faults=1)], [])
    assert (row.energy_j_per_1000, row.energy_note) == (None, ENERGY_NOT_EXPOSED)
    assert row.minor_faults_per_1000 == 20
    nothing = found([], [], [])
    assert (nothing.cpu_percent, nothing.energy_note, nothing.peak_rss_bytes, nothing.load_ms) == (None, None, None, None)


def test_sizes_and_import_times_of_builds_for_another_device_are_withheld() -> None:
    cuda = replace(ARM, footprint=Footprint(90 * MB, None, None, "a CUDA build", "a CUDA build"))
    row = found([start(0, 100), start(1, 100, "cold")], [], [], cuda)
    assert (row.library_bytes, row.start_to_first_ms, row.cold_start_to_first_ms, row.footprint_note) == (None, None, None, "a CUDA build")
    assert (row.artefact_bytes, row.load_ms, row.cold_load_ms) == (90 * MB, 100, 100)


def test_the_arm_that_swapped_is_named() -> None:
    other = replace(ARM, arm_id="b", framework="candle")
    assert swap_note([ARM, other], [0, None]) is None
    assert swap_note([ARM, other], [1_000_000, 12_345_678]) == "swapped: candle had 12056 KiB in swap"


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    return reader.read_run(runs.write(tmp_path, Spec(arms=(Fake("pytorch", 6.0), Fake("openvino", 3.0)))))


def ranked(run: RunData) -> dict[str, Result]:
    rows, _ = leaderboard.leaderboard(run, Controls(True))
    return {row.framework: row for row in rows if row.scenario == "closed-1"}


def test_a_swapped_run_is_not_ranked(run: RunData) -> None:
    assert all(row.ranked for row in ranked(run).values())
    victim = run.arms[1].arm_id
    swapped = replace(run.blocks[5], memory={**run.blocks[5].memory, victim: replace(run.blocks[5].memory[victim], swap_bytes=4096)})
    rows = ranked(replace(run, blocks=(*run.blocks[:5], swapped, *run.blocks[6:])))
    assert {row.ranked for row in rows.values()} == {False}
    assert {row.rank_note for row in rows.values()} == {"swapped: openvino had 4 KiB in swap"}
    assert rows["openvino"].swap_bytes == 4096 and rows["pytorch"].swap_bytes is None
    assert rows["openvino"].p50_ms == pytest.approx(3.0), "what was measured is still shown"
