"""Rows that follow from one served scenario besides closed loops: lengths of a sweep, calls of a known shape, limits of a search; and the
numbers with intervals that go into the table `fits`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from bench.runs.schema import Fit, Result
from bench.stats.load import Latencies, Served, as_measured, unsustainable
from bench.stats.paired import paired_ratio
from bench.stats.rows import NO_INTERVAL, STATS_VERSION, Cell, finite, new_calls, with_latencies
from bench.stats.sample import CONFIDENCE, rate
from bench.stats.slo import Search, Sustained

Floats = npt.NDArray[np.float64]

#: Terms of the cost curve t = base + per_token·L + per_token2·L², and what one second is in their unit.
TERMS = (("base_ms", "ms", 1e3), ("per_token_us", "µs per token", 1e6), ("per_token2_ns", "ns per token²", 1e9))


def derived_rows(cell: Cell, row: Result) -> Iterator[Result]:
    """The rows derived from a sweep of lengths, from new shapes or from a search; none for any other scenario."""
    if cell.scenario.load == "slo":
        yield from _limits(cell, row)
    elif cell.scenario.lengths:
        for length in cell.scenario.lengths:
            base = _unranked(row, cell, f"{cell.scenario.name}-{length}")
            yield base if row.mean_ms is None else _of_length(base, cell.served, length)
    elif cell.scenario.shapes == "new":
        base = _unranked(row, cell, f"{cell.scenario.name}-known")
        yield base if row.mean_ms is None else with_latencies(base, cell.served, new_calls(cell.served, new=False))


def _unranked(row: Result, cell: Cell, name: str) -> Result:
    """A derived row of another quantity: it has no rank of its own."""
    return replace(
        row, scenario=name, served_scenario=cell.scenario.name, ranked=False, rank_note="ranked by its served scenario", ratio_to_best=None,
        ratio_lo=None, ratio_hi=None, rank_lo=None, rank_hi=None, tie_group=None,
    )  # fmt: skip


def fits_of(cell: Cell) -> list[Fit]:
    """The fitted numbers of a cell whose vectors are proven."""
    if not len(cell.served):
        return []
    if cell.scenario.lengths:
        return _curve(cell)
    return [_new_shape(cell)] if cell.scenario.shapes == "new" else []


def _of_length(base: Result, served: Served, length: int) -> Result:
    """The row of the requests of one length: throughput is that of their services alone."""
    times, kept = as_measured(served), np.flatnonzero(served.tokens == length)
    row = with_latencies(base, served, Latencies(times.latency[kept], times.service[kept], times.wait[kept], kept))
    if not len(kept):
        return row
    blocks, place = np.unique(served.block[kept], return_inverse=True)
    batches = np.unique(np.stack([served.block[kept], served.start_ns[kept], served.end_ns[kept]]), axis=1)
    seconds = np.array([float((batches[2] - batches[1])[batches[0] == block].sum()) / 1e9 for block in blocks])
    found = rate(np.bincount(place), seconds)
    return replace(
        row, requests_per_s=finite(found.value), requests_per_s_lo=finite(found.lo), requests_per_s_hi=finite(found.hi),
        embeddings_per_s=finite(found.value), tokens_per_s=finite(found.value * length),
    )  # fmt: skip


def _curve(cell: Cell) -> list[Fit]:
    """Median service by length, a curve through it in every block, and each term's t interval over the blocks.

    Least squares of relative errors, so that the long texts do not drown the short ones. Two terms where there are three lengths.
    """
    terms = TERMS[: 3 if len(cell.scenario.lengths) > 3 else 2]
    found = [fitted for block in np.unique(cell.served.block) if (fitted := _block_curve(cell, int(block), len(terms))) is not None]
    fits = []
    for place, (term, unit, scale) in enumerate(terms):
        values = np.array([fitted[place] for fitted in found]) * scale
        value, lo, hi = _mean_interval(values)
        note = None if len(values) > 1 else "fewer than 2 blocks with every length"
        fits.append(_fit(cell, term, unit, len(values), value, lo, hi, note))
    return fits


def _block_curve(cell: Cell, block: int, terms: int) -> Floats | None:
    """The coefficients in seconds of one block; None where a length is missing in it."""
    own = cell.served.block == block
    service, tokens = (cell.served.end_ns - cell.served.start_ns)[own] / 1e9, cell.served.tokens[own]
    lengths = np.array(cell.scenario.lengths, dtype=float)
    if not np.isin(lengths, tokens).all():
        return None
    seconds = np.array([float(np.median(service[tokens == length])) for length in lengths])
    design = np.vander(lengths, terms, increasing=True) / seconds[:, None]
    return np.asarray(np.linalg.lstsq(design, np.ones(len(lengths)), rcond=None)[0], dtype=float)


def _new_shape(cell: Cell) -> Fit:
    """How many times as long a call of a new length takes as the next one of the same length, over blocks."""
    new, known = new_calls(cell.served), new_calls(cell.served, new=False)
    block = cell.served.block
    shared = sorted(set(block[new.place].tolist()) & set(block[known.place].tolist()))
    medians = [[float(np.median(times.service[block[times.place] == number])) for number in shared] for times in (new, known)]
    found = paired_ratio(medians[0], medians[1])
    lo = found.lo if found.lo > 0 else math.nan  # 0 … ∞: too few blocks for an interval
    return _fit(cell, "new_shape_ratio", "×", found.blocks, found.ratio, lo, found.hi, None if found.blocks >= 6 else found.note)


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
    timed = row.status in ("OK", "PARTIAL") and len(cell.served) > 0
    search = _replayed(cell) if timed else None
    for place, limit in enumerate(cell.scenario.limits_ms):
        base = replace(row, scenario=f"{cell.scenario.name}-{limit:g}ms", served_scenario=cell.scenario.name, slo_ms=limit, tail_note=None)
        yield base if search is None else _limit(replace(base, rank_note=NO_INTERVAL), cell, search.found()[place])


def _limit(base: Result, cell: Cell, found: Sustained) -> Result:
    served = cell.served
    blocks = [block for block, piece in cell.pieces.items() if piece.rate_per_s == found.rate_per_s]
    status = base.status if found.settled or base.status != "OK" else "PARTIAL"
    row = replace(base, rate_per_s=found.rate_per_s, slo_fails_per_s=found.fails_per_s, status=status, reason=base.reason or found.note)
    kept = np.flatnonzero(np.isin(served.block, blocks))
    if found.rate_per_s is None or not len(kept):
        return replace(row, n=0, requests_per_s=None if found.rate_per_s is None else found.rate_per_s, tail_note=found.note)
    times = as_measured(served)
    row = with_latencies(row, served, Latencies(times.latency[kept], times.service[kept], times.wait[kept], kept))
    return replace(row, requests_per_s=found.rate_per_s, embeddings_per_s=found.rate_per_s, blocks=len(blocks))


def _replayed(cell: Cell) -> Search:
    """The search as the run made it, from its samples."""
    served = cell.served
    first = float(np.median(served.end_ns - served.start_ns)) / 1e9
    search = Search(cell.scenario.limits_ms, cell.scenario.q, first)
    for block in np.unique(served.block):
        piece, own = cell.pieces[int(block)], served.block == block
        if piece.rate_per_s is not None:
            due, start, end = served.due_ns[own], served.start_ns[own], served.end_ns[own]
            search.record(piece.rate_per_s, (end - due).astype(float), (end - start).astype(float),
                          piece.served < piece.count or unsustainable(due, start, end))  # fmt: skip
    return search
