"""What must hold of the statistics whatever the numbers are."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bench.core.arrays import Floats, Ints
from bench.stats import load, paired, quality, unpaired
from bench.stats.paired import FASTER, SLOWER, UNRESOLVED, PairedRatio

P_VALUES = st.lists(st.floats(0, 1), max_size=12)
SERVICES = st.lists(st.integers(1, 10**6), min_size=1, max_size=40)
POSITIVE = st.floats(1e-3, 1e3)


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_never_lowers_a_p_value_keeps_their_order_and_ignores_that_of_the_list(p_values: list[float], random: object) -> None:
    adjusted = paired.holm(p_values)
    assert all(raw <= after <= 1 for raw, after in zip(p_values, adjusted, strict=True))
    in_order = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert in_order == sorted(in_order)
    shuffled = list(range(len(p_values)))
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert paired.holm([p_values[place] for place in shuffled]) == [adjusted[place] for place in shuffled]


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.sampled_from([FASTER, SLOWER, UNRESOLVED]), min_size=15))))
def test_a_rank_interval_lies_within_the_family_and_groups_are_numbered_from_one(drawn: tuple[int, list[str]]) -> None:
    count, verdicts = drawn
    arms = [chr(ord("a") + number) for number in range(count)]
    pairs = {(a, b): verdict for (a, b), verdict in zip(((a, b) for a in arms for b in arms if a < b), verdicts, strict=False)}
    judged = {pair: PairedRatio(12, 1.1, 1.0, 1.2, 0.0, 0.0, 1.0, 0.0, verdict) for pair, verdict in pairs.items()}
    ranks = paired.ranks({arm: float(count - place) for place, arm in enumerate(arms)}, judged)
    assert set(ranks) == set(arms)
    assert all(rank.rank_lo >= 1 and rank.rank_hi <= count for rank in ranks.values())
    assert {rank.tie_group for rank in ranks.values()} == set(range(1, max(rank.tie_group for rank in ranks.values()) + 1))
    assert ranks[arms[0]].ratio == 1.0


def requests_of(services: list[int]) -> load.Requests:
    """Requests that were served back to back."""
    end: Ints = np.cumsum(np.array(services, dtype=np.int64))
    start, zeros = end - np.array(services, dtype=np.int64), np.zeros(len(end), dtype=np.int64)
    nothing: Floats = np.zeros(len(end))
    return load.Requests(zeros, zeros, np.arange(len(end)), zeros, start, start, end, nothing, nothing, nothing)


@given(SERVICES, st.integers(1, 50))
def test_in_a_closed_loop_a_latency_is_the_sum_of_the_services_of_as_many_requests_as_there_are_clients(
    services: list[int], clients: int
) -> None:
    times = load.closed_loop(requests_of(services), clients)
    assert len(times.latency) == max(0, len(services) - clients)
    sums = [sum(services[place - clients + 1 : place + 1]) for place in times.place.tolist()]
    assert times.latency.tolist() == sums
    assert np.array_equal(times.latency, times.service + times.wait)


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilsons_interval_holds_the_share(bad: int, n: int) -> None:
    lo, hi = load.wilson(min(bad, n), n)
    assert 0 <= lo <= min(bad, n) / n <= hi <= 1 or math.isclose(lo, min(bad, n) / n, abs_tol=1e-12) or math.isclose(hi, 1.0)


@given(st.lists(POSITIVE, min_size=1, max_size=10), st.lists(POSITIVE, min_size=1, max_size=10))
def test_two_runs_seen_from_the_other_side_have_the_inverse_ratio(a: list[float], b: list[float]) -> None:
    forth, back = unpaired.unpaired_ratio(a, b), unpaired.unpaired_ratio(b, a)
    assert math.isclose(forth.ratio, 1 / back.ratio, rel_tol=1e-9)
    assert forth.lo <= forth.ratio <= forth.hi
    assert {FASTER: SLOWER, SLOWER: FASTER}.get(forth.verdict, forth.verdict) == back.verdict


@given(st.lists(st.lists(st.floats(-1, 1), min_size=12, max_size=12), min_size=1, max_size=4), st.frozensets(st.integers(0, 11)))
def test_ndcg_lies_between_0_and_1_and_is_1_where_the_relevant_come_first(scores: list[list[float]], relevant: frozenset[int]) -> None:
    values = quality.ndcg(np.array(scores), [relevant] * len(scores))
    assert ((values >= 0) & (values <= 1 + 1e-12)).all()
    ideal = np.array([[1.0 if column in relevant else 0.0 for column in range(12)]])
    assert math.isclose(quality.ndcg(ideal, [relevant])[0], 1.0 if relevant else 0.0)
