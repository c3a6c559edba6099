"""Finds a decision that was made earlier, here, in a neighbour's outbox or in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from router.errors import NotFound
from router.ids import derived_uuid7, is_ours, time_of
from router.serving.rows import read
from router.serving.threads import Threads
from router.store.seams import Kind, Log, Outbox, Record

Row = Mapping[str, Any]


class Finder(Protocol):
    """The part of an Outbox that finds."""

    def find(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        """As Outbox says."""


class Decisions:
    """Looks up decisions and attempts of one tenant at a time.

    `neighbours` are the outboxes of the other workers on this machine: what they hold is
    not in Postgres yet.
    """

    def __init__(
        self,
        outbox: Outbox,
        log: Log,
        threads: Threads,
        key: bytes,
        neighbours: Sequence[Finder] = (),
    ) -> None:
        self._outbox, self._log, self._threads, self._key = outbox, log, threads, key
        self._neighbours = neighbours

    def ours(self, tenant_id: UUID, decision_id: UUID) -> None:
        """Raises NotFound unless this tenant was given the id; asks nobody."""
        if not is_ours(decision_id, tenant_id, self._key):
            raise _unknown(decision_id)

    async def decision(self, tenant_id: UUID, decision_id: UUID) -> Row:
        """The decision's row. Raises NotFound, or Unavailable when only Postgres may know."""
        found = self._outbox.find(Kind.DECISION, tenant_id, decision_id)
        if found is not None:
            return read(found.row)
        row = await self._threads.run(self._elsewhere, tenant_id, decision_id)
        if row is None:
            raise _unknown(decision_id)
        return row

    async def attempt(self, tenant_id: UUID, decision_id: UUID, number: int) -> Row | None:
        """The row of an attempt that has ended, or None.

        Raises Unavailable when only Postgres may know.
        """
        found = self._outbox.find(
            Kind.ATTEMPT, tenant_id, attempt_id(tenant_id, decision_id, number)
        )
        if found is not None:
            return read(found.row)
        return await self._threads.run(self._attempt_elsewhere, tenant_id, decision_id, number)

    async def outcomes(self, tenant_id: UUID, decision_id: UUID) -> Sequence[Row]:
        """The outcomes that have arrived in Postgres. Raises Unavailable."""
        return await self._threads.run(self._log.outcomes, tenant_id, decision_id)

    def _elsewhere(self, tenant_id: UUID, decision_id: UUID) -> Row | None:
        found = self._near(Kind.DECISION, tenant_id, decision_id)
        return self._log.decision(tenant_id, decision_id) if found is None else read(found.row)

    def _attempt_elsewhere(self, tenant_id: UUID, decision_id: UUID, number: int) -> Row | None:
        found = self._near(Kind.ATTEMPT, tenant_id, attempt_id(tenant_id, decision_id, number))
        if found is not None:
            return read(found.row)
        return self._log.attempt(tenant_id, decision_id, number)

    def _near(self, kind: Kind, tenant_id: UUID, row_id: UUID) -> Record | None:
        for outbox in self._neighbours:
            if (found := outbox.find(kind, tenant_id, row_id)) is not None:
                return found
        return None


def attempt_id(tenant_id: UUID, decision_id: UUID, number: int) -> UUID:
    """The id of an attempt: the same on every replica."""
    return derived_uuid7(time_of(decision_id), tenant_id.hex, decision_id.hex, str(number))


def _unknown(decision_id: UUID) -> NotFound:
    return NotFound(
        f"there is no decision {decision_id} of this tenant; use the decision_id of its reply",
        reason="DECISION_NOT_FOUND",
    )
