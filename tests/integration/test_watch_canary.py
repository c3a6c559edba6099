"""The watcher and canaries on real Postgres: worse ones are rolled back, good ones go on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from router.ids import uuid7
from router.policy.canary import place_of
from router.serving.promised import promised
from router.serving.telemetry import logger
from router.store.seams import Record
from router.types import PolicyRecord, PolicyState
from tests.kit import serving_bundles
from tests.kit.postgres import rows
from tests.kit.records import decision, outcome
from tests.kit.server import Admin
from tests.kit.watching import CATALOG, World, catch_up, receiver, world
from training.canary.bets import Margins
from training.canary.judge import Action, Plan, Step
from training.canary.succession import make_way
from training.watch.canary import FOLLOWED_AFTER, CanaryWatch
from training.watch.plan import Policies, opened
from training.watch.watcher import Watcher
from training.watch.webhook import Webhook

SHARE = 0.25


@dataclass(slots=True)
class Tried:
    """A canary beside policy 1, and decisions of both that the tests make up."""

    acme: World
    admin: Admin
    version: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def decided(
        self, count: int, *, at: datetime, units: bool = False, **columns: Any
    ) -> list[Record]:
        """Decisions a millisecond apart; chance, or the place of its unit, gives each its side."""
        found = []
        for number in range(count):
            unit = f"user {self.rng.integers(1 << 60)}" if units else ""
            place = place_of(self.version, self.acme.tenant_id, unit)
            canary = (place if units else self.rng.random()) < SHARE
            made: dict[str, Any] = {
                "policy_version": self.version if canary else self.acme.policy_version,
                "policy_source": "learned",
                "subject": unit or None,
                "decision_id": uuid7(at + timedelta(milliseconds=number)),
                **columns,
            }
            found.append(decision(self.acme.tenant_id, **made))
        self.acme.ship(found)
        return found

    def is_canary(self, record: Record) -> bool:
        return b'"policy_version":%d,' % self.version in record.row

    def told(self, decided: list[Record], *, canary: float, active: float, **known: Any) -> None:
        """Reports outcomes; each side is right with its own probability."""
        for each in (False, True):
            ours = [record for record in decided if self.is_canary(record) is each]
            right = self.rng.random(len(ours)) < (canary if each else active)
            self.acme.ship(
                [
                    outcome(record, score=float(score), **known)
                    for record, score in zip(ours, right, strict=True)
                ]
            )

    @property
    def record(self) -> PolicyRecord:
        return next(each for each in self.admin.registry.records() if each.version == self.version)

    def audited(self) -> list[tuple[str, str]]:
        query = "select action, comment from audit_log where actor = 'watcher' order by entry_id"
        return [(str(action), str(comment)) for action, comment in rows(self.acme.dsn, query)]


@pytest.fixture
def tried(dsn: str) -> Iterator[Tried]:
    with world(dsn) as acme, Admin(dsn) as admin:
        archive = serving_bundles.bundle(CATALOG, trees=5)
        version = admin.registry.register(archive, {}, actor="test").version
        admin.registry.canary(version, share=SHARE, actor="test")
        yield Tried(acme, admin, version)


def begin(watcher: Watcher) -> datetime:
    """The watcher's first look; returns when decisions begin to count."""
    now = datetime.now(UTC)
    watcher.turn(now)
    return now + FOLLOWED_AFTER + timedelta(seconds=1)


def later(**by: float) -> datetime:
    return datetime.now(UTC) + timedelta(**(by or {"minutes": 5}))


def test_a_worse_canary_is_rolled_back_audited_and_told_once(tried: Tried) -> None:
    with receiver() as hook, tried.acme.watcher(Webhook(hook.url, "a long secret")) as watcher:
        decided = tried.decided(1_200, at=begin(watcher))
        tried.told(decided, canary=0.5, active=0.9)
        for _ in range(3):
            watcher.turn(later())
    assert tried.record.state is PolicyState.REJECTED
    active = tried.admin.registry.active()
    assert active is not None
    assert active.version == tried.acme.policy_version
    [(action, why)] = tried.audited()
    assert action == "policies.reject"
    assert why.startswith("worse: accuracy -0.")
    assert why.endswith(f" after {sum(map(tried.is_canary, decided)):,} canary decisions")
    [post] = hook.posts
    assert (post.event["kind"], post.event["verdict"]) == ("canary", "rollback")
    assert post.event["policy_version"] == tried.version
    assert (tried.record.canary or {})["verdict"] == "rollback"


