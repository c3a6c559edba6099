"""The loop in small: a day of decisions and outcomes, and a night of learning."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from router.simulation.workload import questions
from router.store.training_runs import RunState
from router.types import PolicySource
from tests.kit.market import NEW, Market
from tests.kit.nights import Book
from tests.kit.postgres import rows
from tests.promises.loop import FLOOR, UNDER_A_FLOOR, VALUE_USD, judged, judged_under_floor
from tests.promises.loop_drawn import drawn, drawn_under_floor
from tests.promises.loop_lived import EVENTS, live


@pytest.mark.timeout(300)
def test_a_day_is_decided_reported_learnt_from_and_drawn(dsn: str, tmp_path: Path) -> None:
    days = live(dsn, tmp_path, UNDER_A_FLOOR, days=1, a_day=160)
    assert [each.decisions for each in days] == [160]
    assert all(sum(each.arms.values()) == 160 for each in days)
    for each in days:
        assert each.oracle_cost_usd < each.constant_cost_usd
        assert min(each.oracle_accuracy, each.constant_accuracy) >= FLOOR
        assert not each.certified
    assert not judged_under_floor(days).held
    assert not judged(days).held
    book = Book.of(dsn)
    assert [state for _, state, _ in book.runs] == [RunState.DONE]
    assert len(book.policies) == 1
    kept = "select count(*), min(policy_source) from decisions"
    assert rows(dsn, kept) == [(160, PolicySource.STATIC)]
    assert rows(dsn, "select count(*) from outcomes where score is not null") == [(160,)]
    for picture in (drawn(days, VALUE_USD, EVENTS), drawn_under_floor(days, FLOOR, EVENTS)):
        assert ET.fromstring(picture).tag.endswith("svg")


def test_the_market_moves_as_it_is_told_and_its_oracle_is_worth_more_than_any_constant() -> None:
    asked, market = questions(300, 0), Market.opened()
    before, after = market.truth(asked), market.joined().truth(asked)
    assert {arm.model for arm in after.arms} - {arm.model for arm in before.arms} == {NEW}
    dearer = market.joined().priced(NEW, 2.0).truth(asked)
    worse = market.joined().worse(NEW, 1.5).truth(asked)
    own = np.array([arm.model == NEW for arm in after.arms])
    assert dearer.cost_usd[:, own] == pytest.approx(2.0 * after.cost_usd[:, own])
    assert (worse.accuracy[:, own] < after.accuracy[:, own]).all()
    assert (worse.accuracy[:, ~own] == after.accuracy[:, ~own]).all()
    for each in (before, after, dearer, worse):
        _, accuracy, cost_usd = each.constant(VALUE_USD)
        best = each.oracle(VALUE_USD)
        assert VALUE_USD * best[0] - best[1] > VALUE_USD * accuracy - cost_usd
        _, accuracy, cost_usd = each.cheapest(FLOOR)
        enough = each.cheapest_choice(FLOOR)
        assert min(accuracy, enough[0]) >= FLOOR
        assert enough[1] < cost_usd
        assert each.cheapest(1.0)[1] == each.accuracy.mean(axis=0).max()
