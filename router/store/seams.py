"""The seams of the store: what serving and training ask of it, and the laws they rely on.

Every seam has a Postgres (or SQLite) form and an in-memory twin in `memory.py`; one
contract-test class runs against both. All methods are blocking and thread-safe: the
event loop calls them through `asyncio.to_thread`, but for the outbox, which answers in
microseconds. The seams of slos as promises stand in `promise_seams.py`.
Calls that reach Postgres raise Unavailable when it is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from router.errors import LeadlineError
from router.slo import Slo
from router.types import Arm, Catalog, Identity, Model, PolicyRecord, Role


class Kind(StrEnum):
    """What an outbox record is; each kind is a table."""

    DECISION = "decision"
    ATTEMPT = "attempt"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row on its way to Postgres.

    `key` is the caller's request id (or the row's own id when there is none), `row_id`
    the decision, attempt or outcome id, `digest` the SHA-256 of the request body, `row` a
    JSON object whose names are the columns of the kind's table, `tenant_id` among them.
    A decision's `occurred_at`, and `decided_at` of the others, is the time in its id.
    """

    kind: Kind
    tenant_id: UUID
    key: UUID
    row_id: UUID
    digest: bytes
    row: bytes


class Outbox(Protocol):
    """Rows that are safe on this machine and not yet in Postgres.

    Law: what `put` returned from survives kill -9 of this process ("process"), or also
    of the machine ("disk"), and reaches Postgres exactly once, in any order.
    """

    def put(self, record: Record) -> Record:
        """Stores the record and returns it, or the one stored earlier under its key.

        Raises Conflict (REQUEST_ID_REUSED) when that one has another digest, and
        OutboxFull at the byte bound or when the disk is full; then nothing is stored.
        """

    def put_many(self, records: Sequence[Record]) -> list[Record | LeadlineError]:
        """Stores records under one commit; each has its own result, as `put` would give it."""

    def find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        """Finds a record by its row's own id while it is still held here.

        Records are held until shipped and for some minutes after.
        """

    def find_key(self, kind: Kind, tenant_id: UUID, key: UUID) -> Record | None:
        """Finds a record by its key (request id) while it is still held here."""

    def close(self) -> None:
        """Gives the file back; a second call does nothing."""


