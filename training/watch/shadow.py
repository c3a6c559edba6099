"""The shadow: a policy that decides beside the active one, unserved, and where they differ.

newest logged decisions -> decided again by the shadow -> differences per slo, for the report

It sees what the active policy saw, but for its certificate: the shadow goes by its own curve.
Nothing of it is on a request's path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from router import pipeline
from router.conditions import Conditions
from router.errors import BundleRefused, Infeasible
from router.policy.policy import Policy, Predicted
from router.requested import again
from router.slo import Slo
from router.store.canaries import LATE, Sides
from router.types import Decision, PolicyRecord
from training.watch.plan import Policies, Stores

MOST_A_TURN = 100
"""Decisions that the shadow makes in a turn, which take some 50 ms."""

MOST_SLOS = 200

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """How the shadow decides under one slo; means are of the shadow's less the active policy's.

    Each policy's figures are what it predicts of the arm that it picks itself; `infeasible` are
    decisions for which the shadow finds no arm.
    """

    decisions: int = 0
    differ: int = 0
    infeasible: int = 0
    accuracy: float = 0.0
    cost_usd: float = 0.0
    latency_p50_s: float = 0.0

    def joined(self, row: Row, decided: Decision | None) -> Differences:
        """With one more decision."""
        if decided is None:
            return replace(self, decisions=self.decisions + 1, infeasible=self.infeasible + 1)
        count = self.decisions - self.infeasible + 1
        means = {
            name: getattr(self, name) + (apart - getattr(self, name)) / count
            for name, apart in _apart(row, decided)
        }
        differs = decided.arm.key != row["arm"]
        return replace(self, decisions=self.decisions + 1, differ=self.differ + differs, **means)


def _apart(row: Row, decided: Decision) -> Iterator[tuple[str, float]]:
    """How much more of each figure the shadow predicts; 0 where one of them does not know."""
    logged = row["predictions"]
    picked = logged["arms"].index(row["arm"])
    for name in ("accuracy", "cost_usd", "latency_p50_s"):
        before = logged[name][picked]
        after = float(getattr(decided.predictions, name)[decided.choice.index])
        yield name, 0.0 if before is None or after != after else after - before  # noqa: PLR0124


class ShadowWatch:
    """Lets the shadow decide, some decisions a turn. Not thread-safe."""

    def __init__(
        self, stores: Stores, policies: Policies, *, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._stores, self._policies, self._log = stores, policies, log
        self._refused: int | None = None

    def turn(self, record: PolicyRecord, horizon: int, now: datetime) -> None:
        """One turn over what arrived since the last. Raises Unavailable."""
        kept = self._stores.canaries.kept(record.version) or {}
        since = int(kept.get("shadow_since", horizon))
        slos = {name: Differences(**said) for name, said in kept.get("slos", {}).items()}
        policy = self._policy(record)
        if policy is None or (kept and since >= horizon):
            return
        active = self._stores.registry.active()
        sides = Sides(
            canary=record.version,
            active=active.version if active else 0,
            steps=[now],
            lately=now - LATE,
        )
        left = MOST_A_TURN
        for tenant in self._stores.tenants.tenants():
            rows = self._stores.canaries.beside(tenant.tenant_id, sides, since, horizon, left)
            left -= len(rows)
            self._decide(policy, tenant.tenant_id, tenant.name, rows, slos)
            if left <= 0:
                break
        if left == MOST_A_TURN and kept:
            return
        plain = {name: asdict(said) for name, said in list(slos.items())[:MOST_SLOS]}
        found = {"verdict": "shadow", "why": _summary(slos.values()), "slos": plain}
        kept = {"shadow_since": horizon, "slos": plain, "untold": []}
        self._stores.canaries.note(record.version, found, kept)

    def _policy(self, record: PolicyRecord) -> Policy | None:
        if self._refused == record.version:
            return None
        try:
            return self._policies.bound(record, self._stores.catalog.read())
        except BundleRefused as error:
            self._refused = record.version
            self._log.error("shadow refused", policy=record.version, why=error.message)
            return None

    def _decide(
        self,
        policy: Policy,
        tenant_id: UUID,
        tenant: str,
        rows: Sequence[Row],
        slos: dict[str, Differences],
    ) -> None:
        """Decides again what was decided, and adds how it differs to the slo's differences."""
        if not rows:
            return
        predicted = policy.predict([row["query"] for row in rows])
        for row, known in zip(rows, predicted, strict=True):
            version = row["slo_version"]
            slo = self._stores.slos.get(tenant_id, row["slo_name"], version) if version else Slo()
            name = f"{tenant}/{row['slo_name'] or 'default'}"
            decided = _decided(policy, row, slo, known)
            slos[name] = slos.get(name, Differences()).joined(row, decided)


def _decided(policy: Policy, row: Row, slo: Slo, known: Predicted) -> Decision | None:
    query, bounds = again(row)
    conditions = replace(Conditions.from_mapping(row["conditions"]), promise=None)
    try:
        return pipeline.decide(
            policy,
            query,
            replace(slo, exploration_rate=0.0),
            bounds,
            decision_id=row["decision_id"],
            now=row["occurred_at"],
            predicted=known,
            conditions=conditions,
        )
    except Infeasible:
        return None


def _summary(found: Collection[Differences]) -> str:
    count, differ = (sum(getattr(each, name) for each in found) for name in ("decisions", "differ"))
    return f"{differ:,} of {count:,} decisions differ, unserved"
