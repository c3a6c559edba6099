"""Pacing and leases: a price that follows the spending, and caps that hold to the cent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.demand import Demand
from router.policy.pacing import (
    CENT,
    Pace,
    Purse,
    ask_micro_usd,
    log_multiplier,
    spare_micro_usd,
)
from router.policy.periods import elapsed_share
from tests.promises.bursts import bursty, unbounded_usd
from tests.promises.pacing import spend_days, two_days

BUDGET = 10_000_000
SPENT = st.integers(0, 2 * BUDGET)
MONEY = st.integers(0, 10**12)
RATE = st.floats(0.0, 1e9)


def _spends(rate_at_1: float, looks: int = 500) -> list[Pace]:
    """Looks at a period whose spending is a rate over the price, in budgets per period."""
    pace, spent, seen = Pace(), 0.0, []
    for look in range(1, looks + 1):
        spent += rate_at_1 * BUDGET / looks / (1.0 + pace.mu)
        pace = pace.look(
            budget_micro_usd=BUDGET, spent_micro_usd=round(spent), elapsed=look / looks
        )
        seen.append(pace)
    return seen


@pytest.mark.parametrize("times", [1.5, 4.0, 10.0])
def test_the_price_settles_where_the_spending_follows_the_period(times: float) -> None:
    paces = _spends(times)
    assert 0.97 * BUDGET <= paces[-1].spent_micro_usd <= 1.01 * BUDGET
    assert paces[249].spent_micro_usd < 0.75 * BUDGET


def test_a_budget_that_binds_nothing_costs_nothing() -> None:
    assert {pace.mu for pace in _spends(0.9)} == {0.0}


@given(spent=st.lists(SPENT, max_size=20), elapsed=st.floats(0.0, 2.0))
def test_no_spending_whatever_makes_the_price_negative_or_infinite(
    spent: list[int], elapsed: float
) -> None:
    pace = Pace()
    for place, each in enumerate(spent):
        at = elapsed * (place + 1) / len(spent)
        pace = pace.look(budget_micro_usd=BUDGET, spent_micro_usd=each, elapsed=at)
        assert 0.0 <= pace.mu <= 1e4


def test_spending_more_than_is_due_raises_the_price_and_less_lowers_it() -> None:
    usual = Pace(usual_micro_usd=2.0 * BUDGET, trust=1.0).at_once(BUDGET)
    over = usual.look(budget_micro_usd=BUDGET, spent_micro_usd=BUDGET // 5, elapsed=0.1)
    under = usual.look(budget_micro_usd=BUDGET, spent_micro_usd=BUDGET // 20, elapsed=0.1)
    assert 0.0 < under.log_price < usual.log_price < over.log_price


def test_what_is_expected_later_is_kept_for_later() -> None:
    evening = Demand(weights=(1.0, 1.0, 1.0, 9.0))
    noon = Pace(elapsed=0.5, spent_micro_usd=BUDGET // 2, unpriced_micro_usd=float(BUDGET))
    assert noon.at_once(BUDGET, evening).mu > noon.at_once(BUDGET).mu


def test_nothing_is_held_back_where_what_is_sure_to_come_cannot_spend_it() -> None:
    pace = Pace(usual_micro_usd=1.25 * BUDGET, trust=10.0, elapsed=0.9, log_price=1.0)
    assert pace.at_once(BUDGET).mu == 0.0
    late = replace(pace, spent_micro_usd=round(0.95 * BUDGET))
    assert late.at_once(BUDGET).mu > 0.0
    assert replace(late, elapsed=0.99).at_once(BUDGET).mu == 0.0


def test_a_worker_that_joins_with_what_the_others_know_has_their_price() -> None:
    first = _spends(4.0)[249]
    joined = Pace(
        elapsed=first.elapsed,
        spent_micro_usd=first.spent_micro_usd,
        unpriced_micro_usd=first.unpriced_micro_usd,
    )
    assert joined.at_once(BUDGET).log_price == pytest.approx(first.log_price, abs=0.05)


def test_a_look_into_the_past_changes_nothing() -> None:
    pace = Pace().look(budget_micro_usd=BUDGET, spent_micro_usd=5, elapsed=0.5)
    assert pace.look(budget_micro_usd=BUDGET, spent_micro_usd=BUDGET, elapsed=0.4) is pace


def test_the_next_period_begins_at_the_price_that_the_last_one_needed() -> None:
    pace = _spends(4.0)[-1]
    after = pace.next_period(BUDGET)
    assert (after.elapsed, after.spent_micro_usd) == (0.0, 0)
    assert after.mu == pytest.approx(_spends(4.0)[249].mu, rel=0.4)


def test_of_several_budgets_the_tightest_sets_the_price() -> None:
    assert log_multiplier(()) == 0.0
    assert log_multiplier((Pace(log_price=1.0), Pace(log_price=0.5))) == 1.0


def test_the_share_of_a_period_that_has_passed_is_the_calendars() -> None:
    noon = datetime(2028, 2, 15, 12, tzinfo=UTC)
    assert elapsed_share("hour", noon + timedelta(minutes=15)) == 0.25
    assert elapsed_share("day", noon) == 0.5
    assert elapsed_share("month", noon) == 14.5 / 29
    elsewhere = noon.astimezone(timezone(timedelta(hours=9)))
    assert elapsed_share("day", elsewhere) == 0.5


@given(free=st.integers(-1_000, 10**9), left=MONEY, rate=RATE, need=MONEY)
def test_no_lease_asks_for_more_than_is_left_nor_for_what_is_held(
    free: int, left: int, rate: float, need: int
) -> None:
    purse = Purse(free_micro_usd=free)
    asked = ask_micro_usd(purse, left_micro_usd=left, per_s_micro_usd=rate, need_micro_usd=need)
    assert 0 <= asked <= left
    if asked:
        needed = max(need - free, CENT)
        assert asked <= max(left // 8, needed)
        assert asked >= min(needed, left)
    elif left:
        assert free >= need
    spare = spare_micro_usd(purse, left_micro_usd=left, per_s_micro_usd=rate, need_micro_usd=need)
    assert 0 <= spare <= max(free, 0)


def test_leases_shrink_to_the_cent_as_the_budget_runs_out() -> None:
    left, asked = BUDGET, []
    while left:
        asked.append(ask_micro_usd(Purse(), left_micro_usd=left, per_s_micro_usd=1e6))
        left -= asked[-1]
    assert asked[0] == BUDGET // 8
    assert asked == sorted(asked, reverse=True)
    assert CENT in asked
    assert sum(asked) == BUDGET


@given(
    leases=st.lists(st.integers(0, 1_000), max_size=8),
    attempts=st.lists(st.tuples(st.integers(0, 500), st.floats(0.0, 1.0)), max_size=30),
)
def test_a_worker_that_reserves_the_most_never_spends_beyond_its_leases(
    leases: list[int], attempts: list[tuple[int, float]]
) -> None:
    purse, spent = Purse(), 0
    for granted in leases:
        purse = purse.leased(granted)
    for most, share in attempts:
        reserved = purse.reserve(most)
        if reserved is None:
            assert most > purse.free_micro_usd
            continue
        purse = reserved.spend(most, int(most * share))
        spent += int(most * share)
    assert spent == purse.spent_micro_usd <= sum(leases)
    assert purse.free_micro_usd == sum(leases) - spent
    assert purse.reserved_micro_usd == 0
    assert purse.settled(purse.free_micro_usd) == Purse()


def test_a_bursty_day_stays_under_the_cap_uses_it_up_and_beats_a_hard_stop() -> None:
    found = two_days(0, 0.5, free_arm=True, queries=1_000, look_s=120)
    assert found.capped
    assert found.second.settled == pytest.approx(found.second.spent, abs=0.002)
    assert found.second.spent >= 0.95
    assert found.second.accuracy > found.hard_stop.accuracy + 0.05


def test_a_day_on_nothing_but_a_cent_is_never_overspent() -> None:
    traffic = bursty(3, queries=500)
    (found,) = spend_days({"a cent": traffic}, 0.01, paced=True, look_s=240)
    assert found.spent <= 1.0
    assert found.most_leased <= 1.0
    assert unbounded_usd(traffic) > 0.1
