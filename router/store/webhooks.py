"""Tenants' webhooks in Postgres: where each is told of its slos' states, and what came of it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from router.store import audit
from router.store.engine import transaction
from router.store.tables import tenants, webhooks
from router.webhooks import checked_url, origin


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantWebhook:
    """Where a tenant is told, and the secret that signs it; neither shows in its repr."""

    tenant_id: UUID
    url: str = field(repr=False)
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownWebhook:
    """A tenant's webhook as people may see it: `origin` is its address without the path."""

    tenant: str
    origin: str
    created_at: datetime
    delivered: int
    failed: int
    failed_in_a_row: int
    last_failure: str | None


class PostgresWebhooks:
    """One webhook a tenant. Setting takes the admin role; counting the trainer's or the admin's.

    What is set or removed announces Topic.TENANTS, and is audited without path and secret.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def put(self, tenant_id: UUID, url: str, *, actor: str, private: bool = False) -> TenantWebhook:
        """Sets the tenant's webhook under a new secret, and counts from 0.

        Raises InvalidInput for what is no public https:// address; `private` ones may be
        permitted.
        """
        made = TenantWebhook(
            tenant_id=tenant_id,
            url=checked_url(url, private=private),
            secret=secrets.token_hex(32),
        )
        values = {"tenant_id": tenant_id, "url": made.url, "secret": made.secret}
        new = {"created_at": func.now(), "last_failure": None} | dict.fromkeys(_COUNTS, 0)
        with transaction(self._engine) as connection:
            written = insert(webhooks).values(values)
            on = [webhooks.c.tenant_id]
            connection.execute(written.on_conflict_do_update(index_elements=on, set_=values | new))
            audit.record(
                connection,
                actor=actor,
                action="webhooks.set",
                subject=origin(url),
                tenant_id=tenant_id,
            )
        return made

    def remove(self, tenant_id: UUID, *, actor: str) -> bool:
        """Whether there was one to remove."""
        with transaction(self._engine) as connection:
            gone = connection.scalar(
                delete(webhooks).where(_of(tenant_id)).returning(webhooks.c.url)
            )
            if gone is not None:
                audit.record(
                    connection,
                    actor=actor,
                    action="webhooks.remove",
                    subject=origin(gone),
                    tenant_id=tenant_id,
                )
        return gone is not None

    def current(self) -> Mapping[UUID, TenantWebhook]:
        """All tenants' webhooks, by tenant."""
        query = select(webhooks.c.tenant_id, webhooks.c.url, webhooks.c.secret)
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings()
            return {row["tenant_id"]: TenantWebhook(**row) for row in rows}

    def shown(self) -> Sequence[ShownWebhook]:
        """All tenants' webhooks by tenant's name, without what is secret."""
        names = ("created_at", *_COUNTS, "last_failure")
        query = (
            select(tenants.c.name, webhooks.c.url, *(webhooks.c[name] for name in names))
            .join(tenants, tenants.c.tenant_id == webhooks.c.tenant_id)
            .order_by(tenants.c.name)
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [
            ShownWebhook(
                tenant=row["name"],
                origin=origin(row["url"]),
                **{name: row[name] for name in names},
            )
            for row in rows
        ]

    def delivered(self, tenant_id: UUID, count: int) -> None:
        """Counts events that arrived."""
        counted = {"delivered": webhooks.c.delivered + count, "failed_in_a_row": 0}
        with transaction(self._engine) as connection:
            connection.execute(update(webhooks).where(_of(tenant_id)).values(counted))

    def failed(self, tenant_id: UUID, why: str, *, actor: str) -> None:
        """Counts a try that failed; the first of several in a row is audited."""
        counted = {
            "failed": webhooks.c.failed + 1,
            "failed_in_a_row": webhooks.c.failed_in_a_row + 1,
            "last_failure": why,
        }
        query = update(webhooks).where(_of(tenant_id)).values(counted)
        with transaction(self._engine) as connection:
            found = connection.execute(
                query.returning(webhooks.c.url, webhooks.c.failed_in_a_row)
            ).one_or_none()
            if found is not None and found.failed_in_a_row == 1:
                audit.record(
                    connection,
                    actor=actor,
                    action="webhooks.fail",
                    subject=origin(found.url),
                    tenant_id=tenant_id,
                    details={"why": why},
                )


_COUNTS = ("delivered", "failed", "failed_in_a_row")


def _of(tenant_id: UUID) -> ColumnElement[bool]:
    return webhooks.c.tenant_id == tenant_id
