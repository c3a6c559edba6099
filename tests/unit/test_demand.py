"""Demand by the hours of the past: what is expected, and how little is made of little."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInput
from router.policy.demand import ELASTICITY, EVEN, HOUR, Demand, Habit, Hour, unpriced_micro_usd

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
DAY = 24 * HOUR
WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50)


def _days(*days: list[float], start: datetime = MONDAY) -> list[Hour]:
    counts = [count for day in days for count in day]
    return [
        Hour(starts_at=start + place * HOUR, decisions=count) for place, count in enumerate(counts)
    ]


@given(weights=WEIGHTS, earlier=st.floats(0.0, 1.0), later=st.floats(0.0, 1.0))
def test_the_share_of_demand_grows_from_none_to_all(
    weights: list[float], earlier: float, later: float
) -> None:
    demand = Demand(weights=tuple(weights))
    assert demand.before(0.0) == 0.0
    assert demand.before(1.0) == pytest.approx(1.0)
    assert demand.before(min(earlier, later)) <= demand.before(max(earlier, later)) <= 1.0


def test_equal_weights_are_even_and_others_are_refused() -> None:
    assert Demand(weights=(3.0,) * 24).before(0.3) == pytest.approx(EVEN.before(0.3))
    with pytest.raises(InvalidInput, match="weights: "):
        Demand(weights=(1.0, -1.0))


def test_nothing_known_is_even_demand() -> None:
    habit = Habit.of([], MONDAY)
    assert habit.since is None
    assert habit.demand(MONDAY, MONDAY + DAY).before(0.25) == pytest.approx(0.25)


def test_a_busy_hour_of_every_day_is_expected_and_one_of_a_single_day_much_less() -> None:
    busy = [1.0] * 12 + [25.0] + [1.0] * 11
    once = Habit.of(_days(busy), MONDAY + DAY).by_hour
    often = Habit.of(_days(*[busy] * 14), MONDAY + 14 * DAY).by_hour
    assert often[12] / often[0] > 2.0 * once[12] / once[0] > 4.0


def test_a_weekend_without_decisions_is_expected_to_be_quiet_again() -> None:
    week = [[10.0] * 24] * 5 + [[0.0] * 24] * 2
    habit = Habit.of(_days(*week, *week), MONDAY + 14 * DAY)
    monday, sunday = (sum(habit.per_hour(MONDAY + n * DAY, MONDAY + (n + 1) * DAY)) for n in (0, 6))
    assert sunday < 0.6 * monday


def test_hours_before_the_first_decision_say_nothing() -> None:
    late = Habit.of(_days([7.0] * 6, start=MONDAY + 18 * HOUR), MONDAY + DAY)
    assert late.since == MONDAY + 18 * HOUR
    assert np.allclose(late.by_hour, 7.0)


def test_what_was_spent_is_told_without_its_price() -> None:
    cheap = Hour(starts_at=MONDAY, decisions=10.0)
    priced = Hour(starts_at=MONDAY + HOUR, decisions=10.0, log_multiplier=1.0)
    spent = 10.0 * (1.0 + np.exp(-ELASTICITY))
    assert unpriced_micro_usd(spent, [cheap, priced]) == pytest.approx(20.0)
    assert unpriced_micro_usd(5.0, []) == 5.0
