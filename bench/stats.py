"""From the samples of one run to the rows of the leaderboard: every percentile, interval, comparison and rank — here and in the
three files it stands on (`stats_sample`, `stats_load`, `stats_paired`), and nowhere else.

`leaderboard()` is the only entry. Pure: no file, no clock, no chance.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import parity
from bench.records import Block, Comparison, Controls, Failure, Result, RunArm, RunData, RunScenario
from bench.stats_load import Latencies, Served, as_measured, closed_loop, stretches
from bench.stats_paired import FASTER, LOOKS, SLOWER, Pair, Paired, Standing, judge_family, paired_ratio, standings
from bench.stats_sample import PERCENTILES, Effective, Percentile, judged, percentile, rate, withheld

__all__ = ["STATS_VERSION", "controls_of", "derived_name", "leaderboard", "paired_ratio", "percentile"]

#: Changes with any change that can alter a stored number.
STATS_VERSION = 1
MIN_BLOCKS = 3
MIN_REQUESTS, MIN_REQUESTS_SLOW = 200, 20
#: From these on a model is big, or an arm slow, enough for MIN_REQUESTS_SLOW.
BIG_BYTES, SLOW_NS = 1_000_000_000, 50_000_000
#: Statuses whose samples are compared.
COMPARED = ("OK", "PARTIAL")
CONTROLS = ("twin", "slow", "stall")
NS_PER_MS = 1e6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One arm in one served scenario: what it served, and its row with nothing but its identity in it."""

    arm: RunArm
    scenario: RunScenario
    served: Served
    identity: Result


@dataclass(frozen=True)
class Compared:
    """All pairs of one scenario, and where the arms of each family stand."""

    quantity: str
    pairs: Mapping[Pair, Paired]
    standings: Mapping[str, Standing]


def leaderboard(run: RunData) -> tuple[list[Result], list[Comparison]]:
    """All rows of one run: one per arm × scenario (a closed loop's derived client counts included), and every pair compared.

    A row whose vectors are not proven carries no time. Ranks are computed with or without controls; `ranked` says whether they
    may be shown as such, and `rank_note` why not.
    """
    results: list[Result] = []
    comparisons: list[Comparison] = []
    served = _by_cell(run)
    for scenario in run.scenarios:
        cells = [_cell(run, arm, scenario, served.get((scenario.name, arm.arm_id), _served(NO_SAMPLES))) for arm in run.arms]
        slow = _is_slow(run, cells)
        rows = [_with_numbers(run, cell, _with_status(run, cell, slow)) for cell in cells]
        compared = _compare(cells, rows)
        controls = run.controls or controls_of(cells, compared.pairs)
        for cell, row in zip(cells, rows, strict=True):
            ranked = _with_rank(row, compared.standings.get(row.arm_id), controls)
            results += [ranked, *_derived(cell, ranked)]
        comparisons += [_comparison(run, scenario, compared.quantity, pair, found) for pair, found in compared.pairs.items()]
    return results, comparisons


def derived_name(scenario: str, clients: int) -> str:
    """The scenario of C clients that is derived from a served one: `closed-1` → `closed-16`."""
    return f"{re.sub(r'-?[0-9]+$', '', scenario)}-{clients}"


# --- one cell ------------------------------------------------------------------------------------------------------------------

INTEGERS = ("block", "slice", "request", "tokens", "due_ns", "start_ns", "end_ns")
REALS = ("preprocess_ns", "cosine", "max_abs_diff")
NO_SAMPLES = pd.DataFrame({name: np.zeros(0) for name in (*INTEGERS, *REALS)})


def _by_cell(run: RunData) -> dict[tuple[str, str], Served]:
    """(scenario, arm) → what was served there, in the order taken."""
    frame = run.samples.sort_values(["scenario", "arm_id", "block", "start_ns", "request"], kind="stable", ignore_index=True)
    groups = frame.groupby(["scenario", "arm_id"], sort=False, observed=True)
    return {(str(scenario), str(arm_id)): _served(part) for (scenario, arm_id), part in groups}


