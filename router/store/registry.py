"""The registry of policies in Postgres: the bundle itself lives in the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, func, insert, null, select, update

from router.errors import Conflict, InvalidInput, NotFound
from router.store import audit
from router.store.engine import transaction
from router.store.tables import policies
from router.types import PolicyRecord, PolicyState

SWITCH_LOCK = 7_166_082
_CANARY, _REJECT, _ROLLBACK = "policies.canary", "policies.reject", "policies.rollback"
_SHOWN: list[ColumnElement[Any]] = [
    *(policies.c[name] for name in PolicyRecord.__slots__ if name != "canary"),
    policies.c.canary["found"].label("canary"),
]
_OPEN = (PolicyState.CANDIDATE, PolicyState.REJECTED)


class PostgresRegistry:
    """The Registry seam.

    Writing takes the trainer's or the admin role.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(self, bundle: bytes, summary: Mapping[str, Any], *, actor: str) -> PolicyRecord:
        """As the seam says."""
        digest = hashlib.sha256(bundle).hexdigest()
        with self._switching() as connection:
            known = _one(connection, policies.c.bundle_sha256 == digest)
            if known is not None:
                return known
            version = connection.scalar(
                insert(policies)
                .values(
                    state=PolicyState.CANDIDATE,
                    bundle=bundle,
                    bundle_sha256=digest,
                    bundle_bytes=len(bundle),
                    summary=dict(summary),
                )
                .returning(policies.c.version)
            )
            audit.record(
                connection, actor=actor, action="policies.register", subject=f"policy {version}"
            )
            return _known(connection, int(version or 0))

    def records(self, limit: int = 50) -> Sequence[PolicyRecord]:
        """As the seam says."""
        query = select(*_SHOWN).order_by(policies.c.version.desc()).limit(limit)
        with transaction(self._engine) as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def active(self) -> PolicyRecord | None:
        """As the seam says."""
        with transaction(self._engine) as connection:
            return _in_state(connection, PolicyState.ACTIVE)

    def on_trial(self) -> PolicyRecord | None:
        """As the seam says."""
        with transaction(self._engine) as connection:
            return _in_state(connection, PolicyState.CANARY)

    def bundle(self, version: int) -> bytes:
        """As the seam says."""
        query = select(policies.c.bundle).where(policies.c.version == version)
        with transaction(self._engine) as connection:
            found = connection.scalar(query)
        if found is None:
            raise policy_not_found(version)
        return bytes(found)

    def promote(self, version: int, *, actor: str, comment: str = "") -> PolicyRecord:
        """As the seam says. The policy that was previous becomes a candidate again."""
        with self._switching() as connection:
            wanted = _known(connection, version)
            if wanted.state is PolicyState.ACTIVE:
                return wanted
            _move(connection, PolicyState.PREVIOUS, PolicyState.CANDIDATE)
            _move(connection, PolicyState.ACTIVE, PolicyState.PREVIOUS)
            connection.execute(
                update(policies)
                .where(policies.c.version == version)
                .values(state=PolicyState.ACTIVE, promoted_at=func.now(), share=None)
            )
            _audit(connection, "policies.promote", version, actor=actor, comment=comment)
            return _known(connection, version)

    def canary(
        self,
        version: int,
        *,
        share: float,
        actor: str,
        comment: str = "",
        request_id: UUID | None = None,
    ) -> PolicyRecord:
        """As the seam says; one that begins anew leaves behind what was found of it before."""
        check_share(share)
        with self._switching() as connection:
            wanted = _known(connection, version)
            if request_id and audit.holds(connection, _CANARY, request_id):
                return wanted
            check_canary(wanted, _in_state(connection, PolicyState.CANARY))
            if (wanted.state, wanted.share) == (PolicyState.CANARY, share):
                return wanted
            values: dict[str, Any] = {"state": PolicyState.CANARY, "share": share}
            if wanted.state is not PolicyState.CANARY:
                values["canary"] = null()
            _write(connection, version, values)
            _audit(
                connection,
                _CANARY,
                version,
                actor=actor,
                comment=comment,
                request_id=request_id,
                share=share,
                before=wanted.share,
            )
            return _known(connection, version)

    def reject(
        self, version: int, *, actor: str, comment: str = "", request_id: UUID | None = None
    ) -> PolicyRecord:
        """As the seam says."""
        with self._switching() as connection:
            wanted = _known(connection, version)
            known = request_id is not None and audit.holds(connection, _REJECT, request_id)
            if known or wanted.state is PolicyState.REJECTED:
                return wanted
            check_reject(wanted)
            _write(connection, version, {"state": PolicyState.REJECTED, "share": None})
            _audit(
                connection, _REJECT, version, actor=actor, comment=comment, request_id=request_id
            )
            return _known(connection, version)

    def rollback(
        self,
        *,
        actor: str,
        comment: str = "",
        version: int = 0,
        request_id: UUID | None = None,
    ) -> PolicyRecord | None:
        """As the seam says; the audit log remembers the request ids."""
        with self._switching() as connection:
            active = _in_state(connection, PolicyState.ACTIVE)
            if request_id and audit.holds(connection, _ROLLBACK, request_id):
                return active
            check_rollback(active, version)
            if active is None:
                return None
            _move(connection, PolicyState.ACTIVE, PolicyState.REJECTED)
            _move(connection, PolicyState.PREVIOUS, PolicyState.ACTIVE)
            _audit(
                connection,
                _ROLLBACK,
                active.version,
                actor=actor,
                comment=comment,
                request_id=request_id,
            )
            return _in_state(connection, PolicyState.ACTIVE)

    @contextmanager
    def _switching(self) -> Iterator[Connection]:
        """A transaction in which no other process registers or switches a policy."""
        with transaction(self._engine) as connection:
            connection.execute(select(func.pg_advisory_xact_lock(SWITCH_LOCK)))
            yield connection


