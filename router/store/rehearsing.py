"""Logged decisions of one tenant with the outcomes of their first arms, to be decided again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, RowMapping, func, select

from router.store.engine import tenant_scope
from router.store.tables import decisions, outcomes

MOST_COUNTED = 200_000
MOST_DECISIONS = 20_000
_PAGE = 1_000
_HASHES = 1 << 31

_COLUMNS = (
    *(decisions.c.decision_id, decisions.c.occurred_at, decisions.c.request),
    *(decisions.c.input_tokens, decisions.c.policy_version, decisions.c.novelty),
    *(decisions.c.arm, decisions.c.propensity, decisions.c.explored),
)
_FIGURES = ("score", "cost_usd", "latency_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """At most `most` of the decisions of a time, by chance: their ids' hash decides.

    `slo_name` is empty where they are those of all slos of the tenant; `found` counts the
    newest 200,000 at most.
    """

    tenant_id: UUID
    slo_name: str
    until: datetime
    found: int
    oldest: datetime | None
    most: int

    @property
    def share(self) -> float:
        """The share of those found that is looked at."""
        return min(self.most / max(self.found, 1), 1.0)


class PostgresPast:
    """Reads what was decided before; the router's role will do. Imported history is left out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def sample(
        self,
        tenant_id: UUID,
        slo_name: str,
        since: datetime,
        until: datetime,
        most: int = MOST_DECISIONS,
    ) -> Sample:
        """Which decisions to look at: those of the slo, or of all where it has made none."""
        with tenant_scope(self._engine, tenant_id) as connection:
            for name in (slo_name, ""):
                newest = (
                    select(decisions.c.occurred_at)
                    .where(*_among(tenant_id, name, since, until))
                    .order_by(decisions.c.occurred_at.desc())
                    .limit(MOST_COUNTED)
                    .subquery()
                )
                found, oldest = connection.execute(
                    select(func.count(), func.min(newest.c.occurred_at))
                ).one()
                if found:
                    break
        return Sample(
            tenant_id=tenant_id,
            slo_name=name,
            until=until,
            found=found,
            oldest=oldest,
            most=most,
        )

    def read(self, sample: Sample) -> Iterator[Mapping[str, Any]]:
        """Their rows, newest first, with `score`, `cost_usd` and `latency_s` of the first arm.

        Read in pages, each in a transaction of its own, so that no connection is held.
        """
        left, before = sample.most, None
        while left > 0 and sample.oldest is not None:
            with tenant_scope(self._engine, sample.tenant_id) as connection:
                page = _page(connection, sample, before, min(left, _PAGE))
                known = _outcomes(connection, sample.tenant_id, page)
            for row in page:
                said = known.get(row["decision_id"], dict.fromkeys(_FIGURES))
                yield {**row, **said, "predictions": orjson.loads(row["predictions"])}
            if len(page) < _PAGE:
                return
            left -= len(page)
            before = page[-1]["occurred_at"], page[-1]["decision_id"]


def _among(
    tenant_id: UUID, slo_name: str, since: datetime, until: datetime
) -> list[sa.ColumnElement[bool]]:
    conditions = [
        decisions.c.tenant_id == tenant_id,
        decisions.c.occurred_at >= since,
        decisions.c.occurred_at <= until,
        decisions.c.predictions.is_not(None),
    ]
    return [*conditions, decisions.c.slo_name == slo_name] if slo_name else conditions


def _page(
    connection: Connection,
    sample: Sample,
    before: tuple[datetime, UUID] | None,
    most: int,
) -> Sequence[RowMapping]:
    among = _among(sample.tenant_id, sample.slo_name, sample.oldest or sample.until, sample.until)
    query = (
        select(*_COLUMNS, sa.cast(decisions.c.predictions, sa.Text).label("predictions"))
        .where(*among)
        .order_by(decisions.c.occurred_at.desc(), decisions.c.decision_id.desc())
        .limit(most)
    )
    if sample.share < 1.0:
        spread = func.uuid_hash(decisions.c.decision_id).bitwise_and(_HASHES - 1)
        query = query.where(spread < round(sample.share * _HASHES))
    if before is not None:
        place = sa.tuple_(decisions.c.occurred_at, decisions.c.decision_id)
        query = query.where(place < sa.tuple_(*map(sa.literal, before)))
    return connection.execute(query).mappings().all()


def _outcomes(
    connection: Connection, tenant_id: UUID, page: Sequence[RowMapping]
) -> dict[UUID, dict[str, Any]]:
    """What is known of the first arms: the mean score, and the last known of the rest."""
    if not page:
        return {}
    query = (
        select(outcomes.c.decision_id, outcomes.c.error, *(outcomes.c[name] for name in _FIGURES))
        .where(
            outcomes.c.tenant_id == tenant_id,
            outcomes.c.attempt == 0,
            outcomes.c.decided_at.between(page[-1]["occurred_at"], page[0]["occurred_at"]),
            outcomes.c.decision_id.in_([row["decision_id"] for row in page]),
        )
        .order_by(outcomes.c.occurred_at, outcomes.c.outcome_id)
    )
    return _known(connection.execute(query).mappings())


def _known(rows: Iterable[RowMapping]) -> dict[UUID, dict[str, Any]]:
    known: dict[UUID, dict[str, Any]] = {}
    scores: dict[UUID, list[float]] = {}
    for row in rows:
        said = known.setdefault(row["decision_id"], dict.fromkeys(_FIGURES))
        said |= {name: row[name] for name in _FIGURES[1:] if row[name] is not None}
        if row["score"] is not None and not row["error"]:
            scores.setdefault(row["decision_id"], []).append(row["score"])
    for decision_id, found in scores.items():
        known[decision_id]["score"] = sum(found) / len(found)
    return known
