"""The benchmark's figures against brute force, cases worked by hand, and their laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router.types import Floats
from tests.kit import logs
from training.benchmark.aiq import aiq
from training.benchmark.bootstrap import Resamples, interval
from training.benchmark.coverage import coverage
from training.benchmark.envelope import Envelope, envelope
from training.benchmark.gap import gap_closed
from training.benchmark.pgr import recovered
from training.benchmark.prediction import prediction_figures
from training.benchmark.scale import Scale, budgets, values

coordinates = st.integers(1, 200).map(lambda number: number / 200)
some_points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=9).map(
    lambda points: np.array(points, np.float64)
)
budget = st.integers(1, 240).map(lambda number: number / 200)


def mixed(points: Floats, budget_usd: float) -> float:
    """The best accuracy of any point, or mixture of two, that the budget pays for."""
    best = max((y for x, y in points if x <= budget_usd), default=-np.inf)
    for (x1, y1), (x2, y2) in itertools.permutations(points.tolist(), 2):
        if x1 <= budget_usd < x2:
            best = max(best, y1 + (y2 - y1) * (budget_usd - x1) / (x2 - x1))
    return float(best)


@given(some_points, budget)
def test_the_envelope_is_the_best_mixture_that_a_budget_pays_for(
    points: Floats, budget_usd: float
) -> None:
    if budget_usd >= points[:, 0].min():
        found = envelope(points, np.array([budget_usd]))[0]
        assert found == pytest.approx(mixed(points, budget_usd), abs=1e-9)


@given(some_points, some_points)
def test_adding_points_never_lowers_the_envelope(points: Floats, more: Floats) -> None:
    costs = np.linspace(points[:, 0].min(), 1.2, 40)
    assert (envelope(np.vstack((points, more)), costs) >= envelope(points, costs) - 1e-9).all()


@given(some_points)
def test_the_envelope_rises_and_is_concave(points: Floats) -> None:
    hull = Envelope.of(points)
    slopes = np.diff(hull.accuracy) / np.diff(hull.cost_usd)
    assert (slopes > 0).all()
    assert (np.diff(slopes) <= 1e-9 * np.abs(slopes[:-1])).all()


@given(some_points, coordinates)
def test_the_cost_of_an_accuracy_is_the_least_that_buys_it(points: Floats, target: float) -> None:
    hull = Envelope.of(points)
    cost = hull.cost_of(np.array([target]))[0]
    if target > points[:, 1].max():
        assert cost == np.inf
    else:
        assert hull.at(np.array([cost]))[0] >= target - 1e-9
        assert cost == points[:, 0].min() or mixed(points, cost * (1 - 1e-6)) < target


tables = st.tuples(st.integers(2, 25), st.integers(2, 5), st.integers(0, 2**31)).map(
    lambda drawn: np.random.default_rng(drawn[2]).random((2, drawn[0], drawn[1]))
)


def chosen(accuracy: Floats, cost: Floats, score: Floats, at: Floats) -> Floats:
    """(cost, accuracy) points of choosing by value x accuracy - cost."""
    arms = [(value * accuracy - cost).argmax(axis=1) for value in at]
    rows = np.arange(len(score))
    return np.array([(cost[rows, arm].mean(), score[rows, arm].mean()) for arm in arms])


@given(tables)
def test_constants_close_nothing_the_oracle_all_and_no_way_less_than_nothing(
    drawn: Floats,
) -> None:
    cost, score = drawn[0] + 0.05, np.round(drawn[1])
    constants = np.column_stack((cost.mean(axis=0), score.mean(axis=0)))
    high = float(constants[constants[:, 1].argmax(), 0])
    at, spread = values(high), budgets(float(constants[:, 0].min()), high)
    oracle = chosen(score, cost, score, at)
    if gap_closed(oracle, constants, oracle, spread) is None:
        return
    assert gap_closed(oracle, constants, oracle, spread) == 1.0
    assert gap_closed(constants, constants, oracle, spread) == pytest.approx(0.0, abs=1e-12)
    way = chosen(drawn[0], cost, score, at)
    assert (gap_closed(way, constants, oracle, spread) or 0.0) >= -1e-12


def test_gap_closed_is_the_designs_on_a_case_worked_by_hand() -> None:
    constants = np.array([(1.0, 0.5), (4.0, 0.8)])
    oracle = np.array([(1.0, 0.9)])
    way = np.array([(2.0, 0.8)])
    at = budgets(1.0, 4.0)
    assert (at[0], at[-1], len(at)) == (1.0, pytest.approx(4.0), 60)
    assert np.allclose(np.diff(np.log(at)), np.log(4.0) / 59)
    base = np.mean([0.5 + 0.1 * (each - 1.0) for each in at])
    ours = np.mean([min(0.5 + 0.3 * (each - 1.0), 0.8) for each in at])
    expected = (ours - base) / (0.9 - base)
    assert gap_closed(way, constants, oracle, at) == pytest.approx(expected)


def test_values_are_log_spaced_around_the_cost_of_the_best_constant() -> None:
    at = values(0.002)
    assert len(at) == 60
    assert at[0] == pytest.approx(0.002 * 1e-3)
    assert at[-1] == pytest.approx(0.002 * 10**3.5)
    assert np.allclose(np.diff(np.log10(at)), 6.5 / 59)


def test_without_budgets_or_without_a_gap_there_is_no_gap_closed() -> None:
    one = np.array([(1.0, 0.5)])
    assert not len(budgets(1.0, 1.0))
    assert not len(budgets(0.0, 1.0))
    assert gap_closed(one, one, one, budgets(1.0, 1.0)) is None
    assert gap_closed(one, one, one, budgets(1.0, 2.0)) is None


def test_the_scale_is_that_of_the_queries_with_every_arm() -> None:
    data = logs.simulated(200).dataset
    scale = Scale.of(data)
    assert np.allclose(scale.accuracy, data.table("score").mean(axis=0))
    assert scale.best_arm == int(data.table("score").mean(axis=0).argmax())
    assert scale.low_usd == pytest.approx(data.table("cost_usd").mean(axis=0).min())


def test_the_scale_of_a_bandit_log_is_weighted_by_propensity() -> None:
    log = logs.bandit(3_000)
    scale = Scale.of(log.dataset)
    names = [arm.key for arm in log.dataset.arms]
    order = [names.index(key) for key in _arm_keys()]
    assert scale.accuracy[order] == pytest.approx(log.probability.mean(axis=0), abs=0.1)


def _arm_keys() -> list[str]:
    return ["small:single", "large:single", "large:self_consistency?samples=3"]


def test_aiq_is_the_mean_height_of_the_hull_over_the_common_range() -> None:
    points = np.array([(1.0, 0.5), (3.0, 0.7), (4.0, 0.6)])
    assert aiq(points, 1.0, 5.0) == pytest.approx((2 * 0.6 + 2 * 0.7) / 4)
    assert aiq(points, 0.0, 5.0) == pytest.approx((2 * 0.6 + 2 * 0.7) / 5)
    assert aiq(points, 2.0, 2.0) is None
    assert aiq(np.array([(9.0, 0.9)]), 1.0, 5.0) == 0.0


def test_pgr_and_apgr_are_those_of_routellm_with_two_models() -> None:
    weak, strong = np.array([1.0, 0.4]), np.array([3.0, 0.9])
    chance = recovered(np.vstack((weak, strong)), weak, strong)
    assert chance is not None
    assert chance.average == pytest.approx(0.5)
    assert chance.at_half == pytest.approx(0.5)
    better = recovered(np.array([(2.0, 0.4 + 0.5 * 0.8)]), weak, strong)
    assert better is not None
    assert better.average == pytest.approx(0.5 * 0.4 + 0.5 * 0.9)
    assert better.at_half == pytest.approx(0.8)
    assert recovered(weak[None], weak, weak) is None


def test_brier_auc_and_ece_on_a_case_worked_by_hand() -> None:
    found = prediction_figures(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert found.brier == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)
    assert found.auc == pytest.approx((1 + 1 + 0.5) / 3)
    assert found.ece == pytest.approx((0.6 + 0.4) / 4)
    assert prediction_figures(np.array([0.5]), np.array([1.0])).auc is None


def test_coverage_counts_the_rows_at_or_below_a_quantile() -> None:
    latency = np.concatenate((np.full(95, 1.0), np.full(5, 3.0), [np.nan]))[:, None]
    predicted = np.tile([0.5, 1.0, np.nan], (101, 1, 1))
    low, high = coverage(("a",), latency, predicted)
    assert (low.quantile, low.share, low.low) == (0.5, 0.0, 0.0)
    assert (high.quantile, high.rows, high.share) == (0.95, 100, 0.95)
    assert high.low == pytest.approx(0.8872, abs=1e-4)
    assert high.high == pytest.approx(0.9836, abs=1e-4)


def test_the_first_resample_is_the_sample_and_all_are_paired() -> None:
    rng = np.random.default_rng(0)
    resamples = Resamples(400, 2_000, rng)
    assert np.allclose(resamples.weights.sum(axis=1), 1.0)
    figures = np.random.default_rng(1).normal(size=(2, 400))
    means = resamples.means(figures)
    assert np.allclose(means[0], figures.mean(axis=1))
    found = interval(means[:, 0])
    assert found is not None
    error = 1.96 * figures[0].std() / 20
    assert found.low == pytest.approx(figures[0].mean() - error, abs=0.01)
    assert found.high == pytest.approx(figures[0].mean() + error, abs=0.01)
    both = resamples.means(np.vstack((figures[0], figures[0] + 1.0)))
    assert np.allclose(both[:, 1] - both[:, 0], 1.0)


def test_an_interval_may_end_in_never_and_is_none_where_nothing_is_known() -> None:
    found = interval(np.concatenate(([0.5], np.linspace(0, 1, 90), np.full(10, np.inf))))
    assert found is not None
    assert found.high == np.inf
    assert np.isfinite(found.low)
    assert interval(np.array([0.1, np.nan])) is None


@given(arrays(np.float64, (4, 6), elements=st.floats(0, 1)), st.integers(0, 99))
def test_a_resampled_mean_is_the_mean_of_the_drawn_queries(figures: Floats, seed: int) -> None:
    resamples = Resamples(6, 3, np.random.default_rng(seed))
    for place, weights in enumerate(resamples.weights):
        drawn = np.repeat(figures, np.rint(6 * weights).astype(int), axis=1)
        assert np.allclose(resamples.means(figures)[place], drawn.mean(axis=1))