def policy_not_found(version: int) -> NotFound:
    """The error for a version that was never registered."""
    return NotFound(
        f"there is no policy {version}; see 'leadline policies list'", reason="POLICY_NOT_FOUND"
    )


def check_rollback(active: PolicyRecord | None, version: int) -> None:
    """Raises Conflict when a version to leave is named and is not the active one."""
    found = active.version if active else 0
    if version and version != found:
        raise Conflict(f"policy {found} is active, not {version}; nothing was rolled back")


def check_share(share: float) -> None:
    """Raises InvalidInput for what is no share of the traffic."""
    if not 0.0 <= share <= 1.0:
        raise InvalidInput(f"{share} is not from 0 to 1", field="share")


def check_canary(wanted: PolicyRecord, canary: PolicyRecord | None) -> None:
    """Raises Conflict unless the policy may be the canary beside the one that is, if any."""
    if canary is not None and canary.version != wanted.version:
        raise Conflict(
            f"policy {canary.version} is the canary; promote or reject it first "
            f"('leadline policies reject {canary.version}')"
        )
    if canary is None and wanted.state not in _OPEN:
        raise Conflict(f"policy {wanted.version} is {wanted.state}; only a candidate is tried")


def check_reject(wanted: PolicyRecord) -> None:
    """Raises Conflict for a policy that serves, or that a rollback returns to."""
    if wanted.state not in (PolicyState.CANARY, PolicyState.CANDIDATE):
        raise Conflict(
            f"policy {wanted.version} is {wanted.state}; 'leadline policies rollback' leaves "
            "the active one"
        )


def _write(connection: Connection, version: int, values: Mapping[str, Any]) -> None:
    """Writes the state among the rest, which is what workers hear of."""
    connection.execute(update(policies).where(policies.c.version == version).values(values))


def _audit(
    connection: Connection,
    action: str,
    version: int,
    *,
    actor: str,
    comment: str,
    request_id: UUID | None = None,
    **details: Any,
) -> None:
    named = {"request_id": str(request_id)} if request_id else {}
    audit.record(
        connection,
        actor=actor,
        action=action,
        subject=f"policy {version}",
        comment=comment,
        details=details | named,
    )


def _move(connection: Connection, old: PolicyState, new: PolicyState) -> None:
    values: dict[str, Any] = {"state": new}
    if new is PolicyState.ACTIVE:
        values["promoted_at"] = func.now()
    connection.execute(update(policies).where(policies.c.state == old).values(values))


def _in_state(connection: Connection, state: PolicyState) -> PolicyRecord | None:
    return _one(connection, policies.c.state == state)


def _known(connection: Connection, version: int) -> PolicyRecord:
    found = _one(connection, policies.c.version == version)
    if found is None:
        raise policy_not_found(version)
    return found


def _one(connection: Connection, condition: Any) -> PolicyRecord | None:
    row = connection.execute(select(*_SHOWN).where(condition)).mappings().one_or_none()
    return None if row is None else _record(row)


def _record(row: Any) -> PolicyRecord:
    return PolicyRecord(**{**row, "state": PolicyState(row["state"])})