def test_what_is_known_of_costs_and_failures_ends_a_canary_too(tried: Tried) -> None:
    with tried.acme.watcher() as watcher:
        decided = tried.decided(800, at=begin(watcher))
        for each, cost in ((False, 0.001), (True, 0.003)):
            ours = [record for record in decided if tried.is_canary(record) is each]
            tried.acme.ship([outcome(record, cost_usd=cost) for record in ours])
        watcher.turn(later())
    assert tried.record.state is PolicyState.REJECTED
    assert "worse: cost_usd +2.00e-03" in tried.audited()[0][1]


def test_a_canary_that_spends_more_for_what_is_worth_more_to_the_tenant_stays(
    tried: Tried,
) -> None:
    slo = tried.acme.put(accuracy_value_usd=0.05)
    named: dict[str, Any] = {"slo_name": slo.name, "slo_version": slo.version}
    with tried.acme.watcher() as watcher:
        decided = tried.decided(800, at=begin(watcher), **named)
        for each, cost, right in ((False, 0.001, 0.5), (True, 0.003, 0.9)):
            ours = [record for record in decided if tried.is_canary(record) is each]
            scores = (tried.rng.random(len(ours)) < right).astype(float).tolist()
            tried.acme.ship(
                [
                    outcome(record, cost_usd=cost, score=score)
                    for record, score in zip(ours, scores, strict=True)
                ]
            )
        watcher.turn(later())
    assert tried.record.state is PolicyState.CANARY
    assert (tried.record.canary or {})["figures"]["cost_usd"]["e_worse"] < 1.0


def test_an_equal_canary_is_promoted_once_it_is_sure_and_had_its_time(tried: Tried) -> None:
    with tried.acme.watcher() as watcher:
        decided = tried.decided(6_000, at=begin(watcher), units=True)
        tried.told(decided, canary=0.95, active=0.9, cost_usd=0.001, latency_s=1.0)
        watcher.turn(later())
        assert "0:04" in (tried.record.canary or {})["why"]
        watcher.turn(later(hours=3))
    assert tried.record.state is PolicyState.ACTIVE
    [(action, why)] = tried.audited()
    assert action == "policies.promote"
    assert "accuracy +0.0" in why


def test_a_share_grows_step_by_step_and_earlier_evidence_counts_on(tried: Tried) -> None:
    small: dict[str, Any] = {"least_decisions": 50, "least_time": timedelta(0)}
    plan = Plan(
        steps=(Step(share=SHARE, slack=8.0, **small), Step(share=0.5, slack=7.0, **small)),
        margins=Margins(errors=0.05),
    )
    with opened(tried.acme.dsn) as stores:
        watch = CanaryWatch(stores, Policies(stores, {}), log=logger(), plan=plan)
        now = datetime.now(UTC)
        watch.turn(stores.arrivals.horizon(), now)
        decided = tried.decided(800, at=now + FOLLOWED_AFTER + timedelta(seconds=1))
        tried.told(decided, canary=0.95, active=0.9)
        verdict = watch.turn(stores.arrivals.horizon(), later())
        assert verdict is not None
        assert verdict.action is Action.ADVANCE, verdict.why
        assert (tried.record.state, tried.record.share) == (PolicyState.CANARY, 0.5)
        watch.turn(stores.arrivals.horizon(), later())
        assert (tried.record.canary or {})["why"] == "0 of 50 decisions at this share"
        late = tried.decided(300, at=later(minutes=6))
        tried.told(late, canary=0.95, active=0.9)
        watch.turn(stores.arrivals.horizon(), later(minutes=10))
    assert tried.record.state is PolicyState.ACTIVE
    assert [action for action, _ in tried.audited()] == ["policies.canary", "policies.promote"]


def test_without_outcomes_a_canary_stays_and_says_so(tried: Tried) -> None:
    with tried.acme.watcher() as watcher:
        tried.decided(6_000, at=begin(watcher))
        watcher.turn(later(days=2))
    assert tried.record.state is PolicyState.CANARY
    assert "report outcomes" in (tried.record.canary or {})["why"]
    assert (tried.record.canary or {})["verdict"] == "wait"