def _served(part: pd.DataFrame) -> Served:
    whole = {name: part[name].to_numpy(dtype=np.int64) for name in INTEGERS}
    real = {name: part[name].to_numpy(dtype=float) for name in REALS}
    block, piece = whole["block"], whole.pop("slice")
    new = np.ones(len(part), dtype=bool)
    new[1:] = (block[1:] != block[:-1]) | (piece[1:] != piece[:-1])
    return Served(stretch=np.cumsum(new) - 1, **whole, **real)


def _cell(run: RunData, arm: RunArm, scenario: RunScenario, served: Served) -> Cell:
    version = (arm.version or {}).get("version")
    identity = Result(
        run_id=run.run_id, campaign_id=run.campaign_id, arm_id=arm.arm_id, role=arm.role, measured_at=run.measured_at,
        machine_id=run.machine_id, machine=run.machine, model=run.model, weights=run.weights, framework=arm.framework,
        framework_version=None if version is None else str(version), language=arm.language, precision=arm.precision,
        variant=arm.variant, sessions=arm.sessions, threads=arm.threads, scenario=scenario.name, served_scenario=None,
        clients=_served_clients(scenario), rate_per_s=scenario.rate_per_s, batch=scenario.batch, status="SKIPPED", reason=None,
        plan_hash=scenario.plan_hash, artefact_hash=arm.artefact_hash, stats_version=STATS_VERSION,
    )  # fmt: skip
    return Cell(arm, scenario, served, identity)


def _served_clients(scenario: RunScenario) -> int | None:
    """The client count that the served row itself stands for: a closed loop's is as many as are served together."""
    if scenario.load == "open":
        return None
    return scenario.batch if scenario.load == "closed" else 1


def _is_slow(run: RunData, cells: Sequence[Cell]) -> bool:
    """May this scenario do with MIN_REQUESTS_SLOW? A request of a batch takes as long as its batch."""
    services = [float(np.median(cell.served.end_ns - cell.served.start_ns))
                for cell in cells if cell.arm.role == "measured" and len(cell.served)]  # fmt: skip
    return run.model_bytes >= BIG_BYTES or max(services, default=0.0) >= SLOW_NS


def _with_status(run: RunData, cell: Cell, slow: bool) -> Result:
    """Status and reason, and what may be said whatever they are: n, blocks, errors, agreement with the reference."""
    arm, served = cell.arm, cell.served
    slices = [piece for block in _blocks_of(run, cell) for piece in block.slices if piece.arm_id == arm.arm_id]
    had = set(served.block.tolist())
    row = replace(
        cell.identity, n=len(served), blocks=len(had), errors=sum(piece.count - piece.served for piece in slices if piece.error),
        noisy_blocks=sum(block.noisy for block in _blocks_of(run, cell) if block.block in had),
    )  # fmt: skip
    parity_reason = None
    if arm.role != "floor":
        if len(served):
            row = replace(row, min_cosine=_finite(served.cosine.min()), max_abs_diff=_finite(served.max_abs_diff.max()))
        parity_reason = _parity_reason(run, cell)
    failure = _failure(run.failures, cell)
    if failure and (failure.status == "PARITY_FAIL" or not parity_reason):
        return replace(row, status=failure.status, reason=failure.reason)
    if parity_reason:
        return replace(row, status="PARITY_FAIL", reason=parity_reason)
    error = next((piece.error for piece in slices if piece.error), None)
    if not had:
        if slices:
            return replace(row, status="CRASH", reason=error or "served nothing")
        return replace(row, status="SKIPPED", reason="no block was measured" if run.finished else "the run is not finished")
    enough = MIN_REQUESTS_SLOW if slow else MIN_REQUESTS
    short = []
    if len(had) < MIN_BLOCKS:
        short.append(f"{len(had)} of {MIN_BLOCKS} blocks")
    if len(served) < enough:
        short.append(f"{len(served)} of {enough} requests")
    if cut := sum(piece.served < piece.count for piece in slices):
        short.append(f"{cut} of {len(slices)} slices cut short" + (f" ({error})" if error else ""))
    return replace(row, status="PARTIAL" if short else "OK", reason="; ".join(short) or None)


