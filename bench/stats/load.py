"""What a load did with the samples: the served clock, the closed loop that follows from it, the open loop and its promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Served:
    """The requests of one arm in one scenario, in the order taken (block, start, row of the plan). int64 arrays of length n.

    `stretch` numbers the slices over the run from 0: inside one of them the arm worked without a break.
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
    """Latency, service and wait in ns, and the places in `Served` that they belong to."""

    latency: Floats
    service: Floats
    wait: Floats
    place: Ints


@dataclass(frozen=True)
class Stretches:
    """Per stretch: its block, rows, tokens, and the seconds from its first start to its last end."""

    block: Ints
    rows: Floats
    tokens: Floats
    seconds: Floats


def as_measured(served: Served) -> Latencies:
    """Latency = end − due, service = end − start, wait = start − due, as the worker wrote them."""
    due, start, end = served.due_ns, served.start_ns, served.end_ns
    return Latencies((end - due).astype(float), (end - start).astype(float), (start - due).astype(float), np.arange(len(served)))


def served_clock(served: Served) -> tuple[Ints, Ints]:
    """(start, end) on the arm's own clock: stretches joined end to start, frozen gaps removed; ns from 0."""
    if not len(served):
        return served.start_ns, served.end_ns
    first = _firsts(served.stretch)
    began = np.minimum.reduceat(served.start_ns, first)
    lasted = np.maximum.reduceat(served.end_ns, first) - began
    shift = np.cumsum(lasted) - lasted - began
    by_row = np.repeat(shift, np.diff(np.append(first, len(served))))
    return served.start_ns + by_row, served.end_ns + by_row


def closed_loop(served: Served, clients: int) -> Latencies:
    """The closed loop of C clients that follows from a back-to-back service sequence.

    Request i (in the order taken) was due when answer i − C was given (answers in order of their end), on the served clock; the
    first C are dropped once. Exact for C ≥ sessions × batch: a session that takes up work had C − 1 others waiting or at work.
    """
    start, end = served_clock(served)
    answers = np.sort(end)
    due = answers[: max(len(served) - clients, 0)]
    start, end = start[clients:], end[clients:]
    return Latencies((end - due).astype(float), (end - start).astype(float), (start - due).astype(float), np.arange(clients, len(served)))


def stretches(served: Served) -> Stretches:
    """What each uninterrupted stretch served, and how long it took."""
    if not len(served):
        nothing = np.zeros(0)
        return Stretches(np.zeros(0, dtype=np.int64), nothing, nothing, nothing)
    first = _firsts(served.stretch)
    rows = np.diff(np.append(first, len(served))).astype(float)
    began, ended = np.minimum.reduceat(served.start_ns, first), np.maximum.reduceat(served.end_ns, first)
    return Stretches(served.block[first], rows, np.add.reduceat(served.tokens, first).astype(float), (ended - began) / 1e9)


def open_windows(served: Served) -> Stretches:
    """Per block of an open loop: what was answered inside the window from the first to the last due time, and its seconds.

    Requests that are answered later do not count as served in it: under overload that is the difference between offered and done.
    """
    first = _firsts(served.block)
    last = np.append(first[1:], len(served))
    blocks = [slice(a, b) for a, b in zip(first, last, strict=True)] if len(served) else []
    inside = [served.end_ns[part] <= served.due_ns[part].max() for part in blocks]
    return Stretches(
        served.block[first] if blocks else served.block,
        np.array([float(answered.sum()) for answered in inside]),
        np.array([float(served.tokens[part][answered].sum()) for part, answered in zip(blocks, inside, strict=True)]),
        np.array([float(np.ptp(served.due_ns[part])) / 1e9 for part in blocks]),
    )