def test_a_users_many_decisions_count_once(tried: Tried) -> None:
    with tried.acme.watcher() as watcher:
        at = begin(watcher)
        same = [
            decision(
                tried.acme.tenant_id,
                subject="one user",
                policy_version=tried.version,
                policy_source="learned",
                decision_id=uuid7(at + timedelta(milliseconds=number)),
            )
            for number in range(300)
        ]
        tried.acme.ship(same)
        tried.told(same, canary=0.0, active=0.0)
        watcher.turn(later())
    found = tried.record.canary or {}
    assert (found["decisions"], found["outcomes"]) == (300, 1)


@pytest.mark.parametrize("certified", [0.5, None])
def test_decisions_under_a_floor_are_compared_unless_one_side_alone_has_certified_it(
    tried: Tried, certified: float | None
) -> None:
    promise = {"certificate_id": "c", "value_usd": None, "monitor": "holding"}
    with tried.acme.watcher() as watcher:
        at, made = begin(watcher), []
        for number in range(600):
            canary = tried.rng.random() < SHARE
            made.append(
                decision(
                    tried.acme.tenant_id,
                    slo_name="chat",
                    policy_version=tried.version if canary else tried.acme.policy_version,
                    policy_source="learned",
                    conditions={"promise": {**promise, "value_usd": None if canary else certified}},
                    decision_id=uuid7(at + timedelta(milliseconds=number)),
                )
            )
        tried.acme.ship(made)
        tried.told(made, canary=0.8, active=0.8)
        watcher.turn(later())
    found = tried.record.canary or {}
    assert tried.record.state is PolicyState.CANARY
    assert (found["apart"] == 600, found["outcomes"] == 0) == (certified is not None,) * 2


@pytest.mark.parametrize(
    ("certified", "right", "costs", "state"),
    [
        (0.5, (0.9, 0.75), (0.003, 0.001), PolicyState.CANARY),
        (0.5, (0.9, 0.4), (0.003, 0.001), PolicyState.REJECTED),
        (0.5, (0.9, 0.9), (0.001, 0.003), PolicyState.REJECTED),
        (None, (0.7, 0.7), (0.001, 0.003), PolicyState.CANARY),
    ],
    ids=["cheaper", "below the floor", "dearer", "a dearer safe arm"],
)
def test_under_a_floor_what_meets_it_for_less_is_better_and_the_safe_arms_cost_tells_nothing(
    tried: Tried,
    certified: float | None,
    right: tuple[float, float],
    costs: tuple[float, float],
    state: PolicyState,
) -> None:
    slo = tried.acme.put(min_accuracy=0.7)
    promise = {"certificate_id": "c", "value_usd": certified, "monitor": "holding"}
    named: dict[str, Any] = {"slo_name": slo.name, "slo_version": slo.version}
    with tried.acme.watcher() as watcher:
        at = begin(watcher)
        decided = tried.decided(900, at=at, conditions={"promise": promise}, **named)
        sides = [tried.is_canary(record) for record in decided]
        scores = tried.rng.random(len(decided)) < np.array(right)[np.array(sides, int)]
        tried.acme.ship(
            [
                outcome(record, cost_usd=costs[side], score=float(score))
                for record, side, score in zip(decided, sides, scores, strict=True)
            ]
        )
        watcher.turn(later())
    assert tried.record.state is state, tried.record.canary


def test_a_canarys_floors_are_certified_beside_so_that_a_promotion_leaves_no_gap(
    tried: Tried,
) -> None:
    acme = tried.acme
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 450), 0.9)
    with acme.watcher() as watcher:
        catch_up(watcher)
        found = acme.in_force().by_policy
        assert {acme.policy_version, tried.version} == set(found)
        assert [each.body["status"] for each in found.values()] == ["certified"] * 2
        assert acme.kept().versions == (slo.version, acme.policy_version)
        assert not watcher.turn(datetime.now(UTC)).more
        tried.admin.registry.promote(tried.version, actor="test")
        promise = promised(acme.in_force(), slo, tried.version)
    assert promise is not None
    assert promise.value_usd is not None


def test_a_share_set_by_hand_begins_a_step_and_another_active_policy_begins_anew(
    tried: Tried,
) -> None:
    with tried.acme.watcher() as watcher:
        tried.told(tried.decided(200, at=begin(watcher)), canary=0.9, active=0.9)
        watcher.turn(later())
        before = tried.record.canary or {}
        tried.admin.registry.canary(tried.version, share=0.5, actor="test")
        watcher.turn(later())
        stepped = tried.record.canary or {}
        assert stepped["shares"] == [0.25, 0.5]
        assert (stepped["decisions"], stepped["at_share"]) == (before["decisions"], 0)
        tried.acme.promote(trees=7)
        watcher.turn(later())
    assert (tried.record.canary or {})["decisions"] == 0
    assert (tried.record.canary or {})["active"] == tried.acme.policy_version


