"""A claim of the protocol: a sentence, how it is measured, and the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats as scipy_stats

from bench.catalog import Catalog
from bench.machine.lock import MachineLock

#: Called after each step of a measurement with the share of it that is done, 0 … 1.
Tick = Callable[[float], None]


def silent(_: float) -> None:
    """A Tick that does nothing."""


def percent(share: float, digits: int = 1) -> str:
    """0.0294 → `2.9 %`."""
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True)
class Outcome:
    """What a measurement of a claim came to.

    Attributes:
        measured: the numbers in one line; where nothing could be measured, the reason.
        held: whether the claim holds; None where it could not be measured.
    """

    measured: str
    held: bool | None


@dataclass(frozen=True)
class Conditions:
    """What a claim is measured with: the catalogue, the lock that holds the machine, and where progress is reported to."""

    catalogue: Catalog
    machine_lock: MachineLock
    tick: Tick


@dataclass(frozen=True)
class Claim:
    """One line of the table.

    Attributes:
        needs: what must be built before the first measurement: "nulls" (the null workers), "model" (artefacts of MiniLM).
        quick: it needs no worker and no model.
        seconds: about how long it takes, for the time left where it was never measured on this machine.
    """

    name: str
    text: str
    measure: Callable[[Conditions], Outcome]
    needs: frozenset[str]
    quick: bool
    seconds: float


@dataclass(frozen=True)
class Share:
    """`hits` of `n` experiments, with the two-sided 95 % Clopper–Pearson interval of the share."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n

    @property
    def lower(self) -> float:
        return float(scipy_stats.binomtest(self.hits, self.n).proportion_ci(method="exact").low)

    @property
    def upper(self) -> float:
        return float(scipy_stats.binomtest(self.hits, self.n).proportion_ci(method="exact").high)

    def __str__(self) -> str:
        return f"{percent(self.value)} ({self.hits} of {self.n})"
