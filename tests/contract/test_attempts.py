"""What training reads of decisions and their reports: every attempt, with every source's score."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from router.ids import uuid7
from router.store.arrivals import PostgresArrivals
from router.store.attempts import QUERY, SCHEMA, attempts
from router.store.batches import LINEAR
from router.store.interactions import import_rows
from tests.contract.test_store_training import NOW, Database, log_batch
from tests.kit.records import decision, outcome

PREDICTIONS = {"arms": ["large:single", "small:single"], "accuracy": [0.9, 0.625]}


@pytest.fixture
def database(dsn: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(dsn, tmp_path)
    yield database
    database.close()


def read(database: Database, **how: Any) -> list[dict[str, Any]]:
    batches = list(attempts(database.trainer, **how))
    assert all(batch.schema == SCHEMA for batch in batches)
    return [row for batch in batches for row in batch.to_pylist()]


def test_an_answer_that_nobody_scored_is_read_too(database: Database) -> None:
    decided = decision(
        database.tenant_id,
        slo_name="chat",
        labels={"team": "a"},
        predictions=PREDICTIONS,
        novelty=0.25,
    )
    database.arrive(decided)
    (row,) = read(database)
    assert (row["score"], row["sources"], row["attempt"]) == (None, None, 0)
    assert (row["slo_name"], row["labels"], row["novelty"]) == ("chat", '{"team": "a"}', 0.25)
    assert (row["predicted_accuracy"], row["propensity"]) == (0.625, 0.5)
    assert (row["failed"], row["imported"]) == (False, False)


def test_each_source_keeps_its_own_score_and_delay(database: Database) -> None:
    at = datetime.now(UTC) - timedelta(days=1)
    decided = decision(database.tenant_id, decision_id=uuid7(at))
    made = datetime.fromtimestamp(at.timestamp() // 0.001 / 1000, UTC)
    reports = [
        outcome(decided, occurred_at=made + timedelta(seconds=late), score=score, source=source)
        for late, score, source in (
            (60, 1.0, "judge"),
            (90, 0.0, "judge"),
            (5, 1.0, "exact"),
            (9, 0.25, None),
        )
    ]
    database.arrive(decided, *reports)
    (row,) = read(database)
    assert row["sources"] == ["exact", "judge", "unspecified"]
    assert row["scores"] == [1.0, 0.5, 0.25]
    assert row["delays_s"] == pytest.approx([5.0, 60.0, 9.0], abs=0.01)


def test_an_error_brings_cost_and_latency_but_no_score(database: Database) -> None:
    decided = decision(database.tenant_id)
    failure = outcome(decided, score=0.0, error="timeout", cost_usd=0.5, latency_s=30.0)
    database.arrive(decided, failure)
    (row,) = read(database)
    assert (row["failed"], row["sources"]) == (True, None)
    assert (row["cost_usd"], row["latency_s"]) == (0.5, 30.0)


@pytest.mark.parametrize("retried", [False, True])
def test_an_attempt_failed_unless_a_later_run_succeeded(
    database: Database, *, retried: bool
) -> None:
    decided = decision(database.tenant_id)
    reports = [
        outcome(decided, occurred_at=NOW, error="timeout", latency_s=30.0),
        outcome(decided, occurred_at=NOW + timedelta(minutes=9), score=0.0, source="feedback"),
    ]
    if retried:
        again = NOW + timedelta(minutes=1)
        reports.append(outcome(decided, occurred_at=again, latency_s=1.0, cost_usd=0.5))
    database.arrive(decided, *reports)
    (row,) = read(database)
    assert row["failed"] is not retried
    assert row["scores"] == [0.0]


def test_what_arrives_from_a_place_on_is_not_read(database: Database) -> None:
    decided = decision(database.tenant_id)
    database.arrive(decided, outcome(decided, score=1.0))
    before = PostgresArrivals(database.trainer).horizon()
    seen = read(database, before=before)
    database.arrive(outcome(decided, score=0.0), decision(database.tenant_id))
    assert read(database, before=before) == seen
    assert len(read(database)) == 2
    assert {row["decision_id"] for row in seen} == {str(decided.row_id)}


def test_history_says_that_it_was_brought_in(database: Database) -> None:
    row = {"query_id": "q", "query": "x", "model": "m", "strategy": "s", "score": 0.5}
    import_rows(database.shipper, database.tenant_id, [log_batch(row)], NOW)
    (read_row,) = read(database)
    assert read_row["imported"]
    assert (read_row["sources"], read_row["scores"]) == (["import"], [0.5])


def test_the_time_to_read_does_not_grow_with_the_square_of_the_decisions(
    database: Database,
) -> None:
    with database.trainer.connect() as connection:
        for setting in LINEAR:
            connection.execute(text(f"set {setting}"))
        every = dict.fromkeys(("tenant", "since", "until", "before"))
        plan = connection.execute(text(f"explain {QUERY}"), every).scalars().all()
    joined = [line for line in plan if "Join" in line or "Nested Loop" in line]
    assert any("Hash" in line for line in joined)
    assert not any("Merge" in line for line in joined)
    assert len([line for line in joined if "Nested Loop" in line]) == 1  # one arm's place
