"""Slos in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection, Engine, Select, func, insert, select

from router.errors import Conflict, NotFound
from router.slo import Slo
from router.store import audit
from router.store.engine import tenant_scope
from router.store.tables import slos


class PostgresSlos:
    """The Slos seam; the router's role will do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self, tenant_id: UUID) -> Sequence[Slo]:
        """As the seam says."""
        newest = (
            select(slos.c.name, func.max(slos.c.version).label("version"))
            .where(slos.c.tenant_id == tenant_id)
            .group_by(slos.c.name)
            .subquery()
        )
        same = (slos.c.name == newest.c.name) & (slos.c.version == newest.c.version)
        query = _of(tenant_id).join(newest, same).order_by(slos.c.name)
        with tenant_scope(self._engine, tenant_id) as connection:
            return [Slo.from_mapping(body) for body in connection.scalars(query)]

    def get(self, tenant_id: UUID, name: str, version: int = 0) -> Slo:
        """As the seam says."""
        with tenant_scope(self._engine, tenant_id) as connection:
            found = _find(connection, tenant_id, name, version)
        if found is None:
            raise slo_not_found(name, version)
        return found

    def put(self, tenant_id: UUID, slo: Slo, *, base_version: int | None, actor: str) -> Slo:
        """As the seam says."""
        with tenant_scope(self._engine, tenant_id) as connection:
            _one_writer(connection, tenant_id)
            newest = _find(connection, tenant_id, slo.name, 0)
            written = next_version(newest, slo, base_version)
            if written is newest:
                return written
            connection.execute(
                insert(slos).values(
                    tenant_id=tenant_id,
                    name=written.name,
                    version=written.version,
                    body=written.to_mapping(),
                    actor=actor,
                )
            )
            audit.record(
                connection,
                actor=actor,
                action="slos.put",
                subject=written.name,
                tenant_id=tenant_id,
                details=written.to_mapping(),
            )
        return written


def next_version(newest: Slo | None, slo: Slo, base_version: int | None) -> Slo:
    """What `put` shall write; the newest itself when it says the same already.

    Raises Conflict when `base_version` is given and not the newest's.
    """
    version = newest.version if newest else 0
    if newest is not None and replace(slo, version=version) == newest:
        return newest
    if base_version is not None and base_version != version:
        raise Conflict(
            f"slo {slo.name!r} is at version {version}, not {base_version}; read it and try again"
        )
    return replace(slo, version=version + 1)


def slo_not_found(name: str, version: int) -> NotFound:
    """The error for a name or a version that the tenant does not have."""
    what = f"version {version} of slo {name!r}" if version else f"slo {name!r}"
    return NotFound(f"there is no {what}; see 'leadline slos list'", reason="SLO_NOT_FOUND")


def _of(tenant_id: UUID) -> Select[tuple[object]]:
    return select(slos.c.body).where(slos.c.tenant_id == tenant_id)


def _find(connection: Connection, tenant_id: UUID, name: str, version: int) -> Slo | None:
    query = _of(tenant_id).where(slos.c.name == name).order_by(slos.c.version.desc()).limit(1)
    body = connection.scalar(query.where(slos.c.version == version) if version else query)
    return None if body is None else Slo.from_mapping(body)


def _one_writer(connection: Connection, tenant_id: UUID) -> None:
    lock = func.hashtextextended(f"leadline.slos.{tenant_id}", 0)
    connection.execute(select(func.pg_advisory_xact_lock(lock)))
