"""What the seams of configuration promise: Postgres and the in-memory twins alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from router.conditions import MonitorState
from router.errors import Conflict, InvalidInput, NotFound
from router.slo import Slo
from router.store.catalog import PostgresCatalog
from router.store.changes import PostgresChanges
from router.store.decisions import PostgresLog
from router.store.engine import DatabaseRole, connect
from router.store.memory import (
    MemoryCatalog,
    MemoryChanges,
    MemoryLog,
    MemoryOutbox,
    MemoryPromises,
    MemoryRegistry,
    MemorySlos,
    MemoryTenants,
)
from router.store.outbox import SqliteOutbox
from router.store.promise_seams import Promises
from router.store.promises import PostgresPromises
from router.store.registry import PostgresRegistry
from router.store.seams import (
    CatalogStore,
    Changes,
    Kind,
    Log,
    Record,
    Registry,
    Slos,
    Tenants,
    Topic,
)
from router.store.shipper import Shipper
from router.store.slos import PostgresSlos
from router.store.tenants import PostgresTenants
from router.types import Arm, Capability, Model, PolicyState, Role, Thinking
from tests.kit.records import OTHER_TENANT, attempt, certificate, decision, monitor, outcome

WEAK = Model(name="weak", input_usd_per_mtok=0.1, output_usd_per_mtok=0.2, tier=0)
STRONG = Model(
    name="strong",
    input_usd_per_mtok=3,
    output_usd_per_mtok=15,
    tier=2,
    capabilities=frozenset({Capability.TOOLS, Capability.JSON}),
    region="eu-west",
    thinking=Thinking.EFFORT,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The seams over one database, or over this process's memory."""

    slos: Slos
    promises: Promises
    catalog: CatalogStore
    registry: Registry
    tenants: Tenants
    changes: Changes


