"""The test of a mean by betting: fair in every case, as sharp as an exact test, never ruined."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from router.policy.hedging import Sample, capital, lower_bound, needed, passed
from router.types import Floats
from tests.kit import bounds

LEVEL = 0.05


def coins(mean: float, rows: int, columns: int, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(values=(rng.random((rows, columns)) < mean).astype(float))


Outcomes = tuple[tuple[float, float], ...]
"""Pairs of a value and its control; all are equally likely."""


@st.composite
def outcomes(draw: st.DrawFn) -> Outcomes:
    count = draw(st.integers(2, 3))
    values = draw(st.lists(st.floats(0.0, 1.0), min_size=count, max_size=count))
    controls = np.array(draw(st.lists(st.floats(-1.0, 1.0), min_size=count, max_size=count)))
    centred = (controls - controls.mean()) / 2.0
    return tuple(zip(values, centred.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(outcomes(), st.integers(1, 6), st.floats(0.01, 0.5))
def test_bets_are_fair_where_the_mean_is_the_floor(
    possible: Outcomes, rows: int, level: float
) -> None:
    floor = float(np.mean([value for value, _ in possible]))
    if floor < 1e-6:
        return
    every = np.array(list(product(possible, repeat=rows)))
    sample = Sample(values=every[:, :, 0].T, controls=every[:, :, 1].T)
    held = capital(sample, floor, level)
    assert held.mean() == pytest.approx(1.0, abs=1e-9)
    assert passed(sample, floor, level).mean() <= level + 1e-9


@settings(max_examples=60, deadline=None)
@given(outcomes(), st.integers(1, 6), st.floats(0.0, 0.5))
def test_a_mean_below_the_floor_passes_no_more_often_than_stated(
    possible: Outcomes, rows: int, below: float
) -> None:
    floor = float(np.mean([value for value, _ in possible])) + below
    every = np.array(list(product(possible, repeat=rows)))
    sample = Sample(values=every[:, :, 0].T, controls=every[:, :, 1].T)
    assert floor <= 0.0 or passed(sample, floor, 0.1).mean() <= 0.1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(1, 200),
    st.floats(-0.9, 0.0),
    st.floats(1.0, 50.0),
    st.floats(0.05, 1.0),
)
def test_no_values_leave_less_than_nothing(
    seed: int, rows: int, least: float, most: float, floor: float
) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((rows, 3)) < 0.1, least + most, least)
    controls = np.where(rng.random((rows, 3)) < 0.5, most, -1.0)
    sample = Sample(values=values, controls=controls, least=least, most_control=most)
    assert (capital(sample, floor, LEVEL) >= 0.0).all()


@pytest.mark.parametrize("rows", [50, 300, 1_000])
def test_coin_flips_pass_as_often_as_an_exact_test_lets_them(rows: int) -> None:
    sample, mean = coins(0.85, rows, 4_000), 0.85
    heads = sample.values.sum(axis=0)
    for errors in (0.0, 1.7, 2.5):
        floor = mean - errors * np.sqrt(mean * (1.0 - mean) / rows)
        exact = (binom.sf(heads - 1, rows, floor) <= LEVEL).mean()
        ours = passed(sample, floor, LEVEL).mean()
        assert ours >= exact - 0.06
        assert errors > 0.0 or ours <= LEVEL + 0.012


def _skewed(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.beta(0.1, 1.0, shape)


def _rare(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.where(rng.random(shape) < 0.02, 40.0, 0.0)


def _two_sided(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.where(rng.random(shape) < 0.97, 1.0, 0.0)


@pytest.mark.parametrize("draw", [_skewed, _rare, _two_sided])
@pytest.mark.parametrize("rows", [40, 400])
def test_a_false_floor_seldom_passes_whatever_is_drawn(draw: object, rows: int) -> None:
    assert callable(draw)
    values = draw(np.random.default_rng(1), (rows, 4_000))
    truth = {_skewed: 0.1 / 1.1, _rare: 0.8, _two_sided: 0.97}[draw]
    assert passed(Sample(values=values), truth, LEVEL).mean() <= LEVEL + 0.012


def test_controls_that_follow_the_values_shorten_the_margin() -> None:
    rng = np.random.default_rng(3)
    chance = rng.beta(4.0, 1.0, (500, 300))
    values = (rng.random(chance.shape) < chance).astype(float)
    plain, tuned = Sample(values=values), Sample(values=values, controls=chance - 0.8)
    floor = 0.8 - 2.0 * np.sqrt(0.16 / 500)
    assert passed(tuned, floor, LEVEL).mean() > passed(plain, floor, LEVEL).mean() + 0.03
    assert tuned.shares == pytest.approx(1.0, abs=0.4)


def test_controls_that_say_nothing_cost_little_and_stay_valid() -> None:
    rng = np.random.default_rng(4)
    values = (rng.random((500, 2_000)) < 0.8).astype(float)
    noisy = Sample(values=values, controls=rng.uniform(-1.0, 1.0, values.shape))
    floor = 0.8 - 2.5 * np.sqrt(0.16 / 500)
    lost = passed(Sample(values=values), floor, LEVEL).mean() - passed(noisy, floor, LEVEL).mean()
    assert lost < 0.06
    assert passed(noisy, 0.8, LEVEL).mean() <= LEVEL + 0.015


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(5, 300), st.floats(0.3, 0.98))
def test_a_lower_floor_and_a_lower_confidence_pass_more(seed: int, rows: int, mean: float) -> None:
    sample = coins(mean, rows, 1, seed)
    floors = np.linspace(0.01, 0.99, 50)
    passing = passed(sample, floors, LEVEL)
    assert not (np.diff(passing.astype(int)) > 0).any()
    bound = [lower_bound(sample, level) for level in (0.01, 0.05, 0.2)]
    assert bound == sorted(bound)
    assert bound[-1] <= max(float(sample.values.mean()), 0.001)


def test_more_values_bring_the_bound_nearer_and_ours_is_the_nearest_valid_one() -> None:
    margins = []
    for rows in (100, 300, 900):
        sample = coins(0.85, rows, 20, seed=5)
        ours = np.mean([lower_bound(sample.column(place), LEVEL) for place in range(20)])
        rivals = (bounds.hoeffding_bentkus, bounds.empirical_bernstein, bounds.growth_bets)
        for rival in rivals:
            assert ours > rival(sample.values, LEVEL).mean()
        margins.append(0.85 - ours)
    assert margins == sorted(margins, reverse=True)


def test_the_number_that_is_needed_lets_half_of_the_samples_pass() -> None:
    rows = needed(0.85 * 0.15, 0.03, LEVEL)
    assert rows == pytest.approx(384, abs=5)
    share = passed(coins(0.85, rows, 2_000), 0.82, LEVEL).mean()
    assert 0.35 < share < 0.65


def test_a_floor_that_no_value_is_below_always_passes() -> None:
    assert passed(Sample(values=np.zeros((3, 1))), 0.0, LEVEL).all()
    assert lower_bound(Sample(values=np.zeros((3, 1))), LEVEL) == 0.0