def _blocks_of(run: RunData, cell: Cell) -> list[Block]:
    return [block for block in run.blocks if block.scenario == cell.scenario.name]


def _failure(failures: Iterable[Failure], cell: Cell) -> Failure | None:
    """The recorded failure of this very cell, or of all cells of the arm that have no block."""
    own = [failure for failure in failures if failure.arm_id == cell.arm.arm_id]
    exact = [failure for failure in own if failure.scenario == cell.scenario.name]
    rest = [failure for failure in own if failure.scenario == "*" and not len(cell.served)]
    return next(iter(exact + rest), None)


def _parity_reason(run: RunData, cell: Cell) -> str | None:
    """Why the vectors of a cell are not proven: the worst of the timed requests, then the checks of the arm."""
    served = cell.served
    if len(served):
        reason = parity.gate(cell.arm.precision, float(served.cosine.min()), float(served.max_abs_diff.max()))
        if reason:
            return reason
    broken = [check for check in run.checks if check.arm_id == cell.arm.arm_id and check.held is False]
    return f"{broken[0].name}: {broken[0].detail or 'did not hold'}" if broken else None


def _with_numbers(run: RunData, cell: Cell, row: Result) -> Result:
    """Times, throughput and resources. Without proven vectors there is no time."""
    if row.status == "PARITY_FAIL":
        return row
    starts = [start for start in run.starts if start.arm_id == cell.arm.arm_id]
    row = replace(
        row,
        load_ms=_median([start.load_ns / NS_PER_MS for start in starts if start.load_ns is not None]),
        first_ms=_median([start.first_ns / NS_PER_MS for start in starts if start.first_ns is not None]),
    )
    if not len(cell.served):
        return row
    row = _with_latencies(row, cell.served, as_measured(cell.served))
    return _with_resources(run, cell, _with_throughput(cell, row))


def _with_latencies(row: Result, served: Served, times: Latencies, tails: Sequence[Effective] = ()) -> Result:
    """The percentile columns of a row. `tails`: per percentile the n_eff to judge by, where it is another sequence's."""
    latency, place, ms = times.latency, times.place, NS_PER_MS
    if not len(latency):
        return replace(row, n=0, tail_note="no latency is left after the first of each client")
    found = _percentiles(latency, served.block[place], served.start_ns[place], tails)
    p50, p90, p95, p99, p999 = found
    prepared = served.preprocess_ns[place]
    medians = (times.service, times.wait, prepared, latency + prepared)
    service, wait, preprocess, text = (
        None if p50.value is None else _scaled(percentile(values, 0.5), ms) for values in medians
    )
    return replace(
        row, n=len(latency), n_eff=p99.n_eff, tail_note=withheld(found), mean_ms=float(latency.mean()) / ms,
        stdev_ms=float(latency.std(ddof=1)) / ms if len(latency) > 1 else None, max_ms=float(latency.max()) / ms,
        p50_ms=_scaled(p50.value, ms), p90_ms=_scaled(p90.value, ms), p95_ms=_scaled(p95.value, ms),
        p99_ms=_scaled(p99.value, ms), p999_ms=_scaled(p999.value, ms),
        p50_lo_ms=_scaled(p50.lo, ms), p50_hi_ms=_scaled(p50.hi, ms), p99_lo_ms=_scaled(p99.lo, ms), p99_hi_ms=_scaled(p99.hi, ms),
        service_p50_ms=service, wait_p50_ms=wait, preprocess_p50_ms=preprocess, text_p50_ms=text,
    )  # fmt: skip


