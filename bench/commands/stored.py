"""Stored results as `invoke price` and `invoke size` read them: the machines of a model, its arms there, and what their samples say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import catalog
from bench.catalog import Arm
from bench.core import paths
from bench.core.errors import BenchError
from bench.pricing.service import Singles, batches_of, fitted
from bench.pricing.sizing import Calibration
from bench.runs.schema import PROVEN
from bench.stats.arms import NOISY_SHARE
from bench.store import database as store

#: Of each arm on each machine the newest row of each scenario that has numbers, else the newest.
ROWS = """
SELECT run_id, arm_id, machine_id, framework, language, weights, precision, variant, sessions, threads, scenario, slo_ms, rate_per_s,
       requests_per_s, tokens_per_s, p50_ms, p90_ms, p95_ms, p99_ms, status, reason, coalesce(blocks, 0) AS blocks,
       coalesce(noisy_blocks, 0) AS noisy_blocks
FROM results
WHERE model = ? AND role = 'measured'
QUALIFY row_number() OVER (
    PARTITION BY machine_id, weights, framework, precision, variant, sessions, threads, scenario
    ORDER BY list_contains(?, status) DESC, measured_at DESC, run_id DESC) = 1
ORDER BY machine_id, weights, framework, precision, variant, sessions, threads, scenario
"""

MACHINES = """
SELECT machine_id, machine, machine_json->>'$.virtualisation.product' AS product,
       CAST(machine_json->>'$.cpu.physical_cores_allowed' AS INTEGER) AS cores
