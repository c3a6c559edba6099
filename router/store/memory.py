"""In-memory twins of the store's seams: for offline use and for tests.

They keep the seams' laws but durability: what they hold ends with the process.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from router.slo import Slo
from router.store.catalog import arrange, model_not_found
from router.store.memory_changes import MemoryChanges
from router.store.memory_outbox import MemoryLog, MemoryOutbox
from router.store.memory_promises import MemoryArrivals, MemoryBudgets, MemoryPromises
from router.store.memory_tenants import MemoryTenants
from router.store.registry import check_rollback, policy_not_found
from router.store.seams import Topic
from router.store.slos import next_version, slo_not_found
from router.types import Arm, Catalog, Model, PolicyRecord, PolicyState, check_arm

__all__ = [
    "MemoryArrivals",
    "MemoryBudgets",
    "MemoryCatalog",
    "MemoryChanges",
    "MemoryLog",
    "MemoryOutbox",
    "MemoryPromises",
    "MemoryRegistry",
    "MemorySlos",
    "MemoryTenants",
]

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemorySlos:
    """The Slos seam."""

    def __init__(self, changes: MemoryChanges | None = None) -> None:
        self._changes = changes or MemoryChanges()
        self._lock = threading.Lock()
        self._versions: dict[tuple[UUID, str], list[Slo]] = {}

    def current(self, tenant_id: UUID) -> Sequence[Slo]:
        """As the seam says."""
        with self._lock:
            newest = [slos[-1] for (owner, _), slos in self._versions.items() if owner == tenant_id]
        return sorted(newest, key=lambda slo: slo.name)

    def get(self, tenant_id: UUID, name: str, version: int = 0) -> Slo:
        """As the seam says."""
        slos = self._versions.get((tenant_id, name), [])
        if not 0 <= version <= len(slos) or not slos:
            raise slo_not_found(name, version)
        return slos[version - 1]

    def put(self, tenant_id: UUID, slo: Slo, *, base_version: int | None, actor: str) -> Slo:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        with self._lock:
            slos = self._versions.get((tenant_id, slo.name), [])
            newest = slos[-1] if slos else None
            written = next_version(newest, slo, base_version)
            if written is not newest:
                self._versions[tenant_id, slo.name] = [*slos, written]
                self._changes.announce(Topic.SLOS)
        return written


class MemoryCatalog:
    """The CatalogStore seam."""

    def __init__(self, changes: MemoryChanges | None = None) -> None:
        self._changes = changes or MemoryChanges()
        self._lock = threading.Lock()
        self._models: dict[str, Model] = {}
        self._arms: dict[str, tuple[Arm, bool]] = {}

    def read(self) -> Catalog:
        """As the seam says."""
        with self._lock:
            enabled = [arm for arm, on in self._arms.values() if on]
            revision = self._changes.revisions()[Topic.CATALOG]
            return arrange(list(self._models.values()), enabled, revision)

    def put_model(self, model: Model, *, actor: str) -> int:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        with self._lock:
            self._models[model.name] = model
            return self._changes.announce(Topic.CATALOG)

    def put_arm(self, arm: Arm, *, enabled: bool, actor: str) -> int:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        if enabled:
            check_arm(arm)
        with self._lock:
            if arm.model not in self._models:
                raise model_not_found(arm.model)
            self._arms[arm.key] = (arm, enabled)
            return self._changes.announce(Topic.CATALOG)


class MemoryRegistry:
    """The Registry seam."""

    def __init__(self, changes: MemoryChanges | None = None, *, clock: Clock = _utc_now) -> None:
        self._changes = changes or MemoryChanges()
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[int, PolicyRecord] = {}
        self._bundles: dict[int, bytes] = {}
        self._rollbacks: set[UUID] = set()

    def register(self, bundle: bytes, summary: Mapping[str, Any], *, actor: str) -> PolicyRecord:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        digest = hashlib.sha256(bundle).hexdigest()
        with self._lock:
            for known in self._records.values():
                if known.bundle_sha256 == digest:
                    return known
            version = len(self._records) + 1
            self._bundles[version] = bundle
            record = PolicyRecord(
                version=version,
                state=PolicyState.CANDIDATE,
                created_at=self._clock(),
                promoted_at=None,
                bundle_sha256=digest,
                bundle_bytes=len(bundle),
                summary=dict(summary),
            )
            self._records[version] = record
            self._changes.announce(Topic.POLICIES)
        return record

    def records(self, limit: int = 50) -> Sequence[PolicyRecord]:
        """As the seam says."""
        with self._lock:
            return sorted(self._records.values(), key=lambda record: -record.version)[:limit]

    def active(self) -> PolicyRecord | None:
        """As the seam says."""
        return self._in_state(PolicyState.ACTIVE)

    def bundle(self, version: int) -> bytes:
        """As the seam says."""
        if version not in self._bundles:
            raise policy_not_found(version)
        return self._bundles[version]

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        with self._lock:
            if version not in self._records:
                raise policy_not_found(version)
            if self._records[version].state is PolicyState.ACTIVE:
                return self._records[version]
            self._move(PolicyState.PREVIOUS, PolicyState.CANDIDATE)
            self._move(PolicyState.ACTIVE, PolicyState.PREVIOUS)
            self._set(version, PolicyState.ACTIVE)
            self._changes.announce(Topic.POLICIES)
            return self._records[version]

    def rollback(
        self,
        *,
        actor: str,  # noqa: ARG002
        comment: str = "",  # noqa: ARG002
        version: int = 0,
        request_id: UUID | None = None,
    ) -> PolicyRecord | None:
        """As the seam says; there is no audit log."""
        with self._lock:
            active = self.active()
            if request_id and request_id in self._rollbacks:
                return active
            check_rollback(active, version)
            if active is not None:
                if request_id:
                    self._rollbacks.add(request_id)
                self._move(PolicyState.ACTIVE, PolicyState.REJECTED)
                self._move(PolicyState.PREVIOUS, PolicyState.ACTIVE)
                self._changes.announce(Topic.POLICIES)
            return self.active()

    def _in_state(self, state: PolicyState) -> PolicyRecord | None:
        with self._lock:
            return next((item for item in self._records.values() if item.state is state), None)

    def _move(self, old: PolicyState, new: PolicyState) -> None:
        found = self._in_state(old)
        if found is not None:
            self._set(found.version, new)

    def _set(self, version: int, state: PolicyState) -> None:
        record = self._records[version]
        promoted_at = self._clock() if state is PolicyState.ACTIVE else record.promoted_at
        self._records[version] = replace(record, state=state, promoted_at=promoted_at)
