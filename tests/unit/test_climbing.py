"""Alarms of decisions that climb: rarely false, soon there, and over once things are usual."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.policy.climbing import (
    LEAST_BETWEEN,
    LEAST_DECISIONS,
    LEAST_SPAN,
    QUIET_AFTER,
    STAKES,
    Climbing,
    climb,
)
from router.types import Floats

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)


def _usual(climbs: Floats) -> Climbing:
    """After as many decisions as it takes to know what is usual, with these climbs."""
    pace = LEAST_SPAN / (len(climbs) - 1) + timedelta(seconds=1)
    found = Climbing(slo_version=1, policy_version=2)
    for number, value in enumerate(climbs.tolist()):
        found = found.observe(value, BEGAN + number * pace)
    assert found.needed is not None
    return found


def _drawn(rng: np.random.Generator, count: int, mean: float) -> Floats:
    return rng.beta(2.0 * mean, 2.0 * (1.0 - mean), count)


def _decisions_until_it_rings(found: Climbing, climbs: Floats) -> int | None:
    for number, value in enumerate(climbs.tolist()):
        found = found.observe(value, BEGAN)
        if found.ringing:
            return number + 1
    return None


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=9),
    st.integers(0, 8),
    st.floats(1e-3, 1e3),
)
def test_a_climb_lies_in_its_range_and_does_not_feel_the_querys_length(
    cost_usd: list[float], arm: int, length: float
) -> None:
    costs, arm = np.array(cost_usd), arm % len(cost_usd)
    assert 0.0 <= climb(costs, arm) <= 1.0
    assert climb(costs, arm) == pytest.approx(climb(length * costs, arm), abs=1e-6)
    assert climb(costs, int(costs.argmin())) == 0.0
    assert climb(costs, int(costs.argmax())) == float(len(set(cost_usd)) > 1)


def test_usual_decisions_ring_no_alarm() -> None:
    rng = np.random.default_rng(5)
    for mean in (0.05, 0.3, 0.8):
        found = _usual(_drawn(rng, LEAST_DECISIONS, mean))
        assert _decisions_until_it_rings(found, _drawn(rng, 10_000, mean)) is None


def test_bets_at_the_bound_ring_no_sooner_than_they_may_on_average() -> None:
    rng, times, needed = np.random.default_rng(6), [], 300.0
    for _ in range(40):
        found = Climbing(slo_version=1, policy_version=2, needed=needed, decisions=10**9)
        found = Climbing.from_mapping(found.to_mapping() | {"total": 0.3e9, "squares": 0.09e9})
        assert found.bound() == pytest.approx(0.33)
        coins = (rng.random(3_000) < found.bound()).astype(float)
        times.append(_decisions_until_it_rings(found, coins) or len(coins))
    assert np.mean(times) > needed


def test_decisions_that_climb_higher_ring_soon_and_usual_ones_end_it() -> None:
    rng = np.random.default_rng(7)
    found = _usual(_drawn(rng, LEAST_DECISIONS, 0.4))
    after = _decisions_until_it_rings(found, _drawn(rng, 2_000, 0.55))
    assert after is not None
    assert after < 600
    for value in _drawn(rng, 700, 0.55).tolist():
        found = found.observe(value, BEGAN)
    assert found.ringing
    for value in _drawn(rng, 2 * QUIET_AFTER, 0.4).tolist():
        found = found.observe(value, BEGAN)
    assert not found.ringing


def test_what_is_usual_takes_decisions_and_time() -> None:
    found = Climbing(slo_version=1, policy_version=2)
    for _ in range(2 * LEAST_DECISIONS):
        found = found.observe(0.5, BEGAN)
    assert found.needed is None
    found = found.observe(0.5, BEGAN + timedelta(days=60))
    assert found.needed == LEAST_BETWEEN


def test_a_climb_is_read_as_it_was_written() -> None:
    found = _usual(_drawn(np.random.default_rng(8), LEAST_DECISIONS, 0.4)).observe(0.9, BEGAN)
    assert Climbing.from_mapping(found.to_mapping()) == found
    with pytest.raises(InvalidInput, match="begin anew"):
        Climbing.from_mapping(found.to_mapping() | {"bets": [1.0] * (len(STAKES) - 1)})
