"""Claims about the statistics, measured on synthetic experiments whose truth is known. Pure; every seed is fixed.

An experiment's seed is `[claim, number]`, so the first m of n experiments do not depend on n. The bounds are those of the method
(site_src/pages/methodology.md.j2#proof).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
from scipy import stats as scipy_stats

from bench.core.arrays import Floats
from bench.stats import paired
from bench.stats.paired import EQUIVALENT, FASTER, LOOKS, SLOWER, UNRESOLVED
from bench.stats.sample import PERCENTILES, profile
from bench.verify.claim import Outcome, Share, Tick, percent, silent

#: Spread of a block's quantity about its true value, ln scale, in which an arm 5 % slower must be found.
NOISE = 0.04
#: Upper Clopper–Pearson bound for false verdicts; least share of +5 % found, of six twins in one group; coverage of 95 % intervals.
FALSE_AT_MOST, FOUND_AT_LEAST, ONE_GROUP_AT_LEAST, COVERED = 0.07, 0.90, 0.95, (0.93, 0.97)
RUNS, REQUESTS = 10, 20_000
RHOS = (0.0, 0.5, 0.7)


def blocks(rng: np.random.Generator, arms: int, count: int, bad: float = 0.02) -> Floats:
    """Quantities of `arms` equal arms in `count` blocks, shape (arms, count): a drift common to all arms, each arm's own noise, and a
    share `bad` of bad blocks."""
    shared = np.cumsum(rng.normal(0, 0.05, count))
    own = rng.normal(0, NOISE, (arms, count)) - (rng.random((arms, count)) < bad) * rng.exponential(0.3, (arms, count))
    return np.exp(shared + own)


def identical_arms(experiments: int = 2000, tick: Tick = silent) -> Outcome:
    """Two identical arms, in quiet noise and with bad blocks: how often is one called better, at one look and at any of the three?

    "At any" is stricter than the protocol, which stops at the first verdict (and "equivalent" is one).
    """
    texts, worst = [], Share(0, experiments)
    for place, (name, bad) in enumerate((("even noise", 0.0), ("bad blocks", 0.02))):
        at_look, ever = dict.fromkeys(LOOKS, 0), 0
        for seed in _counted(experiments, lambda share, place=place: tick((place + share) / 2)):  # type: ignore[misc]
            a, b = blocks(np.random.default_rng([1, seed]), 2, max(LOOKS), bad)
            wrong = [look for look in LOOKS if paired.paired_ratio(a[:look], b[:look]).verdict in (FASTER, SLOWER)]
            ever += bool(wrong)
            for look in wrong:
                at_look[look] += 1
        at_any = Share(ever, experiments)
        worst = max(worst, at_any, key=lambda share: share.hits)
        texts.append(f"{name}: {percent(max(at_look.values()) / experiments)} at one look, {at_any} at any of {len(LOOKS)}")
    return Outcome(f"{'; '.join(texts)}; upper bound {percent(worst.upper)}", worst.upper <= FALSE_AT_MOST)


def five_percent(experiments: int = 2000, tick: Tick = silent) -> Outcome:
    """An arm that is 5 % slower, K = 24, blocks that scatter by 4 %: how often is it called slower?"""
    verdicts = []
    for seed in _counted(experiments, tick):
        a, b = np.exp(np.random.default_rng([2, seed]).normal(0, NOISE, (2, 24)))
        verdicts.append(paired.paired_ratio(a / 1.05, b).verdict)
    slower = Share(verdicts.count(SLOWER), experiments)
    held = slower.value >= FOUND_AT_LEAST and FASTER not in verdicts
    return Outcome(f"found in {slower}; called faster in {verdicts.count(FASTER)}", held)


def six_twins(experiments: int = 500, tick: Tick = silent) -> Outcome:
    """Six identical arms: how often do all share one group and one rank interval, at every look?"""
    hits = 0
    for seed in _counted(experiments, tick):
        arms = dict(zip("abcdef", blocks(np.random.default_rng([3, seed]), 6, max(LOOKS)), strict=True))
        hits += all(_is_one_group({arm: q[:look] for arm, q in arms.items()}) for look in LOOKS)
    share = Share(hits, experiments)
    return Outcome(f"one group at every look in {share}", share.value >= ONE_GROUP_AT_LEAST)


def _is_one_group(arms: dict[str, Floats]) -> bool:
    pairs = {pair: paired.paired_ratio(arms[pair[0]], arms[pair[1]]) for pair in itertools.combinations(arms, 2)}
    standing = paired.ranks({arm: float(q.mean()) for arm, q in arms.items()}, paired.judge_family(pairs))
    return {(s.tie_group, s.rank_lo, s.rank_hi) for s in standing.values()} == {(1, 1, len(arms))}


def equivalence(experiments: int = 2000, tick: Tick = silent) -> Outcome:
    """An arm that differs by exactly the margin of 2 %: how often is it called equivalent (it must seldom be), and an equal one (may)?"""
    false = right = 0
    for seed in _counted(experiments, tick):
        a, b = np.exp(np.random.default_rng([7, seed]).normal(0, 0.01, (2, 24)))
        false += paired.paired_ratio(a * (1 + paired.MARGIN), b).verdict == EQUIVALENT
        right += paired.paired_ratio(a, b).verdict == EQUIVALENT
    share = Share(false, experiments)
    return Outcome(
        f"2 % apart called equivalent: {share}, upper bound {percent(share.upper)}; equal: {percent(right / experiments)}",
        share.upper <= FALSE_AT_MOST,
    )


def coverage(experiments: int = 300, tick: Tick = silent) -> Outcome:
    """Intervals of p50 and p99 as a row prints them, over 10 runs of 20 000 latencies of a queue whose distribution is known."""
    shares: dict[str, float] = {}
    for place, rho in enumerate(RHOS):
        hits = covered(rho, experiments, lambda share, place=place: tick((place + share) / len(RHOS)))  # type: ignore[misc]
        shares |= {f"ρ {rho:g} {name}": share.value for name, share in hits.items()}
    text = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return Outcome(f"{text} ({experiments} experiments each)", all(COVERED[0] <= share <= COVERED[1] for share in shares.values()))


def covered(rho: float, experiments: int, tick: Tick = silent) -> dict[str, Share]:
    """How often the intervals of p50 and p99 hold the truth: the latency of the queue is exponential with mean 1/(1 − ρ)."""
    truths = {name: (place, -math.log(1 - p) / (1 - rho)) for place, (p, name) in enumerate(PERCENTILES) if name in ("p50", "p99")}
    hits = dict.fromkeys(truths, 0)
    runs = np.repeat(np.arange(RUNS), REQUESTS)
    for seed in _counted(experiments, tick):
        printed = profile(queue(np.random.default_rng([5, seed]), rho, RUNS, REQUESTS).ravel(), runs)
        for name, (place, truth) in truths.items():
            lo, hi = printed[place].lo, printed[place].hi
            hits[name] += lo is not None and hi is not None and lo <= truth <= hi
    return {name: Share(count, experiments) for name, count in hits.items()}


def queue(rng: np.random.Generator, rho: float, runs: int, n: int) -> Floats:
    """Latencies of an M/M/1 queue in steady state, service 1; at ρ = 0 the services alone. Shape (runs, n)."""
    service = rng.exponential(1.0, (runs, n))
    if rho == 0:
        return service
    step = np.zeros((runs, n))
    step[:, 1:] = np.cumsum(service[:, :-1] - rng.exponential(1 / rho, (runs, n - 1)), axis=1)
    waiting = np.where(rng.random((runs, 1)) < rho, rng.exponential(1 / (1 - rho), (runs, 1)), 0.0)
    return step - np.minimum(np.minimum.accumulate(step, axis=1), -waiting) + service


def pooled_requests(experiments: int = 100, tick: Tick = silent) -> Outcome:
    """A Mann–Whitney test on the pooled requests of two identical arms: how often does it call them different?"""
    wrong = 0
    for seed in _counted(experiments, tick):
        rng = np.random.default_rng([4, seed])
        a, b = (np.exp(rng.normal(0, 0.05, (12, 100))) * level[:, None] for level in blocks(rng, 2, 12))
        wrong += scipy_stats.mannwhitneyu(a.ravel(), b.ravel()).pvalue < 0.05
    share = Share(wrong, experiments)
    return Outcome(f"pooled requests would call them different in {share}", bool(share.value > 0.3))


#: Inputs that must never give a verdict: one side of a comparison, by name; the other side is as many ones, twelve where it has no length.
UNUSABLE: dict[str, object] = {
    "no block": [], "one block": [1.1], "eleven blocks": [1.1] * 11, "another number of blocks": [1.1] * 13, "NaN": [math.nan] + [1.1] * 11,
    "infinity": [math.inf] + [1.1] * 11, "zero": [0.0] + [1.1] * 11, "negative": [-1.0] + [1.1] * 11, "text": "what", "nothing": None,
    "two dimensions": [[1.1] * 12] * 2, "objects": [object()] * 12,
}  # fmt: skip


def fail_safe(tick: Tick = silent) -> Outcome:
    """Unusable inputs give "unresolved", alone and inside a family whose other pairs are sound."""
    sound = paired.paired_ratio(np.linspace(1.2, 1.3, 12), np.ones(12))
    faults: list[str] = []
    for name, side in UNUSABLE.items():
        count = len(side) if isinstance(side, list) and name.endswith(("block", "blocks")) and "another" not in name else 12
        for a, b in ((side, np.ones(count)), (np.ones(count), side)):
            pair = paired.paired_ratio(a, b)  # type: ignore[arg-type]
            family = paired.judge_family({("a", "b"): pair, ("a", "c"): sound})
            if (pair.verdict, family["a", "b"].verdict) != (UNRESOLVED, UNRESOLVED):
                faults.append(f"{name}: {pair.verdict}")
            standings = paired.ranks({"a": math.nan, "b": 1.0}, {("a", "b"): pair})
            if {(standing.rank_lo, standing.rank_hi, standing.tie_group) for standing in standings.values()} != {(1, 2, 1)}:
                faults.append(f"{name}: ranked")
    tick(1.0)
    return Outcome("; ".join(faults) or f"unresolved in all of {2 * len(UNUSABLE)} broken comparisons", not faults)


def _counted(experiments: int, tick: Tick) -> Iterator[int]:
    """The seeds 0 … n − 1; reports progress after every tenth."""
    for seed in range(experiments):
        yield seed
        if seed % 10 == 9 or seed == experiments - 1:
            tick((seed + 1) / experiments)
