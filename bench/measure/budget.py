"""How seconds become blocks, rounds and rows: pure arithmetic, no clock.

A block holds `rounds` slice-rounds; in a round every arm serves the same `rows`. A scenario with a `piece` has one round of that many
rows. What a budget promises is told in site_src/pages/methodology.md.j2#budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.catalog import Scenario
from bench.measure.service_time import ServiceTime
from bench.runs.schema import Allocation
from bench.stats.paired import LOOKS
from bench.stats.rows import MIN_BLOCKS

#: K = 12 blocks come first; undecided scenarios go on to the later looks, where the budget allows.
BLOCKS, *LATER_LOOKS = LOOKS
MAX_ROUNDS = 24
SLICE_S, SLICE_ROWS, MIN_ROWS = 0.25, 20, 7
#: What a slice costs besides its rows: thaw, two unrecorded requests (their service is added), freeze, reading the slice back.
SLICE_OVERHEAD_S = 0.03
THAW_ROWS = 2
#: Warm-up takes at most this part of an arm's share of the budget.
WARM_UP_SHARE = 0.2
#: More rounds than one are planned into this part of a share: blocks take longer than expected now and then, some are measured again, and
#: without the twelfth block there is no verdict.
ROUNDS_SHARE = 0.85
#: Trials that a search over six limits takes, with a piece more here and there.
TRIALS = 12
#: An open-loop piece that is this many times as long as its arrivals is cut: its arm does not keep up.
OVERRUN_GUARD = 1.5


@dataclass(frozen=True)
class Shape:
    """The part of a scenario that decides its allocation. `unit`: rows come in multiples of it."""

    batch: int = 1
    unit: int = 1
    piece: int | None = None
    rate_per_s: float | None = None

    @classmethod
    def of(cls, scenario: Scenario) -> Shape:
        return cls(scenario.batch, scenario.unit, scenario.piece, scenario.rate_per_s)


@dataclass(frozen=True)
class TooSmall:
    """Three blocks of the smallest slices need this many seconds; they do not fit."""

    needed_s: float


def guard_s(rows: int, rate_per_s: float, service: ServiceTime) -> float:
    """Seconds after which no request of an open-loop piece is taken any more."""
    return OVERRUN_GUARD * rows / rate_per_s + 2 * service.batch_s


def arm_s(shape: Shape, rows: int, service: ServiceTime) -> float:
    """Seconds of one arm's slice: its work, or in an open loop the time in which its rows arrive, or at worst its guard."""
    work_s = math.ceil(rows / shape.batch) * service.batch_s
    if shape.rate_per_s is not None:
        work_s = max(rows / shape.rate_per_s + service.single_s, min(work_s, guard_s(rows, shape.rate_per_s, service) + service.batch_s))
    return work_s + THAW_ROWS * service.single_s + SLICE_OVERHEAD_S


def round_s(shape: Shape, rows: int, services: Sequence[ServiceTime]) -> float:
    """Seconds of one slice-round of all arms."""
    return sum(arm_s(shape, rows, service) for service in services)


