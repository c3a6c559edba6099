"""The audit log: who changed what, written in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, insert, select

from router.store.engine import transaction
from router.store.tables import audit_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change."""

    at: datetime
    tenant_id: UUID | None
    actor: str
    action: str
    subject: str
    comment: str
    details: Mapping[str, Any]


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    tenant_id: UUID | None = None,
    comment: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Adds an entry; it stands or falls with the connection's transaction."""
    connection.execute(
        insert(audit_log)
        .inline()
        .values(
            tenant_id=tenant_id,
            actor=actor,
            action=action,
            subject=subject,
            comment=comment,
            details=dict(details or {}),
        )
    )


def holds(connection: Connection, action: str, request_id: UUID) -> bool:
    """Whether an entry of this action has the request id in its details."""
    known = audit_log.c.details["request_id"].astext == str(request_id)
    query = select(audit_log.c.entry_id).where(audit_log.c.action == action, known).limit(1)
    return connection.scalar(query) is not None


def entries(engine: Engine, limit: int = 100) -> Sequence[Entry]:
    """The newest entries first, of all tenants; for the admin role."""
    wanted = [audit_log.c[name] for name in Entry.__slots__]
    query = select(*wanted).order_by(audit_log.c.entry_id.desc()).limit(limit)
    with transaction(engine) as connection:
        return [Entry(**row) for row in connection.execute(query).mappings()]
