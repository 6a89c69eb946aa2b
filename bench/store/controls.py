"""The controls of this machine: which run vouches for the next one, and what all control arms in the database came to.

A campaign refers to the newest controls of the same machine and boot (`controls_run_id` in its run.json). What they prove is judged in
bench/stats/arms.py; here the stored verdicts are only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core import files, paths
from bench.machine import identity
from bench.runs.headers import runs_of_machine
from bench.store import database as store

DIFFERS = ("faster", "slower")


def newest(model: str, runs: Path | None = None) -> str | None:
    """The run_id of the newest finished controls on `model`, of this machine since it was booted; None where there are none."""
    boot_id = identity.boot_id()
    return next(
        (
            run.run_id
            for run in runs_of_machine(runs or paths.RUNS, identity.machine_id())
            if run.done and run.model == model and run.boot_id == boot_id and "slow" in run.roles.values()
        ),
        None,
    )


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
        """Did the control come out as it must? A twin is neither faster nor slower than its arm; a slow arm is slower."""
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

    Control arms that could not be compared are included, as "unresolved" with the reason.
    """
    rows = store.rows(VERDICTS, database=database)
    run_ids = list(dict.fromkeys(row["run_id"] for row in rows))[-last if last else 0 :]
    return [Verdict(**row) for row in rows if row["run_id"] in run_ids]


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


def tally(verdicts: Sequence[Verdict]) -> Tally:
    """The verdicts counted. A campaign is one run; each twin against its arm is one pair."""
    twins = [verdict for verdict in verdicts if verdict.role == "twin"]
    slow = [verdict for verdict in verdicts if verdict.role == "slow"]
    return Tally(
        campaigns=len({verdict.run_id for verdict in verdicts}),
        twins=len(twins),
        false_verdicts=sum(not verdict.held for verdict in twins),
        slow=len(slow),
        found=sum(verdict.held for verdict in slow),
    )
