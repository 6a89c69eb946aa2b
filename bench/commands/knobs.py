"""What each switch of a framework is worth: one flipped at a time, paired with the default in the same run, gated by parity."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.catalog import DEFAULT, Framework, arms
from bench.commands import bench
from bench.core import paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.machine import identity
from bench.prepare.spec import RunSpec
from bench.store import database as store
from bench.workers import client

#: What `knobs` and `tune` measure without a scenario being named: one request at a time, and batches of 32.
SCENARIOS = "closed-1,offline-32"

WORTH = """
SELECT arms.variant, results.scenario, results.status, results.reason, results.min_cosine, results.sessions,
       pair.blocks, pair.ratio, pair.ratio_lo, pair.ratio_hi, pair.verdict, pair.note
FROM results JOIN arms USING (run_id, arm_id)
LEFT JOIN comparisons AS pair ON pair.run_id = results.run_id AND pair.scenario = results.scenario AND pair.arm_a = results.arm_id
WHERE results.run_id = ? AND results.role = 'measured' AND results.served_scenario IS NULL AND arms.variant LIKE 'knob:%'
ORDER BY arms.rowid, results.scenario
"""


@dataclass(frozen=True)
class Worth:
    """A switch in one scenario, against the default: the ratio is > 1 where the switch helps, None where it cannot be told."""

    variant: str
    scenario: str
    status: str
    reason: str | None
    min_cosine: float | None
    sessions: int
    blocks: int | None
    ratio: float | None
    ratio_lo: float | None
    ratio_hi: float | None
    verdict: str | None
    note: str | None

    @property
    def switches(self) -> str:
        """`knob:spinning=0` → `spinning=0`."""
        return self.variant.removeprefix(arms.KNOB)

    @property
    def usable(self) -> bool:
        """Was it compared? A layout of several sessions has no row of its own at one client, and is compared all the same."""
        return self.ratio is not None and (self.status in ("OK", "PARTIAL") or self.sessions > 1)


def run(options: Mapping[str, Any]) -> None:
    """`invoke knobs`: measure (unless `run` names a run that was), and print what each switch is worth."""
    console = Console()
    if options["run"]:
        _print(console, options["run"])
        return
    client.require_linux()
    spec = wish_of(options, options["framework"], ["all"])
    progress = Progress()
    store.check_writable(paths.DATABASE)
    runs = []
    for framework in spec.frameworks:
        names = arms.switches(framework, spec.precisions[0], identity.physical_cores())
        if not names:
            progress.say(f"{framework.name}: has no switch in {spec.precisions[0]}")
            continue
        one = replace(spec, frameworks=(framework,), variants=(DEFAULT.name, *names))
        runs.append(bench.measure(one, [], progress, shown=False).run_id)
    for run_id in runs:
        _print(console, run_id)


def wish_of(options: Mapping[str, Any], framework: str, names: Sequence[str]) -> RunSpec:
    """The spec of `invoke bench` with these variants of one or several frameworks.

    Raises:
        BenchError: more than one model or precision, or a null worker.
    """
    nothing = dict.fromkeys(("layout", "corpus", "quality_set", "fresh", "requests"), "")
    asked = {key: value for key, value in options.items() if key in ("model", "precision", "budget", "weights", "catalog")}
    run_specs = bench.run_specs({
        **nothing, **asked, "framework": framework, "scenario": options["scenario"] or SCENARIOS, "variant": ",".join(names),
    })  # fmt: skip
    if len(run_specs) != 1 or len(run_specs[0].precisions) != 1:
        raise BenchError("one model and one precision at a time: name one of each")
    spec = run_specs[0]
    measured = tuple(entry for entry in spec.frameworks if entry.role == "measured")
    if not measured:
        raise BenchError(f"--framework {framework}: a null worker has nothing to switch; name one that is measured")
    return replace(spec, frameworks=measured, whole_catalog=False, campaign_id=time.strftime("%Y%m%d-%H%M%S", time.gmtime()))


def worth(run_id: str, database: Path = paths.DATABASE) -> list[Worth]:
    """What each switch of a run was worth, from the database.

    Raises:
        BenchError: there is no such run, or it turned no switch.
    """
    found = [Worth(**row) for row in store.rows(WORTH, [run_id], database)]
    if not found:
        raise BenchError(f"run {run_id}: not there, or it turned no switch; `invoke knobs --framework NAME` does")
    return found


def table(found: Sequence[Worth], framework: Framework | None, title: str) -> Table:
    """A line per switch, a column per scenario."""
    scenarios = list(dict.fromkeys(one.scenario for one in found))
    shown = Table(
        "switch", *(f"{scenario}: × default" for scenario in scenarios), "1 − min cos", "what it is", title=title, title_justify="left"
    )
    for variant in dict.fromkeys(one.variant for one in found):
        here = {one.scenario: one for one in found if one.variant == variant}
        cosines = [one.min_cosine for one in here.values() if one.min_cosine is not None]
        key = next(iter(here.values())).switches.rpartition("+")[2].partition("=")[0]
        known = framework.knobs.get(key) if framework else None
        shown.add_row(
            next(iter(here.values())).switches, *(_cell(here.get(scenario)) for scenario in scenarios),
            f"{1 - min(cosines):.0e}" if cosines else "", known.help if known else "sessions x threads" if key == arms.LAYOUT else "",
        )  # fmt: skip
    return shown


def _cell(one: Worth | None) -> str:
    if one is None:
        return ""
    if not one.usable:
        return f"{one.status}: {one.reason or one.note or 'not compared'}"
    interval = f" [{one.ratio_lo:.3f}–{one.ratio_hi:.3f}]" if one.ratio_lo is not None and one.ratio_hi is not None else ""
    clients = f", from {one.sessions} clients on" if one.status == "NOT_APPLICABLE" else ""
    note = f" ({one.note})" if one.note else ""
    return f"{one.ratio:.3f}{interval} {one.verdict}{note}{clients}"


def _print(console: Console, run_id: str) -> None:
    found = worth(run_id)
    (about,) = store.rows("SELECT model, machine, run_json->>'$.arms[0].framework' AS framework FROM runs WHERE run_id = ?", [run_id])
    # The names of the knobs are of the catalogue as it is now; a run may be older.
    framework = catalog.load().frameworks.get(about["framework"])
    title = f"{about['framework']} · {about['model']} · {about['machine']} · run {run_id}: one switch at a time; above 1 it helps"
    console.print(table(found, framework, title))
