"""Whether a block was measured on a quiet machine, judged by the samples of the probe beside it; for running and stored runs alike.

A machine that nobody else uses drifts all the same: its clock follows its temperature and what it computes (over 17 hours, medians of
the probe went from 0.85 to 1.2 times their own median). All arms of a block feel that alike. So a block is held against the other blocks
of its scenario, which are near in time and follow the same work; and against what the machine usually takes, by a margin that drift does
not fill, since a load that is there all the time makes all blocks alike.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: ln of a deviation that is never called noise, however steady the blocks are.
LEAST = 0.03
#: 1.4826 × the median absolute deviation is the standard deviation of normal noise; twice that holds 95 % of it.
SPREADS = 2 * 1.4826
#: A block that takes this many times what is usual on the machine is noisy, whatever the others take.
FOREIGN = 1.25


@dataclass(frozen=True)
class Seconds:
    """Seconds of the probe, as medians of several samples: multiply-adds on the slowest core, and copies."""

    fma_s: float
    copy_s: float


def median(fma_s: Sequence[float], copy_s: Sequence[float]) -> Seconds:
    """Of the samples of one block."""
    return Seconds(statistics.median(fma_s), statistics.median(copy_s))


def notes(blocks: Sequence[Seconds], usual: Seconds) -> list[str | None]:
    """Why each block of a scenario is noisy; None where it is not.

    Args:
        blocks: by the wall clock.
        usual: of this machine since it was booted, in CPU time, which a neighbour that takes the core away does not lengthen.
    """
    parts = {
        "multiply-adds": ([block.fma_s for block in blocks], usual.fma_s),
        "copies": ([block.copy_s for block in blocks], usual.copy_s),
    }
    reasons: list[str | None] = [None] * len(blocks)
    for name, (seconds, usual_s) in parts.items():
        middle = statistics.median(seconds)
        limit = math.exp(max(LEAST, SPREADS * statistics.median(abs(math.log(value / middle)) for value in seconds)))
        for place, value in enumerate(seconds):
            if value > FOREIGN * usual_s:
                reasons[place] = f"the probe's {name} took {value / usual_s:.2f} × what they take on this machine (more than {FOREIGN} ×)"
            elif value > limit * middle:
                reasons[place] = (
                    f"the probe's {name} took {value / middle:.2f} × what they took in the other blocks (more than {limit:.2f} ×)"
                )
    return reasons
