"""Alarms in Postgres: how tenants' decisions climb, by slo, and the decisions that tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select, text
from sqlalchemy.dialects.postgresql import insert

from router.store import audit
from router.store.engine import tenant_scope, transaction
from router.store.tables import alarms, tenants

MOST_AT_ONCE = 2_000

CUT = """
select arrival + 1 from decisions
where tenant_id = :tenant and slo_name = :slo and arrival >= :since and arrival < :until
order by arrival offset :most limit 1
"""
# What the policy picked by itself: not by chance, nor because the caller named arms, a backend
# was down, or a floor sent every query to the safe arm.
DECIDED = """
select occurred_at, arm, coalesce(slo_version, 0) as slo_version, policy_version,
    predictions -> 'arms' as arms, predictions -> 'cost_usd' as cost_usd
from decisions
where tenant_id = :tenant and slo_name = :slo and arrival >= :since and arrival < :until
    and policy_source = 'learned' and not coalesce(explored, false)
    and predictions -> 'cost_usd' is not null
    and request -> 'allowed_arms' is null and conditions -> 'backends' is null
    and coalesce(conditions #>> '{promise,monitor}', '') <> 'broken'
    and coalesce(jsonb_typeof(conditions #> '{promise,value_usd}'), '') <> 'null'
order by arrival, decision_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmRecord:
    """How an slo's decisions climb; `ringing` or not `since` then. `body` is what was counted.

    `seen_until` is a place in the order of arrival: what arrived before it is counted.
    """

    tenant_id: UUID
    slo_name: str
    ringing: bool
    since: datetime
    seen_until: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Climbed:
    """A decision's arm by its place among all arms, and what each was expected to cost."""

    occurred_at: datetime
    slo_version: int
    policy_version: int
    arm: int
    cost_usd: Sequence[float]


class PostgresAlarms:
    """What the watcher keeps of alarms. Reading takes any role, writing the trainer's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def current(self, tenant_id: UUID) -> Mapping[str, AlarmRecord]:
        """The tenant's alarms by slo name, ringing or quiet."""
        query = select(alarms).where(alarms.c.tenant_id == tenant_id).order_by(alarms.c.slo_name)
        with tenant_scope(self._engine, tenant_id) as connection:
            found = [AlarmRecord(**row) for row in connection.execute(query).mappings()]
        return {record.slo_name: record for record in found}

    def ringing(self) -> Sequence[tuple[str, AlarmRecord]]:
        """Every alarm that rings, with the tenant's name; takes the trainer's role."""
        query = (
            select(tenants.c.name, *alarms.c)
            .join(tenants, tenants.c.tenant_id == alarms.c.tenant_id)
            .where(alarms.c.ringing)
            .order_by(tenants.c.name, alarms.c.slo_name)
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [
            (row["name"], AlarmRecord(**{key: row[key] for key in AlarmRecord.__slots__}))
            for row in rows
        ]

    def seen(
        self, tenant_id: UUID, slo_name: str, since: int, until: int
    ) -> tuple[Sequence[Climbed], int]:
        """The slo's decisions that arrived between two places, and the place where these end.

        About 2,000 at most: those that arrived together stay together.
        """
        turn: dict[str, Any] = {"tenant": tenant_id, "slo": slo_name, "since": since}
        with tenant_scope(self._engine, tenant_id) as connection:
            cut = connection.scalar(text(CUT), turn | {"until": until, "most": MOST_AT_ONCE - 1})
            ends = until if cut is None else int(cut)
            rows = connection.execute(text(DECIDED), turn | {"until": ends}).mappings().all()
        return list(_climbed(rows)), ends

    def write(self, record: AlarmRecord, *, changed: bool, actor: str) -> None:
        """Replaces the slo's alarm; one that `changed` is audited."""
        write = insert(alarms).values(asdict(record))
        kept = {name: write.excluded[name] for name in ("ringing", "since", "seen_until", "body")}
        place = [alarms.c.tenant_id, alarms.c.slo_name]
        with tenant_scope(self._engine, record.tenant_id) as connection:
            connection.execute(write.on_conflict_do_update(index_elements=place, set_=kept))
            if changed:
                audit.record(
                    connection,
                    actor=actor,
                    action="alarms.ringing" if record.ringing else "alarms.quiet",
                    subject=record.slo_name,
                    tenant_id=record.tenant_id,
                    details=record.body,
                )


def _climbed(rows: Sequence[Any]) -> Iterator[Climbed]:
    """The decisions whose predictions have their arm."""
    for row in rows:
        if row["arm"] in row["arms"]:
            yield Climbed(
                occurred_at=row["occurred_at"],
                slo_version=row["slo_version"],
                policy_version=row["policy_version"],
                arm=row["arms"].index(row["arm"]),
                cost_usd=row["cost_usd"],
            )
