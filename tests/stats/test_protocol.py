"""The statistics held to the promises of the methodology on synthetic experiments, as `invoke verify` does; and that proof itself:
with a broken statistic it must not hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.stats import load, paired, sample
from bench.stats.sample import percentile
from bench.verify import synthetic
from bench.verify.claim import Share


def test_two_identical_programs_are_seldom_called_different() -> None:
    found = synthetic.identical_arms(2000)
    assert found.held, found.measured


def test_a_five_percent_slower_arm_is_found() -> None:
    found = synthetic.five_percent(400)
    assert found.held, found.measured


def test_six_twins_form_one_group() -> None:
    found = synthetic.six_twins(60)
    assert found.held, found.measured


def test_two_percent_apart_is_not_equivalent() -> None:
    found = synthetic.equivalence(400)
    assert found.held, found.measured


def test_pooled_requests_would_have_lied() -> None:
    found = synthetic.pooled_requests()
    assert found.held, found.measured


def test_whatever_is_broken_stays_unresolved() -> None:
    found = synthetic.fail_safe()
    assert found.held, found.measured


@pytest.mark.parametrize("rho", synthetic.RHOS)
def test_percentile_intervals_cover_the_truth(rho: float) -> None:
    """So few experiments cannot tell 95 % from 93 %: what they show must be compatible with 93–97 %. `invoke verify` takes many more."""
    for name, share in synthetic.covered(rho, 60).items():
        assert share.lower <= synthetic.COVERED[1] and share.upper >= synthetic.COVERED[0], f"{name}: {share}"


def test_clopper_pearson_by_hand() -> None:
    """The published interval of 10 of 100 is 4.90 … 17.62 %; of 0 of 100 its upper end is 1 − 0.025^(1/100)."""
    share = Share(10, 100)
    assert (share.lower, share.upper) == pytest.approx((0.0490, 0.1762), abs=1e-4)
    assert Share(0, 100).upper == pytest.approx(1 - 0.025 ** (1 / 100), rel=1e-9)


def test_the_queue_has_the_latencies_of_its_textbook() -> None:
    """M/M/1 at ρ = 0.7: exponential with mean 1/(1 − ρ), so p99 = ln(100)/(1 − ρ); the first request of a run as much as the last."""
    values = synthetic.queue(np.random.default_rng(1), 0.7, 2000, 200)
    for column in (values[:, 0], values[:, -1], values.ravel()):
        assert percentile(column, 0.5) == pytest.approx(math.log(2) / 0.3, rel=0.1)
        assert percentile(column, 0.99) == pytest.approx(math.log(100) / 0.3, rel=0.15)


# --- the proof can fail ------------------------------------------------------------------------------------------------------


def test_a_level_that_is_too_wide_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = paired.judge
    monkeypatch.setattr(paired, "judge", lambda found, p, beyond, alpha: judge(found, p, beyond, 0.06))
    assert not synthetic.identical_arms(200).held


def test_a_test_without_power_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = paired.judge
    monkeypatch.setattr(paired, "judge", lambda found, p, beyond, alpha: judge(found, p, beyond, 0.001))
    assert not synthetic.five_percent(100).held


def test_a_family_without_holm_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "holm", list)
    assert not synthetic.six_twins(60).held


def test_an_equivalence_by_point_estimate_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired, "_p_beyond", lambda d: 0.0 if abs(float(np.median(d))) <= math.log1p(paired.MARGIN) else 1.0)
    assert not synthetic.equivalence(100).held


def test_intervals_that_take_requests_for_independent_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "effective", lambda exceeds, runs, units=None: sample.Effective(float(len(exceeds)), 10_000))
    share = synthetic.covered(0.7, 40)["p99"]
    assert share.upper < synthetic.COVERED[0], str(share)


def test_a_verdict_out_of_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    unresolved = paired._unresolved
    monkeypatch.setattr(paired, "_unresolved", lambda blocks, note: replace(unresolved(blocks, note), verdict="faster"))
    assert not synthetic.fail_safe().held


# --- a stall, simulated --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_a_stall_reaches_the_open_loops_p99_and_not_the_closed_loops(rho: float) -> None:
    """One stall of S s in a window of T s: everybody who comes during it waits, so p99 = S − 0.01(1 − ρ)T + service."""
    service, stall, window = 0.01, 20.0, 600.0
    n = int(window * rho / service)
    rng = np.random.default_rng(6)
    due = np.cumsum(rng.exponential(service / rho, n))
    took = np.full(n, service)
    took[n // 3] += stall
    done = np.cumsum(took)
    end = np.maximum.accumulate(due - np.append(0.0, done[:-1])) + done
    assert percentile(end - due, 0.99) == pytest.approx(stall - 0.01 * (1 - rho) * window + service, rel=0.10)
    # The same services back to back, one client: one slow request of n.
    ns = np.round(np.cumsum(took) * 1e9).astype(np.int64)
    zeros = np.zeros(n)
    start = np.append(0, ns[:-1])
    served = load.Requests(zeros.astype(int), zeros.astype(int), np.arange(n), zeros.astype(int), start, start, ns, zeros, zeros, zeros)
    assert percentile(load.closed_loop(served, 1).latency, 0.99) == pytest.approx(service * 1e9, rel=1e-3)
