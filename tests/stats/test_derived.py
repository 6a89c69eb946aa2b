"""Rows and fits that follow from one served scenario: sweeps, new shapes, searches, open loops that are cut; samples made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bench.core.arrays import Ints
from bench.runs import reader
from bench.runs.schema import RunData, RunScenario, Slice
from bench.stats import leaderboard
from bench.stats.tables import Result
from tests.support import runs
from tests.support.runs import Fake, Load, Spec

LENGTHS = (16, 32, 64, 128, 256, 512)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A run of two arms whose only block is replaced by the tests' own."""
    spec = Spec(arms=(Fake("pytorch"), Fake("openvino")), blocks=1)
    return reader.read_run(runs.write(tmp_path_factory.mktemp("runs"), spec))


def made(base: RunData, scenario: RunScenario, blocks: list[dict[str, pd.DataFrame]], counts: int | None = None,
         rates: list[float] | None = None) -> RunData:  # fmt: skip
    """The run with these samples: per block a frame for each arm, with tokens, due_ns, start_ns and end_ns."""
    arms, frames, found = [arm.arm_id for arm in base.arms], [], []
    for number, block in enumerate(blocks):
        pieces = []
        for place, frame in enumerate(block.values()):
            rest = {"arm_id": arms[place], "scenario": scenario.name, "block": number, "slice": 0, "preprocess_ns": 1000, "cosine": 1.0,
                    "max_abs_diff": 0.0, "request": 64 + np.arange(len(frame))}  # fmt: skip
            frames.append(frame.assign(**rest))
            wanted = len(frame) if counts is None else counts
            rate_per_s = rates[number] if rates else None
            pieces.append(Slice(arms[place], 0, 0, 64, wanted, len(frame), 10**9, 10**9, None, rate_per_s=rate_per_s))
        found.append(replace(base.blocks[0], scenario=scenario.name, block=number, slices=tuple(pieces), memory={}))
    return replace(base, scenarios=(scenario,), blocks=tuple(found), samples=pd.concat(frames, ignore_index=True))


def back_to_back(tokens: Ints, service_ns: npt.ArrayLike, block: int = 0) -> pd.DataFrame:
    end = np.cumsum(np.asarray(service_ns)).astype(np.int64) + 10**12 * (block + 1)
    start = end - np.asarray(service_ns, dtype=np.int64)
    return pd.DataFrame({"tokens": tokens, "due_ns": start, "start_ns": start, "end_ns": end})


def by_name(run: RunData) -> dict[tuple[str, str], Result]:
    return {(row.framework, row.scenario): row for row in leaderboard.leaderboard(run)[0]}


def scenario(name: str, load: str = "offline", **more: Any) -> RunScenario:
    return RunScenario(name=name, load=load, batch=1, clients=(1,), plan_hash="x", **{"rate_per_s": None, **more})


def sweep(noise: float, seed: int = 1, blocks: int = 12) -> list[dict[str, pd.DataFrame]]:
    """2 ms + 0.05 ms a token + 100 ns a token², with ln-noise; the other arm twice that."""
    random, tokens = np.random.default_rng(seed), np.tile(LENGTHS, 10)
    ns = 2e6 + 5e4 * tokens + 100.0 * tokens**2

    def served(factor: int, block: int) -> pd.DataFrame:
        return back_to_back(tokens, np.round(ns * factor * np.exp(random.normal(0, noise, len(ns)))), block)

    return [{"a": served(1, block), "b": served(2, block)} for block in range(blocks)]


def test_the_cost_curve_is_found_again(base: RunData) -> None:
    run = made(base, scenario("length-sweep", lengths=LENGTHS), sweep(0.0))
    fits = {(fit.arm_id, fit.term): fit for fit in leaderboard.fits(run)}
    for arm, factor in zip(base.arms, (1, 2), strict=True):
        for term, truth in (("base_ms", 2.0), ("per_token_us", 50.0), ("per_token2_ns", 100.0)):
            fit = fits[arm.arm_id, term]
            assert fit.blocks == 12 and fit.value == pytest.approx(truth * factor, rel=1e-4)


def test_the_curves_interval_covers_the_truth(base: RunData) -> None:
    """Forty sweeps with 5 % noise: a 95 % interval holds the truth in about 38 (below 33 would be one in a thousand)."""
    held = {"base_ms": 0, "per_token_us": 0, "per_token2_ns": 0}
    for seed in range(40):
        for fit in leaderboard.fits(made(base, scenario("length-sweep", lengths=LENGTHS), sweep(0.05, seed, 6)))[:3]:
            truth = {"base_ms": 2.0, "per_token_us": 50.0, "per_token2_ns": 100.0}[fit.term]
            assert fit.lo is not None and fit.hi is not None
            held[fit.term] += fit.lo <= truth <= fit.hi
    assert min(held.values()) >= 33, held