def _percentiles(
    latency: Floats, runs: npt.NDArray[np.int64], units: npt.NDArray[np.int64], tails: Sequence[Effective] = ()
) -> list[Percentile]:
    judge_by: Sequence[Effective | None] = tails or [None] * len(PERCENTILES)
    return [judged(latency, p, runs, units, tail) for (p, _), tail in zip(PERCENTILES, judge_by, strict=True)]


def _with_throughput(cell: Cell, row: Result) -> Result:
    parts = stretches(cell.served)
    _, place = np.unique(parts.block, return_inverse=True)
    found = rate(np.bincount(place, parts.rows), np.bincount(place, parts.seconds))
    tokens, seconds = float(parts.tokens.sum()), float(parts.seconds.sum())
    return replace(
        row, requests_per_s=_finite(found.value), requests_per_s_lo=_finite(found.lo), requests_per_s_hi=_finite(found.hi),
        embeddings_per_s=_finite(found.value), tokens_per_s=tokens / seconds if tokens and seconds else None,
    )  # fmt: skip


def _with_resources(run: RunData, cell: Cell, row: Result) -> Result:
    """Memory at the end of the blocks; CPU time over the slices that were served."""
    arm_id, blocks = cell.arm.arm_id, _blocks_of(run, cell)
    slices = [piece for block in blocks for piece in block.slices if piece.arm_id == arm_id and not piece.error]
    memory = [block.memory[arm_id] for block in blocks if arm_id in block.memory]
    steady = _median([float(rss) for _, rss in memory if rss is not None])
    cpu_ns = [piece.cpu_ns for piece in slices if piece.cpu_ns is not None]
    wall_ns, rows = sum(piece.wall_ns for piece in slices), sum(piece.served for piece in slices)
    told = bool(cpu_ns) and len(cpu_ns) == len(slices)
    return replace(
        row,
        peak_rss_bytes=max((peak for peak, _ in memory if peak is not None), default=None),
        rss_bytes=None if steady is None else round(steady),
        cpu_percent=100 * sum(cpu_ns) / wall_ns if told and wall_ns else None,
        cpu_s_per_1000=sum(cpu_ns) / 1e9 * 1000 / rows if told and rows else None,
    )


def _derived(cell: Cell, row: Result) -> Iterator[Result]:
    """The rows of a closed loop's other client counts, status-equal to the served row."""
    others = [clients for clients in cell.scenario.clients if clients != row.clients] if cell.scenario.load == "closed" else []
    if not others:
        return
    served, together = cell.served, cell.arm.sessions * cell.scenario.batch
    timed = row.mean_ms is not None
    own = _percentiles(as_measured(served).latency, served.block, served.start_ns) if timed else []
    for clients in others:
        possible = clients >= together
        base = replace(row if possible else cell.identity, served_scenario=cell.scenario.name, clients=clients,
                       scenario=derived_name(cell.scenario.name, clients))  # fmt: skip
        if not possible:
            yield replace(base, status="NOT_APPLICABLE", reason=f"{clients} clients cannot keep {together} requests at work")
        elif timed:
            tails = [Effective(found.n_eff, 0) for found in own]
            yield _with_latencies(base, served, closed_loop(served, clients), tails)
        else:
            yield base


# --- arms against each other -----------------------------------------------------------------------------------------------------


