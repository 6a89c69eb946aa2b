"""Arrival gaps: `constant`, `poisson`, `gamma`, `trace`. Pure, seeded, with mean 1, and equal to the last bit on every machine.

The random numbers are those of bench/core/random.py. A gap of 1 lasts 1/rate seconds: one set of gaps serves every rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.core import random
from bench.core.errors import BenchError

Gaps = NDArray[np.float64]


def constant(n: int) -> Gaps:
    """`n` gaps of exactly 1."""
    return np.ones(n, dtype=np.float64)


def poisson(n: int, seed: int) -> Gaps:
    """`n` gaps of a Poisson process: −ln(U), exponential with mean 1. The first m of n gaps do not depend on n."""
    return -random.log(random.uniform("poisson", seed, n))


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
        x = random.normal(stream, seed, n)
        root = 1.0 + c * x
        v = root * root * root
        u = random.uniform(f"{stream} accept", seed, n)
        safe = np.where(v > 0, v, 1.0)
        accepted = (v > 0) & (random.log(u) < 0.5 * x * x + d - d * safe + d * random.log(safe))
        values = np.where(np.isnan(values) & accepted, d * v, values)
        attempt += 1
    if shape < 1:
        values *= random.exp(random.log(random.uniform("gamma boost", seed, n)) / shape)
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