def test_every_length_of_a_sweep_has_its_row(base: RunData) -> None:
    rows = by_name(made(base, scenario("length-sweep", lengths=LENGTHS), sweep(0.0)))
    row = rows["pytorch", "length-sweep-128"]
    expected_ms = 2.0 + 0.05 * 128 + 1e-4 * 128**2
    assert row.p50_ms == pytest.approx(expected_ms, rel=1e-4) and row.n == 120
    assert row.requests_per_s == pytest.approx(1e3 / expected_ms, rel=1e-4)
    assert row.tokens_per_s == pytest.approx(128e3 / expected_ms, rel=1e-4)
    assert (row.served_scenario, row.ranked, row.rank_lo) == ("length-sweep", False, None)
    assert len(rows) == 2 * (1 + len(LENGTHS))


def test_three_lengths_make_a_straight_line(base: RunData) -> None:
    tokens = np.tile((16, 32, 64), 10)
    frames = [{name: back_to_back(tokens, 1e6 + 1e4 * tokens, block) for name in "ab"} for block in range(3)]
    fits = leaderboard.fits(made(base, scenario("length-sweep", lengths=(16, 32, 64)), frames))
    assert [fit.term for fit in fits[:2]] == ["base_ms", "per_token_us"] and len(fits) == 4
    assert [fit.value for fit in fits[:2]] == pytest.approx([1.0, 10.0])


def test_a_new_shape_costs_what_it_costs(base: RunData) -> None:
    """Lengths in pairs, the first call 1.78 times as long; the faster arm pays nothing."""
    tokens = np.repeat(np.arange(10, 26), 2)
    first = np.tile([True, False], 16)
    frames = [
        {"a": back_to_back(tokens, np.where(first, 1.78e6, 1e6), block), "b": back_to_back(tokens, np.full(32, 9e5), block)}
        for block in range(12)
    ]
    run = made(base, scenario("new-shape", shapes="new"), frames)
    rows, fits = by_name(run), {fit.arm_id: fit for fit in leaderboard.fits(run)}
    ratio = fits[base.arms[0].arm_id]
    assert (ratio.term, ratio.blocks) == ("new_shape_ratio", 12)
    assert (ratio.value, ratio.lo, ratio.hi) == (pytest.approx(1.78), pytest.approx(1.78), pytest.approx(1.78))
    assert fits[base.arms[1].arm_id].value == pytest.approx(1.0)
    assert rows["pytorch", "new-shape"].p50_ms == pytest.approx(1.78) and rows["pytorch", "new-shape"].n == 192
    assert rows["pytorch", "new-shape-known"].p50_ms == pytest.approx(1.0)
    verdicts = leaderboard.leaderboard(run)[1]
    assert verdicts[0].quantity == "p50_ms" and verdicts[0].ratio == pytest.approx(0.9 / 1.78)