def _compare(cells: Sequence[Cell], rows: Sequence[Result]) -> Compared:
    """Compare what may be compared in one scenario: families by Holm, variants with their own default, controls with their twin."""
    usable = {row.arm_id: (cell, row) for cell, row in zip(cells, rows, strict=True) if row.status in COMPARED and row.role != "floor"}
    quantity = _quantity([row for _, row in usable.values()], cells)
    blocks = {arm_id: _by_block(cell.served) for arm_id, (cell, _) in usable.items()}

    def compare(a: str, b: str) -> Paired:
        return paired_ratio(*_paired_blocks(blocks[a], blocks[b], quantity))

    arms = [cell.arm for cell, _ in usable.values()]
    pairs: dict[Pair, Paired] = {}
    stand: dict[str, Standing] = {}
    for family in _families(arms):
        within = judge_family({(a, b): compare(a, b) for place, a in enumerate(family) for b in family[place + 1 :]})
        pairs |= within
        stand |= standings({arm_id: _score(usable[arm_id][1], quantity) for arm_id in family}, within)
    for framework in dict.fromkeys(arm.framework for arm in arms):
        variants = {(arm.arm_id, base.arm_id) for arm in arms if arm.framework == framework and arm.role == "measured"
                    for base in [_default_of(arm, arms)] if base and base is not arm}  # fmt: skip
        pairs |= judge_family({pair: compare(*pair) for pair in sorted(variants - pairs.keys())})
    for arm in arms:
        base = _default_of(arm, arms)
        if arm.role in CONTROLS and base:
            pairs[arm.arm_id, base.arm_id] = compare(arm.arm_id, base.arm_id)
    return Compared(quantity, pairs, stand)


def _families(arms: Sequence[RunArm]) -> list[list[str]]:
    """Who is ranked against whom: measured arms of one precision and one variant, of one layout unless the layout was tuned.

    Variants other than default, tuned and own are compared with their own default only. An `own` encoder stands among the defaults
    where its framework has none.
    """
    families: dict[tuple[object, ...], list[str]] = {}
    for arm in arms:
        if arm.role != "measured" or arm.variant not in ("default", "tuned", "own"):
            continue
        headline = arm.variant == "own" and _default_of(arm, arms) is None
        layout = () if arm.variant == "tuned" else (arm.sessions, arm.threads)
        families.setdefault((arm.precision, "default" if headline else arm.variant, *layout), []).append(arm.arm_id)
    return list(families.values())


def _default_of(arm: RunArm, arms: Sequence[RunArm]) -> RunArm | None:
    """The measured default arm of the same framework and precision, of the same layout where there is one."""
    framework = arm.framework.partition("@")[0]
    same = [other for other in arms if other.role == "measured" and other.variant == "default"
            and (other.framework, other.precision) == (framework, arm.precision)]  # fmt: skip
    layout = [other for other in same if (other.sessions, other.threads) == (arm.sessions, arm.threads)]
    return next(iter(layout + (same if arm.variant == "tuned" else [])), None)


def _quantity(rows: Sequence[Result], cells: Sequence[Cell]) -> str:
    """The column that decides: throughput, or of an open loop p99 (p50 where p99 is withheld for any arm)."""
    if not any(cell.scenario.load == "open" for cell in cells):
        return "requests_per_s"
    return "p99_ms" if all(row.p99_ms is not None for row in rows) else "p50_ms"


def _score(row: Result, quantity: str) -> float:
    """The row's quantity, turned so that more is better; NaN where it has none."""
    value = {"requests_per_s": row.requests_per_s, "p99_ms": row.p99_ms, "p50_ms": row.p50_ms}[quantity]
    if value is None or value <= 0:
        return math.nan
    return value if quantity == "requests_per_s" else 1 / value


def _by_block(served: Served) -> dict[int, Served]:
    numbers, first = np.unique(served.block, return_index=True)
    last = np.append(first[1:], len(served))
    return {int(number): _part(served, slice(a, b)) for number, a, b in zip(numbers, first, last, strict=True)}


def _part(served: Served, rows: slice | npt.NDArray[np.bool_]) -> Served:
    return Served(**{field.name: getattr(served, field.name)[rows] for field in fields(Served)})


