"""What a query gives, as Arrow record batches."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlalchemy import Engine, text

from router.store.engine import transaction

LINEAR = (
    "statement_timeout = 0",
    "enable_mergejoin = off",
    "enable_nestloop = off",
    "work_mem = '64MB'",
    "jit = off",
)


def batch_of(columns: Iterable[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """One batch of values column by column, in the schema's order."""
    arrays = [
        pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def streamed(
    engine: Engine, query: str, parameters: Mapping[str, Any], schema: pa.Schema, batch_rows: int
) -> Generator[pa.RecordBatch, None, None]:
    """The rows of a query that may take long; memory holds one batch.

    Joins are by hash: log tables join on three columns that tell the same, so that Postgres
    expects one row of them and takes ways whose time grows with the square of the rows.
    """
    with transaction(engine) as connection:
        for setting in LINEAR:
            connection.execute(text(f"set local {setting}"))
        streaming = connection.execution_options(stream_results=True, max_row_buffer=batch_rows)
        with streaming.execute(text(query), parameters) as result:
            for rows in result.partitions(batch_rows):
                yield batch_of(zip(*rows, strict=True), schema)
