"""The controls of this machine, and real campaigns of them in number: ONNX Runtime beside its twin, beside itself 5 % slower, and with a
stall."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import catalog
from bench.core import paths
from bench.machine import identity
from bench.runs import reader
from bench.runs.headers import runs_of_machine
from bench.stats import leaderboard
from bench.store import controls
from bench.store.controls import Verdict
from bench.verify import commands
from bench.verify.claim import Claim, Conditions, Outcome, Tick

SUITE, MODEL = "controls", "minilm"
#: Of 20 campaigns at most 3 may call the twins different, and at least 15 must find the arm that is 5 % slower.
FALSE_AT_MOST, FOUND_AT_LEAST = 3 / 20, 15 / 20
#: Seconds that a campaign takes beside its budget (loads, the reference, the hard inputs), and after which it is given up.
BESIDE_S, TIMEOUT_S = 60.0, 1800.0


def folder() -> Path:
    """Where the campaigns of `--campaigns` keep their runs and database: apart from the leaderboard's, resumable at any time."""
    return paths.DATA / "verify" / "campaigns"


def newest_controls(conditions: Conditions) -> Outcome:
    """The newest controls of this machine and boot, measured now where there are none."""
    run_id = controls.newest(MODEL)
    if run_id is None:
        budget = conditions.catalogue.suites[SUITE].budget or "1m"
        _run_campaign(paths.DATA, catalog.parse_seconds(budget), conditions.tick)
        run_id = controls.newest(MODEL)
    if run_id is None:
        return Outcome("the controls were run and left no finished run", False)
    judged = leaderboard.controls_in(reader.read_run(paths.RUNS / run_id))
    verdicts = [verdict for verdict in controls.verdicts(paths.DATABASE) if verdict.run_id == run_id]
    texts = [f"{verdict.variant} {_ratio(verdict)} {verdict.verdict}" for verdict in verdicts]
    held = judged is not None and judged.held
    if not held:
        texts += [(judged and judged.note) or "no controls in it", f"`invoke bench --model {MODEL} --scenario {SUITE}` measures them anew"]
    return Outcome(f"run {run_id}: {'; '.join(texts)}", held)


def real_campaigns(count: int, budget: str) -> Claim:
    """The claim about `count` real campaigns of `budget` measuring time each, those that were measured before included."""
    budget_s = catalog.parse_seconds(budget)

    def measure(conditions: Conditions) -> Outcome:
        while (done := len(finished_runs(budget_s))) < count:

            def tick(share: float, done: int = done) -> None:
                conditions.tick((done + share) / count)

            _run_campaign(folder(), budget_s, tick)
            if len(finished_runs(budget_s)) == done:
                return Outcome("a campaign ended without a finished run of the controls", False)
        run_ids = finished_runs(budget_s)
        return outcome_of([verdict for verdict in controls.verdicts(folder() / "results.duckdb") if verdict.run_id in run_ids])

    return Claim(
        "campaigns", "In real campaigns at most 3 in 20 call two twins different, and at least 15 in 20 find the arm made 5 % slower",
        measure, frozenset({"model"}), False, count * (budget_s + BESIDE_S),
    )  # fmt: skip


def outcome_of(verdicts: Sequence[Verdict]) -> Outcome:
    """Verdicts against twins, which are false, and slow arms found, over all campaigns. An unresolved comparison has found nothing."""
    tally = controls.tally(verdicts)
    unresolved = sum(verdict.verdict == "unresolved" for verdict in verdicts if verdict.role == "slow")
    held = (
        tally.campaigns > 0
        and tally.twins > 0
        and tally.slow > 0
        and tally.false_verdicts <= math.floor(FALSE_AT_MOST * tally.twins + 1e-9)
        and tally.found >= FOUND_AT_LEAST * tally.slow
    )
    return Outcome(
        f"{tally.campaigns} campaigns: {tally.false_verdicts} of {tally.twins} twins called different, {tally.found} of {tally.slow} "
        f"slower arms found ({unresolved} unresolved)",
        held,
    )


def finished_runs(budget_s: float) -> set[str]:
    """The ids of the finished runs in `folder()` that are of this machine and had this budget."""
    runs = runs_of_machine(folder() / "runs", identity.machine_id())
    return {run.run_id for run in runs if run.done and run.budget_s == budget_s}


def _run_campaign(data: Path, budget_s: float, tick: Tick) -> None:
    """One campaign of the controls suite; an interrupted one goes on."""
    began = time.monotonic()

    def on_wait() -> None:
        tick(min(0.98, (time.monotonic() - began) / (budget_s + BESIDE_S)))

    words = ("bench", "--model", MODEL, "--scenario", SUITE, "--budget", f"{budget_s:g}s")
    with tempfile.TemporaryDirectory(prefix="verify-") as scratch:
        commands.invoke(*words, data=data, scratch=Path(scratch), timeout_s=TIMEOUT_S, on_wait=on_wait)


def _ratio(verdict: Verdict) -> str:
    if verdict.ratio is None or verdict.ratio_lo is None or verdict.ratio_hi is None:
        return f"({verdict.note or 'not compared'})"
    return f"{verdict.ratio:.3f}× [{verdict.ratio_lo:.3f}, {verdict.ratio_hi:.3f}]"
