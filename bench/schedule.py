"""Arrival gaps: `constant`, `poisson`, `gamma`, `trace`. Pure, seeded, with mean 1, and equal to the last bit on every machine.

The random bits come from Philox, a counter-based generator whose output NumPy guarantees. The logarithm and the exponential are our own,
made of IEEE-exact operations only, because those of two C libraries may differ in the last bit, and then so would a plan's hash.
A gap of 1 lasts 1/rate seconds: one set of gaps serves every rate.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError

Gaps = NDArray[np.float64]

LN2_HIGH = 0.693147180369123816490  # the leading 32 bits of ln 2, so that k · LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10


def constant(n: int) -> Gaps:
    """`n` gaps of exactly 1."""
    return np.ones(n, dtype=np.float64)


def poisson(n: int, seed: int) -> Gaps:
    """`n` gaps of a Poisson process: −ln(U), exponential with mean 1. The first m of n gaps do not depend on n."""
    return -_log(_uniform("poisson", seed, n))


def gamma(n: int, seed: int, shape: float = 0.25) -> Gaps:
    """`n` gamma-distributed gaps with mean 1 and variance 1/shape; `shape` < 1 comes in bursts, 1 is Poisson.

    Source: Marsaglia and Tsang, "A simple method for generating gamma variables" (2000). Attempt k of gap i has its own counter, so the
    first m of n gaps do not depend on n.

    Raises:
        BenchError: `shape` is not a positive finite number.
    """
    if not (math.isfinite(shape) and shape > 0):
        raise BenchError(f"gamma shape {shape}: wants a positive number")
    boosted = shape + 1.0 if shape < 1 else shape  # the method needs shape ≥ 1; a smaller one is boosted, then scaled by U^(1/shape)
    d = boosted - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    values = np.full(n, np.nan)
    attempt = 0
    while np.isnan(values).any():
        stream = f"gamma {attempt}"
        x = _normal(stream, seed, n)
        root = 1.0 + c * x
        v = root * root * root
        u = _uniform(f"{stream} accept", seed, n)
        safe = np.where(v > 0, v, 1.0)
        accepted = (v > 0) & (_log(u) < 0.5 * x * x + d - d * safe + d * _log(safe))
        values = np.where(np.isnan(values) & accepted, d * v, values)
        attempt += 1
    if shape < 1:
        values *= _exp(_log(_uniform("gamma boost", seed, n)) / shape)
    return np.maximum(values / shape, np.finfo(np.float64).tiny)


def trace(arrivals: Path | str | Sequence[float], n: int | None = None) -> Gaps:
    """The gaps between recorded arrivals, in their order, scaled to mean 1; with `n` repeated or cut to n gaps.

    Args:
        arrivals: arrival times in any unit, not decreasing; or a CSV file whose first column holds them, with or without a header.

    Raises:
        BenchError: names the file and the line that is wrong.
    """
    gaps, total = _gaps_of(arrivals)
    gaps = gaps * (len(gaps) / total)
    return gaps if n is None else np.resize(gaps, n)


def trace_rate(arrivals: Path | str | Sequence[float]) -> float:
    """Arrivals per second of a trace whose times are in seconds: its own pace."""
    gaps, total = _gaps_of(arrivals)
    return len(gaps) / total


def _gaps_of(arrivals: Path | str | Sequence[float]) -> tuple[Gaps, float]:
    """A trace's raw gaps, and their sum."""
    if isinstance(arrivals, str | Path):
        name, times, lines = str(arrivals), *_read_trace(Path(arrivals))
    else:
        name, times, lines = "trace", [float(time) for time in arrivals], list(range(1, len(arrivals) + 1))
    if len(times) < 2:
        raise BenchError(f"{name}: holds {len(times)} arrivals; a trace wants at least 2")
    for before, time, line in zip(times, times[1:], lines[1:], strict=False):
        if time < before:
            raise BenchError(f"{name}:{line}: arrival {time:g} is earlier than the one before ({before:g}); sort the file by time")
    gaps = np.diff(np.array(times, dtype=np.float64))
    total = float(math.fsum(gaps))
    if not (math.isfinite(total) and total > 0):
        raise BenchError(f"{name}: all arrivals are at one time, or too far apart to count; a trace wants finite times that differ")
    return gaps, total


def _read_trace(file: Path) -> tuple[list[float], list[int]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror or error}; a trace is a CSV file whose first column holds arrival times") from None
    except UnicodeDecodeError:
        raise BenchError(f"{file}: not UTF-8 text; a trace is a CSV file whose first column holds arrival times") from None
    times: list[float] = []
    lines: list[int] = []
    header_seen = False
    for line, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        cell = row.split(",", 1)[0].strip().strip('"')
        try:
            time = float(cell)
        except ValueError:
            if not times and not header_seen:  # one line of column names is allowed
                header_seen = True
                continue
            raise BenchError(f"{file}:{line}: {cell!r} is not a number; mend that line") from None
        if not math.isfinite(time):
            raise BenchError(f"{file}:{line}: {cell!r} is not a finite time; mend that line")
        times.append(time)
        lines.append(line)
    return times, lines


def bits(stream: str, seed: int, n: int) -> NDArray[np.uint64]:
    """`n` random 64-bit words of a named stream; Philox4x64 with the key SHA-256(stream, seed)[:16] and counter 0."""
    digest = hashlib.sha256(f"{stream}\n{seed}".encode()).digest()
    key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=0).random_raw(n), dtype=np.uint64)


def _uniform(stream: str, seed: int, n: int) -> Gaps:
    """`n` numbers strictly inside (0, 1): odd multiples of 2⁻⁵³."""
    return ((bits(stream, seed, n) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _normal(stream: str, seed: int, n: int) -> Gaps:
    """`n` standard normal numbers by Marsaglia's polar method; attempt k of number i has its own counter."""
    values = np.full(n, np.nan)
    attempt = 0
    while np.isnan(values).any():
        u = 2.0 * _uniform(f"{stream} normal {attempt} u", seed, n) - 1.0
        v = 2.0 * _uniform(f"{stream} normal {attempt} v", seed, n) - 1.0
        s = u * u + v * v
        inside = (s > 0) & (s < 1)
        safe = np.where(inside, s, 0.5)
        values = np.where(np.isnan(values) & inside, u * np.sqrt(-2.0 * _log(safe) / safe), values)
        attempt += 1
    return values


def _log(x: Gaps) -> Gaps:
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


def _exp(x: Gaps) -> Gaps:
    """Exponential of numbers ≤ 700: 2ᵏ times the Taylor series on |r| ≤ ln 2 / 2; 0 below −700."""
    clipped = np.maximum(x, -700.0)
    k = np.rint(clipped / (LN2_HIGH + LN2_LOW))
    r = (clipped - k * LN2_HIGH) - k * LN2_LOW
    series = np.ones_like(r)
    for i in range(17, 0, -1):
        series = 1.0 + series * r / i
    return np.where(x < -700.0, 0.0, np.ldexp(series, k.astype(np.int32)))