def _paired_blocks(a: Mapping[int, Served], b: Mapping[int, Served], quantity: str) -> tuple[list[float], list[float]]:
    """The quantity of A and of B in each block that both have, on the rows that both served; more is better."""
    left, right = [], []
    for number in sorted(a.keys() & b.keys()):
        x, y = a[number], b[number]
        if not np.array_equal(x.request, y.request):
            x, y = _part(x, np.isin(x.request, y.request)), _part(y, np.isin(y.request, x.request))
        if len(x) and len(y):
            left.append(_block_score(x, quantity))
            right.append(_block_score(y, quantity))
    return left, right


def _block_score(served: Served, quantity: str) -> float:
    if quantity == "requests_per_s":
        parts = stretches(served)
        return float(parts.rows.sum() / parts.seconds.sum())
    latency = as_measured(served).latency
    return 1 / percentile(latency, 0.99 if quantity == "p99_ms" else 0.5)


def controls_of(cells: Sequence[Cell], pairs: Mapping[Pair, Paired]) -> Controls | None:
    """Did this scenario's own controls come out as they must? None where it has none."""
    roles = {cell.arm.arm_id: cell.arm.role for cell in cells}
    twins = [found for (a, _), found in pairs.items() if roles[a] == "twin"]
    slow = [found for (a, _), found in pairs.items() if roles[a] == "slow"]
    if not {"twin", "slow"} & set(roles.values()):
        return None
    if not twins or not slow:
        return Controls(False, "a control could not be compared")
    if any(found.verdict in (FASTER, SLOWER) for found in twins):
        return Controls(False, f"controls failed: a twin differs ({twins[0].ratio:.3f}×)")
    if any(found.verdict != SLOWER for found in slow):
        return Controls(False, f"controls failed: the slowed arm was not found ({slow[0].ratio:.3f}×, {slow[0].note or 'unresolved'})")
    return Controls(True)


def _with_rank(row: Result, standing: Standing | None, controls: Controls | None) -> Result:
    """Rank interval, tie group and ratio to the best; `ranked` only where the row, its run and its controls allow it."""
    if standing:
        row = replace(
            row, rank_lo=standing.rank_lo, rank_hi=standing.rank_hi, tie_group=standing.tie_group,
            ratio_to_best=_finite(standing.ratio), ratio_lo=_finite(standing.lo), ratio_hi=_finite(standing.hi),
        )  # fmt: skip
    note = _why_not_ranked(row, standing, controls)
    return replace(row, ranked=standing is not None and note is None, rank_note=note)


def _why_not_ranked(row: Result, standing: Standing | None, controls: Controls | None) -> str | None:
    """None also for a row that failed: its reason says it all."""
    if row.role != "measured":
        return "harness floor" if row.role == "floor" else "control"
    if row.status not in COMPARED:
        return None
    if row.status == "PARTIAL":
        return f"partial: {row.reason}"
    if standing is None:
        return "compared with its own default only"
    if controls is None:
        return "no controls"
    return None if controls.held else controls.note


def _comparison(run: RunData, scenario: RunScenario, quantity: str, pair: Pair, found: Paired) -> Comparison:
    note = found.note
    if 0 < found.blocks < LOOKS[0]:
        lasted = _median([(block.ended_at - block.started_at).total_seconds() for block in run.blocks if block.scenario == scenario.name])
        note = f"{note}: about {(lasted or 0) * (LOOKS[0] - found.blocks):.0f} s more of measuring"
    return Comparison(
        run_id=run.run_id, scenario=scenario.name, arm_a=pair[0], arm_b=pair[1], quantity=quantity, blocks=found.blocks,
        ratio=_finite(found.ratio), ratio_lo=_finite(found.lo) or None, ratio_hi=_finite(found.hi), p_value=_finite(found.p),
        p_holm=_finite(found.p_holm), verdict=found.verdict, note=note, stats_version=STATS_VERSION,
    )  # fmt: skip


# --- small things ------------------------------------------------------------------------------------------------------------------


def _finite(value: float) -> float | None:
    """NULL instead of NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
