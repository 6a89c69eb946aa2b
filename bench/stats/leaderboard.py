"""From the samples of one run to the rows of the leaderboard: every percentile, interval, comparison and rank — here and in the
files it stands on, and nowhere else.

    stats_sample   percentiles with their effective n, intervals, throughput: one sample
    stats_load     served clock, derived closed loop, open loop: one load
    stats_paired   ratios, verdicts, Holm, ranks: numbers of several arms by block
    stats_rows     one arm in one scenario → a row
    stats_arms     the arms of one scenario → comparisons and ranks
    stats_derived  the rows that follow from a sweep, new shapes or a search; fitted cost curves
    stats_slo      the search for the largest rate within a limit

`leaderboard()` is the entry. Pure: no file, no clock, no chance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from bench.runs.schema import Comparison, Controls, Fit, Result, RunData, RunScenario
from bench.stats.arms import compare_arms, controls_of, with_rank
from bench.stats.derived import derived_rows, fits_of
from bench.stats.load import as_measured, closed_loop
from bench.stats.paired import LOOKS, UNRESOLVED, Pair, Paired, paired_ratio
from bench.stats.quality import qualities, swaps, with_quality, worth_of
from bench.stats.rows import STATS_VERSION, Cell, cells_of, finite, median, rows_of, with_latencies
from bench.stats.sample import Effective, percentile, profile
from bench.stats.soak import soak_fits

__all__ = [
    "STATS_VERSION",
    "controls_in",
    "derived_name",
    "fits",
    "leaderboard",
    "paired_ratio",
    "percentile",
    "qualities",
    "swaps",
    "undecided",
]


def leaderboard(run: RunData) -> tuple[list[Result], list[Comparison]]:
    """All rows of one run: one per arm × scenario (a closed loop's derived client counts included), and every pair compared.

    A row whose vectors are not proven carries no time. Ranks are computed with or without controls; `ranked` says whether they
    may be shown as such, and `rank_note` why not.
    """
    results: list[Result] = []
    comparisons: list[Comparison] = []
    cells_by_scenario, worth = cells_of(run), worth_of(run)
    for scenario in run.scenarios:
        cells = cells_by_scenario[scenario.name]
        rows = [with_quality(run, worth, row) for row in rows_of(run, cells)]
        compared = compare_arms(cells, rows)
        controls = run.controls or controls_of(cells, compared.pairs)
        alone = _batched_stems(run, scenario)
        for cell, row in zip(cells, rows, strict=True):
            ranked = with_rank(row, compared.standings.get(row.arm_id), controls)
            results += [_served(cell, ranked), *_derived(cell, ranked), *derived_rows(cell, ranked)]
            results += [replace(_served(cell, ranked), scenario=f"{stem}-1", served_scenario=scenario.name) for stem in alone]
        comparisons += [_comparison(run, scenario, compared.quantity, pair, found) for pair, found in compared.pairs.items()]
    return results, comparisons


def controls_in(run: RunData) -> Controls | None:
    """How the controls of a run came out over all its scenarios; None where it has none. Another run may refer to them."""
    found = []
    for cells in cells_of(run).values():
        controls = controls_of(cells, compare_arms(cells, rows_of(run, cells)).pairs)
        if controls:
            found.append(controls)
    return next((controls for controls in found if not controls.held), found[0] if found else None)


def fits(run: RunData) -> list[Fit]:
    """What else is known of single cells: cost curves, the cost of new shapes, memory slopes of a soak."""
    proven = ("OK", "PARTIAL")
    found = []
    for cells in cells_of(run).values():
        for cell, row in zip(cells, rows_of(run, cells), strict=True):
            if row.status in proven:
                found += [*fits_of(cell), *soak_fits(run, cell)]
    return found


def undecided(run: RunData) -> frozenset[str]:
    """The scenarios in which more blocks may still decide between two measured arms."""
    roles = {arm.arm_id: arm.role for arm in run.arms}
    return frozenset(
        pair.scenario for pair in leaderboard(run)[1]
        if pair.verdict == UNRESOLVED and pair.blocks >= LOOKS[0] and {roles[pair.arm_a], roles[pair.arm_b]} == {"measured"}
    )  # fmt: skip


def _batched_stems(run: RunData, scenario: RunScenario) -> list[str]:
    """The batched closed loops of a run whose column of one client is this scenario: one client batched is one at a time."""
    if scenario.load != "closed" or scenario.batch != 1 or 1 not in scenario.clients:
        return []
    batched = [re.sub(r"-?[0-9]+$", "", other.name) for other in run.scenarios if other.load == "closed" and other.batch > 1]
    taken = {other.name for other in run.scenarios}
    return [stem for stem in dict.fromkeys(batched) if batched.count(stem) > 1 and f"{stem}-1" not in taken]


def derived_name(scenario: str, clients: int) -> str:
    """The scenario of C clients that is derived from a served one: `closed-1` → `closed-16`."""
    return f"{re.sub(r'-?[0-9]+$', '', scenario)}-{clients}"


def _served(cell: Cell, row: Result) -> Result:
    """The row under the served scenario's own name: its clients cannot keep more than one session at work."""
    if cell.scenario.load != "closed" or cell.arm.sessions == 1 or row.mean_ms is None:
        return row
    return replace(cell.identity, status="NOT_APPLICABLE", reason=_too_few(cell, cell.scenario.batch))


def _too_few(cell: Cell, clients: int) -> str:
    return f"{clients} clients cannot keep {cell.arm.sessions * cell.scenario.batch} requests at work"


def _derived(cell: Cell, row: Result) -> Iterator[Result]:
    """The rows of a closed loop's other client counts, status-equal to the served row."""
    others = [clients for clients in cell.scenario.clients if clients != row.clients] if cell.scenario.load == "closed" else []
    if not others:
        return
    served, together = cell.served, cell.arm.sessions * cell.scenario.batch
    timed = row.mean_ms is not None
    own = profile(as_measured(served).latency, served.block, served.start_ns) if timed else []
    for clients in others:
        possible = clients >= together
        base = replace(row if possible else cell.identity, served_scenario=cell.scenario.name, clients=clients,
                       scenario=derived_name(cell.scenario.name, clients))  # fmt: skip
        if not possible:
            yield replace(base, status="NOT_APPLICABLE", reason=_too_few(cell, clients))
        elif timed:
            tails = [Effective(found.n_eff, 0) for found in own]
            yield with_latencies(base, served, closed_loop(served, clients), tails)
        else:
            yield base


def _comparison(run: RunData, scenario: RunScenario, quantity: str, pair: Pair, found: Paired) -> Comparison:
    note = found.note
    if 0 < found.blocks < LOOKS[0]:
        lasted = median([(block.ended_at - block.started_at).total_seconds() for block in run.blocks if block.scenario == scenario.name])
        note = f"{note}: about {(lasted or 0) * (LOOKS[0] - found.blocks):.0f} s more of measuring"
    return Comparison(
        run_id=run.run_id, scenario=scenario.name, arm_a=pair[0], arm_b=pair[1], quantity=quantity, blocks=found.blocks,
        ratio=finite(found.ratio), ratio_lo=finite(found.lo) or None, ratio_hi=finite(found.hi), p_value=finite(found.p),
        p_holm=finite(found.p_holm), verdict=found.verdict, note=note, stats_version=STATS_VERSION,
    )  # fmt: skip
