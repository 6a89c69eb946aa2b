"""The best settings of every framework by one and the same search budget, per scenario, written to `data/tuned/`.

A plain search that can be told in two sentences. Half of the budget flips every switch by itself; then the best ones, alone and
together, are measured against the default in a run of their own, and the fastest that is *shown* to be faster is kept (else the default).
Everything that was tried stays in the database, and in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.catalog import DEFAULT, Framework, Scenario, arms, tuned_settings
from bench.catalog.tuned_settings import Tried, Tuned
from bench.commands import bench, knobs
from bench.commands.knobs import Worth
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


def run(options: Mapping[str, Any]) -> None:
    """`invoke tune`: search, framework by framework, and write what was found."""
    client.require_linux()
    database.check_writable(paths.DATABASE)
    share_s = catalog.parse_seconds(str(options["budget"]))
    spec = replace(knobs.wish_of({**options, "budget": "", "precision": "fp32"}, options["framework"], [DEFAULT.name]), suite="tune")
    progress, console = Progress(), Console()
    for framework in spec.frameworks:
        entries = search(replace(spec, frameworks=(framework,)), framework, share_s, progress)
        console.print(_table(framework, entries))
        progress.say(f"{framework.name}: {tuned_settings.write(framework, entries)}")


def search(spec: RunSpec, framework: Framework, share_s: float, progress: Progress) -> list[Tuned]:
    """The settings of one framework for each scenario of the spec, each found in `share_s` seconds of measuring."""
    cores = identity.physical_cores()
    names = arms.switches(framework, "fp32", cores)
    first = replace(spec, variants=(DEFAULT.name, *names), budget_s=share_s / 2 * len(spec.scenarios))
    screened = bench.measure(first, [], progress, shown=False).run_id if names else None
    found = []
    for scenario in spec.scenarios:
        tried = [(screened, one) for one in knobs.worth(screened) if one.scenario == scenario.name] if screened else []
        chosen = candidates([one for _, one in tried], scenario)
        if chosen:
            second = replace(spec, variants=(DEFAULT.name, *chosen), scenarios=(scenario,), budget_s=share_s / 2)
            confirmed = bench.measure(second, [], progress, shown=False).run_id
            tried += [(confirmed, one) for one in knobs.worth(confirmed)]
        best = winner([one for run_id, one in tried if run_id != screened])
        found.append(_entry(spec, framework, scenario, best, tried, share_s))
    return found


def candidates(found: Sequence[Worth], scenario: Scenario) -> list[str]:
    """What the second half holds against the default: the best switch, the two best together, and all that helped.

    Of a knob with several values only the best one counts. A layout of S sessions needs S clients: in a closed loop that is served by
    fewer there is none.
    """
    helped: dict[str, Worth] = {}
    for one in sorted((one for one in found if one.usable), key=lambda one: -(one.ratio or 0)):
        if one.ratio is None or one.ratio < WORTH_TRYING or (scenario.load == "closed" and one.sessions > 1):
            continue
        helped.setdefault("+".join(switch.partition("=")[0] for switch in one.switches.split("+")), one)
    names: list[str] = []
    for count in (1, 2, len(helped)):
        name = _together(list(helped.values())[:count])
        if name and name not in names:
            names.append(name)
    return names[:CANDIDATES]


def _together(chosen: Iterable[Worth]) -> str:
    """One variant with the switches of several; of two that set the same knob the better one (which comes first) stands."""
    switches: dict[str, str] = {}
    for one in chosen:
        for switch in one.switches.split("+"):
            switches.setdefault(switch.partition("=")[0], switch)
    return arms.KNOB + "+".join(switches.values()) if switches else ""


def winner(confirmed: Sequence[Worth]) -> Worth | None:
    """The fastest candidate that is shown to be faster than the default; None where none is."""
    return max((one for one in confirmed if one.usable and one.verdict == FASTER), key=lambda one: one.ratio or 0, default=None)


def _entry(
    spec: RunSpec, framework: Framework, scenario: Scenario, best: Worth | None, tried: Sequence[tuple[str | None, Worth]], share_s: float
) -> Tuned:
    switches = dict(switch.partition("=")[::2] for switch in best.switches.split("+")) if best else {}
    layout = switches.pop(arms.LAYOUT, None)
    runs = list(dict.fromkeys(run_id for run_id, _ in tried))
    about = database.rows(
        "SELECT machine, framework_version FROM results WHERE list_contains(?, run_id) AND framework_version IS NOT NULL LIMIT 1", [runs]
    )
    return Tuned(
        scenario.name, settings=switches, layout=layout, model=spec.model.name, machine=about[0]["machine"] if about else None,
        version=f"{framework.title} {about[0]['framework_version']}" if about else None, budget_s=share_s,
        ratio=_rounded(best.ratio) if best else None, ratio_lo=_rounded(best.ratio_lo) if best else None,
        ratio_hi=_rounded(best.ratio_hi) if best else None,
        searched=tuple(
            Tried(one.switches, str(run_id), one.status, ratio=_rounded(one.ratio), ratio_lo=_rounded(one.ratio_lo),
                  ratio_hi=_rounded(one.ratio_hi), verdict=one.verdict, reason=one.reason or one.note)
            for run_id, one in tried
        ),
    )  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _table(framework: Framework, entries: Sequence[Tuned]) -> Table:
    shown = Table("scenario", "settings", "× default", "tried", title=f"{framework.title}, tuned", title_justify="left")
    for entry in entries:
        settings = [f"layout={entry.layout}"] * bool(entry.layout) + [f"{key}={value}" for key, value in entry.settings.items()]
        interval = f" [{entry.ratio_lo:.3f}–{entry.ratio_hi:.3f}]" if entry.ratio_lo is not None and entry.ratio_hi is not None else ""
        worth = f"{entry.ratio:.3f}{interval}" if entry.ratio else "nothing is shown to be faster"
        shown.add_row(entry.name, " ".join(settings) or "default", worth, str(len(entry.searched)))
    return shown
