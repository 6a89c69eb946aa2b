"""Samples on disk: nothing lost, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.packing import write_samples


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
