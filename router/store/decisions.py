"""The log in Postgres, read one tenant at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Engine, and_, select

from router.ids import tells_time, time_of
from router.store.engine import tenant_scope
from router.store.tables import attempts, decisions, outcomes


class PostgresLog:
    """The Log seam; the router's role will do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def decision(self, tenant_id: UUID, decision_id: UUID) -> Mapping[str, Any] | None:
        """As the seam says."""
        if not tells_time(decision_id):
            return None
        query = select(decisions).where(
            decisions.c.tenant_id == tenant_id,
            decisions.c.decision_id == decision_id,
            _at(decisions.c.occurred_at, decision_id),
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def attempt(self, tenant_id: UUID, decision_id: UUID, number: int) -> Mapping[str, Any] | None:
        """As the seam says."""
        if not tells_time(decision_id):
            return None
        query = select(attempts).where(
            attempts.c.tenant_id == tenant_id,
            attempts.c.decision_id == decision_id,
            attempts.c.attempt == number,
            _at(attempts.c.decided_at, decision_id),
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def outcomes(self, tenant_id: UUID, decision_id: UUID) -> Sequence[Mapping[str, Any]]:
        """As the seam says."""
        if not tells_time(decision_id):
            return ()
        query = (
            select(outcomes)
            .where(
                outcomes.c.tenant_id == tenant_id,
                outcomes.c.decision_id == decision_id,
                _at(outcomes.c.decided_at, decision_id),
            )
            .order_by(outcomes.c.occurred_at, outcomes.c.outcome_id)
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def unscored(
        self, tenant_id: UUID, *, since: datetime, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        """As the seam says."""
        query = (
            select(decisions)
            .where(decisions.c.tenant_id == tenant_id, decisions.c.occurred_at >= since, ~_scored())
            .order_by(decisions.c.novelty.desc().nulls_last(), decisions.c.occurred_at.desc())
            .limit(limit)
        )
        with tenant_scope(self._engine, tenant_id) as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _scored() -> ColumnElement[bool]:
    """Whether some outcome scores the decision."""
    return (
        select(outcomes.c.outcome_id)
        .where(
            outcomes.c.tenant_id == decisions.c.tenant_id,
            outcomes.c.decided_at == decisions.c.occurred_at,
            outcomes.c.decision_id == decisions.c.decision_id,
            outcomes.c.score.is_not(None),
        )
        .exists()
    )


def _at(column: Column[Any], decision_id: UUID) -> ColumnElement[bool]:
    """Narrows to the partition, and the millisecond, that stand in the id."""
    at = time_of(decision_id)
    return and_(column >= at, column < at + timedelta(milliseconds=1))
