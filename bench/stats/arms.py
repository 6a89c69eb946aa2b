"""Arms against each other in one scenario: which pairs are compared, families, controls and ranks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from bench.catalog.control_arms import stall_of
from bench.core.arrays import Bools
from bench.runs.schema import PROVEN, RunArm
from bench.stats.cells import Cell
from bench.stats.load import Requests, as_measured, new_calls, overrun_blocks, stretches
from bench.stats.paired import FASTER, LOOKS, SLOWER, Pair, PairedRatio, Rank, judge_family, paired_ratio, ranks
from bench.stats.sample import percentile
from bench.stats.tables import Result, finite

CONTROLS = ("twin", "slow", "stall")
#: A row with more than this share of its blocks flagged noisy is shown without a rank.
NOISY_SHARE = 1 / 3
#: An open-loop block without a finite p99 counts as this many times worse than the other arm's.
OVERRUN = 1000.0


@dataclass(frozen=True)
class Controls:
    """Whether the controls (a twin, an arm made 5 % slower, a stall) came out as they must, and where not, why."""

    held: bool
    note: str | None = None


@dataclass(frozen=True)
class Compared:
    """All compared pairs of one scenario, by the column `quantity`, and the rank of each arm within its family."""

    quantity: str
    pairs: Mapping[Pair, PairedRatio]
    ranks: Mapping[str, Rank]


def compare_arms(cells: Sequence[Cell], rows: Sequence[Result]) -> Compared:
    """Compare the arms of one scenario.

    Within a family every pair, under Holm's adjustment; variants, other layouts and other precisions with their framework's own default;
    controls with the arm that they were made from.
    """
    usable = {row.arm_id: (cell, row) for cell, row in zip(cells, rows, strict=True) if row.status in PROVEN and row.role != "floor"}
    quantity = _quantity([row for _, row in usable.values()], cells)
    if any(cell.scenario.load == "slo" for cell in cells):
        return Compared(quantity, {}, {})
    blocks = {arm_id: _by_block(_compared_requests(cell)) for arm_id, (cell, _) in usable.items()}
    overrun = {arm_id: overrun_blocks(cell.requests, cell.cut) for arm_id, (cell, _) in usable.items() if cell.scenario.load == "open"}

    def compare(a: str, b: str) -> PairedRatio:
        return paired_ratio(*_paired_blocks(blocks[a], blocks[b], quantity, overrun.get(a, ()), overrun.get(b, ())))

    arms = [cell.arm for cell, _ in usable.values()]
    pairs: dict[Pair, PairedRatio] = {}
    rank_of: dict[str, Rank] = {}
    rankable = [arm for arm in arms if usable[arm.arm_id][1].rank_note is None]
    for family in _families(rankable):
        within = judge_family({(a, b): compare(a, b) for place, a in enumerate(family) for b in family[place + 1 :]})
        pairs |= within
        rank_of |= ranks({arm_id: _score(usable[arm_id][1], quantity) for arm_id in family}, within)
    for to_default in _families_of_one_framework(arms):
        pairs |= judge_family({pair: compare(*pair) for pair in to_default if pair not in pairs})
    for arm in arms:
        base = _default_of(arm, arms)
        if arm.role in CONTROLS and base:
            pairs[arm.arm_id, base.arm_id] = compare(arm.arm_id, base.arm_id)
    return Compared(quantity, pairs, rank_of)


def _families(arms: Sequence[RunArm]) -> list[list[str]]:
    """The arms that are ranked together: measured ones of one precision and one variant, of one layout unless the layout was tuned.

    Variants other than default, tuned and own are compared with their own default only. A headline variant, or an `own` encoder, stands
    among the defaults where its framework has none.
    """
    families: dict[tuple[object, ...], list[str]] = {}
    for arm in arms:
        variant = "default" if _is_default(arm, arms) else arm.variant.partition(":")[0]
        if arm.role != "measured" or variant not in ("default", "tuned", "own"):
            continue
        layout = () if variant == "tuned" else (arm.sessions, arm.threads)
        families.setdefault((arm.precision, variant, *layout), []).append(arm.arm_id)
    return list(families.values())


def _families_of_one_framework(arms: Sequence[RunArm]) -> list[list[Pair]]:
    """The pairs within each framework: per precision each variant and each other layout with its default, and each other precision with
    fp32."""
    families: dict[tuple[str, str], list[Pair]] = {}
    for arm in arms:
        if arm.role != "measured":
            continue
        for precision in dict.fromkeys((arm.precision, "fp32")):
            base = _default_of(arm, arms, precision)
            if base and base is not arm:
                family = arm.framework, arm.precision if precision == arm.precision else "to fp32"
                families.setdefault(family, []).append((arm.arm_id, base.arm_id))
    return list(families.values())


def _is_default(arm: RunArm, arms: Sequence[RunArm]) -> bool:
    """Is the arm its framework's default, or does it stand for one where there is none in this precision?"""
    if arm.variant == "default":
        return True
    return (arm.headline or arm.variant == "own") and not any(
        other.role == "measured" and other.variant == "default" and (other.framework, other.precision) == (arm.framework, arm.precision)
        for other in arms
    )


