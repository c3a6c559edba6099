"""Tenants and their API keys in Postgres."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from router.errors import Conflict, NotFound
from router.store import audit
from router.store.api_keys import KeyText, plain_name
from router.store.engine import tenant_scope, transaction
from router.store.seams import ApiKey, Tenant
from router.store.tables import api_keys, tenants
from router.types import Identity, Role


class PostgresTenants:
    """The Tenants seam. Writing takes the admin role; the rest the router's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, *, actor: str) -> Tenant:
        """As the seam says."""
        tenant_id = uuid4()
        values = {"tenant_id": tenant_id, "name": plain_name(name)}
        try:
            with transaction(self._engine) as connection:
                made = connection.execute(insert(tenants).values(values).returning(tenants))
                tenant = Tenant(**made.mappings().one())
                audit.record(
                    connection,
                    actor=actor,
                    action="tenants.create",
                    subject=name,
                    tenant_id=tenant_id,
                )
        except IntegrityError as error:
            raise name_taken(name) from error
        return tenant

    def tenants(self) -> Sequence[Tenant]:
        """As the seam says."""
        with transaction(self._engine) as connection:
            rows = connection.execute(select(tenants).order_by(tenants.c.name)).mappings()
            return [Tenant(**row) for row in rows]

    def create_key(self, tenant: str, role: Role, *, actor: str) -> tuple[ApiKey, str]:
        """As the seam says."""
        owner = self._known(tenant)
        key = KeyText.new(owner.tenant_id)
        with tenant_scope(self._engine, owner.tenant_id) as connection:
            made = connection.execute(
                insert(api_keys)
                .values(
                    tenant_id=owner.tenant_id,
                    key_id=key.key_id,
                    secret_sha256=key.digest,
                    role=role,
                )
                .returning(*_SHOWN)
            )
            shown = _api_key(made.mappings().one(), tenant)
            audit.record(
                connection,
                actor=actor,
                action="keys.create",
                subject=key.key_id,
                tenant_id=owner.tenant_id,
                details={"role": role},
            )
        return shown, key.text

    def keys(self, tenant: str) -> Sequence[ApiKey]:
        """As the seam says."""
        owner = self._known(tenant)
        query = (
            select(*_SHOWN)
            .where(api_keys.c.tenant_id == owner.tenant_id)
            .order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
        )
        with tenant_scope(self._engine, owner.tenant_id) as connection:
            return [_api_key(row, tenant) for row in connection.execute(query).mappings()]

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:
        """As the seam says."""
        owner = self._known(tenant)
        ours = (api_keys.c.tenant_id == owner.tenant_id, api_keys.c.key_id == key_id)
        with tenant_scope(self._engine, owner.tenant_id) as connection:
            if connection.scalar(select(func.count()).where(*ours)) == 0:
                raise key_not_found(tenant, key_id)
            revoked = connection.execute(
                update(api_keys)
                .where(*ours, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=func.now())
            )
            if revoked.rowcount:
                audit.record(
                    connection,
                    actor=actor,
                    action="keys.revoke",
                    subject=key_id,
                    tenant_id=owner.tenant_id,
                )

    def authenticate(self, key: str) -> Identity | None:
        """As the seam says."""
        claimed = KeyText.parse(key)
        if claimed is None:
            return None
        query = (
            select(api_keys.c.secret_sha256, api_keys.c.role, tenants.c.name)
            .join(tenants, tenants.c.tenant_id == api_keys.c.tenant_id)
            .where(
                api_keys.c.tenant_id == claimed.tenant_id,
                api_keys.c.key_id == claimed.key_id,
                api_keys.c.revoked_at.is_(None),
            )
        )
        with tenant_scope(self._engine, claimed.tenant_id) as connection:
            row = connection.execute(query).one_or_none()
        if row is None or not hmac.compare_digest(bytes(row.secret_sha256), claimed.digest):
            return None
        return Identity(
            tenant_id=claimed.tenant_id,
            tenant=row.name,
            role=Role(row.role),
            key_id=claimed.key_id,
        )

    def identify(self, name: str) -> Tenant | None:
        """As the seam says."""
        with transaction(self._engine) as connection:
            found = connection.execute(select(tenants).where(tenants.c.name == name))
            row = found.mappings().one_or_none()
        return None if row is None else Tenant(**row)

    def _known(self, name: str) -> Tenant:
        found = self.identify(name)
        if found is None:
            raise tenant_not_found(name)
        return found


_SHOWN = (api_keys.c.key_id, api_keys.c.role, api_keys.c.created_at, api_keys.c.revoked_at)


def _api_key(row: Any, tenant: str) -> ApiKey:
    return ApiKey(**{**row, "role": Role(row["role"])}, tenant=tenant)


def name_taken(name: str) -> Conflict:
    """The error for a second tenant of one name."""
    return Conflict(f"there is a tenant {name!r} already; choose another name")


def tenant_not_found(name: str) -> NotFound:
    """The error for a tenant that is not there."""
    return NotFound(f"there is no tenant {name!r}; see 'leadline tenants list'")


def key_not_found(tenant: str, key_id: str) -> NotFound:
    """The error for a key that the tenant does not have."""
    return NotFound(f"tenant {tenant!r} has no key {key_id!r}; see 'leadline keys list'")
