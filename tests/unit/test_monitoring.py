"""Live monitoring: fair bets, false alarms, drops that are found, and honest statements."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.conditions import MonitorState
from router.errors import InvalidInput
from router.policy.betting import Capital, odds_at
from router.policy.monitoring import AT_RISK, Monitor, Tally
from router.types import Floats
from tests.promises.monitoring import Scores, alarms, detection

FLOORS = st.sampled_from((0.05, 0.5, 0.7, 0.85, 0.95, 0.999))
UNIT = st.floats(0.0, 1.0)
SCORES = st.lists(st.one_of(st.sampled_from((0.0, 1.0)), UNIT), max_size=60)


def _after(scores: Floats, floor: float) -> Capital:
    capital = Capital.of()
    for score in scores:
        capital = capital.bet(floor - score, odds_at(floor))
    return capital


def _swinging(floor: float, seed: int, length: int) -> Floats:
    """Right or wrong in spells above and below the floor, so that bets close and open."""
    rng = np.random.default_rng(seed)
    spell = np.repeat(rng.uniform(floor - 0.2, 1.0, length // 50 + 1), 50)[:length]
    return (rng.random(length) < spell).astype(float)


@pytest.mark.parametrize("floor", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("above", [0.0, 0.02])
def test_capital_is_not_expected_to_grow_over_all_short_streams_at_or_above_the_floor(
    floor: float, above: float
) -> None:
    streams = np.array(list(itertools.product((0.0, 1.0), repeat=12))).T
    mean = min(floor + above, 1.0)
    chance = np.prod(np.where(streams == 1.0, mean, 1.0 - mean), axis=0)
    capital = Capital.of(streams.shape[1])
    for scores in streams:
        capital = capital.bet(floor - scores, odds_at(floor))
    expected = float(chance @ capital.total)
    assert expected <= 1.0 + 1e-9
    assert above or expected == pytest.approx(1.0)


@settings(max_examples=40, deadline=None)
@given(
    floor=FLOORS,
    seed=st.integers(0, 99),
    length=st.integers(0, 300),
    weight=UNIT,
    ends=st.tuples(UNIT, UNIT),
)
def test_no_next_score_of_mean_at_the_floor_is_expected_to_pay(
    floor: float, seed: int, length: int, weight: float, ends: tuple[float, float]
) -> None:
    capital, odds = _after(_swinging(floor, seed, length), floor), odds_at(floor)
    worse, better = ends[0] * floor, floor + ends[1] * (1.0 - floor)
    chance = (floor - worse) / (better - worse) if better > worse else 1.0
    expected = sum(
        share * float(capital.bet(weight * (floor - score), odds).total)
        for share, score in ((chance, better), (1.0 - chance, worse))
    )
    assert expected == pytest.approx(float(capital.total), rel=1e-9)


def test_bets_close_and_open_again_where_accuracy_comes_and_goes() -> None:
    capital = _after(np.repeat([1.0, 0.6, 1.0, 0.6], [200, 100, 1_000, 100]), 0.85)
    assert (capital.openings == 2.0).all()
    assert (capital.since > 1_300.0).all()


@settings(max_examples=40, deadline=None)
@given(floor=FLOORS, scores=SCORES, cut=st.integers(0, 60), weight=UNIT)
def test_batches_and_a_stay_in_json_change_no_bit(
    floor: float, scores: list[float], cut: int, weight: float
) -> None:
    begun = Monitor(floor=floor).decided(70)
    whole = begun.observe(scores, weights=weight)
    stored = json.dumps(begun.observe(scores[:cut], weights=weight).to_mapping(), allow_nan=False)
    resumed = Monitor.from_mapping(json.loads(stored))
    for score in scores[cut:]:
        resumed = resumed.observe(score, weights=weight)
    assert resumed.to_mapping() == whole.to_mapping()
    assert len(stored) < 1_000


def test_at_most_one_stream_in_twenty_at_the_floor_is_called_broken() -> None:
    scores = Scores(good=0.85, after=0.85)
    assert np.isfinite(alarms(scores, 0.85, 2_000, 400, seed=3)).mean() <= 0.05


@pytest.mark.parametrize("before", [0, 1_500])
def test_five_points_below_the_floor_are_found_in_time(before: int) -> None:
    scores = Scores(good=0.9, after=0.8, before=before)
    found = detection(0.85, "", scores, 200, seed=4)
    assert found.within >= 0.9


def test_a_broken_floor_stays_broken_and_says_since_when() -> None:
    rng = np.random.default_rng(0)
    good, bad = rng.random(3_000) < 0.9, rng.random(1_200) < 0.75
    monitor = Monitor(floor=0.85).observe(good)
    assert monitor.state is MonitorState.HOLDING
    monitor = monitor.observe(bad)
    assert monitor.state is MonitorState.BROKEN
    assert 2_800 <= monitor.statement().since <= 3_300
    assert monitor.observe(np.ones(3_000)).state is MonitorState.BROKEN


def test_an_slo_is_at_risk_before_it_is_broken() -> None:
    rng, monitor, seen = np.random.default_rng(1), Monitor(floor=0.85), []
    while monitor.state is not MonitorState.BROKEN:
        monitor = monitor.observe(rng.random(10) < 0.78)
        seen.append(monitor.state)
    assert MonitorState.AT_RISK in seen
    assert seen[0] is MonitorState.HOLDING
    assert monitor.statement().e_value > AT_RISK


def test_the_interval_holds_the_running_mean_at_every_look_though_accuracy_drifts() -> None:
    means = 0.8 + 0.15 * np.sin(np.arange(2_000) / 200.0)
    running = np.cumsum(means) / np.arange(1, 2_001)
    missed = 0
    for seed in range(40):
        scores = (np.random.default_rng(seed).random(2_000) < means).astype(float)
        tally, inside = Tally(), True
        for start in range(0, 2_000, 100):
            tally = tally.add(scores[start : start + 100], np.ones(100))
            low, high = tally.interval(0.95)
            inside &= low <= running[start + 99] <= high
        missed += not inside
    assert missed <= 40 * 0.05
    assert high - low < 0.09


def test_before_the_first_outcome_nothing_is_known() -> None:
    said = Monitor(floor=0.9).decided(40).statement()
    assert (said.state, said.estimate, said.low, said.high) == (
        MonitorState.HOLDING,
        None,
        0.0,
        1.0,
    )
    assert (said.coverage, said.outcomes, said.decisions) == (0.0, 0, 40)


def test_what_is_out_of_distribution_or_left_out_moves_no_bet() -> None:
    usual = Monitor(floor=0.8).decided(10, apart=2).observe([1.0, 0.0, 1.0])
    more = usual.observe([0.0, 1.0], apart=True).observe([0.0, 0.0], weights=0.0)
    assert more.capital.to_mapping() == usual.capital.to_mapping()
    said = more.statement()
    assert (said.outcomes, said.coverage) == (3, 0.3)
    assert (said.apart_decisions, said.apart_outcomes, said.apart_estimate) == (2, 2, 0.5)


def test_weights_by_the_propensity_of_a_label_mend_labels_that_prefer_failures() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(6_000) < 0.5
    score = rng.random(6_000) < np.where(hard, 0.8, 0.96)
    asked = np.where(hard, 0.8, 0.2)
    known = rng.random(6_000) < asked
    plain = Monitor(floor=0.87).observe(score[known])
    weighted = Monitor(floor=0.87).observe(score[known], weights=0.2 / asked[known])
    assert plain.state is MonitorState.BROKEN
    said = weighted.statement()
    assert said.state is not MonitorState.BROKEN
    assert said.low < 0.88 < said.high
    assert said.effective_outcomes < said.outcomes


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_scores_and_weights_beyond_0_and_1_are_refused_by_name(wrong: float) -> None:
    with pytest.raises(InvalidInput, match=r"scores: .* not between 0 and 1"):
        Monitor(floor=0.9).observe([1.0, wrong])
    with pytest.raises(InvalidInput, match="weights: "):
        Monitor(floor=0.9).observe([1.0], weights=wrong)


def test_a_floor_or_a_stored_monitor_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="floor: "):
        Monitor(floor=0.0)
    with pytest.raises(InvalidInput, match="confidence: "):
        Monitor(floor=0.9, confidence=1.0)
    stored = Monitor(floor=0.9).to_mapping()
    stored["capital"]["paid"] = [1.0]
    with pytest.raises(InvalidInput, match="begin a new one"):
        Monitor.from_mapping(stored)
    with pytest.raises(InvalidInput, match="begin a new one"):
        Monitor.from_mapping({"floor": 0.9})


def test_one_failure_refutes_a_floor_of_1_soon() -> None:
    assert Monitor(floor=1.0).observe(np.ones(500)).state is MonitorState.HOLDING
    assert Monitor(floor=1.0).observe([1.0, 0.0, 0.0]).state is MonitorState.BROKEN
