"""The samples and vectors of a run as small Parquet files.

A run holds hundreds of files of samples, and a plain one is mostly footer. Sorted by arm and time, whole numbers are stored as
differences, without pandas' and Arrow's own descriptions of the columns: on a real run a third of the bytes that the defaults take.

Vectors hardly compress, but those of two runtimes that agree to 1e-7 differ in their low bits only: each arm's are stored as differences
to the reference's, bit for bit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.core.arrays import Vectors
from bench.runs.schema import REFERENCE


def write_samples(samples: pd.DataFrame, file: Path) -> None:
    """Write the samples of a block. The order of rows and columns is not kept: every reader sorts."""
    order = [name for name in ("arm_id", "slice", "start_ns", "request") if name in samples.columns]
    table = pa.Table.from_pandas(samples.sort_values(order, kind="stable"), preserve_index=False).replace_schema_metadata(None)
    whole = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    texts = [field.name for field in table.schema if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))]
    pq.write_table(
        table, file, compression="zstd", compression_level=9, use_dictionary=texts, write_statistics=False, store_schema=False,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    )  # fmt: skip


def write_vectors(vectors: Vectors, base: Vectors | None, file: Path) -> None:
    """Write vectors (rows, dim) as one column `bits`: their float32 bits as int32, less those of `base` where that has their shape."""
    bits = _bits(vectors) - _bits(base) if base is not None and base.shape == vectors.shape else _bits(vectors)
    table = pa.table({"bits": bits.ravel()}, metadata={"dim": str(vectors.shape[1])})
    pq.write_table(
        table, file, compression="zstd", compression_level=9, use_dictionary=False, write_statistics=False,
        column_encoding={"bits": "DELTA_BINARY_PACKED"},
    )  # fmt: skip


def read_vectors(folder: Path) -> dict[str, Vectors]:
    """Everything that `write_vectors` wrote into a folder, bit for bit: by arm, and under REFERENCE the base of all."""
    reference = folder / f"{REFERENCE}.parquet"
    base = read_block(reference, None) if reference.exists() else None
    return {file.stem: read_block(file, None if file == reference else base) for file in sorted(folder.glob("*.parquet"))}


def read_block(file: Path, base: Vectors | None) -> Vectors:
    """One file that was written with this `base`: (rows, dim)."""
    table = pq.ParquetFile(file).read()
    bits = table["bits"].to_numpy().reshape(-1, int((table.schema.metadata or {})[b"dim"]))
    if base is not None and base.shape == bits.shape:
        bits = bits + _bits(base)
    vectors: Vectors = np.ascontiguousarray(bits).view("<f4")
    return vectors


def _bits(vectors: Vectors) -> npt.NDArray[np.int32]:
    """Sums and differences of these wrap around, so that no pair of bits is too far apart."""
    bits: npt.NDArray[np.int32] = np.ascontiguousarray(vectors, dtype="<f4").view("<i4")
    return bits
