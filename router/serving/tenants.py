"""What a worker remembers of tenants, so that routing goes on while Postgres is away.

A positive answer is kept until Postgres says otherwise; a negative one for a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from uuid import UUID

from router.conditions import Promise
from router.serving.promised import NamedPromises, promised
from router.serving.threads import Threads
from router.slo import AccuracyScope, Slo
from router.store.promise_seams import InForce, Promises
from router.store.seams import Slos, Tenants
from router.types import Identity

NEGATIVE_S = 1.0
MOST_NEGATIVE = 10_000
MOST_EAGER = 1_000
MOST_OLD_VERSIONS = 1_000

NamedSlos = Mapping[str, Slo]
Floors = Mapping[str, Promise | None]
"""What is promised of each floor on the average, by slo; None where nothing is as yet."""


class TenantDirectory:
    """Identities and slos in memory.

    The event loop reads and looks up; the reload thread refreshes. Every shared value is
    replaced whole, never changed in place, but for single assignments in a dict.
    """

    def __init__(
        self,
        tenants: Tenants,
        slos: Slos,
        promises: Promises,
        threads: Threads,
        clock: Callable[[], float] = time.monotonic,
        *,
        floors: Callable[[UUID, Floors], None] | None = None,
    ) -> None:
        self._store, self._slo_store, self._threads, self._clock = tenants, slos, threads, clock
        self._promise_store, self._floors = promises, floors
        self._promises: dict[UUID, NamedPromises] = {}
        self._identities: dict[bytes, Identity] = {}
        self._strangers: dict[bytes, float] = {}
        self._ids: dict[str, UUID] = {}
        self._slos: dict[UUID, NamedSlos] = {}
        self._reading: dict[UUID, threading.Lock] = {}
        self._versions: dict[tuple[UUID, str, int], Slo] = {}
        self._epoch = 0

    def identity(self, fingerprint: bytes) -> Identity | None:
        """Who the key with this SHA-256 stands for, if that is remembered."""
        return self._identities.get(fingerprint)

    def tenant_id(self, name: str) -> UUID | None:
        """The tenant of that name, if it is remembered."""
        return self._ids.get(name)

    def slos(self, tenant_id: UUID) -> NamedSlos | None:
        """The tenant's current slos, if they are remembered."""
        return self._slos.get(tenant_id)

    def promise(self, tenant_id: UUID, slo: Slo, policy_version: int) -> Promise | None:
        """What is promised of the slo under the policy, if that is remembered."""
        found = self._promises.get(tenant_id, {}).get(slo.name)
        return None if found is None else promised(found, slo, policy_version)

    async def authenticate(self, fingerprint: bytes, key: str) -> Identity | None:
        """Asks Postgres who the key stands for. Raises Unavailable."""
        if self._strangers.get(fingerprint, 0.0) > self._clock():
            return None
        epoch = self._epoch
        identity = await self._threads.run(self._store.authenticate, key)
        if identity is None:
            self._remember_stranger(fingerprint)
        elif epoch == self._epoch:
            self._identities[fingerprint] = identity
        return identity

    async def identify(self, name: str) -> UUID | None:
        """Asks Postgres for the tenant of that name. Raises Unavailable."""
        fingerprint = name.encode()
        if self._strangers.get(fingerprint, 0.0) > self._clock():
            return None
        tenant = await self._threads.run(self._store.identify, name)
        if tenant is None:
            self._remember_stranger(fingerprint)
            return None
        self._ids[name] = tenant.tenant_id
        return tenant.tenant_id

    async def load_slos(self, tenant_id: UUID) -> NamedSlos:
        """Reads the tenant's slos. Raises Unavailable."""
        return await self._threads.run(self._read_slos, tenant_id)

    async def slo_version(self, tenant_id: UUID, name: str, version: int) -> Slo:
        """One version of an slo, which never changes. Raises NotFound or Unavailable."""
        current = (self._slos.get(tenant_id) or {}).get(name)
        if current is not None and current.version == version:
            return current
        place = (tenant_id, name, version)
        if place not in self._versions:
            slo = await self._threads.run(self._slo_store.get, tenant_id, name, version)
            if len(self._versions) >= MOST_OLD_VERSIONS:
                self._versions.clear()
            self._versions[place] = slo
        return self._versions[place]

    def load_known(self) -> None:
        """Reads the tenants and their slos ahead of their first request; blocks."""
        tenants = self._store.tenants()
        self._ids = {tenant.name: tenant.tenant_id for tenant in tenants}
        for tenant in tenants[:MOST_EAGER]:
            self._read_slos(tenant.tenant_id)

    def refresh_slos(self) -> None:
        """Reads again the slos, and what is promised of them, of every known tenant; blocks."""
        for tenant_id in tuple(self._reading):
            self._read_slos(tenant_id)

    def refresh_tenants(self) -> None:
        """Forgets keys that were revoked and tenants that went; blocks."""
        self._epoch += 1
        self._strangers = {}
        tenants = self._store.tenants()
        self._ids = {tenant.name: tenant.tenant_id for tenant in tenants}
        for name in {identity.tenant for identity in tuple(self._identities.values())}:
            self._forget_revoked(name)

    def _forget_revoked(self, tenant: str) -> None:
        valid = {
            (key.key_id, key.role)
            for key in (self._store.keys(tenant) if tenant in self._ids else ())
            if key.revoked_at is None
        }
        for fingerprint, identity in tuple(self._identities.items()):
            if identity.tenant == tenant and (identity.key_id, identity.role) not in valid:
                self._identities.pop(fingerprint, None)

    def _read_slos(self, tenant_id: UUID) -> NamedSlos:
        """One reader a tenant at a time, so that no older answer replaces a newer one."""
        with self._reading.setdefault(tenant_id, threading.Lock()):
            slos = MappingProxyType({slo.name: slo for slo in self._slo_store.current(tenant_id)})
            self._promises[tenant_id] = self._promise_store.current(tenant_id)
            self._slos[tenant_id] = slos
            if self._floors is not None:
                self._floors(tenant_id, _floors(slos, self._promises[tenant_id]))
        return slos

    def _remember_stranger(self, fingerprint: bytes) -> None:
        if len(self._strangers) >= MOST_NEGATIVE:
            self._strangers = {}
        self._strangers[fingerprint] = self._clock() + NEGATIVE_S


def _floors(slos: NamedSlos, promises: NamedPromises) -> Floors:
    """By each floor's newest certificate under the policy that is monitored, or else any."""
    return {
        name: _newest(slo, promises.get(name))
        for name, slo in slos.items()
        if slo.has_floor and slo.accuracy_scope is AccuracyScope.AVERAGE
    }


def _newest(slo: Slo, found: InForce | None) -> Promise | None:
    if found is None or found.certificate is None:
        return None
    watched = found.monitor.body.get("policy_version") if found.monitor else None
    known = found.certificate if watched is None else found.under(watched) or found.certificate
    return promised(found, slo, known.policy_version)