def unsustainable(due_ns: Ints, start_ns: Ints, end_ns: Ints) -> bool:
    """Does the backlog of an open-loop piece still grow at its end?

    A stable queue wanders and a stall drains; an overrun queue waits longer in each quarter of the piece than in the one before,
    ends near its longest wait, and is more than ten services behind.
    """
    wait = (start_ns - due_ns).astype(float)
    if len(wait) < 8:
        return False
    quarters = [float(part.mean()) for part in np.array_split(wait, 4)]
    growing = quarters[0] < quarters[1] < quarters[2] < quarters[3] and quarters[3] > 1.5 * quarters[1]
    at_its_end = float(wait[-max(len(wait) // 20, 1) :].mean()) > 0.75 * float(wait.max())
    return growing and at_its_end and quarters[3] > 10 * float(np.median(end_ns - start_ns))


def overrun_blocks(served: Served, cut: Iterable[int] = ()) -> set[int]:
    """The blocks of an open loop whose backlog still grew at their end, or was so long that the guard `cut` the piece off."""
    found = set(cut) & set(served.block.tolist())
    for block in np.unique(served.block):
        part = served.block == block
        if unsustainable(served.due_ns[part], served.start_ns[part], served.end_ns[part]):
            found.add(int(block))
    return found


def wilson(bad: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided Wilson score interval of a share; (0, 1) for an empty sample."""
    if n == 0:
        return 0.0, 1.0
    found = scipy_stats.binomtest(bad, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(found.low), float(found.high)


def meets_slo(latency_ns: Floats, limit_ns: float, q: float = 0.99) -> bool:
    """Is the share of latencies above the limit surely at most 1 − q? Its Wilson upper bound decides."""
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
    """Hold an open-loop piece against Little's law.

    L is counted at `looks` random moments of the window from the first to the last due time; λ and W come from the requests that
    were due in it. (The requests of both ends are few against ≥ 500.)
    """
    begin, finish = int(due_ns.min()), int(due_ns.max())
    moments = np.random.default_rng(seed).uniform(begin, finish, looks)
    due, end = np.sort(due_ns), np.sort(end_ns)
    inside = np.searchsorted(due, moments, side="right") - np.searchsorted(end, moments, side="right")
    seconds = (finish - begin) / 1e9
    return Little(float(inside.mean()), len(due_ns) / seconds, float((end_ns - due_ns).mean()) / 1e9)


def offered_load(served: Served, rate_per_s: float, sessions: int) -> float:
    """ρ = rate × service per request / sessions. Requests that were served together share their service; above 1 nobody keeps up."""
    if not len(served):
        return math.nan
    busy_s = float((served.end_ns - served.start_ns)[_batches(served)].sum()) / 1e9
    return rate_per_s * busy_s / len(served) / sessions


def lateness(served: Served) -> Floats:
    """How late an open loop of one session took the first request of each batch, block by block, ns (see `late_sends`)."""
    found = []
    for block in np.unique(served.block):
        part = np.flatnonzero(served.block == block)
        first = part[_firsts(served.start_ns[part])]
        # When the session became free for the first kept request, the part that was kept apart knows.
        found.append(late_sends(served.due_ns[first], served.start_ns[first], served.end_ns[first])[1:])
    return np.concatenate(found) if found else np.zeros(0)


def little_error(served: Served, least: int = 500) -> float:
    """|L − λW| / L over all blocks of an open loop, each in its own window; NaN below `least` requests."""
    if len(served) < least:
        return math.nan
    in_system = expected = 0.0
    for block in np.unique(served.block):
        part = served.block == block
        due, end = served.due_ns[part], served.end_ns[part]
        if len(due) > 1:
            found, weight = little(due, end, seed=int(block)), float(np.ptp(due))
            in_system += weight * found.in_system
            expected += weight * found.rate_per_s * found.latency_s
    return abs(in_system - expected) / in_system if in_system else math.nan


def token_share(served: Served) -> float | None:
    """Useful tokens of all that were computed: the rows of a batch are padded to its longest. None where tokens are not counted."""
    if not len(served) or not served.tokens.any():
        return None
    first = _batches(served)
    rows = np.diff(np.append(first, len(served)))
    return float(served.tokens.sum() / (np.maximum.reduceat(served.tokens, first) * rows).sum())


def late_sends(due_ns: Ints, start_ns: Ints, end_ns: Ints) -> Floats:
    """Per request of one session how late it was taken though it was due and the session free: start − max(due, previous end), ns."""
    free = np.concatenate([due_ns[:1], end_ns[:-1]])
    return np.asarray(start_ns - np.maximum(due_ns, free), dtype=float)


def _batches(served: Served) -> Ints:
    """Where each batch begins: rows that were served together share their block and their start."""
    changed = np.ones(len(served), dtype=bool)
    changed[1:] = (served.block[1:] != served.block[:-1]) | (served.start_ns[1:] != served.start_ns[:-1])
    return np.flatnonzero(changed)


def _firsts(numbers: Sequence[int] | Ints) -> Ints:
    """Where each run of equal numbers begins."""
    array = np.asarray(numbers)
    return np.flatnonzero(np.concatenate([[True], array[1:] != array[:-1]]))
