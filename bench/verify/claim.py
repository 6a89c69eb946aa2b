"""What a promise of the protocol is: a sentence, how it is measured, and what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scipy import stats as scipy_stats

from bench.machine.lock import MachineLock

#: Told after each step of a measurement: the share of it that is done, 0 … 1.
Tick = Callable[[float], None]


def silent(_: float) -> None:
    """Nobody watches."""


def percent(share: float, digits: int = 1) -> str:
    """0.0294 → `2.9 %`."""
    return f"{100 * share:.{digits}f} %"


@dataclass(frozen=True)
class Found:
    """What a measurement found, in one line, and whether the promise held. None: it could not be measured here, `measured` says why."""

    measured: str
    held: bool | None


@dataclass(frozen=True)
class Claim:
    """One line of the table. `measure` is called with the machine held; `quick` ones need no worker and no model; `seconds` is about
    what it takes where it was never measured. `needs` names what must be built beforehand: "nulls" (workers), "model" (artefacts)."""

    name: str
    text: str
    measure: Callable[[MachineLock, Tick], Found]
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