@pytest.fixture(params=["postgres", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield memory_store()
        return
    dsn = request.getfixturevalue("dsn")
    router = connect(dsn, role=DatabaseRole.ROUTER)
    admin = connect(dsn, role=DatabaseRole.ADMIN)
    changes = PostgresChanges(router, dsn)
    yield Store(
        slos=PostgresSlos(router),
        promises=PostgresPromises(admin),
        catalog=PostgresCatalog(admin),
        registry=PostgresRegistry(admin),
        tenants=PostgresTenants(admin),
        changes=changes,
    )
    changes.close()
    router.dispose()
    admin.dispose()


def memory_store() -> Store:
    changes = MemoryChanges()
    return Store(
        slos=MemorySlos(changes),
        promises=MemoryPromises(changes),
        catalog=MemoryCatalog(changes),
        registry=MemoryRegistry(changes),
        tenants=MemoryTenants(changes),
        changes=changes,
    )


@pytest.fixture
def tenant(store: Store) -> UUID:
    return store.tenants.create("acme", actor="test").tenant_id


class TestSlos:
    def test_an_slo_is_read_as_it_was_written(self, store: Store, tenant: UUID) -> None:
        slo = Slo(name="chat", min_accuracy=0.9, allowed_models=("weak",), max_latency_s=2.5)
        written = store.slos.put(tenant, slo, base_version=None, actor="test")
        assert written == replace(slo, version=1)
        assert store.slos.get(tenant, "chat") == written
        assert store.slos.current(tenant) == [written]

    def test_a_version_never_changes(self, store: Store, tenant: UUID) -> None:
        first = store.slos.put(tenant, Slo(max_cost_usd=1), base_version=0, actor="test")
        second = store.slos.put(tenant, Slo(max_cost_usd=2), base_version=1, actor="test")
        assert (first.version, second.version) == (1, 2)
        assert store.slos.get(tenant, "default", 1) == first
        assert store.slos.get(tenant, "default") == second
        assert store.slos.current(tenant) == [second]

    def test_a_retry_adds_no_version(self, store: Store, tenant: UUID) -> None:
        slo = Slo(max_cost_usd=1)
        first = store.slos.put(tenant, slo, base_version=0, actor="test")
        assert store.slos.put(tenant, slo, base_version=0, actor="test") == first

    @pytest.mark.parametrize("base_version", [0, 2])
    def test_a_stale_base_version_is_a_conflict(
        self, store: Store, tenant: UUID, base_version: int
    ) -> None:
        store.slos.put(tenant, Slo(max_cost_usd=1), base_version=None, actor="test")
        with pytest.raises(Conflict, match="is at version 1"):
            store.slos.put(tenant, Slo(max_cost_usd=2), base_version=base_version, actor="test")

    def test_writers_at_once_get_different_versions(self, store: Store, tenant: UUID) -> None:
        def put(cost: int) -> int:
            slo = Slo(max_cost_usd=cost)
            return store.slos.put(tenant, slo, base_version=None, actor="test").version

        with ThreadPoolExecutor(4) as pool:
            assert sorted(pool.map(put, range(1, 9))) == list(range(1, 9))

    @pytest.mark.parametrize(("name", "version"), [("none", 0), ("default", 2), ("default", -1)])
    def test_an_unknown_slo_is_not_found(
        self, store: Store, tenant: UUID, name: str, version: int
    ) -> None:
        store.slos.put(tenant, Slo(), base_version=None, actor="test")
        with pytest.raises(NotFound) as raised:
            store.slos.get(tenant, name, version)
        assert raised.value.reason == "SLO_NOT_FOUND"

    def test_another_tenants_slo_is_not_found(self, store: Store, tenant: UUID) -> None:
        other = store.tenants.create("other", actor="test").tenant_id
        store.slos.put(tenant, Slo(), base_version=None, actor="test")
        assert store.slos.current(other) == []
        with pytest.raises(NotFound):
            store.slos.get(other, "default")


class TestCatalog:
    def test_an_empty_catalog_is_read_as_one(self, store: Store) -> None:
        catalog = store.catalog.read()
        assert (catalog.models, catalog.arms, catalog.revision) == ((), (), 0)

    def test_models_and_arms_stand_by_tier_then_name(self, store: Store) -> None:
        for model in (STRONG, replace(WEAK, name="z"), WEAK):
            store.catalog.put_model(model, actor="test")
        arms = [Arm(model=name, strategy="single") for name in ("strong", "z", "weak")]
        voting = Arm(model="weak", strategy="self_consistency", params={"samples": 3})
        for arm in (*arms, voting):
            store.catalog.put_arm(arm, enabled=True, actor="test")
        catalog = store.catalog.read()
        assert [model.name for model in catalog.models] == ["weak", "z", "strong"]
        assert catalog.models[-1] == STRONG
        assert catalog.arms == (voting, arms[2], arms[1], arms[0])
        assert catalog.arms[0].params == {"samples": 3}

    def test_what_is_disabled_is_not_picked(self, store: Store) -> None:
        arm = Arm(model="weak", strategy="single")
        store.catalog.put_model(WEAK, actor="test")
        store.catalog.put_arm(arm, enabled=True, actor="test")
        store.catalog.put_arm(arm, enabled=False, actor="test")
        assert store.catalog.read().arms == ()
        store.catalog.put_arm(arm, enabled=True, actor="test")
        store.catalog.put_model(replace(WEAK, enabled=False), actor="test")
        assert store.catalog.read().arms == ()
        assert store.catalog.read().models == (replace(WEAK, enabled=False),)

    def test_every_change_raises_the_revision(self, store: Store) -> None:
        first = store.catalog.put_model(WEAK, actor="test")
        second = store.catalog.put_arm(Arm(model="weak", strategy="s"), enabled=True, actor="test")
        assert 0 < first < second == store.catalog.read().revision

    def test_an_arm_of_an_unknown_model_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound) as raised:
            store.catalog.put_arm(Arm(model="none", strategy="s"), enabled=True, actor="test")
        assert raised.value.reason == "MODEL_NOT_FOUND"

    def test_an_arm_that_would_stop_the_readers_is_refused_and_changes_nothing(
        self, store: Store
    ) -> None:
        revision = store.catalog.put_model(WEAK, actor="test")
        bad = Arm(model="weak", strategy="self_consistency", params={"samples": 10**400})
        with pytest.raises(InvalidInput, match="samples"):
            store.catalog.put_arm(bad, enabled=True, actor="test")
        assert store.catalog.read().revision == revision


class TestRegistry:
    def test_a_bundle_is_given_back_byte_for_byte(self, store: Store) -> None:
        bundle = bytes(range(256)) * 10_000
        record = store.registry.register(bundle, {"rows": 5}, actor="test")
        assert (record.state, record.bundle_bytes) == (PolicyState.CANDIDATE, len(bundle))
        assert record.summary == {"rows": 5}
        assert store.registry.bundle(record.version) == bundle
        assert store.registry.records() == [record]

    def test_the_same_bundle_again_is_the_same_version(self, store: Store) -> None:
        first = store.registry.register(b"one", {}, actor="test")
        assert store.registry.register(b"one", {"other": 1}, actor="test") == first

    def test_at_first_nothing_is_active(self, store: Store) -> None:
        store.registry.register(b"one", {}, actor="test")
        assert store.registry.active() is None
        assert store.registry.rollback(actor="test") is None

    def test_promoting_moves_the_active_one_to_previous(self, store: Store) -> None:
        one, two, three = (self.registered(store, name) for name in (b"1", b"2", b"3"))
        for version in (one, two, three):
            promoted = store.registry.promote(version, actor="test", comment="better")
            assert promoted.state is PolicyState.ACTIVE
            assert promoted.promoted_at is not None
            assert store.registry.active() == promoted
        states = {record.version: record.state for record in store.registry.records()}
        assert states == {
            one: PolicyState.CANDIDATE,
            two: PolicyState.PREVIOUS,
            three: PolicyState.ACTIVE,
        }

    def test_promoting_again_changes_nothing(self, store: Store) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        store.registry.promote(one, actor="test")
        first = store.registry.promote(two, actor="test")
        assert store.registry.promote(two, actor="test") == first
        assert [record.state for record in store.registry.records()] == ["active", "previous"]

    def test_promoting_the_previous_one_swaps_the_two(self, store: Store) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        for version in (one, two, one):
            store.registry.promote(version, actor="test")
        states = {record.version: record.state for record in store.registry.records()}
        assert states == {one: PolicyState.ACTIVE, two: PolicyState.PREVIOUS}

    def test_rolling_back_returns_to_the_previous_then_to_none(self, store: Store) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        for version in (one, two):
            store.registry.promote(version, actor="test")
        back = store.registry.rollback(actor="test", version=two)
        assert back is not None
        assert back.version == one
        assert store.registry.records()[0].state is PolicyState.REJECTED
        with pytest.raises(Conflict, match=f"policy {one} is active"):
            store.registry.rollback(actor="test", version=two)
        assert store.registry.rollback(actor="test") is None
        assert store.registry.active() is None

    @pytest.mark.parametrize("named", [True, False])
    def test_a_retried_rollback_leaves_the_policy_that_it_returned_to(
        self, store: Store, named: bool
    ) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        for version in (one, two):
            store.registry.promote(version, actor="test")
        left, request_id = (two if named else 0), uuid4()
        for _ in range(2):
            back = store.registry.rollback(actor="test", version=left, request_id=request_id)
            assert back is not None
            assert back.version == one
        assert store.registry.rollback(actor="test", request_id=uuid4()) is None

    def test_a_retry_of_an_old_rollback_leaves_a_later_promotion(self, store: Store) -> None:
        one, two, request_id = self.registered(store, b"1"), self.registered(store, b"2"), uuid4()
        store.registry.promote(one, actor="test")
        assert store.registry.rollback(actor="test", request_id=request_id) is None
        promoted = store.registry.promote(two, actor="test")
        assert store.registry.rollback(actor="test", request_id=request_id) == promoted

    def test_a_candidate_is_tried_at_a_share_that_grows_until_it_is_promoted(
        self, store: Store
    ) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        store.registry.promote(one, actor="test")
        for share in (0.0, 0.01, 0.05):
            tried = store.registry.canary(two, share=share, actor="test")
            assert (tried.state, tried.share) == (PolicyState.CANARY, share)
            assert store.registry.on_trial() == tried
            assert store.registry.canary(two, share=share, actor="test") == tried
        active = store.registry.promote(two, actor="test")
        assert (active.state, active.share) == (PolicyState.ACTIVE, None)
        assert store.registry.on_trial() is None
        states = {record.version: record.state for record in store.registry.records()}
        assert states == {one: PolicyState.PREVIOUS, two: PolicyState.ACTIVE}

    def test_a_rejected_canary_leaves_the_active_one_and_may_be_tried_again(
        self, store: Store
    ) -> None:
        one, two = self.registered(store, b"1"), self.registered(store, b"2")
        active = store.registry.promote(one, actor="test")
        store.registry.canary(two, share=0.01, actor="test")
        for _ in range(2):
            rejected = store.registry.reject(two, actor="test", comment="worse")
            assert (rejected.state, rejected.share) == (PolicyState.REJECTED, None)
        assert store.registry.active() == active
        assert store.registry.canary(two, share=0.5, actor="test").share == 0.5

    def test_only_one_is_a_canary_and_only_a_candidate_becomes_one(self, store: Store) -> None:
        one, two, three, four = (self.registered(store, name) for name in (b"1", b"2", b"3", b"4"))
        for version in (one, two):
            store.registry.promote(version, actor="test")
        store.registry.canary(three, share=0.01, actor="test")
        for version, why in ((four, f"{three} is the canary"), (one, "canary"), (two, "canary")):
            with pytest.raises(Conflict, match=why):
                store.registry.canary(version, share=0.01, actor="test")
        store.registry.reject(three, actor="test")
        for version in (one, two):
            for call in (
                lambda v=version: store.registry.canary(v, share=0.1, actor="test"),
                lambda v=version: store.registry.reject(v, actor="test"),
            ):
                with pytest.raises(Conflict):
                    call()  # type: ignore[no-untyped-call]
        for share in (-0.1, 1.1, float("nan")):
            with pytest.raises(InvalidInput):
                store.registry.canary(four, share=share, actor="test")

    def test_a_retry_of_an_old_start_leaves_a_rejected_canary_rejected(self, store: Store) -> None:
        version, started, ended = self.registered(store, b"1"), uuid4(), uuid4()
        store.registry.canary(version, share=0.01, actor="test", request_id=started)
        store.registry.reject(version, actor="test", request_id=ended)
        again = store.registry.canary(version, share=0.01, actor="test", request_id=started)
        assert again.state is PolicyState.REJECTED
        store.registry.canary(version, share=0.01, actor="test")
        late = store.registry.reject(version, actor="test", request_id=ended)
        assert late.state is PolicyState.CANARY

    def test_every_change_of_a_share_is_announced(self, store: Store) -> None:
        version = self.registered(store, b"1")
        seen = [store.changes.revisions()[Topic.POLICIES]]
        for share in (0.01, 0.05):
            store.registry.canary(version, share=share, actor="test")
            seen.append(store.changes.revisions()[Topic.POLICIES])
        assert [later - earlier for earlier, later in pairwise(seen)] == [1, 1]

    def test_canaries_started_at_once_leave_one(self, store: Store) -> None:
        versions = [self.registered(store, bytes([number])) for number in range(6)]

        def start(version: int) -> bool:
            try:
                store.registry.canary(version, share=0.1, actor="test")
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(start, versions)) == 1

    def test_an_unknown_version_is_not_found(self, store: Store) -> None:
        for call in (
            store.registry.bundle,
            lambda v: store.registry.promote(v, actor="test"),
            lambda v: store.registry.canary(v, share=0.1, actor="test"),
            lambda v: store.registry.reject(v, actor="test"),
        ):
            with pytest.raises(NotFound) as raised:
                call(7)
            assert raised.value.reason == "POLICY_NOT_FOUND"

    def test_promotions_at_once_leave_one_active(self, store: Store) -> None:
        versions = [self.registered(store, bytes([number])) for number in range(6)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda version: store.registry.promote(version, actor="t"), versions))
        states = [record.state for record in store.registry.records()]
        assert (states.count(PolicyState.ACTIVE), states.count(PolicyState.PREVIOUS)) == (1, 1)

    def registered(self, store: Store, bundle: bytes) -> int:
        return store.registry.register(bundle, {}, actor="test").version


