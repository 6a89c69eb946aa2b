"""One arm under one load: the served clock, the closed loop derived from it, the open loop, and the laws that both must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench.core.arrays import Floats, Ints

#: `unsustainable` judges a piece of at least this many requests.
LEAST_TO_JUDGE = 8


@dataclass(frozen=True)
class Requests:
    """The requests of one arm in one scenario, in the order taken (block, start, row of the plan). int64 arrays of length n.

    `stretch` numbers the slices over the run from 0: inside one of them the arm worked without a break. Cosine and |Δ| are to the fp32
    reference.
    """

    block: Ints
    stretch: Ints
    request: Ints
    tokens: Ints
    due_ns: Ints
    start_ns: Ints
    end_ns: Ints
    preprocess_ns: Floats
    cosine: Floats
    max_abs_diff: Floats

    def __len__(self) -> int:
        return len(self.request)


@dataclass(frozen=True)
class Latencies:
    """Latency, service and wait in ns, and the places in `Requests` that they belong to."""

    latency: Floats
    service: Floats
    wait: Floats
    place: Ints

    def at(self, kept: Ints) -> Latencies:
        """Those at some indices only."""
        return Latencies(self.latency[kept], self.service[kept], self.wait[kept], self.place[kept])


@dataclass(frozen=True)
class Stretches:
    """Per stretch: its block, rows, tokens, and the seconds from its first start to its last end."""

    block: Ints
    rows: Floats
    tokens: Floats
    seconds: Floats


def as_measured(requests: Requests) -> Latencies:
    """Latency = end − due, service = end − start, wait = start − due, as the worker wrote them."""
    due, start, end = requests.due_ns, requests.start_ns, requests.end_ns
    return Latencies((end - due).astype(float), (end - start).astype(float), (start - due).astype(float), np.arange(len(requests)))


def new_calls(requests: Requests, new: bool = True) -> Latencies:
    """The times of the requests whose length their process (one a block) had not seen; with `new` false, those of the others."""
    first = np.zeros(len(requests), dtype=bool)
    if len(requests):
        _, places = np.unique(np.stack([requests.block, requests.tokens]), axis=1, return_index=True)
        first[places] = True
    return as_measured(requests).at(np.flatnonzero(first == new))


def served_clock(requests: Requests) -> tuple[Ints, Ints]:
    """(start, end) on the arm's own clock: stretches joined end to start, frozen gaps removed; ns from 0."""
    if not len(requests):
        return requests.start_ns, requests.end_ns
    first = _run_starts(requests.stretch)
    began = np.minimum.reduceat(requests.start_ns, first)
    lasted = np.maximum.reduceat(requests.end_ns, first) - began
    shift = np.cumsum(lasted) - lasted - began
    by_row = np.repeat(shift, np.diff(np.append(first, len(requests))))
    return requests.start_ns + by_row, requests.end_ns + by_row


def closed_loop(requests: Requests, clients: int) -> Latencies:
    """The closed loop of C clients that follows from a back-to-back service sequence.

    Request i (in the order taken) was due when answer i − C was given (answers in order of their end), on the served clock; the
    first C are dropped once. Exact for C ≥ sessions × batch: a session that takes up work had C − 1 others waiting or at work.
    """
    start, end = served_clock(requests)
    answers = np.sort(end)
    due = answers[: max(len(requests) - clients, 0)]
    start, end = start[clients:], end[clients:]
    return Latencies((end - due).astype(float), (end - start).astype(float), (start - due).astype(float), np.arange(clients, len(requests)))


def stretches(requests: Requests) -> Stretches:
    """Rows, tokens and seconds of each uninterrupted stretch."""
    if not len(requests):
        nothing = np.zeros(0)
        return Stretches(np.zeros(0, dtype=np.int64), nothing, nothing, nothing)
    first = _run_starts(requests.stretch)
    rows = np.diff(np.append(first, len(requests))).astype(float)
    began, ended = np.minimum.reduceat(requests.start_ns, first), np.maximum.reduceat(requests.end_ns, first)
    return Stretches(requests.block[first], rows, np.add.reduceat(requests.tokens, first).astype(float), (ended - began) / 1e9)


def open_windows(requests: Requests) -> Stretches:
    """Per block of an open loop: the requests answered inside the window from the first to the last due time, and its seconds.

    A request that is answered later does not count: under overload that is the difference between the load offered and the load served.
    """
    first = _run_starts(requests.block)
    last = np.append(first[1:], len(requests))
    blocks = [slice(a, b) for a, b in zip(first, last, strict=True)] if len(requests) else []
    inside = [requests.end_ns[part] <= requests.due_ns[part].max() for part in blocks]
    return Stretches(
        requests.block[first] if blocks else requests.block,
        np.array([float(answered.sum()) for answered in inside]),
        np.array([float(requests.tokens[part][answered].sum()) for part, answered in zip(blocks, inside, strict=True)]),
        np.array([float(np.ptp(requests.due_ns[part])) / 1e9 for part in blocks]),
    )


