"""The records of schema.py ⇄ the JSON of a run folder's files (RUNS.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from bench.runs.schema import ArmMemory, Block, Check, Failure, MachineUse, ProbeSeconds, Slice, Start

Json = dict[str, Any]


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """ISO 8601 UTC with microseconds, `2026-11-21T20:03:51.035347Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment(text: str) -> datetime:
    """The time that `timestamp` wrote."""
    return datetime.fromisoformat(text)


def known(kind: Any, values: Mapping[str, Any]) -> Json:
    """Those of `values` that are fields of the dataclass `kind`: a folder that was written before a field was added lacks it."""
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}


def block_to_json(block: Block) -> Json:
    """A Block as block.json."""
    return {
        "scenario": block.scenario, "block": block.block, "started_at": timestamp(block.started_at), "ended_at": timestamp(block.ended_at),
        "noisy": block.noisy, "note": block.note, "probe": asdict(block.probe), "resident": block.resident,
        "slices": [asdict(piece) for piece in block.slices], "resources": {arm_id: asdict(used) for arm_id, used in block.memory.items()},
        "machine": asdict(block.machine), "measured_s": block.measured_s, "discard": block.discard,
    }  # fmt: skip


def block_from_json(values: Mapping[str, Any]) -> Block:
    """A Block from block.json. Its note is the one of the run: `noise.notes` judges it beside the other blocks."""
    optional = {name: values[name] for name in ("resident", "measured_s", "discard") if name in values}
    return Block(
        scenario=values["scenario"], block=int(values["block"]), started_at=moment(values["started_at"]),
        ended_at=moment(values["ended_at"]), note=values["note"],
        slices=tuple(Slice(**known(Slice, piece)) for piece in values["slices"]),
        memory={arm_id: ArmMemory(**known(ArmMemory, used)) for arm_id, used in values["resources"].items()},
        probe=ProbeSeconds(tuple(values["probe"]["fma_s"]), tuple(values["probe"]["copy_s"])),
        machine=MachineUse(**known(MachineUse, values.get("machine") or {})), **optional,
    )  # fmt: skip


def start_to_json(start: Start) -> Json:
    """A Start as starts/*.json holds it until its first warm-up adds `first_pss_bytes`."""
    return {name: value for name, value in asdict(start).items() if name != "first_pss_bytes"}


def start_from_json(values: Mapping[str, Any]) -> Start:
    return Start(**_all(Start, values))


def check_from_json(values: Mapping[str, Any]) -> Check:
    return Check(**_all(Check, values))


def failure_from_json(values: Mapping[str, Any]) -> Failure:
    return Failure(values["arm_id"], values["scenario"], values["status"], values["reason"])


def _all(kind: Any, values: Mapping[str, Any]) -> Json:
    """A value for every field of the dataclass `kind`, None where there is none."""
    return {field.name: values.get(field.name) for field in fields(kind)}
