"""One arm in one scenario as a row: status with its reason, agreement with the reference, percentiles, throughput, resources."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.catalog import LARGE_MODEL_BYTES
from bench.runs.schema import Block, Failure, Result, RunArm, RunData, RunScenario, Slice
from bench.stats import parity
from bench.stats.load import (
    Latencies,
    Served,
    as_measured,
    lateness,
    little_error,
    offered_load,
    open_windows,
    overrun_blocks,
    stretches,
    token_share,
)
from bench.stats.resources import resources_of, swap_note
from bench.stats.sample import Effective, percentile, profile, rate, withheld

#: Changes with any change that can alter a stored number.
STATS_VERSION = 2
MIN_BLOCKS = 3
MIN_REQUESTS, MIN_REQUESTS_SLOW = 200, 20
#: From these on a model is big, or an arm slow, enough for MIN_REQUESTS_SLOW.
SLOW_NS = 50_000_000
NS_PER_MS = 1e6
NO_INTERVAL = "one search an arm: no interval over blocks"
#: Loads whose pieces are cut off where an arm does not keep up: that is a finding, not a fault.
OPEN = ("open", "slo")
INTEGERS = ("block", "slice", "request", "tokens", "due_ns", "start_ns", "end_ns")
REALS = ("preprocess_ns", "cosine", "max_abs_diff")
NO_SAMPLES = pd.DataFrame({name: np.zeros(0) for name in (*INTEGERS, *REALS)})

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One arm in one served scenario: what it served, and its row with nothing but its identity in it.

    `pieces` maps a block to the arm's last slice in it (a piece is the only one).
    """

    arm: RunArm
    scenario: RunScenario
    served: Served
    identity: Result
    pieces: Mapping[int, Slice] = field(default_factory=dict)

    @property
    def cut(self) -> frozenset[int]:
        """The blocks of an open loop in which the arm did not keep up and was cut off."""
        if self.scenario.load == "closed" or self.scenario.rate_per_s is None:
            return frozenset()
        return frozenset(block for block, piece in self.pieces.items() if piece.served < piece.count and not piece.error)


def cells_of(run: RunData) -> dict[str, list[Cell]]:
    """Per scenario of the run its cells, one per arm."""
    served = _by_cell(run)
    nothing = _served(NO_SAMPLES)
    return {
        scenario.name: [_cell(run, arm, scenario, served.get((scenario.name, arm.arm_id), nothing)) for arm in run.arms]
        for scenario in run.scenarios
    }


def rows_of(run: RunData, cells: Sequence[Cell]) -> list[Result]:
    """The rows of one scenario's cells, without ranks. Without proven vectors a row carries no time."""
    slow = _is_slow(run, cells)
    rows = [_with_numbers(run, cell, _with_status(run, cell, slow)) for cell in cells]
    swapped = swap_note([cell.arm for cell in cells], [row.swap_bytes for row in rows])
    return [replace(row, rank_note=swapped) if swapped and row.role == "measured" and row.mean_ms else row for row in rows]


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
        precision_note=arm.precision_note, compile_ms=None if arm.compile_s is None else arm.compile_s * 1000,
        clients=_served_clients(scenario), rate_per_s=scenario.rate_per_s, batch=scenario.batch, status="SKIPPED", reason=None,
        plan_hash=scenario.plan_hash, artefact_hash=arm.artefact_hash, stats_version=STATS_VERSION,
    )  # fmt: skip
    pieces = {block.block: piece for block in run.blocks if block.scenario == scenario.name for piece in block.slices
              if piece.arm_id == arm.arm_id}  # fmt: skip
    return Cell(arm, scenario, served, identity, pieces)


def _served_clients(scenario: RunScenario) -> int | None:
    """The client count that the served row itself stands for: a closed loop's is as many as are served together."""
    if scenario.load in OPEN:
        return None
    return scenario.batch if scenario.load == "closed" else 1


def _is_slow(run: RunData, cells: Sequence[Cell]) -> bool:
    """May this scenario do with MIN_REQUESTS_SLOW? A request of a batch takes as long as its batch."""
    services = [float(np.median(cell.served.end_ns - cell.served.start_ns))
                for cell in cells if cell.arm.role == "measured" and len(cell.served)]  # fmt: skip
    return run.model_bytes >= LARGE_MODEL_BYTES or max(services, default=0.0) >= SLOW_NS


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
            row = replace(
                row, min_cosine=finite(served.cosine.min()), mean_cosine=finite(served.cosine.mean()),
                max_abs_diff=finite(served.max_abs_diff.max()),
            )  # fmt: skip
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
    if len(had) < MIN_BLOCKS and cell.scenario.load != "slo":  # a search ends when its limits are settled
        short.append(f"{len(had)} of {MIN_BLOCKS} blocks")
    if len(served) < enough:
        short.append(f"{len(served)} of {enough} requests")
    if cut := sum(piece.served < piece.count for piece in slices) if cell.scenario.load not in OPEN or error else 0:
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
    broken = [check for check in run.checks.get(cell.arm.arm_id, ()) if check.held is False]
    return f"{broken[0].name}: {broken[0].detail or 'did not hold'}" if broken else None


