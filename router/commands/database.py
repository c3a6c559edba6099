"""The database as the commands reach it: the one named, or the embedded one."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from router.commands.options import settings
from router.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from router.settings import Settings

EMBEDDED = "postgres"
DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An open database at this version's schema; `admin` may change configuration."""

    dsn: str
    admin: Engine
    router: Engine

    def tenant_id(self, name: str) -> UUID:
        """The tenant of that name. Raises NotFound."""
        from router.store.tenants import PostgresTenants  # noqa: PLC0415

        tenant = PostgresTenants(self.router).identify(name)
        if tenant is None:
            raise NotFound(f"there is no tenant {name!r}; see 'leadline tenants list'")
        return tenant.tenant_id


@contextmanager
def database(dsn: str = "") -> Iterator[Database]:
    """Opens the database of the option, of LEADLINE_DSN, or the embedded one.

    Raises MigrationNeeded when somebody's own Postgres is at another schema; the embedded
    one is brought to ours and has a tenant "default".
    """
    from router.store import schema  # noqa: PLC0415
    from router.store.engine import DatabaseRole, connect  # noqa: PLC0415

    with opened(settings(dsn=dsn)) as (where, embedded):
        if embedded and schema.current(where) != schema.newest():
            schema.upgrade(where)
        schema.check(where)
        admin = connect(where, role=DatabaseRole.ADMIN, application_name="leadline command")
        router = connect(where, role=DatabaseRole.ROUTER, application_name="leadline command")
        try:
            if embedded:
                _make_default_tenant(admin)
            yield Database(dsn=where, admin=admin, router=router)
        finally:
            admin.dispose()
            router.dispose()


def _make_default_tenant(admin: Engine) -> None:
    from router.store.tenants import PostgresTenants  # noqa: PLC0415

    tenants = PostgresTenants(admin)
    if tenants.identify(DEFAULT_TENANT) is None:
        tenants.create(DEFAULT_TENANT, actor=operator())


@contextmanager
def opened(config: Settings) -> Iterator[tuple[str, bool]]:
    """A DSN that answers, and whether it is the embedded one.

    The embedded one is stopped again when this command started it and no one else uses it.
    """
    if config.dsn is not None:
        yield config.dsn.get_secret_value(), False
        return
    from router.store.embedded import EmbeddedPostgres  # noqa: PLC0415

    server = EmbeddedPostgres(config.state_dir / EMBEDDED)
    ran = server.pid() is not None
    try:
        yield server.start(), True
    finally:
        if not ran:
            server.stop()


def operator() -> str:
    """Who runs the command, for the audit log."""
    return f"os:{getpass.getuser()}"
