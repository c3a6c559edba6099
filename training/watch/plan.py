"""What there is to watch: tenants, slos with floors, the policy, and what is in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from router.bundle.embedder import load_embedder
from router.loading import bind, registered
from router.policy.policy import Learned, Policy, static_policy
from router.slo import AccuracyScope, Slo
from router.store.alarms import PostgresAlarms
from router.store.arrivals import PostgresArrivals
from router.store.canaries import PostgresCanaries
from router.store.catalog import PostgresCatalog
from router.store.changes import PostgresChanges
from router.store.engine import DatabaseRole, connect
from router.store.keys import SigningKeys
from router.store.promise_seams import CertificateRecord, MonitorRecord
from router.store.promises import PostgresPromises
from router.store.registry import PostgresRegistry
from router.store.seams import Tenant
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.store.watching import PostgresWatching
from router.store.webhooks import PostgresWebhooks
from router.types import Catalog, PolicyRecord
from training.watch.certifying import Cut

STATEMENT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What the watcher reads and writes; `switch` is the registry in a role that writes."""

    tenants: PostgresTenants
    slos: PostgresSlos
    catalog: PostgresCatalog
    registry: PostgresRegistry
    keys: SigningKeys
    changes: PostgresChanges
    promises: PostgresPromises
    arrivals: PostgresArrivals
    watching: PostgresWatching
    webhooks: PostgresWebhooks
    canaries: PostgresCanaries
    alarms: PostgresAlarms
    switch: PostgresRegistry


@contextmanager
def opened(dsn: str) -> Iterator[Stores]:
    """The stores, as reader and as trainer; their connections end with the block."""
    reader, trainer = (
        connect(
            dsn,
            role=role,
            application_name="leadline watcher",
            statement_timeout_s=STATEMENT_TIMEOUT_S,
            pool_size=2,
        )
        for role in (DatabaseRole.ROUTER, DatabaseRole.TRAINER)
    )
    changes = PostgresChanges(reader, dsn)
    try:
        yield Stores(
            tenants=PostgresTenants(reader),
            slos=PostgresSlos(reader),
            catalog=PostgresCatalog(reader),
            registry=PostgresRegistry(reader),
            keys=SigningKeys(reader),
            changes=changes,
            promises=PostgresPromises(trainer),
            arrivals=PostgresArrivals(trainer),
            watching=PostgresWatching(trainer),
            webhooks=PostgresWebhooks(trainer),
            canaries=PostgresCanaries(trainer),
            alarms=PostgresAlarms(trainer),
            switch=PostgresRegistry(trainer),
        )
    finally:
        changes.close()
        reader.dispose()
        trainer.dispose()


@dataclass(slots=True, kw_only=True)
class Watched:
    """One slo of a tenant, with its newest certificate and its monitor as last read or written.

    Where no floor is there to monitor yet, `awaited` scored decisions have arrived since the
    certificate, until the place `awaited_until`. `beside` is one that is the canary's.
    """

    tenant: Tenant
    slo: Slo
    certificate: CertificateRecord | None
    monitor: MonitorRecord | None
    awaited: int = 0
    awaited_until: int = 0
    beside: bool = False

    @property
    def name(self) -> tuple[str, str]:
        """Of the tenant and the slo, as logs say them."""
        slo = f"{self.slo.name} under the canary" if self.beside else self.slo.name
        return self.tenant.name, slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that is to be watched, under the policy that serves."""

    policy: Policy
    cut: Cut | None
    catalog_revision: int
    watched: Sequence[Watched]


class Policies:
    """A policy, verified as serving verifies it, bound to the catalog of now."""

    def __init__(self, stores: Stores, trusted: Mapping[str, bytes]) -> None:
        self._stores, self._trusted = stores, trusted
        self._learned: tuple[str, Learned] | None = None

    def another(self) -> Policies:
        """The same for another policy, so that each keeps its own in memory."""
        return Policies(self._stores, self._trusted)

    def bound(self, record: PolicyRecord | None, catalog: Catalog) -> Policy:
        """The policy; the static one where none is active. Raises BundleRefused."""
        if record is None:
            return static_policy(catalog)
        digest = record.bundle_sha256
        if self._learned is None or self._learned[0] != digest:
            self._learned = digest, self._load(record)
        return bind(self._learned[1], catalog, record.version)

    def _load(self, record: PolicyRecord) -> Learned:
        trusted = {**self._stores.keys.trusted(), **self._trusted}
        archive = self._stores.registry.bundle(record.version)
        return registered(archive, record.bundle_sha256, trusted, load_embedder())


def read_plan(stores: Stores, policies: Policies) -> Plan:
    """Reads it all. Raises BundleRefused where the active policy cannot be had."""
    return _plan(stores, policies, stores.registry.active())


def read_beside(stores: Stores, policies: Policies) -> Plan | None:
    """What to certify for the canary, whose floors nothing monitors; None without one.

    Raises BundleRefused.
    """
    record = stores.registry.on_trial()
    if record is None:
        return None
    plan = _plan(stores, policies, record)
    return replace(
        plan, watched=[replace(each, monitor=None, beside=True) for each in plan.watched]
    )


def _plan(stores: Stores, policies: Policies, record: PolicyRecord | None) -> Plan:
    catalog = stores.catalog.read()
    policy = policies.bound(record, catalog)
    return Plan(
        policy=policy,
        cut=None if record is None else Cut.of(record),
        catalog_revision=catalog.revision,
        watched=[
            each for tenant in stores.tenants.tenants() for each in _of(stores, tenant, policy)
        ],
    )


def _of(stores: Stores, tenant: Tenant, policy: Policy) -> list[Watched]:
    floors = [slo for slo in stores.slos.current(tenant.tenant_id) if is_watched(slo)]
    in_force = stores.promises.current(tenant.tenant_id) if floors else {}
    found = []
    for slo in floors:
        known = in_force.get(slo.name)
        found.append(
            Watched(
                tenant=tenant,
                slo=slo,
                certificate=known.under(policy.version) if known else None,
                monitor=known.monitor if known else None,
            )
        )
    return found


def is_watched(slo: Slo) -> bool:
    """Whether it promises a mean accuracy above 0."""
    floor = slo.min_accuracy if slo.min_accuracy is not None else slo.min_relative_accuracy
    return bool(floor) and slo.accuracy_scope is AccuracyScope.AVERAGE
