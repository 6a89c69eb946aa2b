"""Seeded random numbers, equal to the last bit on every machine.

The random bits come from Philox, a counter-based generator whose output NumPy guarantees. The logarithm and the exponential are our own,
made of IEEE-exact operations only, because those of two C libraries may differ in the last bit, and then so would a plan's hash.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from bench.core.arrays import Floats

LN2_HIGH = 0.693147180369123816490  # the leading 32 bits of ln 2, so that k · LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10


def bits(stream: str, seed: int, n: int) -> NDArray[np.uint64]:
    """`n` random 64-bit words of a named stream; Philox4x64 with the key SHA-256(stream, seed)[:16] and counter 0."""
    digest = hashlib.sha256(f"{stream}\n{seed}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=0).random_raw(n), dtype=np.uint64)


def uniform(stream: str, seed: int, n: int) -> Floats:
    """`n` numbers strictly inside (0, 1): odd multiples of 2⁻⁵³."""
    return ((bits(stream, seed, n) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normal(stream: str, seed: int, n: int) -> Floats:
    """`n` standard normal numbers by Marsaglia's polar method; attempt k of number i has its own counter."""
    values = np.full(n, np.nan)
    attempt = 0
    while np.isnan(values).any():
        u = 2.0 * uniform(f"{stream} normal {attempt} u", seed, n) - 1.0
        v = 2.0 * uniform(f"{stream} normal {attempt} v", seed, n) - 1.0
        s = u * u + v * v
        inside = (s > 0) & (s < 1)
        safe = np.where(inside, s, 0.5)
        values = np.where(np.isnan(values) & inside, u * np.sqrt(-2.0 * log(safe) / safe), values)
        attempt += 1
    return values


def log(x: Floats) -> Floats:
    """Natural logarithm of positive normal numbers, to about 1e-16 of max(1, |ln x|): 2 artanh((m − 1)/(m + 1)) + e ln 2."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    e = (exponent - small).astype(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    series = np.full_like(s, 1.0 / 25.0)
    for k in range(23, 0, -2):
        series = series * s2 + 1.0 / k
    return e * LN2_HIGH + (2.0 * s * series + e * LN2_LOW)


def exp(x: Floats) -> Floats:
    """Exponential of numbers ≤ 700: 2ᵏ times the Taylor series on |r| ≤ ln 2 / 2; 0 below −700."""
    clipped = np.maximum(x, -700.0)
    k = np.rint(clipped / (LN2_HIGH + LN2_LOW))
    r = (clipped - k * LN2_HIGH) - k * LN2_LOW
    series = np.ones_like(r)
    for i in range(17, 0, -1):
        series = 1.0 + series * r / i
    return np.where(x < -700.0, 0.0, np.ldexp(series, k.astype(np.int32)))
