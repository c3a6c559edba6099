"""What the seams of slos as promises keep: Postgres and the in-memory twins alike."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from router.conditions import MonitorState
from router.errors import Conflict, NotFound
from router.store.arrivals import PostgresArrivals
from router.store.engine import DatabaseRole, connect
from router.store.memory import MemoryArrivals, MemoryOutbox, MemoryPromises, MemoryTenants
from router.store.outbox import SqliteOutbox
from router.store.promise_seams import (
    Arrivals,
    Fresh,
    Promises,
)
from router.store.promises import PostgresPromises
from router.store.seams import Outbox, Record, Tenants
from router.store.shipper import Shipper
from router.store.tenants import PostgresTenants
from tests.kit.records import NOW, attempt, certificate, decision, monitor, outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The seams over one database or over memory: workers read, the trainer writes."""

    tenants: Tenants
    read: Promises
    write: Promises
    arrivals: Arrivals
    outbox: Outbox
    shipper: Shipper | None = None

    def arrive(self, *records: Record) -> None:
        for record in records:
            self.outbox.put(record)
        assert self.shipper is None or self.shipper.drain(20)

    def fresh(self, tenant: UUID, since: int = 0, *, name: str = "chat", **how: Any) -> Fresh:
        return self.arrivals.fresh_outcomes(tenant, name, since, self.arrivals.horizon(), **how)


