"""Rows as serving writes them, for the tests of the store."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

from router.conditions import MonitorState
from router.ids import time_of, uuid7
from router.store.promise_seams import CertificateRecord, MonitorRecord
from router.store.seams import Kind, Record

TENANT = UUID("11111111-1111-4111-8111-111111111111")
OTHER_TENANT = UUID("22222222-2222-4222-8222-222222222222")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def decision(
    tenant_id: UUID = TENANT,
    *,
    key: UUID | None = None,
    body: bytes = b"body",
    decision_id: UUID | None = None,
    **columns: Any,
) -> Record:
    """A decision's record; `columns` replaces values of its row."""
    row_id = decision_id or uuid7(datetime.now(UTC))
    row = {
        "tenant_id": tenant_id,
        "decision_id": row_id,
        "occurred_at": time_of(row_id),
        "query_id": "q",
        "query": "What is 2 + 2?\n\t\\ \u2603",
        "policy_version": 0,
        "policy_source": "static",
        "arm": "small:single",
        "model": "small",
        "strategy": "single",
        "params": {},
        "propensity": 0.5,
        "explored": False,
        "feasible": ["small:single"],
        **columns,
    }
    return _record(Kind.DECISION, tenant_id, row_id, row, key=key, body=body)


def attempt(decided: Record, number: int = 0, **columns: Any) -> Record:
    """What Continue said after an attempt of a decision."""
    row_id = uuid4()
    row = {
        "tenant_id": decided.tenant_id,
        "decision_id": decided.row_id,
        "decided_at": time_of(decided.row_id),
        "attempt": number,
        "attempt_id": row_id,
        "occurred_at": datetime.now(UTC),
        "arm": "small:single",
        "model": "small",
        "strategy": "single",
        "params": {},
        "keep": True,
        **columns,
    }
    return _record(Kind.ATTEMPT, decided.tenant_id, row_id, row)


def outcome(decided: Record, number: int = 0, **columns: Any) -> Record:
    """An outcome of an attempt of a decision."""
    row_id = uuid4()
    row = {
        "tenant_id": decided.tenant_id,
        "decision_id": decided.row_id,
        "decided_at": time_of(decided.row_id),
        "outcome_id": row_id,
        "occurred_at": datetime.now(UTC),
        "attempt": number,
        "source": "exact",
        "error": "",
        **columns,
    }
    return _record(Kind.OUTCOME, decided.tenant_id, row_id, row)


def certificate(tenant: UUID, name: str = "chat", hour: int = 0, **how: Any) -> CertificateRecord:
    """A certificate of an slo's name, so many hours after NOW."""
    values: dict[str, Any] = {
        "tenant_id": tenant,
        "certificate_id": uuid4(),
        "slo_name": name,
        "slo_version": 3,
        "policy_version": 7,
        "created_at": NOW + timedelta(hours=hour),
        "body": {"n": 1000, "lower_bound": 0.91, "inputs": ["a", None]},
    }
    return CertificateRecord(**values | how)


def monitor(tenant: UUID, name: str = "chat", **how: Any) -> MonitorRecord:
    """A monitor of an slo's name that holds."""
    values: dict[str, Any] = {
        "tenant_id": tenant,
        "slo_name": name,
        "state": MonitorState.HOLDING,
        "seen_until": 5,
        "updated_at": NOW,
        "body": {"wealth": 1.5},
    }
    return MonitorRecord(**values | how)


def _record(
    kind: Kind,
    tenant_id: UUID,
    row_id: UUID,
    row: dict[str, Any],
    *,
    key: UUID | None = None,
    body: bytes = b"body",
) -> Record:
    return Record(
        kind=kind,
        tenant_id=tenant_id,
        key=key or row_id,
        row_id=row_id,
        digest=hashlib.sha256(body).digest(),
        row=orjson.dumps(row),
    )
