"""Certificates that a fall of accuracy voids, and what those after them count."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from router.policy.certificate import Status
from router.policy.change import Change, Found
from router.policy.monitoring import Monitor
from router.serving.promised import promised
from router.slo import Slo
from router.store.promise_seams import CertificateRecord, InForce
from tests.kit.records import NOW, TENANT, certificate
from training.watch.certifying import Cut
from training.watch.monitoring import Kept
from training.watch.voiding import change_of, event_of, since_change, voided

CUT = Cut(since=NOW, why="training cut-off")
FOUND = Found(
    since=(NOW + timedelta(hours=2)).isoformat(), outcomes=120, accuracy=0.61, measured=0.73
)
CERTIFIED = certificate(
    TENANT, body={"status": "certified", "value_usd": 0.1, "inputs": {"look": 4, "own": 900}}
)


def void(record: CertificateRecord = CERTIFIED, found: Found = FOUND) -> CertificateRecord:
    made = voided(record, found, horizon=9, now=NOW + timedelta(hours=3))
    assert made is not None
    return made


def test_a_void_certificate_says_what_was_seen_against_what_had_been_measured() -> None:
    record = void(found=replace(FOUND, fallen=("large",)))
    assert record.body["status"] == Status.VOIDED
    assert record.body["message"].startswith("void: accuracy fell, by large: 0.610 over 120 ")
    assert "where 0.730 had been measured" in record.body["message"]
    assert record.body["inputs"] == {
        "look": 4,
        "own": 120,
        "since": FOUND.since,
        "since_is": "fall of accuracy",
        "horizon": 9,
    }
    event = event_of(record, "certified", "acme", NOW)
    assert (event["kind"], event["before"], event["state"]) == (
        "certificate",
        "certified",
        "voided",
    )
    assert event["statement"]["measured"] == 0.73


def test_one_fall_voids_once_and_is_told_again_only_for_another_model() -> None:
    record = void()
    assert void().certificate_id == record.certificate_id
    assert voided(record, FOUND, horizon=9, now=NOW) is None
    more = void(record, replace(FOUND, fallen=("large",)))
    assert more.body["change"]["fallen"] == ["large"]
    assert voided(more, FOUND, horizon=9, now=NOW) is None
    later = replace(FOUND, since=(NOW + timedelta(days=1)).isoformat(), fallen=("small",))
    assert void(more, later).body["change"]["fallen"] == ["large", "small"]


def test_what_follows_counts_only_what_was_decided_since_the_fall() -> None:
    known = [void(), CERTIFIED]
    cut, found = since_change(known, CUT)
    assert (cut.since.isoformat(), cut.why, found) == (FOUND.since, "fall of accuracy", FOUND)
    assert since_change([CERTIFIED], CUT) == (CUT, None)
    newer = Cut(since=NOW + timedelta(days=1), why="training cut-off")
    assert since_change(known, newer) == (newer, None)


def test_decisions_take_the_safe_side_of_a_void_certificate_and_know_who_fell() -> None:
    record = void(found=replace(FOUND, fallen=("large",)))
    slo = Slo(name="chat", version=3, min_accuracy=0.7)
    found = promised(InForce(certificate=record), slo, 7)
    assert found is not None
    assert (found.value_usd, found.fallen) == (None, ("large",))
    other = promised(InForce(certificate=record), replace(slo, version=4), 7)
    assert other is not None
    assert (other.certificate_id, other.fallen) == ("", ("large",))


def test_a_record_of_another_maker_tells_of_no_fall() -> None:
    assert change_of(replace(CERTIFIED, body={"change": {"when": 1}})) is None


def test_a_watch_begins_anew_with_the_first_floor_that_is_certified_after_a_fall() -> None:
    fell = Kept(
        monitor=Monitor(floor=0.7), slo_version=3, policy_version=7, change=Change(found=FOUND)
    )
    after = fell.under(void())
    assert after.change.found == FOUND
    assert after.under(CERTIFIED).change.to_mapping() == Change().to_mapping()
    assert Kept.from_mapping(after.to_mapping()).to_mapping() == after.to_mapping()
