"""`invoke knobs`: what each switch of a framework is worth, flipped by itself and paired with the default in the same run.

An arm whose vectors fail the parity gate is worth nothing, however fast it is.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.catalog import DEFAULT, Catalog, Framework, arms
from bench.commands import bench
from bench.commands.options import BenchOptions, KnobsOptions
from bench.core import paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.machine import identity
from bench.prepare.spec import RunSpec
from bench.runs.schema import PROVEN
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
        return self.ratio is not None and (self.status in PROVEN or self.sessions > 1)


def measure_knobs(options: KnobsOptions, command: str) -> None:
    """`invoke knobs`: measure (unless `run` names a stored run), and print what each switch is worth.

    Raises:
        BenchError: neither a framework nor a run is named, or one of them is unknown.
    """
    if not options.framework and not options.run:
        raise BenchError("knobs: whose? `invoke knobs --framework onnx-python`")
    catalogue, console = bench.load_catalog(options.catalog), Console()
    for run_id in [options.run] if options.run else _measure(options, catalogue, command):
        _print(console, catalogue, run_id)


def _measure(options: KnobsOptions, catalogue: Catalog, command: str) -> list[str]:
    """The ids of the runs, one per framework that has a switch."""
    client.require_linux()
    bench_options = BenchOptions(
        model=options.model,
        framework=options.framework,
        scenario=options.scenario or SCENARIOS,
        precision=options.precision,
        variant="all",
        budget=options.budget,
        weights=options.weights,
        catalog=options.catalog,
    )
    spec = single_spec(bench_options, catalogue, command)
    progress = Progress()
    store.check_writable(paths.DATABASE)
    run_ids = []
    for framework in spec.frameworks:
        names = arms.switches(framework, spec.precisions[0], identity.physical_cores())
        if not names:
            progress.say(f"{framework.name}: has no switch in {spec.precisions[0]}")
            continue
        its_spec = replace(spec, frameworks=(framework,), variants=(DEFAULT.name, *names))
        run_ids.append(bench.measure_and_store(its_spec, [], progress, shown=False).run_id)
    return run_ids


def single_spec(options: BenchOptions, catalogue: Catalog, command: str) -> RunSpec:
    """The spec of an `invoke bench` of one model and precision, whose frameworks are measured ones, for runs of parts of it.

    Raises:
        BenchError: more than one model or precision, or a null worker.
    """
    run_specs = bench.run_specs(options, catalogue, command)
    if len(run_specs) != 1 or len(run_specs[0].precisions) != 1:
        raise BenchError("one model and one precision at a time: name one of each")
    spec = run_specs[0]
    measured = tuple(framework for framework in spec.frameworks if framework.role == "measured")
    if not measured:
        raise BenchError(f"--framework {options.framework}: a null worker has nothing to switch; name one that is measured")
    return replace(spec, frameworks=measured, whole_catalog=False, campaign_id=time.strftime("%Y%m%d-%H%M%S", time.gmtime()))


def worth(run_id: str, database: Path = paths.DATABASE) -> list[Worth]:
    """What each switch of a run was worth, from the database.

    Raises:
        BenchError: there is no such run, or it turned no switch.
    """
    worths = [Worth(**row) for row in store.rows(WORTH, [run_id], database)]
    if not worths:
        raise BenchError(f"run {run_id}: not there, or it turned no switch; `invoke knobs --framework NAME` does")
    return worths


def worth_table(worths: Sequence[Worth], framework: Framework | None, title: str) -> Table:
    """A line per switch, a column per scenario. `framework`: whose knobs explain the switches, None where it is no longer known."""
    scenarios = list(dict.fromkeys(worth.scenario for worth in worths))
    columns = ("switch", *(f"{scenario}: × default" for scenario in scenarios), "1 − min cos", "what it is")
    table = Table(*columns, title=title, title_justify="left")
    for variant in dict.fromkeys(worth.variant for worth in worths):
        by_scenario = {worth.scenario: worth for worth in worths if worth.variant == variant}
        cosines = [worth.min_cosine for worth in by_scenario.values() if worth.min_cosine is not None]
        table.add_row(
            variant.removeprefix(arms.KNOB),
            *(_cell(by_scenario.get(scenario)) for scenario in scenarios),
            f"{1 - min(cosines):.0e}" if cosines else "",
            _help(variant, framework),
        )
    return table


def _help(variant: str, framework: Framework | None) -> str:
    """What the (last) knob of a variant is, in the catalogue's words."""
    key = variant.removeprefix(arms.KNOB).rpartition("+")[2].partition("=")[0]
    knob = framework.knobs.get(key) if framework else None
    return knob.help if knob else "sessions x threads" if key == arms.LAYOUT else ""


def _cell(worth: Worth | None) -> str:
    if worth is None:
        return ""
    if not worth.usable:
        return f"{worth.status}: {worth.reason or worth.note or 'not compared'}"
    interval = f" [{worth.ratio_lo:.3f}–{worth.ratio_hi:.3f}]" if worth.ratio_lo is not None and worth.ratio_hi is not None else ""
    clients = f", from {worth.sessions} clients on" if worth.status == "NOT_APPLICABLE" else ""
    note = f" ({worth.note})" if worth.note else ""
    return f"{worth.ratio:.3f}{interval} {worth.verdict}{note}{clients}"


def _print(console: Console, catalogue: Catalog, run_id: str) -> None:
    worths = worth(run_id)
    (run,) = store.rows("SELECT model, machine, run_json->>'$.arms[0].framework' AS framework FROM runs WHERE run_id = ?", [run_id])
    title = f"{run['framework']} · {run['model']} · {run['machine']} · run {run_id}: one switch at a time; above 1 it helps"
    # The knobs are those of the catalogue as it is now; the run may be older.
    console.print(worth_table(worths, catalogue.frameworks.get(run["framework"]), title))