def _default_of(arm: RunArm, arms: Sequence[RunArm], precision: str | None = None) -> RunArm | None:
    """The measured default of an arm's framework in its precision, or in the one given.

    Of the same layout where there is one, else of fewest sessions; for a default arm that of fewest sessions, so that layouts are compared
    too.
    """
    framework, precision = arm.framework.partition("@")[0], precision or arm.precision
    same = [other for other in arms if other.role == "measured" and _is_default(other, arms)
            and (other.framework, other.precision) == (framework, precision)]  # fmt: skip
    same.sort(key=lambda other: (other.sessions, -other.threads))
    if precision == arm.precision and arm.role == "measured" and _is_default(arm, arms):
        return next(iter(same), None)
    layout = [other for other in same if (other.sessions, other.threads) == (arm.sessions, arm.threads)]
    return next(iter(layout + same), None)


def _compared_requests(cell: Cell) -> Requests:
    """The requests by which arms are compared: all of them, or of new shapes the first call of each."""
    if cell.scenario.shapes != "new":
        return cell.requests
    return _part(cell.requests, np.isin(np.arange(len(cell.requests)), new_calls(cell.requests).place))


def _quantity(rows: Sequence[Result], cells: Sequence[Cell]) -> str:
    """The column by which arms are compared: throughput, or of an open loop p99 (p50 where p99 is withheld for any arm)."""
    if any(cell.scenario.shapes == "new" for cell in cells):
        return "p50_ms"
    if not any(cell.scenario.load == "open" for cell in cells):
        return "requests_per_s"
    return "p99_ms" if all(row.p99_ms is not None for row in rows) else "p50_ms"


def _score(row: Result, quantity: str) -> float:
    """The row's quantity, turned so that more is better; NaN where it has none."""
    value = {"requests_per_s": row.requests_per_s, "p99_ms": row.p99_ms, "p50_ms": row.p50_ms}[quantity]
    if value is None or value <= 0:
        return math.nan
    return value if quantity == "requests_per_s" else 1 / value


def _by_block(requests: Requests) -> dict[int, Requests]:
    numbers, first = np.unique(requests.block, return_index=True)
    last = np.append(first[1:], len(requests))
    return {int(number): _part(requests, slice(a, b)) for number, a, b in zip(numbers, first, last, strict=True)}


def _part(requests: Requests, rows: slice | Bools) -> Requests:
    return Requests(**{field.name: getattr(requests, field.name)[rows] for field in fields(Requests)})


def _paired_blocks(
    a: Mapping[int, Requests], b: Mapping[int, Requests], quantity: str, over_a: Collection[int] = (), over_b: Collection[int] = ()
) -> tuple[list[float], list[float]]:
    """The quantity of A and of B in each block that both have, on the rows that both served; more is better.

    `over_a`, `over_b`: blocks of an open loop in which an arm did not keep up; they score 0.
    """
    left, right = [], []
    for number in sorted(a.keys() & b.keys()):
        x, y = a[number], b[number]
        if not np.array_equal(x.request, y.request):
            x, y = _part(x, np.isin(x.request, y.request)), _part(y, np.isin(y.request, x.request))
        if len(x) and len(y):
            scores = _bounded(
                0.0 if number in over_a else _block_score(x, quantity), 0.0 if number in over_b else _block_score(y, quantity)
            )
            left.append(scores[0])
            right.append(scores[1])
    return left, right


