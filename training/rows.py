"""Rows as Parquet, in a fixed schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from label_config.errors import CheckpointError


def write_rows(path: Path, schema: pa.Schema, rows: Sequence[tuple[object, ...]]) -> None:
    """Write tuples in the order of the schema's fields."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def read_rows(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Read them as dictionaries. Raises CheckpointError for other columns."""
    table = pq.read_table(path)
    if table.schema.names != schema.names:
        raise CheckpointError(f"{path} needs columns {schema.names}, got {table.schema.names}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
