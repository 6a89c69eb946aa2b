"""How long a machine takes for a request, or for a batch of them, as stored samples show it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from bench.core.arrays import Floats, Ints

#: Batches that a curve wants at least, and different numbers of rows among them.
MIN_BATCHES, MIN_SIZES = 40, 3


@dataclass(frozen=True, eq=False)
class Singles:
    """Requests that were served alone: block, tokens (1 where none are counted) and seconds of each; arrays of length n."""

    block: Ints
    tokens: Ints
    service_s: Floats

    def __len__(self) -> int:
        return len(self.service_s)

    def resampled(self, rng: np.random.Generator) -> Singles:
        """The requests of as many blocks, drawn with replacement: a block is what was measured under the same conditions."""
        rows = _resampled(self.block, rng)
        return Singles(self.block[rows], self.tokens[rows], self.service_s[rows])


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches that were served: block, rows, longest row in tokens, and seconds of each; arrays of length m."""

    block: Ints
    rows: Ints
    width: Ints
    service_s: Floats


@dataclass(frozen=True, eq=False)
class BatchCurve:
    """Seconds of a batch: base + per_token · padded + per_token2 · padded · width, where padded = rows · width, times a ratio.

    `ratio` (m,): measured over fitted seconds of each batch behind the curve, from which the scatter is drawn; `block` (m,): their blocks.
    """

    base_s: float
    per_token_s: float
    per_token2_s: float
    ratio: Floats
    block: Ints

    def seconds(self, rows: int, width: int) -> float:
        """The fitted seconds, without scatter."""
        padded = rows * width
        return self.base_s + self.per_token_s * padded + self.per_token2_s * padded * width

    def resampled(self, rng: np.random.Generator) -> BatchCurve:
        """The same curve with the scatter of as many blocks, drawn with replacement."""
        rows = _resampled(self.block, rng)
        return replace(self, ratio=self.ratio[rows], block=self.block[rows])


def batches_of(block: Ints, start_ns: Ints, end_ns: Ints, tokens: Ints) -> Batches:
    """Batches of stored samples: rows that were served together share their block and their start."""
    order = np.lexsort((start_ns, block))
    changed = (np.diff(block[order]) != 0) | (np.diff(start_ns[order]) != 0)
    first = np.flatnonzero(np.concatenate([[True], changed]))
    width = np.maximum.reduceat(np.maximum(tokens[order], 1), first)
    rows = np.diff(np.append(first, len(order)))
    return Batches(block[order][first], rows, width, (end_ns - start_ns)[order][first] / 1e9)


def fitted(batches: Batches) -> BatchCurve | None:
    """The curve through batches of several sizes: non-negative least squares of relative errors; None where they are too few to tell.

    Relative, so that the large batches do not drown the small ones.
    """
    if len(batches.rows) < MIN_BATCHES or len(np.unique(batches.rows)) < MIN_SIZES:
        return None
    padded = (batches.rows * batches.width).astype(float)
    terms = np.stack([np.ones(len(padded)), padded, padded * batches.width], axis=1) / batches.service_s[:, None]
    scale = terms.max(axis=0)
    coefficients = optimize.nnls(terms / scale, np.ones(len(padded)))[0] / scale
    base_s, per_token_s, per_token2_s = (float(value) for value in coefficients)
    expected_s = base_s + per_token_s * padded + per_token2_s * padded * batches.width
    return BatchCurve(base_s, per_token_s, per_token2_s, batches.service_s / expected_s, batches.block)


def _resampled(block: Ints, rng: np.random.Generator) -> Ints:
    """Places of all entries of as many blocks as there are, drawn with replacement."""
    numbers = np.unique(block)
    return np.concatenate([np.flatnonzero(block == number) for number in rng.choice(numbers, len(numbers))])