class Log(Protocol):
    """Decisions, attempts and outcomes that have arrived in Postgres, one tenant at a time."""

    def decision(self, tenant_id: UUID, decision_id: UUID) -> Mapping[str, Any] | None:
        """The decision's row, or None: unknown and another tenant's look the same."""

    def attempt(self, tenant_id: UUID, decision_id: UUID, number: int) -> Mapping[str, Any] | None:
        """The row of the decision's attempt of that number, or None, as `decision` says."""

    def outcomes(self, tenant_id: UUID, decision_id: UUID) -> Sequence[Mapping[str, Any]]:
        """The decision's outcome rows, oldest first."""

    def unscored(
        self, tenant_id: UUID, *, since: datetime, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """Decisions since then that no outcome scores: the most novel first, then the newest."""


class Slos(Protocol):
    """Versioned slos; a version never changes once written."""

    def current(self, tenant_id: UUID) -> Sequence[Slo]:
        """The newest version of every slo of the tenant, by name."""

    def get(self, tenant_id: UUID, name: str, version: int = 0) -> Slo:
        """One version (0: the newest). Raises NotFound (SLO_NOT_FOUND)."""

    def put(self, tenant_id: UUID, slo: Slo, *, base_version: int | None, actor: str) -> Slo:
        """Writes the next version and returns it.

        Raises Conflict when `base_version` is given and not the newest. Writing what
        the newest version already says returns that version: a retry adds none.
        """


class CatalogStore(Protocol):
    """Models and arms; every change raises the revision by at least one."""

    def read(self) -> Catalog:
        """Enabled arms over enabled models, with all models, ordered by tier, then name."""

    def put_model(self, model: Model, *, actor: str) -> int:
        """Adds or replaces a model; returns the revision."""

    def put_arm(self, arm: Arm, *, enabled: bool, actor: str) -> int:
        """Adds or switches an arm; returns the revision.

        Raises NotFound (MODEL_NOT_FOUND), and InvalidInput when `check_arm` does for an
        arm to enable.
        """


class Registry(Protocol):
    """Policies and which of them serves; at most one is active, one previous and one a canary."""

    def register(self, bundle: bytes, summary: Mapping[str, Any], *, actor: str) -> PolicyRecord:
        """Stores a bundle archive as a candidate. The same bytes again: the same version."""

    def records(self, limit: int = 50) -> Sequence[PolicyRecord]:
        """Registered policies, newest first."""

    def active(self) -> PolicyRecord | None:
        """The policy that serves, or None: the static fallback does."""

    def on_trial(self) -> PolicyRecord | None:
        """The canary, or None."""

    def bundle(self, version: int) -> bytes:
        """The bundle archive. Raises NotFound (POLICY_NOT_FOUND)."""

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:
        """Makes it active and the active one previous, atomically. Again: no change."""

    def canary(
        self,
        version: int,
        *,
        share: float,
        actor: str,
        comment: str = "",
        request_id: UUID | None = None,
    ) -> PolicyRecord:
        """Lets a candidate, or one that was rejected, decide that share of the traffic.

        Of the canary itself it changes the share; 0 decides beside the active one, unserved.
        The same share or `request_id` again: no change. Raises NotFound, InvalidInput for a
        share beyond [0, 1], and Conflict while another is the canary, or for one that is active
        or previous.
        """

    def reject(
        self, version: int, *, actor: str, comment: str = "", request_id: UUID | None = None
    ) -> PolicyRecord:
        """Ends a canary, or a candidate's hopes; the same again: no change.

        Raises NotFound, and Conflict for one that is active or previous.
        """

    def rollback(
        self,
        *,
        actor: str,
        comment: str = "",
        version: int = 0,
        request_id: UUID | None = None,
    ) -> PolicyRecord | None:
        """Makes the active one rejected and the previous one active, atomically.

        Returns the active one, None when the static fallback serves now. The same
        `request_id` again: no change. Raises Conflict when `version` is given and not
        the active one.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Who pays and sets slos. Its rows are kept for so many days, or for ever."""

    tenant_id: UUID
    name: str
    created_at: datetime
    retention_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key without its secret."""

    key_id: str
    tenant: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


class Tenants(Protocol):
    """Tenants and their API keys. A key reads `ll_<tenant id>_<key id>_<secret>`.

    The tenant's id stands in the key, so that a key is checked under that tenant's
    row-level security and no query ever looks across tenants. Only a SHA-256 of the
    secret is stored.
    """

    def create(self, name: str, *, actor: str) -> Tenant:
        """Raises Conflict when the name is taken, InvalidInput when it is not a plain name."""

    def tenants(self) -> Sequence[Tenant]:
        """All tenants by name."""

    def create_key(self, tenant: str, role: Role, *, actor: str) -> tuple[ApiKey, str]:
        """The key and its text, which is shown this once. Raises NotFound."""

    def keys(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's keys, newest first."""

    def revoke_key(self, tenant: str, key_id: str, *, actor: str) -> None:
        """Raises NotFound. A second call does nothing."""

    def authenticate(self, key: str) -> Identity | None:
        """Who the key's text stands for, or None."""

    def identify(self, name: str) -> Tenant | None:
        """The tenant of that name, or None."""


class Topic(StrEnum):
    """What changed; each write to a table of configuration announces its topic."""

    SLOS = "slos"
    CATALOG = "catalog"
    POLICIES = "policies"
    TENANTS = "tenants"
    PROMISES = "promises"


class Changes(Protocol):
    """Hears of changes to configuration, from any process on any machine."""

    def revisions(self) -> Mapping[Topic, int]:
        """The number of changes so far of each topic; polling it is the safety net."""

    def wait(self, timeout_s: float) -> bool:
        """Blocks until a change is announced (True) or the time is over (False).

        After a lost connection it connects anew and returns True, since announcements
        may have been missed. While Postgres is away it returns False.
        """

    def close(self) -> None:
        """Gives the connection back and lets a `wait` under way return."""
