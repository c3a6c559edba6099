"""Budget periods begin where the calendar says, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.periods import periods

TIMES = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)


def test_periods_begin_on_the_hour_the_day_and_the_month() -> None:
    now = datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert periods(now) == {
        "hour": datetime(2026, 3, 31, 23, tzinfo=UTC),
        "day": datetime(2026, 3, 31, tzinfo=UTC),
        "month": datetime(2026, 3, 1, tzinfo=UTC),
    }


def test_a_time_of_another_zone_is_taken_in_utc() -> None:
    now = datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=5)))
    assert periods(now)["month"] == datetime(2025, 12, 1, tzinfo=UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        periods(datetime(2026, 1, 1))  # noqa: DTZ001


@given(TIMES)
def test_a_period_holds_its_time_and_its_start_is_its_own(now: datetime) -> None:
    found = periods(now)
    assert found["month"] <= found["day"] <= found["hour"] <= now
    assert all(periods(start)[name] == start for name, start in found.items())
