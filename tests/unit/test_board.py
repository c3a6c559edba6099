"""The worker's board: what reports show, who hears of it, and which decisions are probes."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry

from router.conditions import Backend, Conditions
from router.ids import uuid7
from router.pipeline import decide
from router.policy.backends import FIRST_PROBE_S, PROBED
from router.policy.load import loaded_median_s
from router.policy.policy import static_policy
from router.serving.backends import Board
from router.serving.decisions import attempt_id
from router.serving.exchange import Exchange
from router.serving.rows import dump
from router.serving.sightings import STALE_S, Reported, Sightings
from router.serving.telemetry import Metrics, logger
from router.slo import Slo
from router.store.memory import MemoryOutbox
from router.store.seams import Kind, Record
from router.types import Bounds, Decision, Query
from tests.kit.policies import catalog

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NOW_S = NOW.timestamp()
TENANT = UUID(int=1)
ARMS = ["m0:single", "m1:single"]
POLICY = static_policy(catalog(2))


def put(outbox: MemoryOutbox, kind: Kind, row_id: UUID, row: dict[str, Any]) -> None:
    record = Record(
        kind=kind, tenant_id=TENANT, key=row_id, row_id=row_id, digest=b"", row=dump(row)
    )
    outbox.put(record)


def decided(outbox: MemoryOutbox, at_s: float = NOW_S, **columns: Any) -> UUID:
    """A decision for m1 whose medians are one and two seconds."""
    identifier = uuid7(datetime.fromtimestamp(at_s, UTC))
    predicted = {"arms": ARMS, "latency_p50_s": [1.0, 2.0]}
    row = {"arm": ARMS[1], "predictions": predicted, "conditions": None, **columns}
    put(outbox, Kind.DECISION, identifier, row)
    return identifier


def reported(decision_id: UUID, latency_s: float | None = 4.0, **more: Any) -> Reported:
    known = {"attempt": 0, "now_s": NOW_S + 5.0, "failed": False, **more}
    return Reported(tenant_id=TENANT, decision_id=decision_id, latency_s=latency_s, **known)


def board(outbox: MemoryOutbox, directory: Path, worker: int = 0, workers: int = 1) -> Board:
    exchange, metrics = Exchange(directory, worker, workers), Metrics(CollectorRegistry())
    return Board(Sightings([outbox]), exchange, metrics, logger())


def slow(outbox: MemoryOutbox, where: Board, attempts: int = 30) -> None:
    """Reports of m1 at four times its median."""
    for place in range(attempts):
        identifier = decided(outbox, NOW_S - 10.0 + 0.1 * place)
        where.report(reported(identifier, 8.0, now_s=NOW_S))
    where.turn(NOW_S)


def a_decision(conditions: Conditions, at_s: float) -> Decision:
    now = datetime.fromtimestamp(at_s, UTC)
    return decide(
        POLICY,
        Query(text="x", input_tokens=3),
        Slo(allowed_models=("m1",), accuracy_value_usd=1.0),
        Bounds(),
        decision_id=uuid7(now),
        now=now,
        conditions=conditions,
    )


def test_an_attempt_is_held_against_the_median_of_its_arm() -> None:
    outbox = MemoryOutbox()
    shown = Sightings([outbox]).of(reported(decided(outbox)))
    assert shown is not None
    assert shown.model == "m1"
    assert shown.seen.log_ratio == pytest.approx(0.6931, abs=1e-3)
    assert shown.seen.ended_s == pytest.approx(NOW_S + 4.0)


def test_a_decision_that_knew_of_the_slowdown_is_held_against_the_usual_speed() -> None:
    outbox = MemoryOutbox()
    conditions = {"backends": {"m1": {"slowdown": 4.0, "available": True}}}
    predicted = {"arms": ARMS, "latency_p50_s": [1.0, 8.0]}
    identifier = decided(outbox, conditions=conditions, predictions=predicted)
    shown = Sightings([outbox]).of(reported(identifier))
    assert shown is not None
    assert shown.seen.log_ratio == pytest.approx(0.6931, abs=1e-3)


def test_a_later_attempt_is_of_the_arm_and_the_time_that_continue_gave() -> None:
    outbox = MemoryOutbox()
    identifier = decided(outbox)
    row = {"next_arm": ARMS[0], "occurred_at": NOW + timedelta(seconds=3)}
    put(outbox, Kind.ATTEMPT, attempt_id(TENANT, identifier, 0), row)
    shown = Sightings([outbox]).of(reported(identifier, 1.0, attempt=1))
    assert shown is not None
    assert (shown.model, shown.seen.log_ratio) == ("m0", 0.0)
    assert shown.seen.started_s == NOW_S + 3.0


def test_first_tokens_and_how_fast_a_model_writes_are_read_from_reports() -> None:
    outbox = MemoryOutbox()
    said = reported(decided(outbox), 4.0, first_token_s=0.5, output_tokens=70)
    shown = Sightings([outbox]).of(said)
    assert shown is not None
    assert (shown.seen.median_s, shown.seen.first_token_s) == (2.0, 0.5)
    assert shown.seen.tokens_per_s == pytest.approx(20.0)


@pytest.mark.parametrize("first_token_s", [None, 0.0, 5.0])
def test_a_first_token_that_comes_after_the_last_is_none(first_token_s: float | None) -> None:
    outbox = MemoryOutbox()
    said = reported(decided(outbox), 4.0, first_token_s=first_token_s, output_tokens=70)
    shown = Sightings([outbox]).of(said)
    assert shown is not None
    assert shown.seen.first_token_s is None
    assert shown.seen.tokens_per_s is None


def test_a_decision_that_knew_of_the_queue_is_held_against_the_usual_speed() -> None:
    outbox = MemoryOutbox()
    backend = Backend(slowdown=2.0, first_token_s=1.5, usual_first_token_s=0.5)
    predicted = {"arms": ARMS, "latency_p50_s": [1.0, loaded_median_s(2.0, 1.0, backend)]}
    conditions = Conditions(backends={"m1": backend}).to_mapping()
    identifier = decided(outbox, conditions=conditions, predictions=predicted)
    shown = Sightings([outbox]).of(reported(identifier))
    assert shown is not None
    assert shown.seen.median_s == pytest.approx(2.0)


def test_a_queue_is_named_in_the_conditions_and_shown(tmp_path: Path) -> None:
    outbox, registry = MemoryOutbox(), CollectorRegistry()
    where = Board(Sightings([outbox]), Exchange(tmp_path, 0, 1), Metrics(registry), logger())
    for wait_s, start_s in ((0.0, NOW_S - 40.0), (2.0, NOW_S - 20.0)):
        for place in range(30):
            at_s = start_s + 0.1 * place
            told_s = at_s + 4.0 + wait_s
            said = reported(decided(outbox, at_s), 2.0 + wait_s, now_s=told_s, output_tokens=75)
            where.report(replace(said, first_token_s=0.5 + wait_s))
        where.turn(start_s + 10.0)
    queue = where.now(NOW_S, probes=False)["m1"]
    assert queue.slowdown == 1.0
    assert queue.first_token_s == pytest.approx(2.5)
    assert queue.usual_first_token_s == pytest.approx(0.5)
    labels = {"model": "m1"}
    assert registry.get_sample_value("leadline_backend_first_token_seconds", labels) == 2.5
    rate = registry.get_sample_value("leadline_backend_tokens_per_second", labels)
    assert rate == pytest.approx(50.0)
    assert registry.get_sample_value("leadline_backend_failed_share", labels) == 0.0


def test_attempts_that_another_worker_is_told_of_have_ended(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    deciding, told = (board(outbox, tmp_path, worker, 2) for worker in range(2))
    for place in range(60):
        at_s = NOW_S + place
        decision = a_decision(Conditions(), at_s)
        deciding.routed(TENANT, decision, decision.occurred_at)
        if place < 40:
            told.report(reported(decision.decision_id, 0.5, now_s=at_s + 0.6))
        told.turn(at_s + 0.9)
        deciding.turn(at_s + 0.95)
    under_way = deciding._flights.under_way(NOW_S + 60.0)
    assert under_way == {"m1": 20}


@pytest.mark.parametrize("case", ["elsewhere", "stale", "twice", "no continuation", "imported"])
def test_what_tells_nothing_of_now_is_left_out(case: str) -> None:
    outbox = MemoryOutbox()
    sightings, identifier = Sightings([outbox]), decided(outbox)
    said = reported(identifier)
    match case:
        case "elsewhere":
            said = reported(uuid7(NOW))
        case "stale":
            said = reported(identifier, now_s=NOW_S + 4.0 + STALE_S + 1.0)
        case "twice":
            assert sightings.of(said) is not None
        case "no continuation":
            said = reported(identifier, attempt=1)
        case "imported":
            said = reported(decided(outbox, predictions=None))
    assert sightings.of(said) is None


def test_a_latency_that_was_never_predicted_still_shows_that_the_backend_answers() -> None:
    outbox = MemoryOutbox()
    predicted = {"arms": ARMS, "latency_p50_s": [None, None]}
    shown = Sightings([outbox]).of(reported(decided(outbox, predictions=predicted)))
    assert shown is not None
    assert shown.seen.log_ratio is None
    assert not shown.seen.failed


def test_a_slow_backend_is_named_in_the_conditions_and_others_are_not(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    where = board(outbox, tmp_path)
    assert where.now(NOW_S) == {}
    slow(outbox, where)
    named = where.now(NOW_S)
    assert list(named) == ["m1"]
    assert named["m1"].slowdown == pytest.approx(4.0, rel=0.2)


def test_reports_that_say_nothing_of_backends_are_not_looked_up(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    where = board(outbox, tmp_path)
    where.report(reported(decided(outbox), None))
    assert not where._reports


def test_one_decision_at_a_time_is_a_probe_and_none_before_its_interval_is_over(
    tmp_path: Path,
) -> None:
    outbox = MemoryOutbox()
    where = board(outbox, tmp_path)
    slow(outbox, where)
    first_s = NOW_S + FIRST_PROBE_S + 0.01
    assert where.now(NOW_S + 0.5)["m1"] != PROBED
    offered = where.now(first_s)
    assert offered["m1"] == PROBED
    where.taken(a_decision(Conditions(backends=offered), first_s), first_s)
    assert where.now(first_s + 0.5)["m1"] != PROBED
    where.turn(first_s + 0.5)
    assert where.now(first_s + FIRST_PROBE_S + 0.1)["m1"] != PROBED
    assert where.now(first_s + 2 * FIRST_PROBE_S + 0.1)["m1"] == PROBED


def test_an_offer_that_no_decision_heeds_goes_to_a_later_one(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    where = board(outbox, tmp_path)
    slow(outbox, where)
    at_s = NOW_S + FIRST_PROBE_S + 0.01
    assert where.now(at_s)["m1"] == PROBED
    assert where.now(at_s)["m1"] != PROBED
    assert where.now(at_s + 0.2)["m1"] == PROBED
    assert where.now(at_s + 0.5, probes=False)["m1"] != PROBED


def test_a_probe_has_the_exact_propensity_of_its_conditions() -> None:
    conditions = Conditions(backends={"m1": PROBED})
    decision = a_decision(conditions, NOW_S)
    assert decision.arm.model == "m1"
    assert decision.choice.propensity == a_decision(Conditions(), NOW_S).choice.propensity == 1.0


def test_workers_of_one_machine_know_what_each_of_them_saw(tmp_path: Path) -> None:
    outbox = MemoryOutbox()
    first, second = (board(outbox, tmp_path, worker, 2) for worker in range(2))
    slow(outbox, first)
    second.turn(NOW_S)
    assert second.now(NOW_S) == first.now(NOW_S)
    at_s = NOW_S + FIRST_PROBE_S + 0.01
    first.taken(a_decision(Conditions(backends=first.now(at_s)), at_s), at_s)
    first.turn(at_s)
    second.turn(at_s)
    assert second.now(at_s)["m1"] != PROBED


def test_with_more_reports_than_can_be_looked_up_those_of_probes_come_first(
    tmp_path: Path,
) -> None:
    outbox = MemoryOutbox()
    where = board(outbox, tmp_path)
    probe = a_decision(Conditions(backends={"m1": PROBED}), NOW_S)
    where.taken(probe, NOW_S)
    where.turn(NOW_S)
    for _ in range(1_000):
        where.report(reported(uuid7(NOW)))
    where.report(reported(probe.decision_id))
    waiting = where._waiting()
    assert waiting[0].decision_id == probe.decision_id
    assert len(waiting) < 100


def test_a_board_that_fails_once_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Broken(Sightings):
        turns = 0

        def of(self, said: Reported) -> None:
            self.turns += 1
            raise RuntimeError(str(said.attempt))

    broken = Broken([])
    where = Board(broken, Exchange(tmp_path, 0, 1), Metrics(CollectorRegistry()), logger())
    where.start()
    for _ in range(2):
        where.report(reported(uuid7(NOW)))
        deadline = time.monotonic() + 20.0
        while where._reports or not broken.turns:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        broken.turns = 0
    where.close()
    assert "backends failed" in "".join(capfd.readouterr())
