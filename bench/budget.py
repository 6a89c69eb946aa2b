"""How a time budget becomes blocks, rounds and rows: pure arithmetic, no clock.

A block holds `rounds` slice-rounds; in a round every arm serves the same `rows`. See MEASUREMENT, Order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BLOCKS, MIN_BLOCKS = 12, 3
MAX_ROUNDS = 24
SLICE_S, SLICE_ROWS, MIN_ROWS = 0.25, 20, 7
#: What a slice costs besides its rows: thaw, two unrecorded requests (their service is added), freeze, reading the slice back.
SLICE_OVERHEAD_S = 0.03
THAW_ROWS = 2


@dataclass(frozen=True)
class Cost:
    """What one arm needs: seconds for a batch of the scenario and seconds for one request alone."""

    batch_s: float
    single_s: float


@dataclass(frozen=True)
class Pace:
    """The shape of a scenario in one run. `block_s` is the expected length of a block."""

    blocks: int
    rounds: int
    rows: int
    block_s: float

    @property
    def rows_per_arm(self) -> int:
        return self.blocks * self.rounds * self.rows


@dataclass(frozen=True)
class TooSmall:
    """Three blocks of the smallest slices need this many seconds; they do not fit."""

    needed_s: float


def round_s(rows: int, batch: int, costs: Sequence[Cost]) -> float:
    """Seconds of one slice-round of all arms."""
    return sum(math.ceil(rows / batch) * cost.batch_s + THAW_ROWS * cost.single_s + SLICE_OVERHEAD_S for cost in costs)


def full_rows(batch: int, costs: Sequence[Cost]) -> int:
    """Rows of a slice: max(0.25 s, 20 requests) of the slowest arm, whole batches."""
    slowest = max(cost.batch_s for cost in costs)
    batches = max(math.ceil(SLICE_S / slowest), math.ceil(SLICE_ROWS / batch))
    return batches * batch


def pace(share_s: float, batch: int, rows_available: int, costs: Sequence[Cost], requests: int | None = None) -> Pace | TooSmall:
    """Fill `share_s` seconds, or serve at least `requests` rows per arm where that is given.

    K = 12 blocks come first, then more rounds; where 12 blocks of full slices do not fit there are fewer blocks, then shorter slices.
    """
    rows = full_rows(batch, costs)
    least = max(batch, math.ceil(MIN_ROWS / batch) * batch)
    rows = max(least, min(rows, rows_available // MIN_BLOCKS // batch * batch))
    if requests is not None:
        return _for_requests(requests, batch, rows_available, costs)
    blocks = min(BLOCKS, int(share_s // round_s(rows, batch, costs)), rows_available // rows)
    if blocks < MIN_BLOCKS:
        while rows > least and MIN_BLOCKS * round_s(rows, batch, costs) > share_s:
            rows -= batch
        if MIN_BLOCKS * round_s(rows, batch, costs) > share_s:
            return TooSmall(MIN_BLOCKS * round_s(least, batch, costs))
        blocks = MIN_BLOCKS
    one = round_s(rows, batch, costs)
    rounds = max(1, min(MAX_ROUNDS, int(share_s / (blocks * one)), rows_available // (blocks * rows)))
    return Pace(blocks, rounds, rows, rounds * one)


def _for_requests(requests: int, batch: int, rows_available: int, costs: Sequence[Cost]) -> Pace:
    """At least `requests` rows per arm, in up to 12 blocks of at least 7 rows."""
    requests = max(MIN_BLOCKS * batch, min(requests, rows_available))
    blocks = max(MIN_BLOCKS, min(BLOCKS, requests // max(batch, MIN_ROWS)))
    per_block = math.ceil(math.ceil(requests / blocks) / batch) * batch
    target = full_rows(batch, costs)
    rounds = max(1, min(MAX_ROUNDS, round(per_block / target)))
    rows = math.ceil(math.ceil(per_block / rounds) / batch) * batch
    while blocks * rounds * rows > rows_available and blocks * rounds * rows > requests:
        rounds, rows = (rounds - 1, rows) if rounds > 1 else (1, rows - batch)
    return Pace(blocks, rounds, rows, rounds * round_s(rows, batch, costs))
