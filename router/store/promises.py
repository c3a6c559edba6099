"""Certificates and monitors in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from router.conditions import MonitorState
from router.errors import Conflict, NotFound
from router.store import audit
from router.store.engine import tenant_scope
from router.store.promise_seams import CertificateRecord, InForce, MonitorRecord
from router.store.tables import certificates, monitors

_NEWEST = (certificates.c.created_at.desc(), certificates.c.certificate_id.desc())


class PostgresPromises:
    """The Promises seam. Reading takes the router's role, writing the trainer's or the admin's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self, tenant_id: UUID) -> Mapping[str, InForce]:
        """As the seam says."""
        place = func.row_number().over(partition_by=certificates.c.slo_name, order_by=_NEWEST)
        ours = certificates.c.tenant_id == tenant_id
        ranked = select(*certificates.c, place.label("place")).where(ours).subquery()
        newest = select(*(ranked.c[column.name] for column in certificates.c)).where(
            ranked.c.place == 1
        )
        watched = select(monitors).where(monitors.c.tenant_id == tenant_id)
        with tenant_scope(self._engine, tenant_id) as connection:
            certified = [CertificateRecord(**row) for row in connection.execute(newest).mappings()]
            return in_force(certified, map(_monitor, connection.execute(watched).mappings()))

    def certificates(
        self, tenant_id: UUID, slo_name: str = "", limit: int = 50
    ) -> Sequence[CertificateRecord]:
        """As the seam says."""
        ours = select(certificates).where(certificates.c.tenant_id == tenant_id)
        if slo_name:
            ours = ours.where(certificates.c.slo_name == slo_name)
        query = ours.order_by(*_NEWEST).limit(limit)
        with tenant_scope(self._engine, tenant_id) as connection:
            return [CertificateRecord(**row) for row in connection.execute(query).mappings()]

    def certificate(self, tenant_id: UUID, certificate_id: UUID) -> CertificateRecord:
        """As the seam says."""
        query = select(certificates).where(
            certificates.c.tenant_id == tenant_id, certificates.c.certificate_id == certificate_id
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise certificate_not_found(certificate_id)
        return CertificateRecord(**row)

    def write_certificate(self, record: CertificateRecord, *, actor: str) -> None:
        """As the seam says."""
        write = insert(certificates).values(asdict(record)).on_conflict_do_nothing()
        with tenant_scope(self._engine, record.tenant_id) as connection:
            if connection.scalar(write.returning(certificates.c.slo_name)) is not None:
                audit.record(
                    connection,
                    actor=actor,
                    action="certificates.write",
                    subject=record.slo_name,
                    tenant_id=record.tenant_id,
                    details={"certificate_id": str(record.certificate_id)},
                )

    def write_monitor(
        self, record: MonitorRecord, *, before: MonitorRecord | None, actor: str
    ) -> None:
        """As the seam says."""
        with tenant_scope(self._engine, record.tenant_id) as connection:
            if not _replace(connection, record, before):
                raise monitor_moved(record.slo_name)
            if changes_state(record, before):
                audit.record(
                    connection,
                    actor=actor,
                    action=f"monitors.{record.state}",
                    subject=record.slo_name,
                    tenant_id=record.tenant_id,
                    details={"before": before.state if before else None, **record.body},
                )


def in_force(
    certificates: Iterable[CertificateRecord], monitors: Iterable[MonitorRecord]
) -> dict[str, InForce]:
    """Joins what is in force by slo name."""
    certified = {record.slo_name: record for record in certificates}
    watched = {record.slo_name: record for record in monitors}
    return {
        name: InForce(certificate=certified.get(name), monitor=watched.get(name))
        for name in sorted(certified.keys() | watched.keys())
    }


def changes_state(record: MonitorRecord, before: MonitorRecord | None) -> bool:
    """Whether workers must hear of the monitor: it is new, or its state is another."""
    return before is None or record.state is not before.state


def certificate_not_found(certificate_id: UUID) -> NotFound:
    """The error for a certificate that the tenant does not have."""
    return NotFound(
        f"there is no certificate {certificate_id}; see 'leadline certificates list'",
        reason="CERTIFICATE_NOT_FOUND",
    )


def monitor_moved(slo_name: str) -> Conflict:
    """The error for a monitor that another watcher has written since it was read."""
    return Conflict(f"the monitor of slo {slo_name!r} has moved on; read it and try again")


def _replace(connection: Connection, record: MonitorRecord, before: MonitorRecord | None) -> bool:
    """Whether the monitor still was as it was read; a state that stays is not written."""
    if before is None:
        write = insert(monitors).values(asdict(record)).on_conflict_do_nothing()
        return connection.scalar(write.returning(monitors.c.slo_name)) is not None
    values = asdict(record)
    if not changes_state(record, before):
        del values["state"]
    moved = connection.execute(
        update(monitors)
        .where(
            monitors.c.tenant_id == record.tenant_id,
            monitors.c.slo_name == record.slo_name,
            monitors.c.seen_until == before.seen_until,
            monitors.c.updated_at == before.updated_at,
        )
        .values(values)
    )
    return moved.rowcount == 1


def _monitor(row: Any) -> MonitorRecord:
    return MonitorRecord(**{**row, "state": MonitorState(row["state"])})
