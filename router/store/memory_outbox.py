"""In-memory twins of the outbox and the log."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from router.errors import Conflict, LeadlineError, OutboxFull
from router.ids import time_of
from router.store.seams import Kind, Record
from router.store.tables import LOGS


class MemoryOutbox:
    """The Outbox seam without durability; every record is held."""

    def __init__(self, *, max_bytes: int = 1 << 30) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._by_key: dict[tuple[Kind, UUID, UUID], Record] = {}
        self._by_row: dict[tuple[Kind, UUID, UUID], Record] = {}

    def put(self, record: Record) -> Record:
        """As the seam says."""
        key = (record.kind, record.tenant_id, record.key)
        with self._lock:
            earlier = self._by_key.get(key)
            if earlier is not None and earlier.digest != record.digest:
                raise Conflict(
                    f"request_id {record.key} was used with another body; use a new request_id",
                    reason="REQUEST_ID_REUSED",
                )
            if earlier is not None:
                return earlier
            if self._bytes + len(record.row) > self._max_bytes:
                raise OutboxFull
            self._bytes += len(record.row)
            self._by_key[key] = record
            self._by_row[record.kind, record.tenant_id, record.row_id] = record
        return record

    def put_many(self, records: Sequence[Record]) -> list[Record | LeadlineError]:
        """As the seam says."""
        results: list[Record | LeadlineError] = []
        for record in records:
            try:
                results.append(self.put(record))
            except LeadlineError as error:
                results.append(error)
        return results

    def find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        """As the seam says."""
        return self._by_row.get((kind, tenant_id, row_id))

    def find_key(self, kind: Kind, tenant_id: UUID, key: UUID) -> Record | None:
        """As the seam says."""
        return self._by_key.get((kind, tenant_id, key))

    def close(self) -> None:
        """As the seam says."""

    def records(self, kind: Kind) -> Sequence[Record]:
        """All records of a kind, oldest first."""
        with self._lock:
            return [record for record in self._by_key.values() if record.kind is kind]

    def arrived(self) -> Sequence[Record]:
        """All records in the order in which they came."""
        with self._lock:
            return list(self._by_key.values())


class MemoryLog:
    """The Log seam over an outbox whose records arrive at once."""

    def __init__(self, outbox: MemoryOutbox) -> None:
        self._outbox = outbox

    def decision(self, tenant_id: UUID, decision_id: UUID) -> Mapping[str, Any] | None:
        """As the seam says."""
        found = self._outbox.find(Kind.DECISION, tenant_id, decision_id)
        return None if found is None else row_of(found)

    def decisions(
        self, tenant_id: UUID, *, since: datetime, until: datetime
    ) -> Sequence[Mapping[str, Any]]:
        """The tenant's decisions from `since` until before `until`."""
        return [
            row_of(record)
            for record in self._outbox.records(Kind.DECISION)
            if record.tenant_id == tenant_id and since <= time_of(record.row_id) < until
        ]

    def attempt(self, tenant_id: UUID, decision_id: UUID, number: int) -> Mapping[str, Any] | None:
        """As the seam says."""
        return next(
            (
                row
                for row in self._rows(Kind.ATTEMPT, tenant_id, decision_id)
                if row["attempt"] == number
            ),
            None,
        )

    def outcomes(self, tenant_id: UUID, decision_id: UUID) -> Sequence[Mapping[str, Any]]:
        """As the seam says."""
        ours = self._rows(Kind.OUTCOME, tenant_id, decision_id)
        return sorted(ours, key=lambda row: (row["occurred_at"], row["outcome_id"]))

    def unscored(
        self, tenant_id: UUID, *, since: datetime, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """As the seam says."""
        ours = [
            row_of(record)
            for record in self._outbox.records(Kind.DECISION)
            if record.tenant_id == tenant_id
        ]
        wanted = [row for row in ours if row["occurred_at"] >= since and not self._scored(row)]
        wanted.sort(key=lambda row: row["occurred_at"], reverse=True)
        wanted.sort(
            key=lambda row: -1.0 if row["novelty"] is None else row["novelty"], reverse=True
        )
        return wanted[:limit]

    def _scored(self, decision: Mapping[str, Any]) -> bool:
        found = self.outcomes(decision["tenant_id"], decision["decision_id"])
        return any(row["score"] is not None for row in found)

    def _rows(self, kind: Kind, tenant_id: UUID, decision_id: UUID) -> list[dict[str, Any]]:
        rows = [
            row_of(record) for record in self._outbox.records(kind) if record.tenant_id == tenant_id
        ]
        return [row for row in rows if row["decision_id"] == decision_id]


def row_of(record: Record) -> dict[str, Any]:
    """The row as Postgres would give it back."""
    values = orjson.loads(record.row)
    row: dict[str, Any] = {column.name: None for column in LOGS[record.kind].columns}
    for column in LOGS[record.kind].columns:
        value = values.get(column.name)
        kind = column.type.python_type if value is not None else None
        row[column.name] = (
            UUID(value)
            if kind is UUID
            else datetime.fromisoformat(value)
            if kind is datetime
            else value
        )
    return row
