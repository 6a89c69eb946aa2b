"""RUNS.md names every key that is written."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import fields

import pytest

from bench.core import paths
from bench.prepare import describe_run
from bench.runs import codec
from bench.runs.schema import Allocation, ArmMemory, Check, Failure, Footprint, MachineUse, ProbeSeconds, Slice, Start

WORDS = set(re.findall(r"\w+", (paths.ROOT / "bench" / "RUNS.md").read_text(encoding="utf-8")))
RECORDS = (Allocation, ArmMemory, Check, Failure, Footprint, MachineUse, ProbeSeconds, Slice, Start)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(record.__name__))
def test_every_field_of_a_record_is_described(record: type) -> None:
    assert not {field.name for field in fields(record)} - WORDS


@pytest.mark.parametrize("module", [codec, describe_run], ids=["block.json", "run.json"])
def test_every_key_that_is_spelt_out_is_described(module: object) -> None:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    keys = {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys if isinstance(key, ast.Constant)}
    assert len(keys) > 10
    assert not keys - WORDS
