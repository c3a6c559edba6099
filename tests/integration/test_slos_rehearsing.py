"""Which logged decisions a rehearsal looks at, and what it takes from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from router.clients.values import DryRun
from router.ids import uuid7
from router.policy.policy import static_policy
from router.serving.foretelling import by_certificates
from router.serving.rehearsing import Rehearsing
from router.serving.rows import FIGURES
from router.slo import Slo
from router.store.engine import DatabaseRole, connect, connect_raw
from router.store.memory import MemoryPromises
from router.store.rehearsing import PostgresPast
from router.store.seams import Record
from router.store.shipping import copy_into_logs
from router.types import Catalog
from tests.kit.policies import catalog
from tests.kit.records import OTHER_TENANT, TENANT, decision, outcome

CATALOG = catalog(2)
KEYS = [arm.key for arm in CATALOG.arms]
NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A database's log, which rows are added to, and rehearsals on it."""

    dsn: str
    store: PostgresPast

    def add(self, *records: Record) -> None:
        payloads = [(each.kind.value, each.row.decode()) for each in records]
        with (
            connect_raw(
                self.dsn, role=DatabaseRole.SHIPPER, application_name="test", statement_timeout_s=30
            ) as shipper,
            shipper.transaction(),
        ):
            copy_into_logs(shipper, payloads)

    def rehearse(self, slo: Slo, known: Catalog = CATALOG, *, most: int = 1_000) -> DryRun:
        return Rehearsing(self.store, by_certificates(MemoryPromises()), most=most).dry_run(
            TENANT, slo, policy=static_policy(known), catalog=known, until=NOW
        )


@pytest.fixture
def past(dsn: str) -> Iterator[Past]:
    engine = connect(dsn, role=DatabaseRole.ROUTER)
    yield Past(dsn=dsn, store=PostgresPast(engine))
    engine.dispose()


def decided(
    tenant_id: UUID = TENANT,
    *,
    days_ago: float = 1.0,
    arm: int = 0,
    keys: Sequence[str] = KEYS,
    accuracy: Sequence[float] | None = None,
    **columns: Any,
) -> Record:
    """A decision whose arms are the dearer and the better, the later they stand."""
    rising = np.linspace(0.1, 0.9, len(keys)).tolist()
    figures = dict.fromkeys(FIGURES, rising)
    figures["accuracy"] = list(accuracy or rising)
    usual = {
        "policy_version": 0,
        "input_tokens": 10,
        "propensity": 1.0,
        "explored": False,
        "slo_name": "chat",
        "request": {},
        "predictions": {"arms": list(keys), "alternatives": [], **figures},
    }
    return decision(
        tenant_id,
        decision_id=uuid7(NOW - timedelta(days=days_ago)),
        arm=keys[arm],
        **{**usual, **columns},
    )


def test_only_the_tenants_own_decisions_of_the_window_are_looked_at(past: Past) -> None:
    past.add(
        decided(), decided(OTHER_TENANT), decided(days_ago=8), decided(predictions=None), decided()
    )
    found = past.rehearse(Slo(name="chat"))
    assert (found.rehearsal.decisions, found.decisions_found) == (2, 2)
    assert found.newest == found.oldest == NOW - timedelta(days=1)


def test_a_name_that_decided_nothing_is_tried_on_all_the_tenants_slos(past: Past) -> None:
    past.add(decided(), decided(slo_name="batch"))
    assert past.rehearse(Slo(name="batch")).rehearsal.decisions == 1
    found = past.rehearse(Slo(name="new"))
    assert (found.rehearsal.decisions, found.decisions_of) == (2, "")


def test_of_many_decisions_a_share_of_all_times_is_looked_at_and_the_same_again(
    past: Past,
) -> None:
    past.add(*(decided(days_ago=6 * number / 3_000) for number in range(3_000)))
    found = past.rehearse(Slo(name="chat"), most=1_200)
    assert found.decisions_found == 3_000
    assert 1_050 <= found.rehearsal.decisions <= 1_200
    assert found.oldest is not None
    assert found.oldest < NOW - timedelta(days=5)
    assert past.rehearse(Slo(name="chat"), most=1_200) == found


def test_the_first_arms_outcomes_count_with_their_mean_score(past: Past) -> None:
    one, two, three = decided(), decided(), decided()
    past.add(
        *(one, two, three),
        *(outcome(one, score=1.0, cost_usd=0.5), outcome(one, score=0.0)),
        *(outcome(two, score=1.0), outcome(two, score=0.0, error="Timeout", cost_usd=0.7)),
        *(outcome(two, 1, score=0.0), outcome(three, 1, score=1.0)),
    )
    found = past.rehearse(Slo(name="chat", allowed_models=("m0",), max_cost_usd=0.11)).rehearsal
    assert found.changed_share == 0.0
    assert found.accuracy is not None
    assert (found.accuracy.mean, found.accuracy.outcomes) == (0.75, 2)
    assert found.cost_usd is not None
    assert found.cost_usd.mean == pytest.approx(0.6)


def test_weights_are_those_of_the_slos_own_exploration(past: Past) -> None:
    past.add(*(record for arm in range(12) for record in _scored(arm)))
    found = past.rehearse(Slo(name="chat", exploration_rate=1.0)).rehearsal
    assert found.accuracy is not None
    assert found.accuracy.support == pytest.approx(1.0)
    assert found.accuracy.mean == pytest.approx(0.5)
    assert found.predicted is not None
    assert found.predicted.accuracy == pytest.approx(0.5)


def _scored(arm: int) -> tuple[Record, Record]:
    record = decided(arm=arm, propensity=1 / 12, explored=True)
    return record, outcome(record, score=float(arm % 2))


def test_arms_that_left_the_catalog_are_not_chosen_again(past: Past) -> None:
    best = KEYS.index("m1:single")
    past.add(decided(arm=best, accuracy=[0.9 if i == best else 0.5 for i in range(12)]))
    kept = past.rehearse(Slo(name="chat")).rehearsal
    without = past.rehearse(Slo(name="chat"), catalog(1)).rehearsal
    assert (kept.changed_share, without.changed_share) == (0.0, 1.0)
    assert without.predicted is not None
    assert without.predicted.accuracy == pytest.approx(0.5)
    assert without.decided is not None
    assert without.decided.accuracy == pytest.approx(0.9)


def test_a_decision_whose_arms_have_all_left_is_not_looked_at(past: Past) -> None:
    past.add(decided(), decided(keys=["gone:single", "gone:refinement"]))
    found = past.rehearse(Slo(name="chat"))
    assert (found.rehearsal.decisions, found.decisions_found) == (1, 2)


def test_what_a_request_bounded_stays_bounded(past: Past) -> None:
    past.add(decided(request={"max_cost_usd": 0.15, "needs": ["vision"]}))
    assert past.rehearse(Slo(name="chat")).rehearsal.infeasible_share == 1.0
    able = replace(
        CATALOG, models=tuple(replace(m, capabilities=frozenset()) for m in CATALOG.models)
    )
    assert past.rehearse(Slo(name="chat"), able).rehearsal.rejected_share == 1.0


def test_predictions_of_other_policies_are_counted(past: Past) -> None:
    past.add(decided(), decided(policy_version=3))
    assert past.rehearse(Slo(name="chat")).of_other_policies == 1


def test_a_novel_query_takes_the_safe_arm_and_is_not_infeasible_for_that(past: Past) -> None:
    past.add(decided(novelty=1.0), decided(novelty=0.5))
    found = past.rehearse(Slo(name="chat", safe_arm="m0:single")).rehearsal
    assert (found.changed_share, found.infeasible_share) == (0.5, 0.0)
