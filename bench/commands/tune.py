"""`invoke tune`: the best settings of every framework for each scenario, all with the same search budget, written to `data/tuned/`.

Half of the budget flips every switch by itself. The other half measures the best switches, alone and together, against the default in a run
of their own; the fastest that is shown to be faster (a verdict, not an estimate) is kept, else the default. All candidates stay in
the database, and in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.catalog import DEFAULT, Framework, Scenario, arms, tuned_settings
from bench.catalog.tuned_settings import TriedSettings, Tuned
from bench.commands import bench, knobs
from bench.commands.knobs import Worth
from bench.commands.options import BenchOptions, TuneOptions
from bench.core import paths
from bench.core.progress import Progress
from bench.machine import identity
from bench.prepare.spec import RunSpec
from bench.stats.paired import FASTER
from bench.store import database
from bench.workers import client

#: A switch that is worth less than this by itself is not tried again.
WORTH_TRYING = 1.01
#: How many candidates are held against the default in the second half.
CANDIDATES = 3


@dataclass(frozen=True)
class Candidate:
    """A switch, or several together, as measured in one run of the search."""

    run_id: str
    worth: Worth

    @property
    def tried(self) -> TriedSettings:
        """As the file of settings holds it."""
        worth = self.worth
        return TriedSettings(
            worth.switches,
            self.run_id,
            worth.status,
            ratio=_rounded(worth.ratio),
            ratio_lo=_rounded(worth.ratio_lo),
            ratio_hi=_rounded(worth.ratio_hi),
            verdict=worth.verdict,
            reason=worth.reason or worth.note,
        )


def tune_frameworks(options: TuneOptions, command: str) -> None:
    """`invoke tune`: search, framework by framework, and write the settings."""
    client.require_linux()
    database.check_writable(paths.DATABASE)
    share_s = catalog.parse_seconds(options.budget)
    bench_options = BenchOptions(
        model=options.model,
        framework=options.framework,
        scenario=options.scenario or knobs.SCENARIOS,
        precision="fp32",
        weights=options.weights,
        catalog=options.catalog,
    )
    spec = replace(knobs.single_spec(bench_options, bench.load_catalog(options.catalog), command), suite="tune")
    progress, console = Progress(), Console()
    for framework in spec.frameworks:
        entries = search(replace(spec, frameworks=(framework,)), framework, share_s, progress)
        console.print(_table(framework, entries))
        progress.say(f"{framework.name}: {tuned_settings.write(framework, entries)}")


def search(spec: RunSpec, framework: Framework, share_s: float, progress: Progress) -> list[Tuned]:
    """The settings of one framework for each scenario of the spec, each by a search of `share_s` seconds of measuring."""
    names = arms.switches(framework, "fp32", identity.physical_cores())
    screening = replace(spec, variants=(DEFAULT.name, *names), budget_s=share_s / 2 * len(spec.scenarios))
    screened = _measure(screening, progress) if names else []
    entries = []
    for scenario in spec.scenarios:
        singles = [candidate for candidate in screened if candidate.worth.scenario == scenario.name]
        confirmed = []
        if variants := candidates([candidate.worth for candidate in singles], scenario):
            confirming = replace(spec, variants=(DEFAULT.name, *variants), scenarios=(scenario,), budget_s=share_s / 2)
            confirmed = _measure(confirming, progress)
        best = winner([candidate.worth for candidate in confirmed])
        entries.append(_entry(spec, framework, scenario, best, [*singles, *confirmed], share_s))
    return entries


def _measure(spec: RunSpec, progress: Progress) -> list[Candidate]:
    """A run, and what each of its variants was worth in it."""
    run_id = bench.measure_and_store(spec, [], progress, shown=False).run_id
    return [Candidate(run_id, worth) for worth in knobs.worth(run_id)]


def candidates(worths: Sequence[Worth], scenario: Scenario) -> list[str]:
    """The variants that the second half holds against the default: the best switch, the two best together, and all that helped.

    Of a knob with several values only the best one counts. A layout of S sessions needs S clients, so in a closed loop, which is served
    back to back for one client, it is left out.
    """
    helped: dict[str, Worth] = {}
    for worth in sorted((worth for worth in worths if worth.usable), key=lambda worth: -(worth.ratio or 0)):
        if worth.ratio is None or worth.ratio < WORTH_TRYING or (scenario.load == "closed" and worth.sessions > 1):
            continue
        helped.setdefault("+".join(switch.partition("=")[0] for switch in worth.switches.split("+")), worth)
    names: list[str] = []
    for count in (1, 2, len(helped)):
        name = _together(list(helped.values())[:count])
        if name and name not in names:
            names.append(name)
    return names[:CANDIDATES]


def _together(worths: Iterable[Worth]) -> str:
    """One variant with the switches of several; of two that set the same knob the first, which is the better one, is taken."""
    switches: dict[str, str] = {}
    for worth in worths:
        for switch in worth.switches.split("+"):
            switches.setdefault(switch.partition("=")[0], switch)
    return arms.KNOB + "+".join(switches.values()) if switches else ""


def winner(confirmed: Sequence[Worth]) -> Worth | None:
    """The fastest candidate that is shown to be faster than the default; None where none is."""
    faster = [worth for worth in confirmed if worth.usable and worth.verdict == FASTER]
    return max(faster, key=lambda worth: worth.ratio or 0, default=None)


def _entry(
    spec: RunSpec, framework: Framework, scenario: Scenario, best: Worth | None, tried: Sequence[Candidate], share_s: float
) -> Tuned:
    """The settings for one scenario as the file holds them: the best, or none, with all candidates."""
    switches = dict(switch.partition("=")[::2] for switch in best.switches.split("+")) if best else {}
    layout = switches.pop(arms.LAYOUT, None)
    run_ids = list(dict.fromkeys(candidate.run_id for candidate in tried))
    version = database.rows(
        "SELECT machine, framework_version FROM results WHERE list_contains(?, run_id) AND framework_version IS NOT NULL LIMIT 1", [run_ids]
    )
    return Tuned(
        scenario.name,
        settings=switches,
        layout=layout,
        model=spec.model.name,
        machine=version[0]["machine"] if version else None,
        version=f"{framework.title} {version[0]['framework_version']}" if version else None,
        budget_s=share_s,
        ratio=_rounded(best.ratio) if best else None,
        ratio_lo=_rounded(best.ratio_lo) if best else None,
        ratio_hi=_rounded(best.ratio_hi) if best else None,
        searched=tuple(candidate.tried for candidate in tried),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _table(framework: Framework, entries: Sequence[Tuned]) -> Table:
    table = Table("scenario", "settings", "× default", "tried", title=f"{framework.title}, tuned", title_justify="left")
    for entry in entries:
        settings = [f"layout={entry.layout}"] * bool(entry.layout) + [f"{key}={value}" for key, value in entry.settings.items()]
        interval = f" [{entry.ratio_lo:.3f}–{entry.ratio_hi:.3f}]" if entry.ratio_lo is not None and entry.ratio_hi is not None else ""
        ratio = f"{entry.ratio:.3f}{interval}" if entry.ratio else "nothing is shown to be faster"
        table.add_row(entry.name, " ".join(settings) or "default", ratio, str(len(entry.searched)))
    return table
