"""One arm in one scenario as a row: status with its reason, agreement with the reference, percentiles, throughput, resources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.catalog import LARGE_MODEL_BYTES
from bench.core.arrays import Floats
from bench.stats import parity
from bench.stats.cells import OPEN, Cell
from bench.stats.load import (
    Latencies,
    Requests,
    as_measured,
    lateness,
    little_error,
    new_calls,
    offered_load,
    open_windows,
    overrun_blocks,
    stretches,
    token_share,
)
from bench.stats.resources import resources_of, swap_note
from bench.stats.sample import Effective, Rate, percentile, profile, rate, withheld
from bench.stats.tables import Result, finite

#: A row is OK from this many blocks and requests on.
MIN_BLOCKS = 3
MIN_REQUESTS, MIN_REQUESTS_SLOW = 200, 20
#: MIN_REQUESTS_SLOW is enough for a model of LARGE_MODEL_BYTES, and where the slowest arm takes this long for a request.
SLOW_NS = 50_000_000
NS_PER_MS = 1e6
NO_INTERVAL = "one search an arm: no interval over blocks"
#: The columns that `with_latencies` fills.
LATENCY_COLUMNS = (
    "n_eff", "mean_ms", "stdev_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "p50_lo_ms", "p50_hi_ms", "p99_lo_ms",
    "p99_hi_ms", "service_p50_ms", "wait_p50_ms", "preprocess_p50_ms", "text_p50_ms",
)  # fmt: skip


def rows_of(cells: Sequence[Cell]) -> list[Result]:
    """The rows of one scenario's cells, without ranks. Without proven vectors a row carries no time."""
    enough = MIN_REQUESTS_SLOW if _is_slow(cells) else MIN_REQUESTS
    rows = [_with_numbers(cell, _with_status(cell, enough)) for cell in cells]
    swapped = swap_note([cell.arm for cell in cells], [row.swap_bytes for row in rows])
    return [replace(row, rank_note=swapped) if swapped and row.role == "measured" and row.mean_ms else row for row in rows]


def _is_slow(cells: Sequence[Cell]) -> bool:
    """Is MIN_REQUESTS_SLOW enough in this scenario? A request of a batch takes as long as its batch."""
    medians_ns = [
        float(np.median(cell.requests.end_ns - cell.requests.start_ns))
        for cell in cells
        if cell.arm.role == "measured" and len(cell.requests)
    ]
    large = any(cell.run.model_bytes >= LARGE_MODEL_BYTES for cell in cells)
    return large or max(medians_ns, default=0.0) >= SLOW_NS


# --- status ----------------------------------------------------------------------------------------------------------------


def _with_status(cell: Cell, enough: int) -> Result:
    """The row's status, and what is said whatever that is: n, blocks, errors, agreement with the reference."""
    requests, blocks = cell.requests, set(cell.requests.block.tolist())
    status, reason = _status(cell, enough)
    row = replace(
        cell.identity,
        status=status,
        reason=reason,
        n=len(requests),
        blocks=len(blocks),
        errors=sum(piece.count - piece.served for piece in cell.slices if piece.error),
        noisy_blocks=sum(block.noisy for block in cell.blocks if block.block in blocks),
    )
    if cell.arm.role == "floor" or not len(requests):
        return row
    return replace(
        row,
        min_cosine=finite(requests.cosine.min()),
        mean_cosine=finite(requests.cosine.mean()),
        max_abs_diff=finite(requests.max_abs_diff.max()),
    )


def _status(cell: Cell, enough: int) -> tuple[str, str | None]:
    """Status and reason. Wrong vectors come before a recorded failure, and that before too few blocks or requests."""
    wrong, failure = _why_wrong(cell), cell.failure
    if failure and (failure.status == "PARITY_FAIL" or not wrong):
        return failure.status, failure.reason
    if wrong:
        return "PARITY_FAIL", wrong
    if len(cell.requests):
        short = _shortfalls(cell, enough)
        return ("PARTIAL", "; ".join(short)) if short else ("OK", None)
    if cell.slices:
        return "CRASH", _first_error(cell) or "served nothing"
    return "SKIPPED", "no block was measured" if cell.run.finished else "the run is not finished"


def _why_wrong(cell: Cell) -> str | None:
    """Why the vectors of a cell are not proven: by the worst of its timed requests, then by the checks of the arm."""
    if cell.arm.role == "floor":
        return None
    requests = cell.requests
    if len(requests):
        reason = parity.gate(cell.arm.precision, float(requests.cosine.min()), float(requests.max_abs_diff.max()))
        if reason:
            return reason
    broken = [check for check in cell.checks if check.held is False]
    return f"{broken[0].name}: {broken[0].detail or 'did not hold'}" if broken else None


def _shortfalls(cell: Cell, enough: int) -> list[str]:
    """What a row lacks that is not OK."""
    blocks, error = len(np.unique(cell.requests.block)), _first_error(cell)
    short = []
    if blocks < MIN_BLOCKS and cell.scenario.load != "slo":  # a search ends when its limits are settled
        short.append(f"{blocks} of {MIN_BLOCKS} blocks")
    if len(cell.requests) < enough:
        short.append(f"{len(cell.requests)} of {enough} requests")
    if cell.scenario.load not in OPEN or error:
        cut = sum(piece.served < piece.count for piece in cell.slices)
        if cut:
            short.append(f"{cut} of {len(cell.slices)} slices cut short" + (f" ({error})" if error else ""))
    return short


