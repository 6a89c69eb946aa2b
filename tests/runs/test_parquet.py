"""Samples and vectors on disk: nothing lost, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.runs import parquet
from bench.runs.parquet import write_samples
from bench.runs.schema import REFERENCE


def samples(rows: int) -> pd.DataFrame:
    """One arm after another, as a block of two arms has them."""
    random = np.random.default_rng(1)
    begin = 10**15 + np.cumsum(random.integers(3_000_000, 3_300_000, rows))
    number = np.arange(rows)
    return pd.DataFrame(
        {
            "request": number, "due_ns": begin, "start_ns": begin, "end_ns": begin + random.integers(2_900_000, 3_000_000, rows),
            "arm_id": np.where(number % 2, "b", "a"), "slice": number // 20, "tokens": random.integers(8, 128, rows),
            "preprocess_ns": np.where(number % 7, 1e5, np.nan), "cosine": np.full(rows, np.nan), "max_abs_diff": np.full(rows, 2.4e-7),
        }
    )  # fmt: skip


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    frame = samples(400)
    write_samples(frame, tmp_path / "samples.parquet")
    read = pd.read_parquet(tmp_path / "samples.parquet")[list(frame.columns)]
    pd.testing.assert_frame_equal(read.sort_values("start_ns", ignore_index=True), frame, check_dtype=False)
    assert read.dtypes["start_ns"] == np.int64


def test_an_empty_block_is_a_file_too(tmp_path: Path) -> None:
    write_samples(samples(0), tmp_path / "samples.parquet")
    assert len(pd.read_parquet(tmp_path / "samples.parquet")) == 0


def test_the_file_is_at_most_half_a_plain_one(tmp_path: Path) -> None:
    frame = samples(240)
    write_samples(frame, tmp_path / "small.parquet")
    frame.to_parquet(tmp_path / "plain.parquet", index=False)
    assert 2 * (tmp_path / "small.parquet").stat().st_size < (tmp_path / "plain.parquet").stat().st_size


@pytest.mark.parametrize("dim", [1, 8, 384])
def test_vectors_come_back_bit_for_bit(tmp_path: Path, dim: int) -> None:
    random = np.random.default_rng(dim)
    reference = random.standard_normal((30, dim)).astype(np.float32)
    odd = reference.copy()
    odd[0, 0], odd[1, 0], odd[2, 0], odd[3, 0], odd[4, 0] = np.nan, np.inf, -np.inf, -0.0, 1e-45
    written = {REFERENCE: reference, "same": reference, "turned": -reference, "odd": odd, "longer": np.repeat(reference, 2, axis=1)}
    for name, vectors in written.items():
        parquet.write_vectors(vectors, None if name == REFERENCE else reference, tmp_path / f"{name}.parquet")
    read = parquet.read_vectors(tmp_path)
    assert read.keys() == written.keys()
    for name, vectors in written.items():
        assert read[name].dtype == np.float32 and read[name].shape == vectors.shape
        assert read[name].tobytes() == vectors.tobytes()


def test_vectors_that_agree_take_less_than_half(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    reference = random.standard_normal((384, 384))
    reference = (reference / np.linalg.norm(reference, axis=1, keepdims=True)).astype(np.float32)
    near = reference + (1e-8 * random.standard_normal(reference.shape)).astype(np.float32)
    parquet.write_vectors(near, reference, tmp_path / "near.parquet")
    assert (tmp_path / "near.parquet").stat().st_size < near.nbytes / 2