@pytest.fixture(params=["postgres", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield memory_world()
        return
    dsn = request.getfixturevalue("dsn")
    engines = [
        connect(dsn, role=role)
        for role in (DatabaseRole.ADMIN, DatabaseRole.ROUTER, DatabaseRole.TRAINER)
    ]
    admin, router, trainer = engines
    outbox = SqliteOutbox(tmp_path / "outbox-0.sqlite3", max_bytes=1 << 30)
    shipper = Shipper(tmp_path, dsn)
    yield World(
        tenants=PostgresTenants(admin),
        read=PostgresPromises(router),
        write=PostgresPromises(trainer),
        arrivals=PostgresArrivals(trainer),
        outbox=outbox,
        shipper=shipper,
    )
    shipper.close()
    outbox.close()
    for engine in engines:
        engine.dispose()


def memory_world() -> World:
    outbox, promises = MemoryOutbox(), MemoryPromises()
    return World(
        tenants=MemoryTenants(),
        read=promises,
        write=promises,
        arrivals=MemoryArrivals(outbox),
        outbox=outbox,
    )


@pytest.fixture
def tenant(world: World) -> UUID:
    return world.tenants.create("acme", actor="test").tenant_id


@pytest.fixture
def other(world: World) -> UUID:
    return world.tenants.create("other", actor="test").tenant_id


class TestPromises:
    def test_a_certificate_is_read_as_it_was_written(self, world: World, tenant: UUID) -> None:
        record = certificate(tenant)
        world.write.write_certificate(record, actor="test")
        assert world.read.certificate(tenant, record.certificate_id) == record
        assert world.read.certificates(tenant) == [record]
        assert world.read.current(tenant)["chat"].certificate == record

    def test_a_certificate_never_changes(self, world: World, tenant: UUID) -> None:
        record = certificate(tenant)
        for body in (record.body, {"n": 2}):
            world.write.write_certificate(replace(record, body=body), actor="test")
        assert world.read.certificates(tenant) == [record]

    def test_the_newest_of_each_name_is_in_force(self, world: World, tenant: UUID) -> None:
        written = [certificate(tenant, name, hour) for name in "ab" for hour in (2, 1, 3, 0)]
        for record in written:
            world.write.write_certificate(record, actor="test")
        current = world.read.current(tenant)
        assert {name: found.certificate for name, found in current.items()} == {
            "a": written[2],
            "b": written[6],
        }
        ordered = [written[2], written[0], written[1], written[3]]
        assert world.read.certificates(tenant, "a") == ordered
        assert world.read.certificates(tenant, "a", limit=2) == ordered[:2]
        assert len(world.read.certificates(tenant)) == 8

    def test_the_last_three_policies_each_have_their_newest_in_force(
        self, world: World, tenant: UUID
    ) -> None:
        hours = ((1, 7), (2, 7), (3, 8), (4, 9), (5, 8), (6, 10))
        written = [certificate(tenant, hour=hour, policy_version=of) for hour, of in hours]
        for record in written:
            world.write.write_certificate(record, actor="test")
        found = world.read.current(tenant)["chat"]
        assert found.by_policy == {9: written[3], 8: written[4], 10: written[5]}
        assert (found.under(8), found.under(7)) == (written[4], written[5])

    def test_unknown_and_another_tenants_look_the_same(
        self, world: World, tenant: UUID, other: UUID
    ) -> None:
        record = certificate(tenant)
        world.write.write_certificate(record, actor="test")
        world.write.write_monitor(monitor(tenant), before=None, actor="test")
        assert (world.read.current(other), world.read.certificates(other)) == ({}, [])
        for tenant_id, certificate_id in ((other, record.certificate_id), (tenant, uuid4())):
            with pytest.raises(NotFound) as raised:
                world.read.certificate(tenant_id, certificate_id)
            assert raised.value.reason == "CERTIFICATE_NOT_FOUND"

    def test_a_monitor_is_read_as_it_was_written(self, world: World, tenant: UUID) -> None:
        first = monitor(tenant)
        world.write.write_monitor(first, before=None, actor="test")
        second = monitor(tenant, seen_until=9, state=MonitorState.BROKEN, body={"wealth": 30})
        world.write.write_monitor(second, before=first, actor="test")
        found = world.read.current(tenant)["chat"]
        assert (found.certificate, found.monitor) == (None, second)

    def test_of_two_watchers_one_counts(self, world: World, tenant: UUID) -> None:
        first = monitor(tenant)
        world.write.write_monitor(first, before=None, actor="test")
        second = replace(first, seen_until=9)
        world.write.write_monitor(second, before=first, actor="test")
        for late, before in ((replace(first, seen_until=8), first), (first, None)):
            with pytest.raises(Conflict, match="'chat'"):
                world.write.write_monitor(late, before=before, actor="test")
        assert world.read.current(tenant)["chat"].monitor == second

    def test_a_monitor_that_begins_anew_is_not_written_over(
        self, world: World, tenant: UUID
    ) -> None:
        first = monitor(tenant)
        world.write.write_monitor(first, before=None, actor="test")
        anew = replace(first, updated_at=NOW + timedelta(seconds=1), body={})
        world.write.write_monitor(anew, before=first, actor="test")
        with pytest.raises(Conflict):
            world.write.write_monitor(replace(first, seen_until=9), before=first, actor="test")


USUAL = (2, 0, False)


def decided(tenant: UUID, **columns: Any) -> Record:
    return decision(tenant, slo_name="chat", slo_version=2, **columns)


class TestArrivals:
    def test_a_scored_decision_tells_what_a_monitor_needs(self, world: World, tenant: UUID) -> None:
        ours = decided(tenant, policy_version=7, propensity=0.25, explored=True, novelty=1.5)
        world.arrive(ours, outcome(ours, score=1.0), outcome(ours, score=0.5))
        found = world.fresh(tenant)
        (fresh,) = found.outcomes
        assert (fresh.decision_id, fresh.slo_version, fresh.policy_version) == (ours.row_id, 2, 7)
        assert (fresh.propensity, fresh.explored, fresh.novelty) == (0.25, True, 1.5)
        assert (fresh.attempt, fresh.decided_at.tzinfo) == (0, UTC)
        assert found.decisions == {(2, 7, True): 1}

    def test_only_what_is_the_slos_and_scored_counts(
        self, world: World, tenant: UUID, other: UUID
    ) -> None:
        ours, theirs = decided(tenant), decided(other)
        another = decision(tenant, slo_name="batch")
        world.arrive(ours, theirs, another)
        world.arrive(outcome(theirs, score=1.0), outcome(another, score=1.0))
        world.arrive(outcome(ours, cost_usd=1.0), outcome(ours, score=0.0, error="timeout"))
        found = world.fresh(tenant)
        assert (list(found.outcomes), found.decisions) == ([], {USUAL: 1})

    def test_an_outcome_that_is_there_before_its_decision_counts_with_it(
        self, world: World, tenant: UUID
    ) -> None:
        ours = decided(tenant)
        world.arrive(outcome(ours, score=1.0))
        first = world.fresh(tenant)
        world.arrive(ours)
        second = world.fresh(tenant, first.until)
        assert (len(first.outcomes), len(second.outcomes)) == (0, 1)
        assert (first.decisions, second.decisions) == ({}, {USUAL: 1})

    def test_an_outcome_counts_when_it_arrives_however_old_it_is(
        self, world: World, tenant: UUID
    ) -> None:
        early, late = decided(tenant), decided(tenant)
        world.arrive(early, late, outcome(early, score=1.0))
        first = world.fresh(tenant)
        world.arrive(outcome(late, score=0.0, occurred_at=NOW - timedelta(days=3)))
        second = world.fresh(tenant, first.until)
        assert [fresh.score for fresh in (*first.outcomes, *second.outcomes)] == [1.0, 0.0]
        assert (first.decisions, second.decisions) == ({USUAL: 2}, {})

    def test_a_decision_counts_once_with_the_scores_that_came_first(
        self, world: World, tenant: UUID
    ) -> None:
        ours = decided(tenant)
        world.arrive(ours, outcome(ours, score=1.0))
        first = world.fresh(tenant)
        world.arrive(outcome(ours, score=0.0))
        assert [fresh.score for fresh in first.outcomes] == [1.0]
        assert list(world.fresh(tenant, first.until).outcomes) == []
        assert [fresh.score for fresh in world.fresh(tenant).outcomes] == [1.0]

    def test_the_score_is_that_of_the_answer_that_was_kept(
        self, world: World, tenant: UUID
    ) -> None:
        kept_last, kept_first, went_on = (decided(tenant) for _ in range(3))
        for ours in (kept_last, kept_first, went_on):
            world.arrive(ours, attempt(ours, keep=False, next_arm="large:single"))
        world.arrive(attempt(kept_last, 1, evidence={"confidence": -0.1}))
        world.arrive(attempt(kept_first, 1, evidence={"best": 0}))
        for ours in (kept_last, kept_first, went_on):
            world.arrive(outcome(ours, 0, score=0.0), outcome(ours, 1, score=1.0))
        found = {fresh.decision_id: fresh for fresh in world.fresh(tenant).outcomes}
        assert {ours: (fresh.attempt, fresh.score) for ours, fresh in found.items()} == {
            kept_last.row_id: (1, 1.0),
            kept_first.row_id: (0, 0.0),
            went_on.row_id: (1, 1.0),
        }

    def test_a_first_attempts_score_does_not_count_for_a_decision_that_went_on(
        self, world: World, tenant: UUID
    ) -> None:
        ours = decided(tenant)
        world.arrive(ours, outcome(ours, score=0.0))
        world.arrive(attempt(ours, keep=False, next_arm="large:single"))
        first = world.fresh(tenant)
        world.arrive(outcome(ours, 1, score=1.0))
        assert list(first.outcomes) == []
        assert [f.score for f in world.fresh(tenant, first.until).outcomes] == [1.0]

    def test_what_the_caller_asks_of_the_future_waits(self, world: World, tenant: UUID) -> None:
        ahead = world.arrivals.horizon() + 1_000
        first = world.arrivals.fresh_outcomes(tenant, "chat", 0, ahead)
        assert first.until <= world.arrivals.horizon()
        ours = decided(tenant)
        world.arrive(ours, outcome(ours, score=1.0))
        assert len(world.fresh(tenant, first.until).outcomes) == 1

    def test_a_turn_that_ends_before_it_begins_counts_nothing_and_stays(
        self, world: World, tenant: UUID
    ) -> None:
        ours = decided(tenant)
        world.arrive(ours, outcome(ours, score=1.0))
        until = world.arrivals.horizon()
        turn = world.arrivals.fresh_outcomes(tenant, "chat", until, until - 1)
        assert (turn.outcomes, turn.decisions, turn.until) == ((), {}, until)

    def test_a_place_beyond_the_horizon_begins_again_at_the_horizon(
        self, world: World, tenant: UUID
    ) -> None:
        beyond = world.arrivals.horizon() + 10**9
        assert world.fresh(tenant, beyond).until <= world.arrivals.horizon()

    def test_a_limit_cuts_a_turn_and_loses_nothing(self, world: World, tenant: UUID) -> None:
        expected = []
        for _ in range(7):
            ours = decided(tenant)
            world.arrive(ours)
            world.arrive(outcome(ours, score=1.0))
            expected.append(ours.row_id)
        found, counted, since = [], 0, 0
        while since < world.arrivals.horizon():
            turn = world.fresh(tenant, since, limit=2)
            assert len(turn.outcomes) <= 2
            found += [fresh.decision_id for fresh in turn.outcomes]
            counted += sum(turn.decisions.values())
            since = turn.until
        assert (found, counted) == (expected, 7)

    @pytest.mark.parametrize("seed", range(3))
    def test_in_any_order_and_any_turns_everything_counts_once(
        self, world: World, tenant: UUID, seed: int
    ) -> None:
        rng, records, scored = random.Random(seed), [], set()
        for number in range(24):
            ours = decided(tenant)
            records.append(ours)
            for _ in range(number % 3):
                records.append(outcome(ours, score=rng.random(), occurred_at=NOW))
                scored.add(ours.row_id)
        rng.shuffle(records)
        found, counted, since = [], 0, 0
        while records:
            size = rng.randrange(1, 12)
            batch, records = records[:size], records[size:]
            world.arrive(*batch)
            turn = world.fresh(tenant, since, limit=rng.choice([1, 3, 100]))
            found += [fresh.decision_id for fresh in turn.outcomes]
            counted, since = counted + sum(turn.decisions.values()), turn.until
        rest = world.fresh(tenant, since)
        found += [fresh.decision_id for fresh in rest.outcomes]
        assert (len(found), set(found)) == (len(scored), scored)
        assert counted + sum(rest.decisions.values()) == 24

    def test_a_scored_decision_tells_its_model_and_what_was_predicted(
        self, world: World, tenant: UUID
    ) -> None:
        predictions = {"arms": ["large:single", "small:single"], "accuracy": [0.75, 0.5]}
        told, untold = decided(tenant, predictions=predictions), decided(tenant)
        world.arrive(told, untold, outcome(told, score=1.0), outcome(untold, score=1.0))
        found = {each.decision_id: each for each in world.fresh(tenant).outcomes}
        assert (found[told.row_id].model, found[told.row_id].expected) == ("small", 0.5)
        assert found[untold.row_id].expected is None
