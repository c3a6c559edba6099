"""The store as a worker uses it: every seam in its Postgres form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.serving.decisions import Finder
from router.settings import Settings
from router.store.budgets import PostgresBudgets
from router.store.catalog import PostgresCatalog
from router.store.changes import PostgresChanges
from router.store.costs import Costs, PostgresCosts
from router.store.decisions import PostgresLog
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys, decision_key
from router.store.neighbour import Neighbour
from router.store.outbox import SqliteOutbox
from router.store.promise_seams import Budgets, Promises
from router.store.promises import PostgresPromises
from router.store.registry import PostgresRegistry
from router.store.rehearsing import PostgresPast
from router.store.seams import CatalogStore, Changes, Log, Outbox, Registry, Slos
from router.store.seams import Tenants as TenantStore
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.trust import trusted_here


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What a worker reads and writes. `admin` forms may change what all tenants share."""

    outbox: Outbox
    neighbours: Sequence[Finder]
    log: Log
    tenants: TenantStore
    slos: Slos
    promises: Promises
    budgets: Budgets
    costs: Costs
    catalog: CatalogStore
    registry: Registry
    admin_catalog: CatalogStore
    admin_registry: Registry
    changes: Changes
    past: PostgresPast
    signing_keys: SigningKeys
    extra_trusted: Mapping[str, bytes]
    decision_key: bytes

    def trusted(self) -> Mapping[str, bytes]:
        """Public keys by key id: those in the database and those in the settings."""
        return {**self.signing_keys.trusted(), **self.extra_trusted}


def open_stores(settings: Settings, dsn: str, worker: int) -> Stores:
    """Connects. Raises Unavailable, MigrationNeeded, or ConfigurationError."""
    reader = connect(dsn, role=DatabaseRole.ROUTER, application_name=f"leadline worker {worker}")
    admin = connect(
        dsn,
        role=DatabaseRole.ADMIN,
        application_name=f"leadline worker {worker} admin",
        pool_size=2,
    )
    extra_trusted = trusted_here(settings)
    key = decision_key(reader)
    outbox = SqliteOutbox(
        outbox_path(settings, worker),
        max_bytes=max(settings.outbox_max_bytes // settings.workers, 1 << 20),
        durability=settings.durability,
    )
    others = [outbox_path(settings, each) for each in range(settings.workers) if each != worker]
    return Stores(
        outbox=outbox,
        neighbours=[Neighbour(path) for path in others],
        log=PostgresLog(reader),
        tenants=PostgresTenants(reader),
        slos=PostgresSlos(reader),
        promises=PostgresPromises(reader),
        budgets=PostgresBudgets(reader),
        costs=PostgresCosts(reader),
        catalog=PostgresCatalog(reader),
        registry=PostgresRegistry(reader),
        admin_catalog=PostgresCatalog(admin),
        admin_registry=PostgresRegistry(admin),
        changes=PostgresChanges(reader, dsn),
        past=PostgresPast(reader),
        signing_keys=SigningKeys(reader),
        extra_trusted=extra_trusted,
        decision_key=key,
    )


def outbox_path(settings: Settings, worker: int) -> Path:
    """The outbox file of a worker; the shipper finds it by this name."""
    return settings.outbox_dir / f"outbox-{worker}.sqlite3"
