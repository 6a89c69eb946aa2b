"""What the writer puts into a run folder, the reader gives back."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.core import files
from bench.runs import codec, noise, reader
from bench.runs.schema import (
    SAMPLE_COLUMNS,
    Allocation,
    ArmMemory,
    Block,
    Check,
    Failure,
    MachineUse,
    ProbeSeconds,
    RunData,
    Slice,
    Start,
)
from bench.runs.writer import RunFolder

ARMS, SCENARIOS = ("0123456789ab", "ba9876543210"), ("closed-1", "poisson-high")
MACHINE = {"machine_id": "m", "machine": "Fixture CPU, 2 cores"}

counts = st.integers(0, 2**53)
maybe_counts = st.none() | counts
seconds = st.floats(1e-6, 1e6)
texts = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=20)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
looks = st.integers(1, 5).flatmap(lambda count: st.tuples(*[st.tuples(*[seconds] * count)] * 2)).map(lambda both: ProbeSeconds(*both))


def of(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Instances of a dataclass of counts that may be unknown, but for `fields`."""
    return st.builds(kind, **{field.name: fields.get(field.name, maybe_counts) for field in dataclasses.fields(kind)})


slices = of(
    Slice, arm_id=st.sampled_from(ARMS), slice=st.integers(0, 23), start=st.integers(0, 9), first=counts, count=counts, served=counts,
    wall_ns=counts, error=st.none() | texts, rate_per_s=st.none() | seconds,
)  # fmt: skip
memories = of(ArmMemory, peak_reset=st.none() | st.booleans())
blocks = st.builds(
    Block, scenario=st.sampled_from(SCENARIOS), block=st.integers(0, 47), started_at=moments, ended_at=moments, note=st.none() | texts,
    slices=st.lists(slices, max_size=4).map(tuple), memory=st.dictionaries(st.sampled_from(ARMS), memories), probe=looks,
    machine=of(MachineUse), resident=st.booleans(), measured_s=seconds, discard=st.floats(0, 1),
)  # fmt: skip
starts = of(
    Start, arm_id=st.sampled_from(ARMS), start=st.integers(0, 9), page_cache=st.sampled_from(["cold", "warm", "unknown"]),
    page_cache_note=st.none() | texts, version=st.dictionaries(texts, texts), settings=st.dictionaries(texts, texts),
)  # fmt: skip
checks = st.builds(
    Check, name=texts, n=maybe_counts, value=st.none() | seconds, lo=st.none() | seconds, hi=st.none() | seconds,
    held=st.none() | st.booleans(), detail=st.none() | texts,
)  # fmt: skip
failures = st.builds(
    Failure, arm_id=st.sampled_from(ARMS), scenario=st.sampled_from(("*", *SCENARIOS)), status=st.sampled_from(["CRASH", "SKIPPED"]),
    reason=texts,
)  # fmt: skip
allocations = st.builds(
    Allocation, blocks=st.integers(1, 48), rounds=st.integers(1, 24), rows=st.integers(1, 4096), block_s=seconds,
    until_s=st.none() | seconds,
)  # fmt: skip


def samples_of(block: Block) -> pd.DataFrame:
    """Two requests of one arm in each block."""
    now = 10**12 * (block.block + 1)
    return pd.DataFrame({
        "arm_id": ARMS[0], "slice": 0, "request": [64, 65], "tokens": [16, 32], "preprocess_ns": 1000, "due_ns": [now, now + 5],
        "start_ns": [now, now + 5], "end_ns": [now + 5, now + 9], "cosine": [1.0, np.nan], "max_abs_diff": [1e-7, np.nan],
    })  # fmt: skip


def new_folder(folder: Path, failed: list[Failure] | None = None) -> RunFolder:
    arms = [
        {"arm_id": arm_id, "framework": "null", "language": "python", "precision": "fp32", "variant": "default", "sessions": 1,
         "threads": 2, "role": "floor", "artefact_hash": None} for arm_id in ARMS
    ]  # fmt: skip
    scenarios = [
        {"name": name, "load": "closed", "batch": 1, "clients": [1, 4], "rate_per_s": None, "plan_hash": "p"} for name in SCENARIOS
    ]
    run = {"run_id": folder.name, "campaign_id": "c", "measured_at": codec.timestamp(codec.now()), "model": "minilm", "model_bytes": 1,
           "weights": "wheel", "arms": arms, "scenarios": scenarios}  # fmt: skip
    written = RunFolder.start(folder, run, MACHINE, failed or [])
    files.write_json(folder / "probe.json", {"fma_s": 0.01, "copy_s": 0.003})
    return written


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync", lambda path: None)