class TestTenants:
    def test_a_key_stands_for_its_tenant_and_role(self, store: Store, tenant: UUID) -> None:
        key, text = store.tenants.create_key("acme", Role.ADMIN, actor="test")
        identity = store.tenants.authenticate(text)
        assert identity is not None
        assert (identity.tenant_id, identity.tenant) == (tenant, "acme")
        assert (identity.role, identity.key_id) == (Role.ADMIN, key.key_id)
        assert text.startswith(f"ll_{tenant.hex}_{key.key_id}_")
        assert store.tenants.keys("acme") == [key]

    def test_a_revoked_key_stands_for_nobody(self, store: Store, tenant: UUID) -> None:
        key, text = store.tenants.create_key("acme", Role.CALLER, actor="test")
        store.tenants.revoke_key("acme", key.key_id, actor="test")
        (first,) = store.tenants.keys("acme")
        store.tenants.revoke_key("acme", key.key_id, actor="test")
        assert store.tenants.authenticate(text) is None
        assert store.tenants.keys("acme") == [first]
        assert first.revoked_at is not None
        assert store.tenants.create_key("acme", Role.CALLER, actor="test")[0].revoked_at is None
        assert [item.tenant_id for item in store.tenants.tenants()] == [tenant]

    def test_a_key_that_is_not_ours_stands_for_nobody(self, store: Store, tenant: UUID) -> None:
        _, text = store.tenants.create_key("acme", Role.CALLER, actor="test")
        other = store.tenants.create("other", actor="test").tenant_id
        wrong = [
            "",
            "ll_",
            text[:-1],
            text + "0",
            text[:-1] + ("0" if text[-1] != "0" else "1"),
            text.replace(tenant.hex, other.hex),
            text.replace(tenant.hex, uuid4().hex),
            text.upper(),
            "ll_\x00" + text,
            "\uff10" * 115,
        ]
        assert [store.tenants.authenticate(key) for key in wrong] == [None] * len(wrong)

    def test_tenants_are_listed_by_name(self, store: Store) -> None:
        made = [store.tenants.create(name, actor="test") for name in ("b", "a")]
        assert store.tenants.tenants() == made[::-1]
        assert store.tenants.identify("b") == made[0]
        assert store.tenants.identify("c") is None

    def test_a_name_is_taken_once(self, store: Store, tenant: UUID) -> None:
        with pytest.raises(Conflict, match="'acme'"):
            store.tenants.create("acme", actor="test")
        assert [item.tenant_id for item in store.tenants.tenants()] == [tenant]

    @pytest.mark.parametrize("name", ["", "A", "a b", "a" * 64, "-a", "a\n", "é"])
    def test_a_name_that_is_not_plain_is_refused(self, store: Store, name: str) -> None:
        with pytest.raises(InvalidInput):
            store.tenants.create(name, actor="test")

    def test_an_unknown_tenant_or_key_is_not_found(self, store: Store, tenant: UUID) -> None:
        other = store.tenants.create("other", actor="test")
        key, _ = store.tenants.create_key("acme", Role.CALLER, actor="test")
        assert tenant != other.tenant_id
        with pytest.raises(NotFound):
            store.tenants.revoke_key("other", key.key_id, actor="test")
        with pytest.raises(NotFound):
            store.tenants.keys("nobody")
        with pytest.raises(NotFound):
            store.tenants.create_key("nobody", Role.CALLER, actor="test")