def test_the_shadow_decides_beside_the_active_policy_and_the_differences_are_told(
    tried: Tried,
) -> None:
    tried.admin.registry.canary(tried.version, share=0.0, actor="test")
    arms = [arm.key for arm in CATALOG.arms]
    broken = {"certificate_id": "", "value_usd": None, "monitor": "broken"}
    logged = {"arms": arms, "accuracy": [0.1, 0.1], "cost_usd": [1.0, 1.0]}
    with tried.acme.watcher() as watcher:
        watcher.turn(datetime.now(UTC))
        made = [
            decision(
                tried.acme.tenant_id,
                query=f"What is {number} + 1?",
                policy_version=tried.acme.policy_version,
                policy_source="learned",
                arm=arms[number % 2],
                predictions=logged | {"latency_p50_s": [None, 1.0]},
                conditions={"promise": broken},
                decision_id=uuid7(datetime.now(UTC)),
            )
            for number in range(30)
        ]
        tried.acme.ship(made)
        tried.told(made, canary=0.0, active=0.0)
        for _ in range(2):
            watcher.turn(later())
        found = tried.record.canary or {}
        [(name, said)] = found["slos"].items()
        assert (found["verdict"], name, said["decisions"]) == ("shadow", "acme/default", 30)
        assert 0 < said["differ"] < 30
        assert said["accuracy"] > 0.0 > said["cost_usd"]
        assert found["why"] == f"{said['differ']} of 30 decisions differ, unserved"
        tried.admin.registry.canary(tried.version, share=SHARE, actor="test")
        tried.told(tried.decided(400, at=begin(watcher)), canary=0.8, active=0.8)
        watcher.turn(later())
    assert (tried.record.canary or {})["verdict"] == "wait"
    assert tried.audited() == []


KILLED = """
    import sys
    from datetime import UTC, datetime, timedelta
    from router.serving.telemetry import configure_logs, logger
    from training.watch.watcher import Watcher
    from training.watch.plan import Policies, opened

    configure_logs("error")
    with opened(sys.argv[1]) as stores:
        watcher = Watcher(stores, Policies(stores, {}), log=logger())
        while True:
            watcher.turn(datetime.now(UTC) + timedelta(minutes=5))
            print("turned", flush=True)
"""


def test_kill_9_of_the_watcher_counts_nothing_twice_and_the_next_one_goes_on(tried: Tried) -> None:
    with tried.acme.watcher() as watcher:
        at = begin(watcher)
    command, total = [sys.executable, "-c", textwrap.dedent(KILLED), tried.acme.dsn], 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        assert one.stdout is not None
        for number in range(3):
            decided = tried.decided(100, at=at + timedelta(seconds=number))
            tried.told(decided, canary=0.7, active=0.7)
            total += sum(map(tried.is_canary, decided))
            one.stdout.readline()
        one.kill()
    with tried.acme.watcher() as watcher:
        watcher.turn(later())
        found = tried.record.canary or {}
        assert (found["decisions"], found["outcomes"]) == (total, total)
        tried.told(tried.decided(1_200, at=at + timedelta(seconds=9)), canary=0.2, active=0.9)
        watcher.turn(later())
    assert tried.record.state is PolicyState.REJECTED


def test_a_canary_that_cannot_tell_gives_its_place_to_a_newer_one_and_is_audited(
    tried: Tried,
) -> None:
    registry = tried.admin.registry
    archive = serving_bundles.bundle(CATALOG, trees=6)
    newer = registry.register(archive, {}, actor="test").version
    with psycopg.connect(tried.acme.dsn, autocommit=True) as connection:
        connection.execute(
            """update policies set summary = '{"gate": {"promote": true}}' where version = %s""",
            (tried.version,),
        )
    with tried.acme.watcher() as watcher:
        begin(watcher)
    for days, state in ((2.0, PolicyState.CANARY), (3.5, PolicyState.REJECTED)):
        make_way(registry, newer, now=later(days=days), actor="watcher")
        assert tried.record.state is state
    why = f"no verdict in 3 days at 25%; policy {newer} passed the gate and takes its place"
    assert tried.audited() == [("policies.reject", why)]
    make_way(registry, newer, now=later(days=9), actor="watcher")