def full_rows(shape: Shape, services: Sequence[ServiceTime], rows_available: int) -> int:
    """Rows of a slice: max(0.25 s, 20 requests) of the slowest arm, whole units; fewer where the plan has too few for K = 12 blocks."""
    slowest = max(service.batch_s for service in services) * shape.unit / shape.batch
    units = max(math.ceil(SLICE_S / slowest), math.ceil(SLICE_ROWS / shape.unit))
    return max(least_rows(shape), min(units, rows_available // BLOCKS // shape.unit) * shape.unit)


def least_rows(shape: Shape) -> int:
    """A slice never shrinks below 7 requests or one unit."""
    return math.ceil(MIN_ROWS / shape.unit) * shape.unit


def allocate(
    share_s: float, shape: Shape, rows_available: int, services: Sequence[ServiceTime], requests: int | None = None, start_s: float = 0.0
) -> Allocation | TooSmall:
    """Fill `share_s` seconds, or serve at least `requests` rows per arm where that is given.

    K = 12 blocks come first, then more rounds; where 12 blocks of full slices do not fit there are fewer blocks, then shorter slices.
    A piece is never made shorter. `start_s`: what warm-up adds to every block, where each runs in fresh processes.
    """
    if shape.piece is not None:
        return _of_pieces(share_s, shape, rows_available, services, requests, start_s)
    rows, least, unit = full_rows(shape, services, rows_available), least_rows(shape), shape.unit
    if requests is not None:
        return _for_requests(requests, shape, rows_available, services)
    blocks = min(BLOCKS, int(share_s // (round_s(shape, rows, services) + start_s)), rows_available // rows)
    if blocks < MIN_BLOCKS:
        most_s = share_s / MIN_BLOCKS - start_s
        while rows > least and round_s(shape, rows, services) > most_s:
            rows -= unit
        if round_s(shape, rows, services) > most_s or MIN_BLOCKS * rows > rows_available:
            return TooSmall(MIN_BLOCKS * (round_s(shape, least, services) + start_s))
        blocks = MIN_BLOCKS
    one = round_s(shape, rows, services)
    rounds = max(1, min(MAX_ROUNDS, int((ROUNDS_SHARE * share_s / blocks - start_s) / one), rows_available // (blocks * rows)))
    return Allocation(blocks, rounds, rows, rounds * one + start_s)


def own_work_s(shape: Shape, services: Sequence[ServiceTime], warm_up_s: float, rows_available: int) -> float:
    """What K = 12 blocks of a scenario cost, with as many rounds as its warm-ups (`warm_up_s` a block, all arms) ask for.

    Warm-up takes WARM_UP_SHARE at most, so a block in fresh processes works four times as long as they take to warm up; the
    warm-ups come on top. The factor 1 + 1e-9 guards against float rounding: `int(work_s / block_s)` must be BLOCKS, not BLOCKS − 1.
    """
    rows = full_rows(shape, services, rows_available) if shape.piece is None else shape.piece
    one = round_s(shape, rows, services)
    rounds = min(MAX_ROUNDS, max(1, math.ceil(warm_up_s * (1 - WARM_UP_SHARE) / WARM_UP_SHARE / one))) if shape.piece is None else 1
    return BLOCKS * rounds * one * (1 + 1e-9)


def least_s(shape: Shape, services: Sequence[ServiceTime], rows_available: int, start_s: float = 0.0) -> float:
    """What K = 12 blocks of one round cost: a scenario gets that before the next one begins."""
    rows = full_rows(shape, services, rows_available) if shape.piece is None else shape.piece
    return BLOCKS * (round_s(shape, rows, services) + start_s) * (1 + 1e-9)


def trial_s(piece: int, services: Sequence[ServiceTime]) -> float:
    """What a trial of a search services, about: a piece of every arm at half the rate that keeps it busy."""
    return sum(arm_s(Shape(1, 1, piece, 0.5 / service.single_s), piece, service) for service in services)


def share_s(left_s: float, least_s: float, later_s: Sequence[float]) -> float:
    """A scenario's share of what is left: its K = 12 blocks of one round (`least_s`), then an equal part of what it and the later ones,
    which need `later_s` for theirs, do not need."""
    spare_s = max(0.0, left_s - least_s - sum(later_s))
    return max(0.0, min(left_s, least_s + spare_s / (1 + len(later_s))))


def next_look(blocks: int) -> int | None:
    """The number of blocks at which an undecided scenario is looked at again; None after the last look, or before the first."""
    return next((look for look in LATER_LOOKS if look > blocks), None) if blocks >= BLOCKS else None


def _of_pieces(
    share: float, shape: Shape, rows_available: int, services: Sequence[ServiceTime], requests: int | None, start_s: float
) -> Allocation | TooSmall:
    assert shape.piece is not None
    one = round_s(shape, shape.piece, services) + start_s
    most = min(BLOCKS, rows_available // shape.piece)
    blocks = min(most, int(share // one)) if requests is None else max(MIN_BLOCKS, min(most, math.ceil(requests / shape.piece)))
    return Allocation(blocks, 1, shape.piece, one) if blocks >= MIN_BLOCKS else TooSmall(MIN_BLOCKS * one)


def _for_requests(requests: int, shape: Shape, rows_available: int, services: Sequence[ServiceTime]) -> Allocation:
    """At least `requests` rows per arm, in up to 12 blocks of at least 7 rows."""
    unit = shape.unit
    requests = max(MIN_BLOCKS * unit, min(requests, rows_available))
    blocks = max(MIN_BLOCKS, min(BLOCKS, requests // max(unit, MIN_ROWS)))
    per_block = math.ceil(math.ceil(requests / blocks) / unit) * unit
    target = full_rows(shape, services, rows_available)
    rounds = max(1, min(MAX_ROUNDS, round(per_block / target)))
    rows = math.ceil(math.ceil(per_block / rounds) / unit) * unit
    while blocks * rounds * rows > rows_available and blocks * rounds * rows > requests:
        rounds, rows = (rounds - 1, rows) if rounds > 1 else (1, rows - unit)
    return Allocation(blocks, rounds, rows, rounds * round_s(shape, rows, services))
