"""In-memory twin of the tenants and their API keys."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from router.store.api_keys import KeyText, plain_name
from router.store.memory_changes import MemoryChanges
from router.store.seams import ApiKey, Tenant, Topic
from router.store.tenants import key_not_found, name_taken, tenant_not_found
from router.types import Identity, Role

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryTenants:
    """The Tenants seam."""

    def __init__(self, changes: MemoryChanges | None = None, *, clock: Clock = _utc_now) -> None:
        self._changes = changes or MemoryChanges()
        self._clock = clock
        self._lock = threading.Lock()
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, tuple[ApiKey, UUID, bytes]] = {}

    def create(self, name: str, *, actor: str) -> Tenant:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        tenant = Tenant(tenant_id=uuid4(), name=plain_name(name), created_at=self._clock())
        with self._lock:
            if name in self._tenants:
                raise name_taken(name)
            self._tenants[name] = tenant
        self._changes.announce(Topic.TENANTS)
        return tenant

    def tenants(self) -> Sequence[Tenant]:
        """As the seam says."""
        return sorted(self._tenants.values(), key=lambda tenant: tenant.name)

    def create_key(self, tenant: str, role: Role, *, actor: str) -> tuple[ApiKey, str]:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        owner = self._known(tenant)
        text = KeyText.new(owner.tenant_id)
        key = ApiKey(
            key_id=text.key_id, tenant=tenant, role=role, created_at=self._clock(), revoked_at=None
        )
        with self._lock:
            self._keys[text.key_id] = (key, owner.tenant_id, text.digest)
        self._changes.announce(Topic.TENANTS)
        return key, text.text

    def keys(self, tenant: str) -> Sequence[ApiKey]:
        """As the seam says."""
        owner = self._known(tenant)
        ours = [key for key, tenant_id, _ in self._keys.values() if tenant_id == owner.tenant_id]
        return list(reversed(ours))

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        owner = self._known(tenant)
        with self._lock:
            found = self._keys.get(key_id)
            if found is None or found[1] != owner.tenant_id:
                raise key_not_found(tenant, key_id)
            revoked_at = found[0].revoked_at or self._clock()
            self._keys[key_id] = (replace(found[0], revoked_at=revoked_at), *found[1:])
        self._changes.announce(Topic.TENANTS)

    def authenticate(self, key: str) -> Identity | None:
        """As the seam says."""
        claimed = KeyText.parse(key)
        found = self._keys.get(claimed.key_id) if claimed else None
        if claimed is None or found is None:
            return None
        known, tenant_id, digest = found
        ours = tenant_id == claimed.tenant_id and hmac.compare_digest(digest, claimed.digest)
        if not ours or known.revoked_at is not None:
            return None
        return Identity(
            tenant_id=tenant_id, tenant=known.tenant, role=known.role, key_id=known.key_id
        )

    def identify(self, name: str) -> Tenant | None:
        """As the seam says."""
        return self._tenants.get(name)

    def _known(self, name: str) -> Tenant:
        found = self.identify(name)
        if found is None:
            raise tenant_not_found(name)
        return found
