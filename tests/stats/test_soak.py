"""Slopes of memory: known leaks are found, none is invented, and time is told from shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.runs import reader
from bench.runs.schema import RunData
from bench.stats import leaderboard
from bench.stats.load import Requests
from bench.stats.soak import shapes_seen, slopes
from tests.support import runs
from tests.support.runs import Fake, Load, Spec

MB = 1e6
HOURS = np.arange(24) / 24
#: New shapes come fast at first, then seldom: 60, 84, 93 …
SHAPES = np.round(100 * (1 - 0.4 ** (1 + np.arange(24) / 1.5)))


def wander(chance: np.random.Generator, rho: float, size: int = 24) -> Any:
    noise = chance.normal(0, 1, size)
    for place in range(1, size):
        noise[place] += rho * noise[place - 1]
    return noise


def test_a_leak_over_time_and_one_over_shapes_are_told_apart() -> None:
    over_time, over_shapes = slopes(HOURS, SHAPES, 500 * MB + 30 * MB * HOURS + 0.2 * MB * SHAPES)
    assert over_time.value == pytest.approx(30 * MB) and over_shapes.value == pytest.approx(0.2 * MB)
    assert over_time.lo == pytest.approx(over_time.hi, rel=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_intervals_hold_the_truth(rho: float) -> None:
    """Of the 95 % intervals of 400 soaks, residuals alike or not, at least 91 % hold each slope (95 % of 400 is known to ±2 %)."""
    held = [0, 0]
    for seed in range(400):
        noise = MB * wander(np.random.default_rng([seed, int(10 * rho)]), rho)
        found = slopes(HOURS, SHAPES, 500 * MB + 3 * MB * HOURS + 0.2 * MB * SHAPES + noise)
        for place, truth in enumerate((3 * MB, 0.2 * MB)):
            held[place] += found[place].lo <= truth <= found[place].hi
    assert min(held) >= 0.91 * 400, held


def test_without_new_shapes_only_time_is_judged() -> None:
    over_time, over_shapes = slopes(HOURS, np.full(24, 7.0), 500 * MB - 5 * MB * HOURS)
    assert over_time.value == pytest.approx(-5 * MB)
    assert np.isnan(over_shapes.value) and over_shapes.note == "no new shapes after the first block"
    _, alike = slopes(HOURS, 10 + 3 * np.arange(24.0), 500 * MB + 0 * HOURS)
    assert alike.note == "new shapes came as steadily as time went by"


def test_five_blocks_have_no_slope() -> None:
    over_time, over_shapes = slopes(HOURS[:5], SHAPES[:5], HOURS[:5])
    assert np.isnan([over_time.value, over_shapes.value]).all() and over_time.note == "5 of 6 blocks of one process"


def test_shapes_are_batches_by_size_and_longest_row() -> None:
    block = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    start = np.array([10, 10, 20, 20, 30, 30, 40, 50])
    tokens = np.array([5, 9, 9, 9, 9, 2, 9, 9])
    whole = {name: np.zeros(8, dtype=np.int64) for name in ("stretch", "request", "due_ns", "end_ns")}
    real = {name: np.zeros(8) for name in ("preprocess_ns", "cosine", "max_abs_diff")}
    served = Requests(block=block, start_ns=start, tokens=tokens, **whole, **real)
    assert shapes_seen(served, [0, 1, 2]).tolist() == [1, 2, 2], "(2, 9); then a single row of 9; then nothing new"


@pytest.fixture
def run(tmp_path: Path) -> RunData:
    soak = Load("soak", "closed", 4, (4,), rows=40, rounds=1)
    read = reader.read_run(runs.write(tmp_path, Spec(arms=(Fake("pytorch"), Fake("openvino")), loads=(soak,), blocks=12)))
    kept = replace(read, scenarios=tuple(replace(scenario, process="kept") for scenario in read.scenarios))
    leaking, first = kept.arms[0].arm_id, kept.blocks[0].ended_at.timestamp()
    blocks = []
    for block in kept.blocks:
        grown = {
            arm_id: replace(memory, rss_anon_bytes=int(1e8 + (arm_id == leaking) * 5e3 * (block.ended_at.timestamp() - first)), start=2)
            for arm_id, memory in block.memory.items()
        }
        blocks.append(replace(block, memory=grown))
    return replace(kept, blocks=tuple(blocks))


def test_a_soak_has_its_slopes_in_the_table_of_fits(run: RunData) -> None:
    found = {(fit.arm_id, fit.term): fit for fit in leaderboard.fits(run)}
    leaking, steady = (found[arm.arm_id, "memory_over_time"] for arm in run.arms)
    assert leaking.value == pytest.approx(5e3 * 3600, rel=1e-3) and leaking.lo and leaking.lo > 0
    assert (leaking.unit, leaking.blocks, leaking.note) == ("bytes per hour", 12, None)
    assert steady.lo is not None and steady.hi is not None and steady.lo <= 0 <= steady.hi


def test_a_worker_that_was_started_again_counts_by_its_longest_life(run: RunData) -> None:
    arm_id = run.arms[0].arm_id
    blocks = [
        replace(block, memory={**block.memory, arm_id: replace(block.memory[arm_id], start=1, rss_anon_bytes=9 * 10**9)})
        if block.block < 4
        else block
        for block in run.blocks
    ]
    fit = next(
        fit for fit in leaderboard.fits(replace(run, blocks=tuple(blocks))) if (fit.arm_id, fit.term) == (arm_id, "memory_over_time")
    )
    assert fit.blocks == 8 and fit.value == pytest.approx(5e3 * 3600, rel=1e-3)


def test_other_scenarios_have_no_slope(run: RunData) -> None:
    other = replace(run, scenarios=tuple(replace(scenario, process="suite") for scenario in run.scenarios))
    assert not [fit for fit in leaderboard.fits(other) if fit.term.startswith("memory")]
