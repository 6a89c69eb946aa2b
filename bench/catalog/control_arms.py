"""Control arms: the very same worker again, with nothing changed (twin), 5 % slower (slow), or stopped once (stall).

A control proves the harness, not a framework: a twin must not differ, the slow arm must be found, the stall must be seen. The faults
belong to the loop that all workers share (WORKER.md), and an arm that is measured never has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.catalog.schema import Arm, ControlRole

SLOW = 1.05
#: The stall comes with the first request that starts this many seconds after the start of a slice, and lasts so long. A slice lasts
#: 0.25 s or more; unrecorded rows are served in stretches that end before a stall would come.
STALL_AT_S, STALL_FOR_S = 0.1, 0.2


@dataclass(frozen=True)
class Control:
    """A control arm and the worker's `--fault`; None for a twin."""

    arm: Arm
    fault: str | None


def controls_of(base: Arm, roles: Sequence[ControlRole]) -> Iterator[Control]:
    """The control arms of one measured arm. `twin-2`, `twin-3`, … are copies of the arm, which counts as number 1."""
    twins = 1
    for role in roles:
        if role == "twin":
            twins += 1
            yield Control(replace(base, role=role, variant=f"twin-{twins}"), None)
        elif role == "slow":
            yield Control(replace(base, role=role, variant=f"slow-{SLOW:g}"), f"slow={SLOW:g}")
        else:
            yield Control(replace(base, role=role, variant=f"stall-{STALL_FOR_S:g}s"), f"stall={STALL_AT_S:g}:{STALL_FOR_S:g}")


def stall_of(fault: str | None) -> tuple[float, float] | None:
    """(at, for) in seconds of a stall; None for any other fault, or none."""
    kind, _, times = (fault or "").partition("=")
    if kind != "stall":
        return None
    at, _, lasting = times.partition(":")
    return float(at), float(lasting)
