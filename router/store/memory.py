"""In-memory twins of the store's seams: for offline use and for tests.

They keep the seams' laws but durability: what they hold ends with the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from router.slo import Slo
from router.store.catalog import arrange, model_not_found
from router.store.memory_changes import MemoryChanges
from router.store.memory_outbox import MemoryLog, MemoryOutbox
from router.store.memory_promises import MemoryArrivals, MemoryBudgets, MemoryPromises
from router.store.memory_registry import MemoryRegistry
from router.store.memory_tenants import MemoryTenants
from router.store.seams import Topic
from router.store.slos import next_version, slo_not_found
from router.types import Arm, Catalog, Model, check_arm

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
