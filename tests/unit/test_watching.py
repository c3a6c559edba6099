"""The watcher's parts without a database: cut-offs, growth, what is kept, and the settings."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from router.commands.options import settings as configured
from router.conditions import MonitorState
from router.errors import ConfigurationError
from router.policy.monitoring import Monitor
from router.policy.novelty import NOVEL
from router.serving.assignment import Assignment
from router.slo import Slo
from router.store.promise_seams import Fresh, FreshOutcome
from router.types import PolicyRecord, PolicyState
from tests.kit.records import NOW, TENANT, certificate, monitor
from training.watch.certifying import Cut, looks_of
from training.watch.monitoring import Kept, begun, has_grown, kept_of, record_of
from training.watch.webhook import signature

KEPT = Kept(monitor=Monitor(floor=0.8), slo_version=3, policy_version=7)


def policy(summary: dict[str, Any]) -> PolicyRecord:
    return PolicyRecord(
        version=1,
        state=PolicyState.ACTIVE,
        created_at=NOW,
        promoted_at=NOW + timedelta(hours=1),
        bundle_sha256="",
        bundle_bytes=0,
        summary=summary,
    )


@pytest.mark.parametrize(
    ("summary", "since"),
    [
        ({"watermark": "2026-02-01T00:00:00+00:00"}, datetime(2026, 2, 1, tzinfo=UTC)),
        ({"watermark": "2026-02-01T00:00:00"}, datetime(2026, 2, 1, tzinfo=UTC)),
        ({"watermark": "2036-02-01T00:00:00+00:00"}, NOW),
        ({"watermark": None}, NOW + timedelta(hours=1)),
        ({"watermark": "yesterday"}, NOW + timedelta(hours=1)),
        ({"watermark": 12}, NOW + timedelta(hours=1)),
        ({}, NOW + timedelta(hours=1)),
    ],
)
def test_what_taught_a_policy_ends_at_its_cut_off(summary: dict[str, Any], since: datetime) -> None:
    assert Cut.of(policy(summary)).since == since


def fresh(*scores: float, decided: tuple[int, int] = (0, 0), **how: Any) -> Fresh:
    outcomes = [
        FreshOutcome(
            decision_id=UUID(int=number),
            decided_at=NOW,
            attempt=0,
            score=score,
            propensity=0.5,
            explored=False,
            **{"slo_version": 3, "policy_version": 7, "novelty": None, **how},
        )
        for number, score in enumerate(scores)
    ]
    usual, novel = decided
    counted = {(3, 7, False): usual, (3, 7, True): novel}
    return Fresh(outcomes=outcomes, decisions=counted, until=9)


def test_a_monitor_counts_its_own_versions_alone_and_novel_queries_apart() -> None:
    kept = KEPT.counting(fresh(1.0, 0.0, 1.0, decided=(5, 2)), new=True)
    kept = kept.counting(fresh(0.0, slo_version=2), new=True)
    kept = kept.counting(fresh(0.0, policy_version=8), new=True)
    kept = kept.counting(fresh(0.0, 0.0, novelty=NOVEL), new=False)
    tally = kept.monitor.tally
    assert (tally.outcomes, tally.decisions) == (3, 5)
    assert (tally.apart_outcomes, tally.apart_decisions) == (2, 2)
    assert kept.fresh == 3


def test_what_is_kept_outlives_its_json_bit_for_bit() -> None:
    kept = KEPT.counting(fresh(*[0.0, 1.0, 0.25] * 30, decided=(90, 0)), new=True)
    kept = replace(kept, certificate_id="c", untold=({"id": "e"},))
    again = Kept.from_mapping(orjson.loads(orjson.dumps(kept.to_mapping())))
    assert again.to_mapping() == kept.to_mapping()
    assert again.told({"e"}).untold == ()


def test_a_body_of_another_kind_is_no_monitor() -> None:
    assert kept_of(None) is None
    assert kept_of(monitor(TENANT)) is None
    assert kept_of(monitor(TENANT, body=KEPT.to_mapping() | {"slo_version": []})) is None
    assert kept_of(monitor(TENANT, body=KEPT.to_mapping())) is not None


@pytest.mark.parametrize(
    ("own", "new", "hours", "grown"),
    [
        (0, 19, 0, False),
        (0, 20, 0, True),
        (1_000, 999, 0, False),
        (1_000, 1_000, 0, True),
        (1_000, 199, 25, False),
        (1_000, 200, 25, True),
        (0, 1, 25, True),
    ],
)
def test_evidence_has_grown_by_as_much_or_by_a_fifth_in_a_day(
    own: int, new: int, hours: int, *, grown: bool
) -> None:
    record = certificate(TENANT, body={"inputs": {"own": own}})
    kept = replace(KEPT, certificate_id=str(record.certificate_id), fresh=new)
    now = NOW + timedelta(hours=hours)
    assert has_grown(record, kept, now) is grown
    assert not has_grown(record, replace(kept, certificate_id="another"), now)
    assert has_grown(record, None, now, awaited=new) is grown


def test_no_look_is_spent_before_most_of_what_is_needed_is_there() -> None:
    record = certificate(TENANT, body={"inputs": {"own": 40}, "needed_n": 600})
    kept = replace(KEPT, certificate_id=str(record.certificate_id))
    assert not has_grown(record, replace(kept, fresh=409), NOW)
    assert has_grown(record, replace(kept, fresh=410), NOW)


def test_looks_are_counted_by_versions_of_the_slo_and_the_policy() -> None:
    bodies: list[dict[str, Any]] = [{"inputs": {"look": look}} for look in (3, 2, 1, 0)]
    same = [certificate(TENANT, slo_version=2, policy_version=7, body=body) for body in bodies]
    other = certificate(TENANT, slo_version=3, policy_version=7, body={"inputs": {"look": 9}})
    assert looks_of([other, *same], (2, 7)) == 3
    assert looks_of([other, *same], (4, 7)) == 0
    old = certificate(TENANT, slo_version=2, policy_version=7, body={})
    assert looks_of([old, old], (2, 7)) == 2


def test_a_relative_floor_is_held_to_what_its_reference_reaches_at_least() -> None:
    slo = Slo(name="chat", min_relative_accuracy=0.5, reference_arm="a", confidence=0.9)
    body = {"status": "certified", "floor": 0.4, "reference_bound": 0.7}
    kept = begun(slo, certificate(TENANT, body=body))
    assert kept is not None
    assert kept.monitor.floor == pytest.approx(0.35)
    assert kept.monitor.confidence == pytest.approx(0.95)
    assert begun(slo, certificate(TENANT, body=body | {"reference_bound": 0.0})) is None
    assert begun(slo, certificate(TENANT, body=body | {"status": "not_certifiable"})) is None


def test_an_event_says_what_changed_and_stands_in_the_record_itself() -> None:
    broken = KEPT.counting(fresh(*[0.0] * 60, decided=(60, 0)), new=True)
    how: dict[str, Any] = {"tenant": (TENANT, "acme"), "slo_name": "chat", "until": 9}
    record, event = record_of(broken, None, **how, now=NOW, tell=True)
    assert record.state is MonitorState.BROKEN
    assert event is not None
    assert record.body["untold"] == [event]
    assert (event["before"], event["state"]) == ("holding", "broken")
    assert math.isfinite(event["statement"]["e_value"])
    after, none = record_of(broken, record, **how, now=NOW - timedelta(days=1), tell=True)
    assert none is None
    assert after.updated_at > record.updated_at


def test_a_signature_is_that_of_the_body_under_the_secret() -> None:
    found = signature(b"key", b"The quick brown fox jumps over the lazy dog")
    assert found == "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"


def test_a_webhook_needs_an_address_and_a_secret_that_are_never_shown() -> None:
    told = configured(webhook_url="https://example.org/told", webhook_secret="hush")
    assert told.webhook_url is not None
    assert told.webhook_url.get_secret_value() == "https://example.org/told"
    shown = f"{told!r} {told.model_dump_json()}"
    assert "hush" not in shown
    assert "told" not in shown
    Assignment.read(Assignment(settings=told, dsn="", port=0, worker=0).to_json())
    for wrong in (
        {"webhook_url": "https://example.org"},
        {"webhook_secret": "hush"},
        {"webhook_url": "file:///etc/passwd", "webhook_secret": "hush"},
    ):
        with pytest.raises(ConfigurationError, match="LEADLINE_WEBHOOK_URL"):
            configured(**wrong)