class TestChanges:
    def test_every_write_is_counted_under_its_topic(self, store: Store, tenant: UUID) -> None:
        before = store.changes.revisions()
        store.slos.put(tenant, Slo(), base_version=None, actor="test")
        store.catalog.put_model(WEAK, actor="test")
        version = store.registry.register(b"one", {}, actor="test").version
        store.registry.promote(version, actor="test")
        store.tenants.create("other", actor="test")
        store.promises.write_certificate(certificate(tenant), actor="test")
        after = store.changes.revisions()
        assert all(after[topic] > before[topic] for topic in Topic)

    def test_a_monitor_is_announced_when_its_state_changes(
        self, store: Store, tenant: UUID
    ) -> None:
        first = monitor(tenant)
        further = replace(first, seen_until=9, body={"wealth": 2})
        broken = replace(further, seen_until=10, state=MonitorState.BROKEN)
        seen = [store.changes.revisions()[Topic.PROMISES]]
        for record, before in ((first, None), (further, first), (broken, further)):
            store.promises.write_monitor(record, before=before, actor="test")
            seen.append(store.changes.revisions()[Topic.PROMISES])
        assert [later - earlier for earlier, later in pairwise(seen)] == [1, 0, 1]

    def test_a_change_is_heard_at_once(self, store: Store) -> None:
        assert not store.changes.wait(0.05)
        heard: list[tuple[bool, float]] = []

        def listen() -> None:
            heard.append((store.changes.wait(10), time.monotonic()))

        listening = threading.Thread(target=listen)
        listening.start()
        time.sleep(0.1)
        began = time.monotonic()
        store.catalog.put_model(WEAK, actor="test")
        listening.join()
        assert heard[0][0]
        assert heard[0][1] - began < 1

    def test_a_change_between_two_waits_is_heard(self, store: Store) -> None:
        store.changes.wait(0)
        store.catalog.put_model(WEAK, actor="test")
        assert store.changes.wait(5)

    def test_closing_ends_a_wait(self, store: Store) -> None:
        closing = threading.Timer(0.1, store.changes.close)
        closing.start()
        began = time.monotonic()
        assert not store.changes.wait(30)
        assert time.monotonic() - began < 5
        closing.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A log with the means to let records arrive in it."""

    log: Log
    outbox: MemoryOutbox | SqliteOutbox
    shipper: Shipper | None = None

    def arrive(self, *records: Record) -> None:
        for record in records:
            self.outbox.put(record)
        assert self.shipper is None or self.shipper.drain(10)


@pytest.fixture(params=["postgres", "memory"])
def arrived(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arrived]:
    if request.param == "memory":
        outbox = MemoryOutbox()
        yield Arrived(log=MemoryLog(outbox), outbox=outbox)
        return
    dsn = request.getfixturevalue("dsn")
    engine = connect(dsn, role=DatabaseRole.ROUTER)
    sqlite = SqliteOutbox(tmp_path / "outbox-0.sqlite3", max_bytes=1 << 30)
    shipper = Shipper(tmp_path, dsn)
    yield Arrived(log=PostgresLog(engine), outbox=sqlite, shipper=shipper)
    shipper.close()
    sqlite.close()
    engine.dispose()


class TestLog:
    def test_a_decision_is_read_back_whole(self, arrived: Arrived) -> None:
        record = decision(labels={"a": "b"}, difficulty=0.25)
        arrived.arrive(record)
        row = arrived.log.decision(record.tenant_id, record.row_id)
        assert row is not None
        assert (row["decision_id"], row["labels"]) == (record.row_id, {"a": "b"})
        assert (row["difficulty"], row["slo_name"]) == (0.25, None)
        assert row["query"] == "What is 2 + 2?\n\t\\ \u2603"
        assert row["occurred_at"].tzinfo is not None

    def test_unknown_and_another_tenants_look_the_same(self, arrived: Arrived) -> None:
        record = decision()
        arrived.arrive(record, outcome(record))
        for tenant_id, decision_id in (
            (uuid4(), record.row_id),
            (record.tenant_id, uuid4()),
            (record.tenant_id, UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")),
        ):
            assert arrived.log.decision(tenant_id, decision_id) is None
            assert list(arrived.log.outcomes(tenant_id, decision_id)) == []

    def test_what_nobody_has_scored_is_found_the_most_novel_first(self, arrived: Arrived) -> None:
        usual, odd, scored, silent = (
            decision(novelty=0.5),
            decision(novelty=0.999),
            decision(novelty=1.0),
            decision(),
        )
        told = outcome(scored, score=0.0), outcome(odd, score=None)
        arrived.arrive(usual, odd, scored, silent, *told)
        since = datetime.min.replace(tzinfo=UTC)
        tenant_id = usual.tenant_id
        found = [
            row["decision_id"] for row in arrived.log.unscored(tenant_id, since=since, limit=9)
        ]
        assert found == [odd.row_id, usual.row_id, silent.row_id]
        [first] = arrived.log.unscored(tenant_id, since=since, limit=1)
        assert first["decision_id"] == odd.row_id
        assert not arrived.log.unscored(OTHER_TENANT, since=since, limit=9)
        late = datetime.now(UTC) + timedelta(days=1)
        assert not arrived.log.unscored(tenant_id, since=late, limit=9)

    def test_an_attempt_is_found_by_its_number(self, arrived: Arrived) -> None:
        record, other = decision(), decision()
        shown = {"confidence": -0.25, "best": 0}
        first = attempt(record, 0, evidence=shown, next_arm="large:single", keep=False)
        arrived.arrive(record, first, attempt(record, 1), attempt(other, 2))
        row = arrived.log.attempt(record.tenant_id, record.row_id, 0)
        assert row is not None
        assert (row["attempt_id"], row["evidence"]) == (first.row_id, shown)
        assert (row["keep"], row["next_arm"]) == (False, "large:single")
        for tenant_id, decision_id, number in (
            (record.tenant_id, record.row_id, 2),
            (OTHER_TENANT, record.row_id, 0),
            (record.tenant_id, uuid4(), 0),
        ):
            assert arrived.log.attempt(tenant_id, decision_id, number) is None

    def test_outcomes_come_oldest_first_whatever_their_order(self, arrived: Arrived) -> None:
        record = decision()
        days = ("2026-01-03", "2026-01-01", "2026-01-02")
        reports = [outcome(record, occurred_at=f"{day}T00:00:00Z", score=0.5) for day in days]
        arrived.arrive(*reports, record)
        rows = arrived.log.outcomes(record.tenant_id, record.row_id)
        assert [row["occurred_at"].day for row in rows] == [1, 2, 3]
        assert {row["score"] for row in rows} == {0.5}
        assert {Kind.OUTCOME} == {report.kind for report in reports}