def _first_error(cell: Cell) -> str | None:
    return next((piece.error for piece in cell.slices if piece.error), None)


# --- numbers ---------------------------------------------------------------------------------------------------------------


def _with_numbers(cell: Cell, row: Result) -> Result:
    """Times, throughput and resources. Without proven vectors there is no time."""
    if row.status == "PARITY_FAIL":
        return row
    row = replace(row, **vars(resources_of(cell.arm, cell.starts, cell.slices, cell.memory)))
    requests = cell.requests
    if not len(requests):
        return row
    if cell.scenario.load == "slo":
        return replace(row, tail_note="a search: its results are the rows of the limits", rank_note=NO_INTERVAL)
    if cell.scenario.shapes == "new":
        return with_latencies(row, requests, new_calls(requests))
    row = with_latencies(row, requests, as_measured(requests))
    if cell.scenario.load == "open":
        row = _with_open_loop(cell, _with_overrun(row, len(overrun_blocks(requests, cell.cut))))
    return replace(_with_throughput(cell, row), token_share=token_share(requests))


def _with_open_loop(cell: Cell, row: Result) -> Result:
    """The load that was offered to an open loop, and the two laws by which its clock is checked."""
    requests, rate_per_s = cell.requests, cell.scenario.rate_per_s
    late = lateness(requests) if cell.arm.sessions == 1 else np.zeros(0)
    return replace(
        row,
        rho=finite(offered_load(requests, rate_per_s, cell.arm.sessions)) if rate_per_s else None,
        late_p99_ms=finite(percentile(late, 0.99) / NS_PER_MS),
        little_error=finite(little_error(requests)),
    )


def _with_overrun(row: Result, overrun: int) -> Result:
    """An open loop whose backlog still grows at the end of most blocks has no finite tail: p99 is infinite, never dropped."""
    if row.blocks is None or 2 * overrun <= row.blocks:
        return row
    note = f"unsustainable: the backlog still grew at the end of {overrun} of {row.blocks} blocks"
    return replace(row, p99_ms=math.inf, p999_ms=math.inf, p99_lo_ms=None, p99_hi_ms=None, tail_note=note)


def with_latencies(row: Result, requests: Requests, times: Latencies, tails: Sequence[Effective] = ()) -> Result:
    """The percentile columns of a row.

    Args:
        times: of some of the requests, in ns.
        tails: per percentile the n_eff to judge by, where it is another sequence's.
    """
    latency, place = times.latency, times.place
    if not len(latency):
        nothing: dict[str, Any] = dict.fromkeys(LATENCY_COLUMNS)
        return replace(row, n=0, tail_note="no latency is left after the first of each client", **nothing)
    percentiles = profile(latency, requests.block[place], requests.start_ns[place], tails)
    p50, p90, p95, p99, p999 = percentiles
    preprocess = requests.preprocess_ns[place]

    def median_ms(values_ns: Floats) -> float | None:
        return None if p50.value is None else _ms(percentile(values_ns, 0.5))

    return replace(
        row,
        n=len(latency),
        n_eff=p99.n_eff,
        tail_note=withheld(percentiles),
        mean_ms=_ms(float(latency.mean())),
        stdev_ms=_ms(float(latency.std(ddof=1))) if len(latency) > 1 else None,
        max_ms=_ms(float(latency.max())),
        p50_ms=_ms(p50.value),
        p90_ms=_ms(p90.value),
        p95_ms=_ms(p95.value),
        p99_ms=_ms(p99.value),
        p999_ms=_ms(p999.value),
        p50_lo_ms=_ms(p50.lo),
        p50_hi_ms=_ms(p50.hi),
        p99_lo_ms=_ms(p99.lo),
        p99_hi_ms=_ms(p99.hi),
        service_p50_ms=median_ms(times.service),
        wait_p50_ms=median_ms(times.wait),
        preprocess_p50_ms=median_ms(preprocess),
        text_p50_ms=median_ms(latency + preprocess),
    )


def _with_throughput(cell: Cell, row: Result) -> Result:
    parts = open_windows(cell.requests) if cell.scenario.load == "open" else stretches(cell.requests)
    _, place = np.unique(parts.block, return_inverse=True)
    per_s = rate(np.bincount(place, parts.rows), np.bincount(place, parts.seconds))
    tokens, seconds = float(parts.tokens.sum()), float(parts.seconds.sum())
    return with_rate(row, per_s, tokens / seconds if tokens and seconds else None)


def with_rate(row: Result, per_s: Rate, tokens_per_s: float | None) -> Result:
    """The throughput columns of a row."""
    return replace(
        row,
        requests_per_s=finite(per_s.value),
        requests_per_s_lo=finite(per_s.lo),
        requests_per_s_hi=finite(per_s.hi),
        embeddings_per_s=finite(per_s.value),
        tokens_per_s=tokens_per_s,
    )


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / NS_PER_MS
