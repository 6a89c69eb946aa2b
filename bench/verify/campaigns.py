"""The controls of this machine, and many real campaigns of them: ONNX Runtime beside its own twin, itself made 5 % slower, and a stall."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import catalog
from bench.core import files, paths
from bench.machine import identity
from bench.machine.lock import MachineLock
from bench.runs import reader
from bench.stats import leaderboard
from bench.store import controls
from bench.store.controls import Verdict
from bench.verify import commands
from bench.verify.claim import Claim, Found, Tick

SUITE, MODEL = "controls", "minilm"
#: Of 20 campaigns at most 3 may call the twins different, and at least 15 must find the arm that is 5 % slower.
FALSE_AT_MOST, FOUND_AT_LEAST = 3 / 20, 15 / 20
#: What a campaign takes beside its budget: loads, the reference, the hard inputs; and when it is given up.
BESIDE_S, TIMEOUT_S = 60.0, 1800.0


def folder() -> Path:
    """Where the campaigns of `--campaigns` keep their runs and database: apart from the leaderboard's, resumable at any time."""
    return paths.DATA / "verify" / "campaigns"


def newest(_: MachineLock, tick: Tick) -> Found:
    """The newest controls of this machine and boot, measured now where there are none."""
    run_id = controls.newest(MODEL)
    if run_id is None:
        _campaign(paths.DATA, catalog.parse_seconds(catalog.load().suites[SUITE].budget or "1m"), tick)
        run_id = controls.newest(MODEL)
    if run_id is None:
        return Found("the controls were run and left no finished run", False)
    came = leaderboard.controls_in(reader.read_run(paths.RUNS / run_id))
    verdicts = [verdict for verdict in controls.verdicts(paths.DATABASE) if verdict.run_id == run_id]
    told = [f"{verdict.variant} {_ratio(verdict)} {verdict.verdict}" for verdict in verdicts]
    if came is None or not came.held:
        told += [(came and came.note) or "no controls in it", f"`invoke bench --model {MODEL} --scenario {SUITE}` measures them anew"]
    return Found(f"run {run_id}: {'; '.join(told)}", came is not None and came.held)


def many(count: int, budget: str) -> Claim:
    """`count` real campaigns of `budget` measuring time each, those that were measured before included."""
    budget_s = catalog.parse_seconds(budget)

    def measure(_: MachineLock, tick: Tick) -> Found:
        while (done := len(finished(budget_s))) < count:

            def part(share: float, done: int = done) -> None:
                tick((done + share) / count)

            _campaign(folder(), budget_s, part)
            if len(finished(budget_s)) == done:
                return Found("a campaign ended without a finished run of the controls", False)
        return counted([verdict for verdict in controls.verdicts(folder() / "results.duckdb") if verdict.run_id in finished(budget_s)])

    return Claim(
        "campaigns", "In real campaigns at most 3 in 20 call two twins different, and at least 15 in 20 find the arm made 5 % slower",
        measure, frozenset({"model"}), False, count * (budget_s + BESIDE_S),
    )  # fmt: skip


def counted(verdicts: Sequence[Verdict]) -> Found:
    """False verdicts between twins and slow arms found, over all campaigns. A comparison that is unresolved has found nothing."""
    tally = controls.tally(verdicts)
    unresolved = sum(verdict.verdict == "unresolved" for verdict in verdicts if verdict.role == "slow")
    held = (
        tally.campaigns > 0
        and tally.twins > 0
        and tally.slow > 0
        and tally.false_verdicts <= math.floor(FALSE_AT_MOST * tally.twins + 1e-9)
        and tally.found >= FOUND_AT_LEAST * tally.slow
    )
    return Found(
        f"{tally.campaigns} campaigns: {tally.false_verdicts} of {tally.twins} twins called different, {tally.found} of {tally.slow} "
        f"slower arms found ({unresolved} unresolved)",
        held,
    )


def finished(budget_s: float) -> set[str]:
    """The run ids of finished campaigns of this machine with this budget in `folder()`."""
    here, found = identity.machine_id(), set()
    for done in (folder() / "runs").glob("*/done.json"):
        run = files.read_json(done.parent / "run.json")
        if run["budget_s"] == budget_s and files.read_json(done.parent / "machine.json")["machine_id"] == here:
            found.add(str(run["run_id"]))
    return found


def _campaign(data: Path, budget_s: float, tick: Tick) -> None:
    """One campaign of the controls suite; an interrupted one goes on."""
    began = time.monotonic()

    def waiting() -> None:
        tick(min(0.98, (time.monotonic() - began) / (budget_s + BESIDE_S)))

    words = ("bench", "--model", MODEL, "--scenario", SUITE, "--budget", f"{budget_s:g}s")
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        commands.invoke(*words, data=data, scratch=Path(scratch), timeout_s=TIMEOUT_S, waiting=waiting)


def _ratio(verdict: Verdict) -> str:
    if verdict.ratio is None or verdict.ratio_lo is None or verdict.ratio_hi is None:
        return f"({verdict.note or 'not compared'})"
    return f"{verdict.ratio:.3f}× [{verdict.ratio_lo:.3f}, {verdict.ratio_hi:.3f}]"