def judged_again(block: Block, read: Block) -> Block:
    """The block as it was written, with the note of the reader, which judges beside the other blocks."""
    return dataclasses.replace(block, note=read.note)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.lists(blocks, max_size=5, unique_by=lambda block: (block.scenario, block.block)),
    st.lists(starts, max_size=4, unique_by=lambda start: (start.arm_id, start.start)),
    st.dictionaries(st.sampled_from(ARMS), st.lists(checks, max_size=3)),
    st.lists(failures, max_size=3, unique_by=lambda failure: (failure.arm_id, failure.scenario)),
)
def test_a_run_reads_back_as_it_was_written(
    written: list[Block], started: list[Start], checked: Mapping[str, list[Check]], failed: list[Failure]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = new_folder(Path(scratch) / "20261120-090000-minilm-0001", failed)
        for block in written:
            folder.write_block(block, samples_of(block))
        for start in started:
            folder.write_start(start)
            folder.write_first_pss(start.arm_id, start.start, start.first_pss_bytes)
        for arm_id, of_arm in checked.items():
            folder.write_checks(arm_id, of_arm)
        run = reader.read_run(folder.path)
        counted = {name: folder.block_count(name) for name in SCENARIOS}
        measured_s = folder.measured_s()

    written.sort(key=lambda block: (block.scenario, block.block))
    assert list(run.blocks) == [judged_again(block, read) for block, read in zip(written, run.blocks, strict=True)]
    assert sorted(run.starts, key=lambda start: (start.arm_id, start.start)) == sorted(
        started, key=lambda start: (start.arm_id, start.start)
    )
    assert run.checks == {arm_id: tuple(of_arm) for arm_id, of_arm in checked.items()}
    assert sorted(run.failures, key=repr) == sorted(failed, key=repr)
    assert not run.finished and len(run.samples) == 2 * len(written) and tuple(run.samples.columns) == SAMPLE_COLUMNS
    assert counted == {name: sum(block.scenario == name for block in written) for name in SCENARIOS}
    assert measured_s == max((block.measured_s for block in written), default=0.0)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(allocations)
def test_an_allocation_reads_back(allocation: Allocation) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "run")
        assert folder.allocation("closed-1") is None
        folder.write_allocation("closed-1", allocation)
        assert folder.allocation("closed-1") == allocation


@given(moments)
def test_a_timestamp_reads_back_to_the_microsecond(moment: datetime) -> None:
    assert codec.moment(codec.timestamp(moment)) == moment


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return new_folder(tmp_path / "20261120-090000-minilm-0001")


def a_block(block: int, fma_s: float = 0.01, **more: Any) -> Block:
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    return Block("closed-1", block, moment, moment, None, (), {}, ProbeSeconds((fma_s,), (0.003,)), **more)


def test_a_block_that_was_cut_off_is_not_there(folder: RunFolder) -> None:
    folder.write_block(a_block(0, measured_s=2.0), samples_of(a_block(0)))
    folder.write_block(a_block(1, measured_s=9.0), samples_of(a_block(1)))
    (folder.path / "blocks" / "closed-1" / "001").rename(folder.path / "blocks" / "closed-1" / "001.tmp")
    assert folder.block_count("closed-1") == len(reader.read_run(folder.path).blocks) == len(folder.blocks("closed-1")) == 1
    assert folder.measured_s() == 2.0


def test_blocks_are_judged_beside_those_of_their_scenario(folder: RunFolder) -> None:
    for block in range(12):
        folder.write_block(a_block(block, 0.0105 if block == 7 else 0.01), samples_of(a_block(block)))
    run: RunData = reader.read_run(folder.path)
    assert [block.block for block in run.blocks if block.noisy] == [7]
    assert folder.blocks("closed-1")[7].note is None, "the folder says what the run saw"
    assert noise.LEAST < 0.05


def test_a_later_check_takes_the_place_of_the_one_of_its_name(folder: RunFolder) -> None:
    first, again = (Check("run to run", n, 0.0, None, None, True, None) for n in (5, 10))
    other = Check("hard inputs", 1, 1.0, None, None, True, None)
    for check in (first, other, again):
        folder.add_check(ARMS[0], check)
    assert reader.read_run(folder.path).checks == {ARMS[0]: (other, again)}


def test_forgotten_failures_leave_those_of_the_machine(folder: RunFolder) -> None:
    for scenario, status in (("*", "SKIPPED"), ("closed-1", "SKIPPED"), ("poisson-high", "CRASH")):
        folder.write_failure(ARMS[0], scenario, status, "planted")
    folder.forget_failures("SKIPPED")
    assert [folder.status_of(ARMS[0], scenario) for scenario in ("*", *SCENARIOS)] == ["SKIPPED", None, "CRASH"]
    folder.forget_failures()
    assert [folder.has_failure(ARMS[0], scenario) for scenario in ("*", *SCENARIOS)] == [True, False, False]
