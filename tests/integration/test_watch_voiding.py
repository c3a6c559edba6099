"""The watcher on real Postgres: a certificate is voided by a fall of what it was measured on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from router.conditions import MonitorState
from router.policy.certificate import Status
from tests.kit.watching import World, catch_up, receiver, world
from training.watch.webhook import Webhook

PREDICTED = {"arms": ["small:single", "large:single"], "accuracy": [0.9, 0.9]}


def test_a_fall_voids_a_certificate_and_the_next_counts_what_came_since(dsn: str) -> None:
    with world(dsn) as acme, receiver() as told:
        slo = acme.put(min_accuracy=0.5)
        webhook = Webhook(told.url, "a long secret")
        with acme.watcher(webhook) as watcher:
            acme.scored(acme.decided(slo, 500, predictions=PREDICTED), 0.9)
            catch_up(watcher)
            assert body(acme)["status"] == Status.CERTIFIED
            large: dict[str, Any] = {"arm": "large:single", "model": "large"}
            acme.scored(acme.decided(slo, 150, predictions=PREDICTED, **large), 0.3)
            catch_up(watcher)
            assert body(acme)["status"] == Status.VOIDED
            assert body(acme)["change"]["fallen"] == ["large"]
            assert acme.kept().monitor.state is not MonitorState.BROKEN
            small: dict[str, Any] = {"arm": "small:single", "model": "small"}
            acme.scored(acme.decided(slo, 250, predictions=PREDICTED, **small), 0.95)
            catch_up(watcher, datetime.now(UTC) + timedelta(seconds=5))
            found = body(acme)
    assert found["inputs"]["since_is"] == "fall of accuracy"
    assert found["n"] < 400
    assert found["change"]["fallen"] == ["large"]
    events = [post.event for post in told.posts]
    voiding = [each for each in events if each.get("kind") == "certificate"]
    assert [(each["before"], each["state"]) for each in voiding] == [("certified", "voided")]
    assert "had been measured" in voiding[0]["why"]


def body(acme: World) -> dict[str, Any]:
    record = acme.in_force().certificate
    assert record is not None
    return dict(record.body)
