"""Certificates and monitors in Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from router.conditions import MonitorState
from router.errors import Conflict, NotFound
from router.store import audit
from router.store.engine import tenant_scope
from router.store.promise_seams import CertificateRecord, InForce, MonitorRecord
from router.store.tables import certificates, monitors

POLICIES_IN_FORCE = 3
_NEWEST = (certificates.c.created_at.desc(), certificates.c.certificate_id.desc())


class PostgresPromises:
    """The Promises seam. Reading takes the router's role, writing the trainer's or the admin's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self, tenant_id: UUID) -> Mapping[str, InForce]:
        """As the seam says."""
        newest = _newest_by_policy(certificates.c.tenant_id == tenant_id)
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
    """Joins what is in force by slo name; the certificates come oldest first."""
    certified: dict[str, dict[int, CertificateRecord]] = {}
    for record in certificates:
        known = certified.setdefault(record.slo_name, {})
        known.pop(record.policy_version, None)
        known[record.policy_version] = record
    watched = {record.slo_name: record for record in monitors}
    return {
        name: _in_force(certified.get(name, {}), watched.get(name))
        for name in sorted(certified.keys() | watched.keys())
    }


def _in_force(known: Mapping[int, CertificateRecord], monitor: MonitorRecord | None) -> InForce:
    last = dict(list(known.items())[-POLICIES_IN_FORCE:])
    newest = list(last.values())[-1] if last else None
    return InForce(certificate=newest, monitor=monitor, by_policy=last)


def _newest_by_policy(ours: ColumnElement[bool]) -> Select[Any]:
    """The newest certificate of each slo under each of its last policies, oldest first."""
    each = (certificates.c.slo_name, certificates.c.policy_version)
    place = func.row_number().over(partition_by=each, order_by=_NEWEST)
    ranked = select(*certificates.c, place.label("place")).where(ours).subquery()
    order = (ranked.c.created_at.desc(), ranked.c.certificate_id.desc())
    among = func.row_number().over(partition_by=ranked.c.slo_name, order_by=order)
    newest = select(*ranked.c, among.label("among")).where(ranked.c.place == 1).subquery()
    return (
        select(*(newest.c[column.name] for column in certificates.c))
        .where(newest.c.among <= POLICIES_IN_FORCE)
        .order_by(newest.c.created_at, newest.c.certificate_id)
    )


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