def unsustainable(due_ns: Ints, start_ns: Ints, end_ns: Ints) -> bool:
    """Does the backlog of an open-loop piece still grow at its end?

    A stable queue wanders and a stall drains. An overrun queue waits longer in each quarter of the piece than in the one before (in the
    last 1.5 times as long as in the second), ends within 25 % of its longest wait, and waits for more than ten services. Below
    LEAST_TO_JUDGE requests nothing is told.
    """
    wait = (start_ns - due_ns).astype(float)
    if len(wait) < LEAST_TO_JUDGE:
        return False
    quarters = [float(part.mean()) for part in np.array_split(wait, 4)]
    growing = quarters[0] < quarters[1] < quarters[2] < quarters[3] and quarters[3] > 1.5 * quarters[1]
    at_its_end = float(wait[-max(len(wait) // 20, 1) :].mean()) > 0.75 * float(wait.max())
    return growing and at_its_end and quarters[3] > 10 * float(np.median(end_ns - start_ns))


def overrun_blocks(requests: Requests, cut: Iterable[int] = ()) -> set[int]:
    """The blocks of an open loop whose backlog still grew at their end, and those whose piece the guard `cut` off."""
    overrun = set(cut) & set(requests.block.tolist())
    for block in np.unique(requests.block):
        part = requests.block == block
        if unsustainable(requests.due_ns[part], requests.start_ns[part], requests.end_ns[part]):
            overrun.add(int(block))
    return overrun


def wilson(bad: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Wilson score interval of a share; (0, 1) for an empty sample."""
    if n == 0:
        return 0.0, 1.0
    interval = scipy_stats.binomtest(bad, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def meets_slo(latency_ns: Floats, limit_ns: float, q: float = 0.99) -> bool:
    """Is the share of latencies above the limit at most 1 − q, by its Wilson upper bound?"""
    return bool(wilson(int(np.count_nonzero(latency_ns > limit_ns)), len(latency_ns))[1] <= 1 - q)


@dataclass(frozen=True)
class Little:
    """Little's law over a window: L requests in the system, sampled independently, against λ·W."""

    in_system: float
    rate_per_s: float
    latency_s: float

    @property
    def error(self) -> float:
        """|L − λW| / L; NaN for an empty system."""
        return abs(self.in_system - self.rate_per_s * self.latency_s) / self.in_system if self.in_system else math.nan


def little(due_ns: Ints, end_ns: Ints, seed: int = 0, looks: int = 100_000) -> Little:
    """The three quantities of Little's law in an open-loop piece.

    L is counted at `looks` random moments of the window from the first to the last due time; λ and W come from the requests that
    were due in it. Requests that straddle an end of the window bias both: they are few among 500 and more.
    """
    begin, finish = int(due_ns.min()), int(due_ns.max())
    moments = np.random.default_rng(seed).uniform(begin, finish, looks)
    due, end = np.sort(due_ns), np.sort(end_ns)
    inside = np.searchsorted(due, moments, side="right") - np.searchsorted(end, moments, side="right")
    seconds = (finish - begin) / 1e9
    return Little(float(inside.mean()), len(due_ns) / seconds, float((end_ns - due_ns).mean()) / 1e9)


def offered_load(requests: Requests, rate_per_s: float, sessions: int) -> float:
    """ρ = rate × service per request / sessions; above 1 the arm cannot keep up. Requests of one batch share its service time."""
    if not len(requests):
        return math.nan
    busy_s = float((requests.end_ns - requests.start_ns)[_batch_starts(requests)].sum()) / 1e9
    return rate_per_s * busy_s / len(requests) / sessions


def lateness(requests: Requests) -> Floats:
    """How late an open loop of one session took the first request of each batch, block by block, ns (see `late_sends`).

    The first batch of each block is left out: when the session became free for it stands in the part that is kept apart.
    """
    late = []
    for block in np.unique(requests.block):
        part = np.flatnonzero(requests.block == block)
        first = part[_run_starts(requests.start_ns[part])]
        late.append(late_sends(requests.due_ns[first], requests.start_ns[first], requests.end_ns[first])[1:])
    return np.concatenate(late) if late else np.zeros(0)


def little_error(requests: Requests, least: int = 500) -> float:
    """|L − λW| / L over all blocks of an open loop, each in its own window; NaN below `least` requests."""
    if len(requests) < least:
        return math.nan
    in_system = expected = 0.0
    for block in np.unique(requests.block):
        part = requests.block == block
        due, end = requests.due_ns[part], requests.end_ns[part]
        if len(due) > 1:
            law, weight = little(due, end, seed=int(block)), float(np.ptp(due))
            in_system += weight * law.in_system
            expected += weight * law.rate_per_s * law.latency_s
    return abs(in_system - expected) / in_system if in_system else math.nan


def token_share(requests: Requests) -> float | None:
    """The share of useful tokens in those computed: a batch pads its rows to the longest. None where tokens are not counted."""
    if not len(requests) or not requests.tokens.any():
        return None
    first = _batch_starts(requests)
    rows = np.diff(np.append(first, len(requests)))
    return float(requests.tokens.sum() / (np.maximum.reduceat(requests.tokens, first) * rows).sum())


def late_sends(due_ns: Ints, start_ns: Ints, end_ns: Ints) -> Floats:
    """Per request of one session how late it was taken though it was due and the session free: start − max(due, previous end), ns."""
    free = np.concatenate([due_ns[:1], end_ns[:-1]])
    return np.asarray(start_ns - np.maximum(due_ns, free), dtype=float)


def _batch_starts(requests: Requests) -> Ints:
    """The place of the first request of each batch: rows that were served together share their block and their start."""
    changed = np.ones(len(requests), dtype=bool)
    changed[1:] = (requests.block[1:] != requests.block[:-1]) | (requests.start_ns[1:] != requests.start_ns[:-1])
    return np.flatnonzero(changed)


def _run_starts(numbers: Sequence[int] | Ints) -> Ints:
    """The place at which each run of equal numbers begins."""
    array = np.asarray(numbers)
    return np.flatnonzero(np.concatenate([[True], array[1:] != array[:-1]]))
