"""Checks of a worker beside its timed requests: hard inputs, batch equals single, latency over tokens, time accounted for, no cached
answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.core.arrays import Vectors
from bench.plan.folder import RepeatPlan
from bench.runs.schema import Check
from bench.stats import parity
from bench.stats.paired import paired_ratio

HARD_BATCH, HARD_SINGLES = 8, 64
#: Unique and repeated pieces alternate; each is this many requests. Below MIN_REPEAT_PAIRS no interval can exclude 1.
REPEAT_PIECE, REPEAT_PAIRS, MIN_REPEAT_PAIRS = 8, 12, 7
#: A cache makes unique rows many times slower than repeated ones; 3 % are allowed (site_src/pages/methodology.md.j2#gate).
REPEAT_GATE = 1.03
#: Requests of at least LENGTHS_APART times the tokens must take more than LENGTH_GATE times as long; MIN_PAIRS for an interval at 95 %.
LENGTHS_APART, LENGTH_GATE, MIN_PAIRS = 8, 1.25, 6
#: At least this share of the time of a slice must lie between the starts and ends of its requests; the loop itself costs microseconds each.
ACCOUNTED_GATE = 0.5
#: Calls shorter than this are mostly fixed cost, and a loop may lose as much on a request of a busy machine: too little to judge by, ns.
FIXED_NS = 1_000_000


def hard_inputs(precision: str, single: Vectors, batched: Vectors, expected: Vectors) -> list[Check]:
    """Judge the hard inputs against the reference: the worst case, never the mean.

    All of them are served in batches of mixed lengths (`batched`), the first ones also alone (`single`), and the two must agree.
    """
    if len(batched) != len(expected) or not len(single):
        return [_check("hard inputs", len(batched), np.nan, False, f"{len(batched)} of {len(expected)} hard inputs were served")]
    alone, together = parity.compare(single, expected[: len(single)]), parity.compare(batched, expected)
    between = parity.compare(batched[: len(single)], single)
    cosine = min(alone.cosine.min(), together.cosine.min())
    diff = max(alone.max_abs_diff.max(), together.max_abs_diff.max())
    norm = max(alone.norm_error.max(), together.norm_error.max())
    reason = parity.gate(precision, cosine, diff)
    batch_reason = parity.gate(precision, between.cosine.min(), between.max_abs_diff.max())
    apart = between.max_abs_diff.max()
    return [
        _check("hard inputs", len(expected), cosine, reason is None, reason or f"1 − cosine {1 - cosine:.1e}, max |Δ| {diff:.1e}"),
        _check("unit norm", len(expected), norm, bool(norm <= parity.NORM_GATE), f"| ‖v‖ − 1 | {norm:.1e} (gate {parity.NORM_GATE:.0e})"),
        _check("batch equals single", len(single), apart, batch_reason is None, batch_reason or f"max |Δ| {apart:.1e}"),
    ]


@dataclass(frozen=True)
class RepeatPieces:
    """What the unique-versus-repeat test serves: the first rows of its pieces (unique, repeated, unique, …), `rows` requests each."""

    firsts: tuple[int, ...]
    rows: int


def repeat_pieces(plan: RepeatPlan, request_s: float, limit_s: float) -> RepeatPieces:
    """As many requests of `request_s` seconds as fit `limit_s`: shorter pieces first, then fewer pairs, never below MIN_REPEAT_PAIRS."""
    requests = min(limit_s / request_s, 2 * plan.count)
    rows = min(REPEAT_PIECE, max(1, int(requests / (2 * REPEAT_PAIRS))))
    pairs = min(REPEAT_PAIRS, max(MIN_REPEAT_PAIRS, int(requests / (2 * rows))))
    starts = range(0, pairs * rows, rows)
    return RepeatPieces(tuple(first + start for start in starts for first in (plan.unique_first, plan.repeated_first)), rows)


def unique_versus_repeat(pieces: Sequence[pd.DataFrame]) -> list[Check]:
    """Time per request of distinct rows over that of one row repeated, same lengths: a cache shows as a ratio far above 1.

    `pieces` alternate unique, repeated, unique, … The test fails only where the interval of the ratio lies beyond the gate.
    """
    medians = [float(np.median(piece["end_ns"] - piece["start_ns"])) for piece in pieces]
    ratio = paired_ratio(medians[0::2], medians[1::2])
    held = not (ratio.lo > REPEAT_GATE)
    detail = f"unique rows take {ratio.ratio:.3f}× the time of a repeated one [{ratio.lo:.3f}, {ratio.hi:.3f}]" + (
        "" if held else ": answers are cached"
    )
    return [_check("unique versus repeat", sum(map(len, pieces)), ratio.ratio, held, detail, ratio.lo, ratio.hi)]


def latency_over_tokens(samples: pd.DataFrame, lengths: npt.NDArray[np.int64]) -> list[Check]:
    """Does a longer request take longer? Time of the longest quarter of single requests over that of the shortest.

    `samples` has the columns request, start_ns, end_ns; `lengths` the tokens of every row of the plan. Work that is put off until after
    the answer, or left out, does not grow with the tokens. Eight times the tokens and more cost an honest runtime more than the gate even
    where reading the weights is most of the work; it fails only where the whole interval of the ratio lies below that.
    """
    tokens = lengths[samples["request"].to_numpy()]
    service = (samples["end_ns"] - samples["start_ns"]).to_numpy(dtype=float)
    order, part = np.argsort(tokens, kind="stable"), len(tokens) // 4
    short, long = np.sort(order[:part]), np.sort(order[len(order) - part :])
    alike = part < MIN_PAIRS or np.median(tokens[long]) < LENGTHS_APART * np.median(tokens[short])
    if alike or np.median(service[long]) < FIXED_NS:
        why = "the requests do not differ enough in length" if alike else "even the longest requests are mostly the fixed cost of a call"
        return [Check("latency over tokens", len(tokens), None, None, None, None, why)]
    ratio = paired_ratio(service[long].tolist(), service[short].tolist())
    held = not (ratio.hi < LENGTH_GATE)
    detail = (
        f"{np.median(tokens[long]):.0f} tokens take {ratio.ratio:.2f}× the time of {np.median(tokens[short]):.0f} "
        f"[{ratio.lo:.2f}, {ratio.hi:.2f}]" + ("" if held else ": the work is not done in the time that is measured")
    )
    return [_check("latency over tokens", len(tokens), ratio.ratio, held, detail, ratio.lo, ratio.hi)]


def time_accounted(samples: pd.DataFrame, wall_ns: int) -> list[Check]:
    """Is the work done in the time that is measured? Share of the time of a back-to-back slice (`wall_ns`, by the parent's clock) in which
    a request was being served.

    A runtime that answers at once and computes when the vectors are looked at keeps its own time short, not the slice's. Fails only where a
    request loses FIXED_NS or more, which the loops themselves never do.
    """
    spans = samples[["start_ns", "end_ns"]].drop_duplicates().sort_values("start_ns").to_numpy(dtype=np.int64)
    # Sessions overlap: what counts is the time in which at least one of them was at work.
    reached = np.maximum.accumulate(spans[:, 1])
    begun = np.maximum(spans[:, 0], np.append(spans[0, 0], reached[:-1]))
    busy_ns = float(np.maximum(spans[:, 1] - begun, 0).sum())
    share, lost_ns = busy_ns / wall_ns, (wall_ns - busy_ns) / len(spans)
    detail = f"{share:.1%} of the time lies within requests (gate {ACCOUNTED_GATE:.0%})"
    return [_check("time accounted for", len(samples), share, share >= ACCOUNTED_GATE or lost_ns < FIXED_NS, detail)]


def _check(name: str, n: int, value: float, held: bool, detail: str, lo: float | None = None, hi: float | None = None) -> Check:
    """A Check of plain numbers: numpy's own do not enter a run folder."""
    return Check(name, int(n), float(value), lo, hi, bool(held), detail)
