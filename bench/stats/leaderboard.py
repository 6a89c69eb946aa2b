"""From the samples of one run to the rows of the leaderboard: every percentile, interval, comparison and rank.

    sample       percentiles with their effective n, intervals, throughput: one sample
    load         served clock, derived closed loop, open loop: one load
    slo          the search for the largest rate within a limit
    paired       ratios, verdicts, Holm, ranks: numbers of several arms by block
    cells        one arm in one scenario, and what was recorded about it
    rows         a cell → its row; resources and parity stand beside it
    arms         the cells of one scenario → comparisons and ranks
    derived      the rows derived from a sweep, new shapes or a search; fitted cost curves
    soak         memory slopes
    quality      retrieval and similarity against fp32; swapped indexes
    unpaired     two runs against each other

`leaderboard()` is the entry. Pure: it reads no file and no clock, and gives the same rows for the same run.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from dataclasses import replace

from bench.runs.schema import PROVEN, RunData, RunScenario
from bench.stats.arms import Controls, compare_arms, controls_of, with_rank
from bench.stats.cells import Cell, cells_of
from bench.stats.derived import derived_rows, fits_of
from bench.stats.load import as_measured, closed_loop
from bench.stats.paired import LOOKS, UNRESOLVED, Pair, PairedRatio, paired_ratio
from bench.stats.quality import qualities, run_quality, swaps, with_quality
from bench.stats.rows import rows_of, with_latencies
from bench.stats.sample import Effective, percentile, profile
from bench.stats.soak import soak_fits
from bench.stats.tables import STATS_VERSION, Comparison, Fit, Result, finite

__all__ = [
    "STATS_VERSION",
    "Controls",
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


def leaderboard(run: RunData, controls: Controls | None = None) -> tuple[list[Result], list[Comparison]]:
    """All rows of one run: one per arm × scenario (a closed loop's derived client counts included), and every pair compared.

    A row whose vectors are not proven carries no time. Ranks are computed with or without controls; `ranked` says whether they
    may be shown as such, and `rank_note` why not.

    Args:
        controls: the outcome of the controls that vouch for the run; where None, each scenario's own.
    """
    results: list[Result] = []
    comparisons: list[Comparison] = []
    cells_by_scenario, vectors = cells_of(run), run_quality(run)
    for scenario in run.scenarios:
        cells = cells_by_scenario[scenario.name]
        rows = [with_quality(run, vectors, row) for row in rows_of(cells)]
        compared = compare_arms(cells, rows)
        vouching = controls or controls_of(cells, compared.pairs)
        one_client = _batched_stems(run, scenario)
        for cell, row in zip(cells, rows, strict=True):
            ranked = with_rank(row, compared.ranks.get(row.arm_id), vouching)
            results += [_served_row(cell, ranked), *_client_rows(cell, ranked), *derived_rows(cell, ranked)]
            results += [replace(_served_row(cell, ranked), scenario=f"{stem}-1", served_scenario=scenario.name) for stem in one_client]
        comparisons += [_comparison(run, scenario, compared.quantity, pair, paired) for pair, paired in compared.pairs.items()]
    return results, comparisons


def controls_in(run: RunData) -> Controls | None:
    """The outcome of a run's controls over all its scenarios; None where it has none. Another run may refer to it."""
    outcomes = [
        controls
        for cells in cells_of(run).values()
        if (controls := controls_of(cells, compare_arms(cells, rows_of(cells)).pairs)) is not None
    ]
    return next((controls for controls in outcomes if not controls.held), outcomes[0] if outcomes else None)


def fits(run: RunData) -> list[Fit]:
    """Fitted numbers of single cells whose vectors are proven: cost curves, the cost of new shapes, memory slopes of a soak."""
    return [
        fit
        for cells in cells_of(run).values()
        for cell, row in zip(cells, rows_of(cells), strict=True)
        if row.status in PROVEN
        for fit in (*fits_of(cell), *soak_fits(cell))
    ]


def undecided(run: RunData) -> frozenset[str]:
    """The scenarios in which more blocks may still decide between two measured arms."""
    roles = {arm.arm_id: arm.role for arm in run.arms}
    return frozenset(
        pair.scenario for pair in leaderboard(run)[1]
        if pair.verdict == UNRESOLVED and pair.blocks >= LOOKS[0] and {roles[pair.arm_a], roles[pair.arm_b]} == {"measured"}
    )  # fmt: skip


def _batched_stems(run: RunData, scenario: RunScenario) -> list[str]:
    """The names, less their client count, of the batched closed loops that this scenario is the column of one client for."""
    if scenario.load != "closed" or scenario.batch != 1 or 1 not in scenario.clients:
        return []
    batched = [re.sub(r"-?[0-9]+$", "", other.name) for other in run.scenarios if other.load == "closed" and other.batch > 1]
    names = {other.name for other in run.scenarios}
    return [stem for stem in dict.fromkeys(batched) if batched.count(stem) > 1 and f"{stem}-1" not in names]


def derived_name(scenario: str, clients: int) -> str:
    """The name of the scenario of C clients that is derived from a served one: `closed-1` → `closed-16`."""
    return f"{re.sub(r'-?[0-9]+$', '', scenario)}-{clients}"


def _served_row(cell: Cell, row: Result) -> Result:
    """The row under the served scenario's own name; NOT_APPLICABLE with several sessions, which its clients cannot keep at work."""
    if cell.scenario.load != "closed" or cell.arm.sessions == 1 or row.mean_ms is None:
        return row
    return replace(cell.identity, status="NOT_APPLICABLE", reason=_too_few(cell, cell.scenario.batch))


def _too_few(cell: Cell, clients: int) -> str:
    return f"{clients} clients cannot keep {cell.arm.sessions * cell.scenario.batch} requests at work"


def _client_rows(cell: Cell, row: Result) -> Iterator[Result]:
    """The rows of a closed loop's other client counts, with the status of the served row."""
    others = [clients for clients in cell.scenario.clients if clients != row.clients] if cell.scenario.load == "closed" else []
    if not others:
        return
    requests, timed = cell.requests, row.mean_ms is not None
    percentiles = profile(as_measured(requests).latency, requests.block, requests.start_ns) if timed else []
    tails = [Effective(percentile.n_eff, 0) for percentile in percentiles]
    for clients in others:
        possible = clients >= cell.arm.sessions * cell.scenario.batch
        base = replace(
            row if possible else cell.identity,
            served_scenario=cell.scenario.name,
            clients=clients,
            scenario=derived_name(cell.scenario.name, clients),
        )
        if not possible:
            yield replace(base, status="NOT_APPLICABLE", reason=_too_few(cell, clients))
        elif timed:
            yield with_latencies(base, requests, closed_loop(requests, clients), tails)
        else:
            yield base


def _comparison(run: RunData, scenario: RunScenario, quantity: str, pair: Pair, paired: PairedRatio) -> Comparison:
    """The row of a compared pair. Where blocks are missing for a verdict, its note says how long they will take."""
    note = paired.note
    if 0 < paired.blocks < LOOKS[0]:
        block_s = statistics.median(block.seconds for block in run.blocks if block.scenario == scenario.name)
        note = f"{note}: about {block_s * (LOOKS[0] - paired.blocks):.0f} s more of measuring"
    return Comparison(
        run_id=run.run_id,
        scenario=scenario.name,
        arm_a=pair[0],
        arm_b=pair[1],
        quantity=quantity,
        blocks=paired.blocks,
        ratio=finite(paired.ratio),
        ratio_lo=finite(paired.lo) or None,
        ratio_hi=finite(paired.hi),
        p_value=finite(paired.p),
        p_holm=finite(paired.p_holm),
        verdict=paired.verdict,
        note=note,
        stats_version=STATS_VERSION,
    )
