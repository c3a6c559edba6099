"""Retention: a tenant's rows that are older than it lets them be are erased, archived ones too.

Postgres comes first, some days at a time, then what was detached, then the archive, whose
files are written anew without them. Each part is whole or not done, so that a run which was
killed is finished by the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Engine, text, update

from router.errors import InvalidInput
from router.store import audit
from router.store.archive_files import ArchivedFile, ArchiveDirectory, ArchivedMonth
from router.store.archived_rows import KEYS, TABLES, TIMES, schema
from router.store.archiving import Alone, Month, months_of
from router.store.engine import DatabaseRole, tenant_scope, transaction
from router.store.seams import Tenant
from router.store.tables import tenants
from router.store.tenants import PostgresTenants, tenant_not_found

STEP = timedelta(days=7)
LONGEST_DAYS = 36_500
_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How many of a tenant's rows were older than it lets them be."""

    tenant: str
    before: datetime
    in_postgres: int
    in_archive: int


def set_retention(admin: Engine, name: str, days: int | None, *, actor: str) -> None:
    """Says for how many days a tenant's rows are kept; None keeps them. For the admin role.

    Raises InvalidInput, and NotFound when there is no such tenant.
    """
    if days is not None and not 1 <= days <= LONGEST_DAYS:
        raise InvalidInput(f"{days} is not from 1 to {LONGEST_DAYS:,} days", field="days")
    with transaction(admin) as connection:
        changed = connection.execute(
            update(tenants).where(tenants.c.name == name).values(retention_days=days)
        )
        if not changed.rowcount:
            raise tenant_not_found(name)
        audit.record(
            connection,
            actor=actor,
            action="tenants.set_retention",
            subject=name,
            details={"days": days},
        )


class Expiry(Alone):
    """Erases what tenants no longer keep; one run at a time on a database."""

    def __init__(self, dsn: str, directory: ArchiveDirectory | None) -> None:
        super().__init__(dsn, DatabaseRole.OWNER, "leadline expire")
        self._directory = directory

    def run(self, now: datetime) -> list[Expired]:
        """Erases what is too old at `now`, tenant by tenant."""
        found = PostgresTenants(self._trainer).tenants()
        return [self._expired(each, now) for each in found if each.retention_days is not None]

    def _expired(self, tenant: Tenant, now: datetime) -> Expired:
        before = now - timedelta(days=tenant.retention_days or LONGEST_DAYS)
        erased = self._erase_attached(tenant, before)
        for month in months_of(self._trainer):
            if month.start < before and month.detached:
                erased += self._erase_detached(tenant, month, before)
        archived = 0
        if self._directory is not None:
            for known in self._directory.months():
                archived += _erase_archived(self._directory, tenant, known, before)
        return Expired(tenant=tenant.name, before=before, in_postgres=erased, in_archive=archived)

    def _erase_attached(self, tenant: Tenant, before: datetime) -> int:
        """Erases reports before what they are of, so that none is left without."""
        erased = 0
        for table in ("outcomes", "attempts", "decisions"):
            column = TIMES[table]
            with tenant_scope(self._owner, tenant.tenant_id) as connection:
                oldest = connection.scalar(text(f"select min({column}) from {table}"))  # noqa: S608
            while oldest is not None and oldest < before:
                oldest = min(oldest + STEP, before)
                with tenant_scope(self._owner, tenant.tenant_id) as connection:
                    erased += _erase(connection, table, table, tenant, oldest)
        return erased

    def _erase_detached(self, tenant: Tenant, month: Month, before: datetime) -> int:
        erased = 0
        with transaction(self._owner) as connection:
            for table in TABLES:
                if (part := month.part(table)) in month.detached:
                    connection.execute(text(f"alter table {part} no force row level security"))
                    erased += _erase(connection, part, table, tenant, before)
                    connection.execute(text(f"alter table {part} force row level security"))
        return erased


def _erase_archived(
    directory: ArchiveDirectory, tenant: Tenant, known: ArchivedMonth, before: datetime
) -> int:
    """Writes a month's files of the tenant anew, and lets go of those before."""
    kept: list[ArchivedFile] = []
    for file in known.files:
        if file.tenant == tenant.name and _oldest(directory, file) < before:
            kept += _without(directory, file, known.month, before)
        else:
            kept.append(file)
    erased = sum(known.rows.values()) - sum(each.rows for each in kept)
    if erased:
        directory.vouch(replace(known, files=tuple(kept)))
    return erased


def _oldest(directory: ArchiveDirectory, file: ArchivedFile) -> datetime:
    column = TIMES.get(file.table, "occurred_at")
    found: list[datetime] = [pc.min(batch.column(column)).as_py() for batch in directory.read(file)]
    return min(found)


def _without(
    directory: ArchiveDirectory, file: ArchivedFile, month: str, before: datetime
) -> list[ArchivedFile]:
    """The file that has the rows which are kept, where there is one."""
    column, least = TIMES.get(file.table, "occurred_at"), pa.scalar(before, _TIME)
    made = directory.write(
        (
            batch.filter(pc.greater_equal(batch.column(column), least))
            for batch in directory.read(file)
        ),
        schema(file.table),
        table=file.table,
        tenant=file.tenant,
        month=month,
        key=KEYS[file.table],
    )
    return [] if made is None else [made]


def _erase(
    connection: Connection, relation: str, table: str, tenant: Tenant, before: datetime
) -> int:
    """Deletes a tenant's rows before a time."""
    query = f"delete from {relation} where tenant_id = :tenant and {TIMES[table]} < :before"  # noqa: S608
    told = {"tenant": tenant.tenant_id, "before": before}
    return int(connection.execute(text(query), told).rowcount)
