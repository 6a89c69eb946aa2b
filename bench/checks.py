"""Checks of a worker that the timed requests alone cannot give: hard inputs, batch equals single, and no cached answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import parity, stats

Vectors = npt.NDArray[np.float32]
Check = dict[str, Any]

HARD_BATCH = 8
#: Unique and repeated pieces alternate; each is this many requests.
REPEAT_PIECE, REPEAT_PAIRS = 8, 12
#: A cache makes unique rows many times slower than repeated ones; MEASUREMENT allows 3 %.
REPEAT_GATE = 1.03


def hard_inputs(precision: str, single: Vectors, batched: Vectors, expected: Vectors) -> list[Check]:
    """Judge the hard inputs, each served alone and in mixed-length batches, against the reference: the worst case, never the mean."""
    if len(single) != len(expected) or len(batched) != len(expected):
        detail = f"{min(len(single), len(batched))} of {len(expected)} hard inputs were served"
        return [_check("hard inputs", len(expected), np.nan, False, detail)]
    alone, together = parity.compare(single, expected), parity.compare(batched, expected)
    between = parity.compare(batched, single)
    worst = max(1 - alone.cosine.min(), 1 - together.cosine.min())
    diff = max(alone.max_abs_diff.max(), together.max_abs_diff.max())
    reason = parity.gate(precision, 1 - worst, diff)
    norm = max(alone.norm_error.max(), together.norm_error.max())
    batch_reason = parity.gate(precision, between.cosine.min(), between.max_abs_diff.max())
    return [
        _check("hard inputs", len(expected), 1 - worst, reason is None, reason or f"1 − cosine {worst:.1e}, max |Δ| {diff:.1e}"),
        _check("unit norm", len(expected), norm, bool(norm <= parity.NORM_GATE), f"| ‖v‖ − 1 | {norm:.1e} (gate {parity.NORM_GATE:.0e})"),
        _check("batch equals single", len(expected), between.max_abs_diff.max(), batch_reason is None,
               batch_reason or f"max |Δ| {between.max_abs_diff.max():.1e}"),
    ]  # fmt: skip


def unique_versus_repeat(pieces: Sequence[pd.DataFrame]) -> list[Check]:
    """Time per request of distinct rows over that of one row repeated, same lengths: a cache shows as a ratio far above 1.

    `pieces` alternate unique, repeated, unique, … The test fails only where the interval of the ratio lies beyond the gate:
    noise must not condemn an honest runtime.
    """
    medians = [float(np.median(piece["end_ns"] - piece["start_ns"])) for piece in pieces]
    ratio = stats.paired_ratio(medians[0::2], medians[1::2])
    held = not (ratio.lo > REPEAT_GATE)
    detail = f"unique rows take {ratio.ratio:.3f}× the time of a repeated one [{ratio.lo:.3f}, {ratio.hi:.3f}]" + (
        "" if held else ": answers are cached"
    )
    return [{**_check("unique versus repeat", sum(map(len, pieces)), ratio.ratio, held, detail), "lo": ratio.lo, "hi": ratio.hi}]


def _check(name: str, n: int, value: float, held: bool, detail: str) -> Check:
    return {"name": name, "n": int(n), "value": float(value), "lo": None, "hi": None, "held": bool(held), "detail": detail}
