"""Samples as small Parquet files: a published run holds hundreds of them, and most of a plain one is its footer.

Sorted by arm and time, whole numbers are stored as differences, without pandas' and Arrow's own descriptions of the columns:
on a real run a third of the bytes that the defaults take.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


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