FROM runs WHERE model = ?
QUALIFY row_number() OVER (PARTITION BY machine_id ORDER BY measured_at DESC) = 1
"""

SAMPLES = """
SELECT samples.run_id, samples.scenario, samples.block, samples.tokens, samples.start_ns, samples.end_ns
FROM samples JOIN blocks USING (run_id, scenario, block)
WHERE samples.run_id = ? AND samples.arm_id = ? AND list_contains(?, samples.scenario) AND NOT blocks.noisy
"""

#: Requests served alone that a calibration wants at least: the tail of fewer says nothing.
MIN_SINGLES = 200


@dataclass(frozen=True)
class Machine:
    """A machine that was measured.

    Attributes:
        product: what its firmware calls it, which clouds set to the machine type; None where it does not say.
        cores: the physical ones that its runs were allowed; None where that was not recorded.
    """

    id: str
    name: str
    product: str | None
    cores: int | None


@dataclass(frozen=True)
class StoredRow:
    """One arm in one scenario, as the leaderboard holds it."""

    run_id: str
    arm_id: str
    machine_id: str
    framework: str
    language: str
    weights: str
    precision: str
    variant: str
    sessions: int
    threads: int
    scenario: str
    slo_ms: float | None
    rate_per_s: float | None
    requests_per_s: float | None
    tokens_per_s: float | None
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    status: str
    reason: str | None
    blocks: int
    noisy_blocks: int

    @property
    def why_not(self) -> str | None:
        """Why nothing is built upon this row; None where it may be."""
        if self.status not in PROVEN:
            return f"{self.status}: {self.reason}"
        if self.noisy_blocks > NOISY_SHARE * self.blocks:
            return f"noisy machine: {self.noisy_blocks} of {self.blocks} blocks"
        return None


@dataclass(frozen=True)
class Load:
    """The part of a scenario that prices and sizes need, as its run served it."""

    kind: str
    batch: int
    natural: bool
    rate_per_s: float | None
    poisson: bool
    piece: int | None
    discard: float


@dataclass(frozen=True)
class ArmResults:
    """One arm of a model on one machine: its rows by scenario, and those of its scenarios that were served themselves, as loads."""

    model: str
    machine: Machine
    label: str
    weights: str
    sessions: int
    rows: Mapping[str, StoredRow]
    loads: Mapping[str, Load]

    def usable(self, *kinds: str) -> list[tuple[StoredRow, Load]]:
        """Served rows that may be built upon, of natural texts in the order of the plan, of loads of these kinds."""
        rows = [(self.rows[name], load) for name, load in self.loads.items() if load.kind in kinds and load.natural]
        return [(row, load) for row, load in rows if row.why_not is None]

    def why_nothing(self, *kinds: str) -> str:
        """Why `usable` is empty."""
        reasons = [self.rows[name].why_not for name, load in self.loads.items() if load.kind in kinds and load.natural]
        return next((reason for reason in reasons if reason), f"no {' or '.join(kinds)} load was measured")


def results_of(model: str, machine: str = "", database: Path = paths.DATABASE) -> list[ArmResults]:
    """Every measured arm of a model on every machine (on one, where its id or the end of it is given).

    Raises:
        BenchError: the model was not measured, or not there.
    """
    name = _stored_name(model, database)
    machines = {row["machine_id"]: _machine(row) for row in store.rows(MACHINES, [name], database)}
    chosen = {key: value for key, value in machines.items() if key.endswith(machine)}
    if not chosen:
        raise BenchError(f"machine {machine!r}: {name} was not measured there; it was on {', '.join(machines)}")
    by_arm: dict[tuple[object, ...], list[StoredRow]] = {}
    for values in store.rows(ROWS, [name, list(PROVEN)], database):
        row = StoredRow(**values)
        if row.machine_id in chosen:
            key = (row.machine_id, row.weights, row.framework, row.precision, row.variant, row.sessions, row.threads)
            by_arm.setdefault(key, []).append(row)
    loads = _loads(sorted({row.run_id for rows in by_arm.values() for row in rows}), database)
    return [_arm_results(chosen[rows[0].machine_id], name, rows, loads) for rows in by_arm.values()]


def _stored_name(model: str, database: Path) -> str:
    """The name under which a model is stored; aliases of the catalogue are understood."""
    stored = [row["model"] for row in store.rows("SELECT DISTINCT model FROM runs ORDER BY model", database=database)]
    if model in stored:
        return model
    aliases = {alias.lower(): entry.name for entry in catalog.load().models.values() for alias in (entry.name, *entry.aliases)}
    name = aliases.get(model.lower())
    if name is None:
        raise catalog.unknown("model", model, [*stored, *aliases])
    if name not in stored:
        raise BenchError(f"{name}: no stored results; `invoke bench --model {name} --scenario standard` measures it")
    return name


def _machine(row: Mapping[str, Any]) -> Machine:
    product = row["product"]
    # What a machine does not expose is an object that says why.
    return Machine(row["machine_id"], row["machine"], None if not product or product.startswith("{") else product, row["cores"])


def _loads(run_ids: Sequence[str], database: Path) -> dict[tuple[str, str], Load]:
    """(run, scenario) → load."""
    runs = store.rows("SELECT run_id, run_json FROM runs WHERE list_contains(?, run_id)", [list(run_ids)], database)
    return {(run["run_id"], scenario["name"]): _load(scenario) for run in runs for scenario in json.loads(run["run_json"])["scenarios"]}


def _load(scenario: Mapping[str, Any]) -> Load:
    plain = not scenario.get("lengths") and scenario.get("shapes", "warm") == "warm" and scenario.get("order", "drawn") == "drawn"
    return Load(
        kind=scenario["load"],
        batch=scenario["batch"],
        natural=plain and scenario.get("process") != "kept",
        rate_per_s=scenario.get("rate_per_s"),
        poisson=scenario.get("arrivals") == "poisson",
        piece=scenario.get("piece"),
        discard=scenario.get("discard") or 0.0,
    )


def _arm_results(machine: Machine, model: str, rows: Sequence[StoredRow], loads: Mapping[tuple[str, str], Load]) -> ArmResults:
    row = rows[0]
    arm = Arm(row.framework, row.language, model, row.weights, row.precision, row.variant, row.sessions, row.threads, "measured")
    served = {row.scenario: loads[row.run_id, row.scenario] for row in rows if (row.run_id, row.scenario) in loads}
    return ArmResults(model, machine, arm.label, row.weights, row.sessions, {row.scenario: row for row in rows}, served)


def calibration_of(arm: ArmResults, database: Path = paths.DATABASE) -> Calibration | str:
    """What the samples of an arm say about its service, from quiet blocks of all natural loads; else why they say too little."""
    if arm.sessions > 1:
        return "several sessions serve side by side, which is not simulated"
    served = arm.usable("closed", "offline", "open")
    if not served:
        return arm.why_nothing("closed", "offline", "open")
    samples = _samples([row for row, _ in served], database)
    alone = samples[samples["scenario"].isin([row.scenario for row, load in served if load.batch == 1])]
    if len(alone) < MIN_SINGLES:
        return f"{len(alone)} of {MIN_SINGLES} requests were served alone in quiet blocks"
    singles = Singles(alone["block"].to_numpy(), np.maximum(alone["tokens"].to_numpy(), 1), _service_s(alone))
    batches = batches_of(*(samples[name].to_numpy() for name in ("block", "start_ns", "end_ns", "tokens")))
    return Calibration(singles, fitted(batches))


def _samples(rows: Sequence[StoredRow], database: Path) -> pd.DataFrame:
    """The samples of quiet blocks behind some rows of one arm: scenario, block (numbered over all of them), tokens, start_ns, end_ns."""
    by_run: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        by_run.setdefault((row.run_id, row.arm_id), []).append(row.scenario)
    values = [sample for key, names in by_run.items() for sample in store.rows(SAMPLES, [*key, names], database)]
    samples = pd.DataFrame(values, columns=["run_id", "scenario", "block", "tokens", "start_ns", "end_ns"])
    return samples.assign(block=samples.groupby(["run_id", "scenario", "block"]).ngroup())


def _service_s(samples: pd.DataFrame) -> npt.NDArray[np.float64]:
    return ((samples["end_ns"] - samples["start_ns"]) / 1e9).to_numpy()
