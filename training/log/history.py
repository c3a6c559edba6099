"""History in and out of the database, as outcome logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet

from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.interactions import SCHEMA, export, import_rows
from training.log.dataset import Dataset
from training.log.models import described

_BATCH_ROWS = 2_000
_APPLICATION = "leadline logs"


def bring_in(
    dsn: str, tenant_id: UUID, table: pa.Table, *, actor: str, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Imports a checked log and adds what the catalog lacks; says how much of each was new."""
    engine = connect(dsn, role=DatabaseRole.SHIPPER, application_name=_APPLICATION)
    try:
        batches = _watched(table, progress)
        new = import_rows(engine, tenant_id, batches, datetime.now(UTC))
    finally:
        engine.dispose()
    models, arms = _complete_catalog(dsn, Dataset.from_table(table), actor)
    return {"new_rows": new, "added_models": models, "added_arms": arms}


def _watched(table: pa.Table, progress: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        yield batch
        progress(len(batch))


def _complete_catalog(dsn: str, dataset: Dataset, actor: str) -> tuple[int, int]:
    """Adds the log's models and arms that the catalog does not have; changes none."""
    engine = connect(dsn, role=DatabaseRole.ADMIN, application_name=_APPLICATION)
    try:
        catalog = PostgresCatalog(engine)
        before = catalog.read()
        known = {model.name for model in before.models}
        models = [model for model in described(dataset) if model.name not in known]
        for model in models:
            catalog.put_model(model, actor=actor)
        new = {model.name for model in models}
        arms = [arm for arm in dataset.arms if arm.model in new]
        for arm in arms:
            catalog.put_arm(arm, enabled=True, actor=actor)
        return len(models), len(arms)
    finally:
        engine.dispose()


def send_out(
    dsn: str, tenant_id: UUID | None, file: BinaryIO, *, since: datetime | None = None
) -> int:
    """Writes the interactions as Parquet, streaming; returns how many rows there are."""
    engine = connect(dsn, role=DatabaseRole.TRAINER, application_name=_APPLICATION)
    rows = 0
    try:
        with pa.parquet.ParquetWriter(file, SCHEMA) as writer:
            for batch in export(engine, tenant_id=tenant_id, since=since):
                writer.write_batch(batch)
                rows += len(batch)
    finally:
        engine.dispose()
    return rows
