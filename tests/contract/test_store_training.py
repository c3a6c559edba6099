"""What training asks of the store: interactions, runs, keys and the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pyarrow as pa
import pytest

from router.errors import Conflict, InvalidInput
from router.ids import decision_id, is_ours, time_of, uuid7
from router.slo import Slo
from router.store import audit
from router.store.catalog import PostgresCatalog
from router.store.engine import DatabaseRole, connect
from router.store.interactions import SCHEMA, export, import_rows
from router.store.keys import SigningKeys, decision_key
from router.store.outbox import SqliteOutbox
from router.store.registry import PostgresRegistry
from router.store.seams import Record
from router.store.shipper import Shipper
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.store.training_runs import RunState, TrainingRuns, Wanted
from router.types import Arm, Model, Role
from tests.kit.postgres import rows
from tests.kit.records import attempt, decision, outcome

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Database:
    """One database and the ways into it that training uses."""

    def __init__(self, dsn: str, directory: Path) -> None:
        self.dsn = dsn
        self.directory = directory
        self.router = connect(dsn, role=DatabaseRole.ROUTER)
        self.shipper = connect(dsn, role=DatabaseRole.SHIPPER)
        self.trainer = connect(dsn, role=DatabaseRole.TRAINER)
        self.admin = connect(dsn, role=DatabaseRole.ADMIN)
        self.tenant_id = PostgresTenants(self.admin).create("acme", actor="test").tenant_id

    def arrive(self, *records: Record) -> None:
        outbox = SqliteOutbox(self.directory / "outbox-0.sqlite3", max_bytes=1 << 30)
        for record in records:
            outbox.put(record)
        outbox.close()
        shipper = Shipper(self.directory, self.dsn)
        assert shipper.drain(10)
        shipper.close()

    def exported(self, **how: Any) -> list[dict[str, Any]]:
        return [row for batch in export(self.trainer, **how) for row in batch.to_pylist()]

    def close(self) -> None:
        for engine in (self.router, self.shipper, self.trainer, self.admin):
            engine.dispose()


@pytest.fixture
def database(dsn: str, tmp_path: Path) -> Iterator[Database]:
    database = Database(dsn, tmp_path)
    yield database
    database.close()


def log_batch(*log_rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(log_rows))


def test_an_empty_log_exports_nothing(database: Database) -> None:
    assert database.exported() == []


def test_a_decision_without_an_outcome_is_not_exported(database: Database) -> None:
    database.arrive(decision(database.tenant_id))
    assert database.exported() == []


def test_an_outcome_before_its_decision_is_exported_once_both_are_there(
    database: Database,
) -> None:
    decided = decision(database.tenant_id)
    database.arrive(outcome(decided, score=1.0))
    assert database.exported() == []
    database.arrive(decided)
    assert len(database.exported()) == 1


def test_a_row_tells_all_that_the_outcome_log_holds(database: Database) -> None:
    decided = decision(database.tenant_id, params={"samples": 3}, dataset="d", propensity=0.25)
    report = outcome(
        decided,
        score=0.5,
        cost_usd=0.01,
        latency_s=1.5,
        input_tokens=10,
        output_tokens=20,
        confidence=-0.5,
    )
    database.arrive(decided, report)
    (row,) = database.exported()
    assert json.loads(row.pop("strategy_params")) == {"samples": 3}
    assert row == {
        "query_id": "q",
        "query": "What is 2 + 2?\n\t\\ \u2603",
        "model": "small",
        "strategy": "single",
        "score": 0.5,
        "cost_usd": 0.01,
        "latency_s": 1.5,
        "input_tokens": 10,
        "output_tokens": 20,
        "confidence": -0.5,
        "dataset": "d",
        "tenant": "acme",
        "occurred_at": time_of(decided.row_id),
        "propensity": 0.25,
        "decision_id": str(decided.row_id),
    }


def test_outcomes_of_one_attempt_give_the_mean_score_and_the_last_known_of_the_rest(
    database: Database,
) -> None:
    decided = decision(database.tenant_id)
    reports = [
        outcome(decided, occurred_at="2026-01-02T00:00:00Z", score=1.0, cost_usd=2.0),
        outcome(decided, occurred_at="2026-01-01T00:00:00Z", score=0.0, cost_usd=1.0, latency_s=3),
        outcome(decided, occurred_at="2026-01-03T00:00:00Z", score=None),
    ]
    database.arrive(decided, *reports)
    (row,) = database.exported()
    assert (row["score"], row["cost_usd"], row["latency_s"]) == (0.5, 2.0, 3.0)


def test_a_failed_backend_is_not_a_wrong_answer(database: Database) -> None:
    decided = decision(database.tenant_id)
    database.arrive(decided, outcome(decided, score=0.0, error="timeout", cost_usd=0.5))
    (row,) = database.exported()
    assert (row["score"], row["cost_usd"]) == (None, 0.5)


@pytest.mark.parametrize("continued_again", [False, True])
def test_a_later_attempt_has_its_own_arm(database: Database, *, continued_again: bool) -> None:
    strong = Arm(model="strong", strategy="refinement", params={"rounds": 2})
    catalog = PostgresCatalog(database.admin)
    catalog.put_model(
        Model(name="strong", input_usd_per_mtok=1, output_usd_per_mtok=1), actor="test"
    )
    catalog.put_arm(strong, enabled=True, actor="test")
    decided = decision(database.tenant_id)
    records = [
        decided,
        attempt(decided, keep=False, next_arm=strong.key, propensity=0.5),
        outcome(decided, score=0.0),
        outcome(decided, 1, score=1.0),
    ]
    if continued_again:
        own = {"arm": strong.key, "model": "strong", "strategy": "refinement"}
        evidence = {"confidence": -0.125}
        records.append(attempt(decided, 1, params=strong.params, evidence=evidence, **own))
    database.arrive(*records)
    first, second = database.exported()
    assert (first["model"], first["score"]) == ("small", 0.0)
    assert (second["model"], second["strategy"], second["score"]) == ("strong", "refinement", 1.0)
    assert json.loads(second["strategy_params"]) == {"rounds": 2}
    assert (first["propensity"], second["propensity"]) == (
        json.loads(decided.row)["propensity"],
        1.0,
    )
    assert second["confidence"] == (-0.125 if continued_again else None)


def test_exports_can_be_of_one_tenant(database: Database) -> None:
    other = PostgresTenants(database.admin).create("other", actor="test").tenant_id
    for tenant_id in (database.tenant_id, other):
        decided = decision(tenant_id)
        database.arrive(decided, outcome(decided, score=1.0))
    assert len(database.exported()) == 2
    assert [row["tenant"] for row in database.exported(tenant_id=other)] == ["other"]


def test_exports_can_be_of_one_slo_and_from_a_time_on(database: Database) -> None:
    made = {}
    for day, name in ((1, "chat"), (2, "chat"), (3, "batch")):
        at = NOW.replace(day=day)
        decided = decision(database.tenant_id, decision_id=uuid7(at), slo_name=name)
        database.arrive(decided, outcome(decided, score=1.0))
        made[day] = str(decided.row_id)

    def days(**how: Any) -> list[int]:
        found = {row["decision_id"] for row in database.exported(**how)}
        return [day for day, key in made.items() if key in found]

    assert days(slo_name="chat") == [1, 2]
    assert days(since=NOW.replace(day=2)) == [2, 3]
    assert days(since=NOW.replace(day=2), slo_name="chat") == [2]
    assert days(since=NOW.replace(day=4)) == []


def test_importing_twice_doubles_nothing(database: Database) -> None:
    batch = log_batch(
        {
            "query_id": "q1",
            "query": "Prove it.",
            "model": "m",
            "strategy": "self_consistency",
            "strategy_params": '{"samples": 3}',
            "score": 1.0,
            "cost_usd": 0.5,
            "latency_s": float("nan"),
            "occurred_at": NOW,
            "propensity": 0.1,
            "dataset": "d",
        },
        {"query_id": "q2", "query": "", "model": "m", "strategy": "single", "score": None},
    )
    assert import_rows(database.shipper, database.tenant_id, [batch], NOW) == 2
    assert import_rows(database.shipper, database.tenant_id, [batch], NOW) == 0
    exported = database.exported()
    assert [row["query_id"] for row in exported] == ["q2", "q1"]
    assert exported[1]["occurred_at"] == NOW
    assert (exported[1]["score"], exported[1]["latency_s"]) == (1.0, None)
    assert exported[0]["occurred_at"] == datetime.fromtimestamp(0, UTC)


def test_samples_of_one_arm_are_rows_of_their_own(database: Database) -> None:
    row = {"query_id": "q", "query": "x", "model": "m", "strategy": "s", "score": 1.0}
    batch = log_batch(*({**row, "sample_idx": number} for number in range(3)))
    assert import_rows(database.shipper, database.tenant_id, [batch], NOW) == 3


def test_what_was_exported_can_be_imported(database: Database) -> None:
    batch = log_batch(
        *(
            {"query_id": f"q{n}", "query": "x", "model": "m", "strategy": "s", "score": 0.5}
            for n in range(25)
        )
    )
    import_rows(database.shipper, database.tenant_id, [batch], NOW)
    other = PostgresTenants(database.admin).create("other", actor="test").tenant_id
    batches = list(export(database.trainer, batch_rows=10))
    assert [item.num_rows for item in batches] == [10, 10, 5]
    assert all(item.schema == SCHEMA for item in batches)
    assert import_rows(database.shipper, other, batches, NOW) == 25


def test_counts_may_be_floats(database: Database) -> None:
    row = {"query_id": "q", "query": "x", "model": "m", "strategy": "s"}
    batch = log_batch({**row, "input_tokens": 146.0, "output_tokens": float("nan")})
    import_rows(database.shipper, database.tenant_id, [batch], NOW)
    (exported,) = database.exported()
    assert (exported["input_tokens"], exported["output_tokens"]) == (146, None)


def test_a_value_that_postgres_refuses_is_named_without_the_query(database: Database) -> None:
    batch = log_batch({"query_id": "q", "query": "secret\x00", "model": "m", "strategy": "s"})
    with pytest.raises(InvalidInput, match="NUL") as raised:
        import_rows(database.shipper, database.tenant_id, [batch], NOW)
    assert "secret" not in str(raised.value)
    assert database.exported() == []


def test_importing_nothing_is_fine(database: Database) -> None:
    empty = pa.RecordBatch.from_pylist([], schema=SCHEMA)
    assert import_rows(database.shipper, database.tenant_id, [], NOW) == 0
    assert import_rows(database.shipper, database.tenant_id, [empty], NOW) == 0


def test_an_export_that_is_left_early_gives_its_connection_back(database: Database) -> None:
    row = {"query_id": "q", "query": "x", "model": "m", "strategy": "s", "score": 1.0}
    batch = log_batch(*({**row, "sample_idx": number} for number in range(50)))
    import_rows(database.shipper, database.tenant_id, [batch], NOW)
    for _ in range(10):
        batches = export(database.trainer, batch_rows=10)
        next(batches)
        batches.close()


def wanted(hour: int = 12, seed: int = 0, watermark: int = 7) -> Wanted:
    return Wanted(
        run_id=uuid4(),
        started_at=NOW.replace(hour=hour),
        watermark=watermark,
        seed=seed,
        holdout=0.2,
    )


def test_runs_are_told_newest_first_with_how_they_ended(database: Database) -> None:
    runs = TrainingRuns(database.trainer)
    first = runs.begin(wanted(), resumes_from=NOW)
    assert (runs.recent()[0].state, first.watermark) == (RunState.RUNNING, 7)
    runs.finish(first.run_id, now=NOW, policy_version=3, dataset_digest="ab", figures={"rows": 5})
    second = runs.begin(wanted(13), resumes_from=NOW)
    runs.reach(second.run_id, "targets", now=NOW.replace(hour=14))
    runs.fail(second.run_id, now=NOW.replace(hour=14), error="too few rows")
    failed, done = runs.recent()
    assert (failed.state, failed.error, failed.stage) == (
        RunState.FAILED,
        "too few rows",
        "targets",
    )
    assert failed.duration_s == 3600.0
    assert (done.state, done.policy_version, done.figures) == (RunState.DONE, 3, {"rows": 5})


@pytest.mark.parametrize("told", [False, True])
def test_a_run_that_was_broken_off_is_taken_up_as_it_began(
    database: Database, *, told: bool
) -> None:
    runs = TrainingRuns(database.trainer)
    left = runs.begin(wanted(12, watermark=7), resumes_from=NOW)
    if told:
        runs.interrupt(left.run_id, error="Postgres was away")
    again = runs.begin(wanted(13, watermark=9), resumes_from=NOW)
    assert (again.run_id, again.watermark, again.started_at) == (left.run_id, 7, left.started_at)
    (run,) = runs.recent()
    assert (run.state, run.error) == (RunState.RUNNING, None)


@pytest.mark.parametrize(("seed", "hour"), [(1, 12), (0, 11)])
def test_one_that_began_otherwise_or_too_long_ago_has_failed(
    database: Database, seed: int, hour: int
) -> None:
    runs = TrainingRuns(database.trainer)
    left = runs.begin(wanted(hour, seed=seed), resumes_from=NOW)
    runs.reach(left.run_id, "targets", now=NOW)
    new = runs.begin(wanted(13, watermark=9), resumes_from=NOW)
    assert new.run_id != left.run_id
    running, failed = runs.recent()
    assert (running.run_id, running.watermark) == (new.run_id, 9)
    assert failed.state is RunState.FAILED
    assert "targets" in (failed.error or "")


def test_the_decision_key_is_the_databases_own(database: Database) -> None:
    key = decision_key(database.router)
    assert len(key) == 32
    assert key == decision_key(database.router)
    assert is_ours(decision_id(database.tenant_id, None, NOW, key), database.tenant_id, key)


def test_trust_in_a_signing_key_is_given_once_and_taken_back(database: Database) -> None:
    keys = SigningKeys(database.trainer)
    keys.trust("k1", b"\x01" * 32, actor="test")
    keys.trust("k1", b"\x01" * 32, actor="test")
    with pytest.raises(Conflict, match="'k1'"):
        keys.trust("k1", b"\x02" * 32, actor="test")
    assert SigningKeys(database.router).trusted() == {"k1": b"\x01" * 32}
    keys.revoke("k1", actor="test")
    keys.revoke("k1", actor="test")
    assert keys.trusted() == {}


def test_every_change_is_in_the_audit_log(database: Database) -> None:
    tenants, registry = PostgresTenants(database.admin), PostgresRegistry(database.admin)
    key, text = tenants.create_key("acme", Role.CALLER, actor="ann")
    tenants.revoke_key("acme", key.key_id, actor="ann")
    PostgresSlos(database.router).put(database.tenant_id, Slo(), base_version=None, actor="bob")
    version = PostgresRegistry(database.trainer).register(b"b", {}, actor="cat").version
    registry.promote(version, actor="dan", comment="better")
    registry.rollback(actor="dan", comment="worse")
    SigningKeys(database.trainer).trust("k1", b"\x01", actor="eve")
    found = audit.entries(database.admin)
    assert [(entry.actor, entry.action) for entry in reversed(found)] == [
        ("test", "tenants.create"),
        ("ann", "keys.create"),
        ("ann", "keys.revoke"),
        ("bob", "slos.put"),
        ("cat", "policies.register"),
        ("dan", "policies.promote"),
        ("dan", "policies.rollback"),
        ("eve", "signing_keys.trust"),
    ]
    assert [entry.comment for entry in found[1:3]] == ["worse", "better"]
    assert text.rsplit("_", 1)[1] not in str(rows(database.dsn, "select * from audit_log"))


def test_a_change_that_fails_leaves_no_trace_in_the_audit_log(database: Database) -> None:
    before = len(audit.entries(database.admin))
    with pytest.raises(Conflict):
        PostgresTenants(database.admin).create("acme", actor="test")
    assert len(audit.entries(database.admin)) == before


def test_the_router_writes_slos_of_no_tenant_but_the_one_it_names(database: Database) -> None:
    stranger = UUID(int=9)
    assert PostgresSlos(database.router).current(stranger) == []
