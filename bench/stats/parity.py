"""Did the framework compute the right vectors? Every timed request is judged against the fp32 Embedder.

The worst request counts, never the mean. Cosines are taken in float64 from vectors renormalised in float64: a float32 dot product alone
rounds to 1.2e-7. Why the gates are what they are: site_src/pages/methodology.md.j2#gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bench.core.arrays import Floats, Vectors

#: precision → (largest 1 − cosine, largest |Δ| of an element). int8 and lower are judged by task quality instead.
GATES: dict[str, tuple[float, float]] = {"fp32": (1e-7, 2e-5), "bf16": (1e-3, 1e-2), "fp16": (1e-3, 1e-2)}
#: Largest | ‖v‖ − 1 |.
NORM_GATE = 1e-5


@dataclass(frozen=True)
class Agreement:
    """Per row: cosine to the reference, largest absolute difference of an element, | ‖v‖ − 1 |."""

    cosine: Floats
    max_abs_diff: Floats
    norm_error: Floats


def compare(vectors: Vectors, reference: Vectors) -> Agreement:
    """Compare vectors (rows, dim) with the reference (rows, dim); a NaN anywhere gives NaN for its row."""
    a, b = vectors.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(a, axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        cosine = np.sum(a * b, axis=1) / (norms * np.linalg.norm(b, axis=1))
        return Agreement(np.clip(cosine, -1, 1), np.max(np.abs(a - b), axis=1), np.abs(norms - 1))


def gate(precision: str, min_cosine: float, max_abs_diff: float) -> str | None:
    """The reason why vectors fail the gate of a precision, or None where they pass."""
    if not (math.isfinite(min_cosine) and math.isfinite(max_abs_diff)):
        return "vectors hold NaN or infinity"
    if precision not in GATES:
        return None
    cosine_gate, diff_gate = GATES[precision]
    if 1 - min_cosine > cosine_gate:
        return f"1 − cosine {1 - min_cosine:.2e} to the fp32 reference (gate {cosine_gate:.0e})"
    if max_abs_diff > diff_gate:
        return f"max |Δ| {max_abs_diff:.2e} to the fp32 reference (gate {diff_gate:.0e})"
    return None