def block_scores(cell: Cell, quantity: str) -> list[float]:
    """The quantity of one cell in each of its blocks, turned so that more is better."""
    return [_block_score(requests, quantity) for requests in _by_block(_compared_requests(cell)).values()]


def _bounded(x: float, y: float) -> tuple[float, float]:
    """An overrun block (score 0: its p99 is infinite) counts as OVERRUN times worse than the other; two overrun ones as equal."""
    if x == 0 and y == 0:
        return 1.0, 1.0
    return (y / OVERRUN if x == 0 else x), (x / OVERRUN if y == 0 else y)


def _block_score(requests: Requests, quantity: str) -> float:
    if quantity == "requests_per_s":
        parts = stretches(requests)
        return float(parts.rows.sum() / parts.seconds.sum())
    return 1 / percentile(as_measured(requests).latency, 0.99 if quantity == "p99_ms" else 0.5)


def controls_of(cells: Sequence[Cell], pairs: Mapping[Pair, PairedRatio]) -> Controls | None:
    """Did this scenario's own controls come out as they must? None where it has none."""
    roles = {cell.arm.arm_id: cell.arm.role for cell in cells}
    twins = [paired for (a, _), paired in pairs.items() if roles[a] == "twin"]
    slow = [paired for (a, _), paired in pairs.items() if roles[a] == "slow"]
    stalls = [cell for cell in cells if cell.arm.role == "stall"]
    if not {"twin", "slow"} & set(roles.values()):
        return None
    if not twins or not slow:
        return Controls(False, "a control could not be compared")
    for twin in twins:
        if twin.verdict in (FASTER, SLOWER):
            return Controls(False, f"controls failed: a twin differs ({twin.ratio:.3f}×)")
    for slowed in slow:
        if slowed.verdict != SLOWER:
            return Controls(False, f"controls failed: the slowed arm was not found ({slowed.ratio:.3f}×, {slowed.note or slowed.verdict})")
    unseen = next((note for cell in stalls if (note := _unseen(cell))), None)
    return Controls(unseen is None, unseen)


def _unseen(cell: Cell) -> str | None:
    """Why the planted stall of a control arm does not show; None where a recorded request took at least as long."""
    planted = stall_of(cell.arm.fault)
    if planted is None:
        return "controls failed: the stall arm has no stall"
    longest_s = float(as_measured(cell.requests).latency.max()) / 1e9 if len(cell.requests) else 0.0
    return None if longest_s >= planted[1] else f"controls failed: the stall of {planted[1]:g} s was not seen (longest {longest_s:.3f} s)"


def with_rank(row: Result, rank: Rank | None, controls: Controls | None) -> Result:
    """Rank interval, tie group and ratio to the best; `ranked` only where the row, its run and its controls allow it."""
    if rank:
        row = replace(
            row,
            rank_lo=rank.rank_lo,
            rank_hi=rank.rank_hi,
            tie_group=rank.tie_group,
            ratio_to_best=finite(rank.ratio),
            ratio_lo=finite(rank.lo),
            ratio_hi=finite(rank.hi),
        )
    note = row.rank_note or _why_not_ranked(row, rank, controls)
    return replace(row, ranked=rank is not None and note is None, rank_note=note)


def _why_not_ranked(row: Result, rank: Rank | None, controls: Controls | None) -> str | None:
    """None also for a row that failed: its reason says why it has no rank."""
    if row.role != "measured":
        return "harness floor" if row.role == "floor" else "control"
    if row.status not in PROVEN:
        return None
    notes = (
        f"partial: {row.reason}" if row.status == "PARTIAL" else None,
        "compared with its own default only" if rank is None else None,
        f"{row.blocks} of {LOOKS[0]} blocks: too few for a verdict" if 0 < (row.blocks or 0) < LOOKS[0] else None,
        f"noisy machine: {row.noisy_blocks} of {row.blocks} blocks" if _mostly_noisy(row) else None,
        "no controls" if controls is None else None,
        controls.note or "controls failed" if controls and not controls.held else None,
    )
    return next((note for note in notes if note), None)


def _mostly_noisy(row: Result) -> bool:
    return bool(row.blocks) and (row.noisy_blocks or 0) > NOISY_SHARE * (row.blocks or 0)