def arrivals(rate_per_s: float, service_ns: float, n: int, seed: int, kept: int | None = None) -> pd.DataFrame:
    """A Poisson piece through one session; `kept` cuts it off as a guard does."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1e9 / rate_per_s, n)) + 1e12 * (seed + 1)
    done = np.arange(1, n + 1) * service_ns
    end = np.maximum.accumulate(due - (done - service_ns)) + done
    frame = pd.DataFrame({"tokens": 20, "due_ns": due, "start_ns": end - service_ns, "end_ns": end}).astype(np.int64)
    return frame[:kept].iloc[kept // 5 :] if kept else frame


def test_an_open_loop_shows_its_load_and_that_its_clock_is_right(base: RunData) -> None:
    frames = [{"a": arrivals(100, 5e6, 200, 2 * block), "b": arrivals(100, 1e6, 200, 2 * block)} for block in range(12)]
    rows = by_name(made(base, scenario("poisson", "open", rate_per_s=100.0), frames))
    slow, fast = rows["pytorch", "poisson"], rows["openvino", "poisson"]
    assert (slow.rho, fast.rho) == (pytest.approx(0.5), pytest.approx(0.1))
    assert slow.late_p99_ms == pytest.approx(0, abs=1e-3), "a free session takes what is due at once"
    assert slow.little_error is not None and slow.little_error < 0.02
    assert slow.p50_ms is not None and fast.p50_ms == pytest.approx(1.0, rel=0.01) and slow.p50_ms >= 5


def test_a_piece_that_is_cut_off_is_a_finding_and_never_dropped(base: RunData) -> None:
    """The slow arm needs 50 ms at 100 a second: 60 of 200 were served before the guard (12 kept apart), and each of its blocks counts."""
    frames = [{"a": arrivals(100, 50e6, 200, 2 * block, kept=60), "b": arrivals(100, 5e6, 200, 2 * block)} for block in range(12)]
    run = made(base, scenario("poisson", "open", rate_per_s=100.0), frames, counts=200)
    rows = by_name(run)
    slow, fast = rows["pytorch", "poisson"], rows["openvino", "poisson"]
    assert slow.p99_ms == math.inf and slow.n == 12 * 48 and slow.blocks == 12
    assert slow.status == "OK" and "unsustainable" in str(slow.tail_note)
    assert slow.rho == pytest.approx(5.0)
    assert slow.late_p99_ms == pytest.approx(0, abs=1e-3), "busy is not late"
    assert fast.p99_ms is not None and fast.p99_ms < math.inf
    (verdict,) = leaderboard.leaderboard(run)[1]
    assert verdict.verdict == "slower", "pytorch against openvino"


def test_padding_is_counted_apart(base: RunData) -> None:
    """Two rows of 10 and 30 tokens together: 40 useful of 60."""
    frame = back_to_back(np.array([10, 30, 5, 5]), [1e6, 0, 1e6, 0])
    frame.loc[[1, 3], ["due_ns", "start_ns"]] = frame.loc[[0, 2], ["due_ns", "start_ns"]].to_numpy()
    rows = by_name(made(base, scenario("bulk"), [{"a": frame, "b": frame}]))
    assert rows["pytorch", "bulk"].token_share == pytest.approx(50 / 70)


def test_the_rows_of_a_search(base: RunData) -> None:
    """Trials at 10, 20, 30 requests a second and so on: 25 ms hold up to 31.6/s, nothing holds 1 ms."""
    search = scenario("slo", "slo", limits_ms=(1.0, 25.0), q=0.99)
    rates = [31.62, 39.81]
    frames = [{name: back_to_back(np.full(400, 20), np.full(400, late)) for name in "ab"} for late in (5e6, 40e6)]
    rows = by_name(made(base, search, frames, rates=rates))
    held, never = rows["pytorch", "slo-25ms"], rows["pytorch", "slo-1ms"]
    assert (held.rate_per_s, held.slo_fails_per_s, held.slo_ms, held.status) == (31.62, 39.81, 25.0, "OK")
    assert held.requests_per_s == 31.62 and held.p50_ms == pytest.approx(5.0) and held.n == 400
    assert (never.rate_per_s, never.p50_ms) == (None, None) and "services alone" in str(never.tail_note)
    assert held.rank_note == "one search an arm: no interval over blocks" and not held.ranked
    assert rows["pytorch", "slo"].p50_ms is None
    assert not leaderboard.leaderboard(made(base, search, frames, rates=rates))[1], "trials at different rates are not compared"


def test_one_client_batched_is_one_client(tmp_path: Path) -> None:
    batched = tuple(Load(f"closed-batched-{size}", "closed", size, (size,), rows=2 * size) for size in (4, 16))
    spec = Spec(arms=(Fake("pytorch"),), loads=(runs.SINGLE, *batched))
    rows = by_name(reader.read_run(runs.write(tmp_path, spec)))
    assert rows["pytorch", "closed-batched-1"].p50_ms == rows["pytorch", "closed-1"].p50_ms
    assert rows["pytorch", "closed-batched-1"].served_scenario == "closed-1"
    alone = by_name(reader.read_run(runs.write(tmp_path / "alone", Spec(arms=(Fake("pytorch"),)))))
    assert ("pytorch", "closed-batched-1") not in alone


def test_what_is_undecided_is_named(base: RunData) -> None:
    random = np.random.default_rng(3)
    frames = [
        {name: back_to_back(np.full(30, 20), np.full(30, 1e6 * math.exp(random.normal(0, 0.2))), block) for name in "ab"}
        for block in range(12)
    ]
    assert leaderboard.undecided(made(base, scenario("offline-1"), frames)) == {"offline-1"}
    clear = [
        {"a": back_to_back(np.full(30, 20), np.full(30, 1e6 + k)), "b": back_to_back(np.full(30, 20), np.full(30, 2e6 + k))}
        for k in range(12)
    ]
    assert leaderboard.undecided(made(base, scenario("offline-1"), clear)) == frozenset()
