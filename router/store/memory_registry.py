"""The in-memory twin of the registry of policies."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from router.store.memory_changes import MemoryChanges
from router.store.registry import (
    check_canary,
    check_reject,
    check_rollback,
    check_share,
    policy_not_found,
)
from router.store.seams import Topic
from router.types import PolicyRecord, PolicyState

Clock = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryRegistry:
    """The Registry seam."""

    def __init__(self, changes: MemoryChanges | None = None, *, clock: Clock = _utc_now) -> None:
        self._changes = changes or MemoryChanges()
        self._clock = clock
        self._lock = threading.RLock()
        self._records: dict[int, PolicyRecord] = {}
        self._bundles: dict[int, bytes] = {}
        self._answered: set[UUID] = set()

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

    def on_trial(self) -> PolicyRecord | None:
        """As the seam says."""
        return self._in_state(PolicyState.CANARY)

    def bundle(self, version: int) -> bytes:
        """As the seam says."""
        if version not in self._bundles:
            raise policy_not_found(version)
        return self._bundles[version]

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:  # noqa: ARG002
        """As the seam says; there is no audit log."""
        with self._lock:
            known = self._known(version)
            if known.state is PolicyState.ACTIVE:
                return known
            self._move(PolicyState.PREVIOUS, PolicyState.CANDIDATE)
            self._move(PolicyState.ACTIVE, PolicyState.PREVIOUS)
            self._set(version, PolicyState.ACTIVE)
            self._changes.announce(Topic.POLICIES)
            return self._records[version]

    def canary(
        self,
        version: int,
        *,
        share: float,
        actor: str,  # noqa: ARG002
        comment: str = "",  # noqa: ARG002
        request_id: UUID | None = None,
    ) -> PolicyRecord:
        """As the seam says; there is no audit log."""
        check_share(share)
        with self._lock:
            wanted = self._known(version)
            if request_id in self._answered:
                return wanted
            check_canary(wanted, self._in_state(PolicyState.CANARY))
            if (wanted.state, wanted.share) != (PolicyState.CANARY, share):
                self._remember(request_id)
                found = wanted.canary if wanted.state is PolicyState.CANARY else None
                self._set(version, PolicyState.CANARY, share=share, canary=found)
                self._changes.announce(Topic.POLICIES)
            return self._records[version]

    def reject(
        self,
        version: int,
        *,
        actor: str,  # noqa: ARG002
        comment: str = "",  # noqa: ARG002
        request_id: UUID | None = None,
    ) -> PolicyRecord:
        """As the seam says; there is no audit log."""
        with self._lock:
            wanted = self._known(version)
            if request_id not in self._answered and wanted.state is not PolicyState.REJECTED:
                check_reject(wanted)
                self._remember(request_id)
                self._set(version, PolicyState.REJECTED)
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
            if request_id in self._answered:
                return active
            check_rollback(active, version)
            if active is not None:
                self._remember(request_id)
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

    def _known(self, version: int) -> PolicyRecord:
        if version not in self._records:
            raise policy_not_found(version)
        return self._records[version]

    def _remember(self, request_id: UUID | None) -> None:
        if request_id is not None:
            self._answered.add(request_id)

    def _set(
        self, version: int, state: PolicyState, *, share: float | None = None, **values: Any
    ) -> None:
        record = self._records[version]
        if state is PolicyState.ACTIVE:
            values["promoted_at"] = self._clock()
        self._records[version] = replace(record, state=state, share=share, **values)
