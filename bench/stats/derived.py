"""The rows derived from one served scenario besides closed loops (lengths of a sweep, calls of a known shape, limits of a search), and the
numbers with intervals that go into the table `fits`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import stats as scipy_stats

from bench.core.arrays import Floats
from bench.runs.schema import PROVEN
from bench.stats.cells import Cell
from bench.stats.load import Requests, as_measured, new_calls, unsustainable
from bench.stats.paired import paired_ratio
from bench.stats.rows import NO_INTERVAL, with_latencies, with_rate
from bench.stats.sample import CONFIDENCE, rate
from bench.stats.slo import ArmSearch, Sustained
from bench.stats.tables import STATS_VERSION, Fit, Result, finite

#: Terms of the cost curve t = base + per_token·L + per_token2·L², and what one second is in their unit.
TERMS = (("base_ms", "ms", 1e3), ("per_token_us", "µs per token", 1e6), ("per_token2_ns", "ns per token²", 1e9))


def derived_rows(cell: Cell, row: Result) -> Iterator[Result]:
    """The rows derived from a sweep of lengths, from new shapes or from a search; none for any other scenario."""
    if cell.scenario.load == "slo":
        yield from _limits(cell, row)
    elif cell.scenario.lengths:
        for length in cell.scenario.lengths:
            base = _unranked(row, cell, f"{cell.scenario.name}-{length}")
            yield base if row.mean_ms is None else _of_length(base, cell.requests, length)
    elif cell.scenario.shapes == "new":
        base = _unranked(row, cell, f"{cell.scenario.name}-known")
        yield base if row.mean_ms is None else with_latencies(base, cell.requests, new_calls(cell.requests, new=False))


def _unranked(row: Result, cell: Cell, name: str) -> Result:
    """A derived row of another quantity, without a rank of its own."""
    return replace(
        row, scenario=name, served_scenario=cell.scenario.name, ranked=False, rank_note="ranked by its served scenario", ratio_to_best=None,
        ratio_lo=None, ratio_hi=None, rank_lo=None, rank_hi=None, tie_group=None,
    )  # fmt: skip


def fits_of(cell: Cell) -> list[Fit]:
    """The fitted numbers of a cell whose vectors are proven."""
    if not len(cell.requests):
        return []
    if cell.scenario.lengths:
        return _curve(cell)
    return [_new_shape(cell)] if cell.scenario.shapes == "new" else []


def _of_length(base: Result, requests: Requests, length: int) -> Result:
    """The row of the requests of one length; their throughput is that of their service times alone."""
    times = as_measured(requests).at(np.flatnonzero(requests.tokens == length))
    row = with_latencies(base, requests, times)
    if not len(times.place):
        return row
    block, start_ns, end_ns = (column[times.place] for column in (requests.block, requests.start_ns, requests.end_ns))
    blocks, place = np.unique(block, return_inverse=True)
    batches = np.unique(np.stack([block, start_ns, end_ns]), axis=1)
    seconds = np.array([float((batches[2] - batches[1])[batches[0] == number].sum()) / 1e9 for number in blocks])
    per_s = rate(np.bincount(place), seconds)
    return with_rate(row, per_s, finite(per_s.value * length))


def _curve(cell: Cell) -> list[Fit]:
    """A curve through the median service times by length, in every block, and each term's t interval over the blocks.

    Least squares of relative errors, so that the long texts do not drown the short ones. Two terms where there are three lengths.
    """
    terms = TERMS[: 3 if len(cell.scenario.lengths) > 3 else 2]
    curves = [curve for block in np.unique(cell.requests.block) if (curve := _block_curve(cell, int(block), len(terms))) is not None]
    fits = []
    for place, (term, unit, scale) in enumerate(terms):
        values = np.array([curve[place] for curve in curves]) * scale
        value, lo, hi = _mean_interval(values)
        note = None if len(values) > 1 else "fewer than 2 blocks with every length"
        fits.append(_fit(cell, term, unit, len(values), value, lo, hi, note))
    return fits


def _block_curve(cell: Cell, block: int, terms: int) -> Floats | None:
    """The coefficients in seconds of one block; None where a length is missing in it."""
    requests, in_block = cell.requests, cell.requests.block == block
    service, tokens = (requests.end_ns - requests.start_ns)[in_block] / 1e9, requests.tokens[in_block]
    lengths = np.array(cell.scenario.lengths, dtype=float)
    if not np.isin(lengths, tokens).all():
        return None
    seconds = np.array([float(np.median(service[tokens == length])) for length in lengths])
    design = np.vander(lengths, terms, increasing=True) / seconds[:, None]
    return np.asarray(np.linalg.lstsq(design, np.ones(len(lengths)), rcond=None)[0], dtype=float)


def _new_shape(cell: Cell) -> Fit:
    """The time of a call of a new length over that of later calls of the same length, block by block."""
    block, new, later = cell.requests.block, new_calls(cell.requests), new_calls(cell.requests, new=False)
    shared = sorted(set(block[new.place].tolist()) & set(block[later.place].tolist()))
    medians = [[float(np.median(times.service[block[times.place] == number])) for number in shared] for times in (new, later)]
    paired = paired_ratio(medians[0], medians[1])
    lo = paired.lo if paired.lo > 0 else math.nan  # 0 … ∞: too few blocks for an interval
    return _fit(cell, "new_shape_ratio", "×", paired.blocks, paired.ratio, lo, paired.hi, None if math.isfinite(lo) else paired.note)


def _mean_interval(values: Floats) -> tuple[float, float, float]:
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half


def _fit(cell: Cell, term: str, unit: str, blocks: int, value: float, lo: float, hi: float, note: str | None) -> Fit:
    run_id, scenario, numbers = cell.identity.run_id, cell.scenario.name, (finite(value), finite(lo), finite(hi))
    return Fit(run_id, scenario, cell.arm.arm_id, term, unit, blocks, *numbers, note, STATS_VERSION)


def _limits(cell: Cell, row: Result) -> Iterator[Result]:
    """A row for each limit: the largest rate that holds it, and the latencies at that rate."""
    timed = row.status in PROVEN and len(cell.requests) > 0
    results = _replayed(cell).results() if timed else None
    for place, limit in enumerate(cell.scenario.limits_ms):
        base = replace(row, scenario=f"{cell.scenario.name}-{limit:g}ms", served_scenario=cell.scenario.name, slo_ms=limit, tail_note=None)
        yield base if results is None else _limit(replace(base, rank_note=NO_INTERVAL), cell, results[place])


def _limit(base: Result, cell: Cell, sustained: Sustained) -> Result:
    """The row of one limit, with the latencies at the largest rate that holds it."""
    requests, rate_per_s = cell.requests, sustained.rate_per_s
    blocks = [block for block, piece in cell.pieces.items() if piece.rate_per_s == rate_per_s]
    row = replace(
        base,
        rate_per_s=rate_per_s,
        slo_fails_per_s=sustained.fails_per_s,
        status=base.status if sustained.settled or base.status != "OK" else "PARTIAL",
        reason=base.reason or sustained.note,
    )
    at_rate = np.flatnonzero(np.isin(requests.block, blocks))
    if rate_per_s is None or not len(at_rate):
        return replace(row, n=0, requests_per_s=rate_per_s, tail_note=sustained.note)
    row = with_latencies(row, requests, as_measured(requests).at(at_rate))
    return replace(row, requests_per_s=rate_per_s, embeddings_per_s=rate_per_s, blocks=len(blocks))


def _replayed(cell: Cell) -> ArmSearch:
    """The search as the run made it, from its samples."""
    requests = cell.requests
    service_s = float(np.median(requests.end_ns - requests.start_ns)) / 1e9
    search = ArmSearch(cell.scenario.limits_ms, cell.scenario.q, service_s)
    for block in np.unique(requests.block):
        piece, in_block = cell.pieces[int(block)], requests.block == block
        if piece.rate_per_s is not None:
            due, start, end = requests.due_ns[in_block], requests.start_ns[in_block], requests.end_ns[in_block]
            overrun = piece.served < piece.count or unsustainable(due, start, end)
            search.record(piece.rate_per_s, (end - due).astype(float), (end - start).astype(float), overrun)
    return search
