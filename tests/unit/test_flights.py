"""Attempts under way show that a backend is slow before any of them has ended."""

from __future__ import annotations

import math
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.conditions import Backend
from router.policy.backends import Track
from router.policy.flights import (
    ABSENT_S,
    EVERY_S,
    FOLLOWED_S,
    MOST_FOLLOWED,
    Flight,
    Flights,
)
from router.policy.measured import overdue
from router.slo import Slo
from tests.kit.slowing import walk
from tests.unit.test_backends import three_models

MEDIAN_S = 4.0


def begin(flights: Flights, at_s: float, tenant: str = "a", model: str = "m") -> UUID:
    attempt = uuid4()
    if flights.wants(model, tenant, at_s):
        flights.began(
            Flight(
                attempt=attempt,
                model=model,
                tenant=tenant,
                began_s=at_s,
                median_s=MEDIAN_S,
                expected_s=MEDIAN_S,
            )
        )
    return attempt


def fly(
    flights: Flights,
    first_s: float,
    last_s: float,
    factor: float,
    *,
    seed: int,
    tenant: str = "a",
    lag_s: float = 0.1,
) -> None:
    """One attempt a second, each reported a while after its end unless that is after the last."""
    rng = np.random.default_rng(seed)
    for at_s in np.arange(first_s, last_s, 1.0).tolist():
        attempt = begin(flights, at_s, tenant)
        latency_s = factor * MEDIAN_S * math.exp(rng.normal(0.0, 0.45))
        if at_s + latency_s + lag_s <= last_s:
            flights.ended(attempt, at_s + latency_s + lag_s, latency_s)


def shown(flights: Flights, now_s: float) -> float:
    return overdue([], flights.due(now_s).get("m", []))


@pytest.mark.parametrize("lag_s", [0.1, 8.0])
def test_attempts_as_usual_show_nothing_however_late_they_are_reported(lag_s: float) -> None:
    for seed in range(20):
        flights = Flights()
        fly(flights, 0.0, 60.0, 1.0, seed=seed, lag_s=lag_s)
        assert shown(flights, 60.0) == 1.0


def test_a_backend_that_hangs_shows_as_soon_as_answers_should_have_ended() -> None:
    flights = Flights()
    fly(flights, 0.0, 40.0, 1.0, seed=1)
    fly(flights, 40.0, 58.0, 20.0, seed=2)
    assert shown(flights, 45.0) == 1.0
    assert shown(flights, 58.0) > 1.5
    track = Track()
    track.awaits(flights.due(58.0)["m"], 58.0)
    assert track.backend(58.0).slowdown > 1.5
    track.awaits([], 59.0)
    assert track.backend(59.0) == Backend()


def test_a_caller_that_reports_nothing_or_has_gone_shows_nothing() -> None:
    silent, gone = Flights(), Flights()
    for place in range(60):
        begin(silent, float(place))
    assert silent.due(60.0) == {}
    assert silent.under_way(60.0) == {}
    fly(gone, 0.0, 40.0, 1.0, seed=3)
    fly(gone, 40.0, 50.0, math.inf, seed=3)
    assert gone.due(50.0 + ABSENT_S + 1.0) == {}


def test_one_tenant_that_withholds_its_reports_moves_nothing_while_another_reports() -> None:
    flights = Flights()
    fly(flights, 0.0, 40.0, 1.0, seed=4)
    fly(flights, 0.0, 40.0, 1.0, seed=5, tenant="b")
    fly(flights, 40.0, 58.0, math.inf, seed=6)
    assert shown(flights, 58.0) > 1.5
    fly(flights, 40.0, 58.0, 1.0, seed=7, tenant="b")
    assert shown(flights, 58.0) == 1.0
    alone = Flights()
    fly(alone, 0.0, 40.0, 1.0, seed=4)
    fly(alone, 40.0, 58.0, math.inf, seed=6)
    due = alone.due(58.0)["m"]
    others = [replace(each.seen, tenant="b", log_ratio=0.0) for each in due]
    assert overdue(others, due) == 1.0


def test_what_is_not_followed_is_stood_for_and_nothing_is_followed_for_ever() -> None:
    flights = Flights()
    fly(flights, 0.0, 40.0, 1.0, seed=8)
    for place in range(40):
        begin(flights, 40.0 + place * EVERY_S / 8)
    assert flights.under_way(41.3)["m"] >= 40
    flights.forget(40.0 + EVERY_S * 5 + FOLLOWED_S + 1.0)
    assert flights.under_way(41.3) == {}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.0, 100.0)), max_size=50))
def test_never_more_are_under_way_than_began(began: list[tuple[str, float]]) -> None:
    flights = Flights()
    fly(flights, 0.0, 40.0, 1.0, seed=9)
    for tenant, at_s in began:
        begin(flights, at_s, tenant)
    assert sum(flights.under_way(40.0).values()) <= 40 + len(began)
    assert len(flights._flights) <= MOST_FOLLOWED


def test_the_bound_is_met_again_within_30_s_where_answers_take_longer_than_that() -> None:
    world = three_models()
    slow = replace(
        world, latency_s=6.0 * world.latency_s, slo=Slo(max_latency_s=24.0, accuracy_value_usd=1.0)
    )
    longer = [
        replace(
            each,
            predictions=replace(
                each.predictions,
                latency_p50_s=6.0 * each.predictions.latency_p50_s,
                latency_p95_s=6.0 * each.predictions.latency_p95_s,
            ),
        )
        for each in world.known
    ]
    walked = walk(
        replace(slow, known=longer),
        lambda model, at_s: 8.0 if model == "m2" and at_s >= 60.0 else 1.0,
        per_s=4.0,
        seconds=120.0,
        seed=1,
    )
    assert walked.traffic("m2", 0.0, 60.0) > 0.95
    assert walked.late_share(90.0, 120.0) < 0.06
