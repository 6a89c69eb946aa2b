"""The controls of this machine: which run vouches for the next one, and what all control arms in the database came to.

A campaign refers to the newest controls of the same machine and boot (`controls_run_id` in its run.json). What they prove is judged in
`stats_arms.controls_of`; here the stored verdicts are only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core import files, paths
from bench.machine import identity
from bench.store import database as store
from bench.store.database import Row

DIFFERS = ("faster", "slower")


def newest(model: str, runs: Path | None = None) -> str | None:
    """The run_id of the newest finished controls on `model`, of this machine since it was booted; None where there are none."""
    here, boot = identity.machine_id(), identity.boot_id()
    found = []
    for done in (runs or paths.RUNS).glob("*/done.json"):
        run = files.read_json(done.parent / "run.json")
        if run["model"] != model or run.get("boot_id") != boot or not any(arm["role"] == "slow" for arm in run["arms"]):
            continue
        if files.read_json(done.parent / "machine.json")["machine_id"] == here:
            found.append((run["measured_at"], run["run_id"]))
    return str(max(found)[1]) if found else None


def measuring_s(run_id: str) -> float:
    """Seconds of measuring that a finished run took."""
    return float(files.read_json(paths.RUNS / run_id / "done.json")["stages"]["measuring"])


@dataclass(frozen=True)
class Verdict:
    """One twin or slow arm in one scenario of one run, against the arm that it was made from. `ratio` is of their throughputs, with its
    interval; unresolved where too few blocks were measured, or an arm failed."""

    run_id: str
    scenario: str
    framework: str
    role: str
    variant: str
    blocks: int
    noisy_blocks: int
    ratio: float | None
    ratio_lo: float | None
    ratio_hi: float | None
    verdict: str
    note: str | None

    @property
    def held(self) -> bool:
        """Did it come out as it must? A twin has no verdict against it; a slow arm is found."""
        return self.verdict == "slower" if self.role == "slow" else self.verdict not in DIFFERS


@dataclass(frozen=True)
class Tally:
    """Over several runs: twins compared and falsely told apart, slow arms and how many of them were found."""

    campaigns: int
    twins: int
    false_verdicts: int
    slow: int
    found: int


def verdicts(database: Path = paths.DATABASE, last: int | None = None) -> list[Verdict]:
    """Every twin and every slow arm against the arm it was made from, oldest run first; of the `last` runs with controls where given.

    Also control arms that could not be compared are there, as "unresolved" with the reason.
    """
    rows = store.rows(VERDICTS, database=database)
    wanted = list(dict.fromkeys(row["run_id"] for row in rows))[-last if last else 0 :]
    return [_verdict(row) for row in rows if row["run_id"] in wanted]


VERDICTS = """
SELECT control.run_id, control.scenario, control.framework, control.role, control.variant, coalesce(control.blocks, 0) AS blocks,
       coalesce(control.noisy_blocks, 0) AS noisy_blocks, pair.ratio, pair.ratio_lo, pair.ratio_hi,
       coalesce(pair.verdict, 'unresolved') AS verdict, coalesce(pair.note, control.reason) AS note
FROM results AS control
LEFT JOIN comparisons AS pair
    ON (pair.run_id, pair.scenario, pair.arm_a) = (control.run_id, control.scenario, control.arm_id)
WHERE control.role IN ('twin', 'slow') AND control.served_scenario IS NULL
ORDER BY control.measured_at, control.run_id, control.scenario, control.framework, control.role DESC, control.variant
"""


def _verdict(row: Row) -> Verdict:
    return Verdict(**row)


def tally(found: Sequence[Verdict]) -> Tally:
    """The verdicts counted. A campaign is one run; each twin against its arm is one pair."""
    twins = [verdict for verdict in found if verdict.role == "twin"]
    slow = [verdict for verdict in found if verdict.role == "slow"]
    return Tally(
        campaigns=len({verdict.run_id for verdict in found}),
        twins=len(twins),
        false_verdicts=sum(not verdict.held for verdict in twins),
        slow=len(slow),
        found=sum(verdict.held for verdict in slow),
    )
