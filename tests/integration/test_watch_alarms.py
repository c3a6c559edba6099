"""Alarms on real Postgres: a tenant whose decisions climb is told of, once, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router import cli
from router.ids import uuid7
from router.policy.climbing import QUIET_AFTER
from router.serving.own_figures import alarms
from router.slo import Slo
from router.store.alarms import AlarmRecord, PostgresAlarms
from router.store.engine import DatabaseRole, connect
from tests.kit.postgres import rows
from tests.kit.records import decision
from tests.kit.watching import World, receiver, world
from training.watch.alarms import EVERY
from training.watch.watcher import Watcher
from training.watch.webhook import Webhook

SECRET = "a long secret"


@pytest.fixture
def acme(dsn: str) -> Iterator[World]:
    with world(dsn) as made:
        yield made


def decide(acme: World, slo: Slo, count: int, dear: float, **columns: Any) -> None:
    """So many decisions, of which that share, evenly spread, takes the dearer arm."""
    began, made = datetime.now(UTC), []
    for number in range(count):
        model = "large" if int((number + 1) * dear) > int(number * dear) else "small"
        row: dict[str, Any] = {
            "slo_name": slo.name,
            "slo_version": slo.version,
            "policy_version": acme.policy_version,
            "policy_source": "learned",
            "predictions": {"arms": ["small:single", "large:single"], "cost_usd": [1e-4, 1e-3]},
            "model": model,
            "arm": f"{model}:single",
            "decision_id": uuid7(began + timedelta(milliseconds=number)),
        }
        made.append(decision(acme.tenant_id, **{**row, **columns}))
    acme.ship(made)


def usual(acme: World, slo: Slo) -> None:
    """A quarter of six hours' decisions take the dearer arm."""
    now = datetime.now(UTC)
    decide(acme, slo, 260, 0.25, occurred_at=now - timedelta(hours=7))
    decide(acme, slo, 260, 0.25)


def turn(watcher: Watcher, turns: int) -> None:
    watcher.turn(datetime.now(UTC) + turns * EVERY)


def record(acme: World) -> AlarmRecord:
    engine = connect(acme.dsn, role=DatabaseRole.ROUTER)
    found = PostgresAlarms(engine).current(acme.tenant_id)["chat"]
    engine.dispose()
    return found


def audited(acme: World) -> list[str]:
    query = "select action from audit_log where action like 'alarms.%%' order by entry_id"
    return [str(action) for (action,) in rows(acme.dsn, query)]


def test_decisions_that_climb_ring_an_alarm_that_is_told_shown_and_ends(
    acme: World, capsys: pytest.CaptureFixture[str]
) -> None:
    slo = acme.put(accuracy_value_usd=0.01)
    with receiver((500, ""), (204, "")) as hooked:
        webhook = Webhook(hooked.url, SECRET)
        with acme.watcher(webhook) as watcher:
            usual(acme, slo)
            turn(watcher, 0)
            decide(acme, slo, 40, 0.25)
            turn(watcher, 1)
            assert not record(acme).ringing
            decide(acme, slo, 80, 1.0)
            turn(watcher, 2)
            assert record(acme).ringing
            assert [each["slo"] for each in listed(acme, capsys)] == ["chat"]
            [sample] = [each for metric in shown(acme) for each in metric.samples]
            assert sample.labels == {"tenant": "acme", "slo": "chat"}
        with acme.watcher(webhook) as watcher:
            turn(watcher, 30)
            decide(acme, slo, 2 * QUIET_AFTER, 0.0)
            turn(watcher, 31)
    assert not record(acme).ringing
    assert audited(acme) == ["alarms.ringing", "alarms.quiet"]
    assert [post.event["state"] for post in hooked.posts] == ["ringing", "ringing", "quiet"]
    assert hooked.ids[0] == hooked.ids[1]
    assert listed(acme, capsys) == []


def listed(acme: World, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the command says of the alarms that ring."""
    capsys.readouterr()
    assert cli.run(["tenants", "alarms", "--dsn", acme.dsn, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def shown(acme: World) -> list[Any]:
    engine = connect(acme.dsn, role=DatabaseRole.TRAINER)
    found = list(alarms(PostgresAlarms(engine).ringing()))
    engine.dispose()
    return found


def test_what_the_policy_did_not_pick_by_itself_rings_nothing(acme: World) -> None:
    slo = acme.put(accuracy_value_usd=0.01)
    with acme.watcher() as watcher:
        usual(acme, slo)
        turn(watcher, 0)
        decide(acme, slo, 100, 1.0, explored=True)
        decide(acme, slo, 100, 1.0, request={"allowed_arms": ["large:single"]})
        decide(acme, slo, 100, 1.0, conditions={"backends": {"small": {"available": False}}})
        broken = {"certificate_id": "", "value_usd": None, "monitor": "holding"}
        decide(acme, slo, 100, 1.0, conditions={"promise": broken})
        decide(acme, slo, 100, 1.0, policy_version=acme.policy_version + 1)
        turn(watcher, 1)
        assert not record(acme).ringing
        assert record(acme).body["seen"] == 620