def _with_numbers(run: RunData, cell: Cell, row: Result) -> Result:
    """Times, throughput and resources. Without proven vectors there is no time."""
    if row.status == "PARITY_FAIL":
        return row
    row = _with_resources(run, cell, row)
    if not len(cell.served):
        return row
    if cell.scenario.load == "slo":
        return replace(row, tail_note="a search: its results are the rows of the limits", rank_note=NO_INTERVAL)
    if cell.scenario.shapes == "new":
        return with_latencies(row, cell.served, new_calls(cell.served))
    row = with_latencies(row, cell.served, as_measured(cell.served))
    if cell.scenario.load == "open":
        row = _with_open_loop(cell, _with_overrun(row, len(overrun_blocks(cell.served, cell.cut))))
    return replace(_with_throughput(cell, row), token_share=token_share(cell.served))


def new_calls(served: Served, new: bool = True) -> Latencies:
    """The calls whose length the process had not seen (a process serves one block); with `new` false the others."""
    first = np.zeros(len(served), dtype=bool)
    if len(served):
        _, places = np.unique(np.stack([served.block, served.tokens]), axis=1, return_index=True)
        first[places] = True
    times, kept = as_measured(served), np.flatnonzero(first == new)
    return Latencies(times.latency[kept], times.service[kept], times.wait[kept], kept)


def _with_open_loop(cell: Cell, row: Result) -> Result:
    """What an open loop must also show: the load that was offered, and that the clock kept its promises."""
    served, rate_per_s = cell.served, cell.scenario.rate_per_s
    late = lateness(served) if cell.arm.sessions == 1 else np.zeros(0)
    return replace(
        row, rho=finite(offered_load(served, rate_per_s, cell.arm.sessions)) if rate_per_s else None,
        late_p99_ms=finite(percentile(late, 0.99) / NS_PER_MS), little_error=finite(little_error(served)),
    )  # fmt: skip


def _with_overrun(row: Result, overrun: int) -> Result:
    """An open loop whose backlog still grows at the end of most blocks has no finite tail: p99 is infinite, never dropped."""
    if row.blocks is None or 2 * overrun <= row.blocks:
        return row
    note = f"unsustainable: the backlog still grew at the end of {overrun} of {row.blocks} blocks"
    return replace(row, p99_ms=math.inf, p999_ms=math.inf, p99_lo_ms=None, p99_hi_ms=None, tail_note=note)


#: What with_latencies fills.
LATENCY_COLUMNS = (
    "n_eff", "mean_ms", "stdev_ms", "max_ms", "p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "p50_lo_ms", "p50_hi_ms", "p99_lo_ms",
    "p99_hi_ms", "service_p50_ms", "wait_p50_ms", "preprocess_p50_ms", "text_p50_ms",
)  # fmt: skip


def with_latencies(row: Result, served: Served, times: Latencies, tails: Sequence[Effective] = ()) -> Result:
    """The percentile columns of a row. `tails`: per percentile the n_eff to judge by, where it is another sequence's."""
    latency, place, ms = times.latency, times.place, NS_PER_MS
    if not len(latency):
        nothing: dict[str, Any] = dict.fromkeys(LATENCY_COLUMNS)
        return replace(row, n=0, tail_note="no latency is left after the first of each client", **nothing)
    found = profile(latency, served.block[place], served.start_ns[place], tails)
    p50, p90, p95, p99, p999 = found
    prepared = served.preprocess_ns[place]
    medians = (times.service, times.wait, prepared, latency + prepared)
    service, wait, preprocess, text = (None if p50.value is None else _scaled(percentile(values, 0.5), ms) for values in medians)
    return replace(
        row, n=len(latency), n_eff=p99.n_eff, tail_note=withheld(found), mean_ms=float(latency.mean()) / ms,
        stdev_ms=float(latency.std(ddof=1)) / ms if len(latency) > 1 else None, max_ms=float(latency.max()) / ms,
        p50_ms=_scaled(p50.value, ms), p90_ms=_scaled(p90.value, ms), p95_ms=_scaled(p95.value, ms),
        p99_ms=_scaled(p99.value, ms), p999_ms=_scaled(p999.value, ms),
        p50_lo_ms=_scaled(p50.lo, ms), p50_hi_ms=_scaled(p50.hi, ms), p99_lo_ms=_scaled(p99.lo, ms), p99_hi_ms=_scaled(p99.hi, ms),
        service_p50_ms=service, wait_p50_ms=wait, preprocess_p50_ms=preprocess, text_p50_ms=text,
    )  # fmt: skip


def _with_throughput(cell: Cell, row: Result) -> Result:
    parts = open_windows(cell.served) if cell.scenario.load == "open" else stretches(cell.served)
    _, place = np.unique(parts.block, return_inverse=True)
    found = rate(np.bincount(place, parts.rows), np.bincount(place, parts.seconds))
    tokens, seconds = float(parts.tokens.sum()), float(parts.seconds.sum())
    return replace(
        row, requests_per_s=finite(found.value), requests_per_s_lo=finite(found.lo), requests_per_s_hi=finite(found.hi),
        embeddings_per_s=finite(found.value), tokens_per_s=tokens / seconds if tokens and seconds else None,
    )  # fmt: skip


def _with_resources(run: RunData, cell: Cell, row: Result) -> Result:
    """What the arm needed: its starts over the run, its slices and memory in this scenario."""
    arm_id, blocks = cell.arm.arm_id, _blocks_of(run, cell)
    slices = [piece for block in blocks for piece in block.slices if piece.arm_id == arm_id]
    memory = [block.memory[arm_id] for block in blocks if arm_id in block.memory]
    found = resources_of(cell.arm, [start for start in run.starts if start.arm_id == arm_id], slices, memory)
    return replace(row, **vars(found))


def finite(value: float) -> float | None:
    """NULL instead of NaN and infinity."""
    return float(value) if math.isfinite(value) else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
