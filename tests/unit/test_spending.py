"""Spending on logs whose truth is known: priced input, right means, valid latency quantiles."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.features import TEXT_FEATURES
from router.policy.priors import LATENCY_SPREAD, prior
from router.policy.spending import (
    LEAST_COST_USD,
    Spending,
    SpendingArrays,
    SpendingForecast,
    SpendingPredictor,
    prior_arrays,
)
from router.types import Arm, Catalog, Floats, Model
from training.learning.loglinear import at_rows
from training.learning.spending import SpendingModel, conformal, finish
from training.log.dataset import Indices, Rows

SMALL, LARGE = (
    Model(name="small", input_usd_per_mtok=0.5, output_usd_per_mtok=2.0, energy_wh_per_ktok=0.1),
    Model(name="large", input_usd_per_mtok=5.0, output_usd_per_mtok=20.0, energy_wh_per_ktok=1.0),
)
SINGLE = Arm(model="small", strategy="single")
SAMPLED = Arm(model="large", strategy="self_consistency", params={"samples": 3})
CATALOG = Catalog(models=(SMALL, LARGE), arms=(SINGLE, SAMPLED))
COLUMNS = len(TEXT_FEATURES)


def _rows(arm: Indices, **figures: Floats) -> Rows:
    """A row per query, of the arms (n,)."""
    blank = np.full(len(arm), np.nan)
    names = ("score", "cost_usd", "latency_s", "input_tokens", "output_tokens", "confidence")
    return Rows(
        query=np.arange(len(arm)),
        arm=arm,
        propensity=blank,
        weight=np.ones(len(arm)),
        score_weight=np.ones(len(arm)),
        **{name: figures.get(name, blank) for name in names},
    )


def _model(models: tuple[Model, ...] = CATALOG.models) -> SpendingModel:
    return SpendingModel(arms=CATALOG.arms, models=models)


def _world(queries: int = 2_000, seed: int = 0) -> tuple[Floats, Floats, Rows]:
    """Contexts, counted tokens, and rows of both arms whose cost is that of their tokens."""
    rng = np.random.default_rng(seed)
    contexts = rng.normal(size=(queries, COLUMNS))
    counted = rng.integers(20, 400, queries).astype(float)
    arm = rng.integers(0, 2, queries)
    billed = np.where(arm == 0, 40.0 + 1.2 * counted, 90.0 + 3.0 * counted).round()
    mean = 80.0 * np.exp(0.5 * contexts[:, 0])
    written = rng.poisson(mean * rng.gamma(1.0, 1.0, queries)).astype(float)
    price = np.array([(0.5, 2.0), (5.0, 20.0)])[arm] / 1e6
    cost = billed * price[:, 0] + written * price[:, 1]
    away = np.exp(-1.0 + 0.8 * contexts[:, 1]) * rng.normal(size=queries)
    figures = {
        "cost_usd": cost,
        "input_tokens": billed,
        "output_tokens": written,
        "latency_s": np.exp(0.3 * contexts[:, 2] + away),
    }
    return contexts, counted, _rows(arm, **figures)


def _predictor(arrays: SpendingArrays, catalog: Catalog = CATALOG) -> SpendingPredictor:
    return SpendingPredictor(arrays=arrays, trained_arms=CATALOG.arms, catalog=catalog)


def _out_of_fold(contexts: Floats, counted: Floats, rows: Rows, fold: Indices) -> SpendingForecast:
    arms = int(rows.arm.max()) + 1
    blank = {name: np.full((len(fold), arms), np.nan) for name in SpendingForecast.__slots__}
    for number in range(int(fold.max()) + 1):
        inside = fold == number
        learnt = _model().fit(contexts, rows.take(~inside[rows.query]), counted)
        found = learnt.predict(contexts[inside], counted[inside])
        for name, values in blank.items():
            values[inside] = getattr(found, name)
    return SpendingForecast(**blank)


def test_queries_predicted_together_come_out_the_same_bit_for_bit() -> None:
    contexts, counted, rows = _world(300)
    predictor = _predictor(_model().fit(contexts, rows, counted).arrays_)
    many = predictor.predict(contexts, counted)
    for row in range(0, 300, 7):
        one = predictor.predict(contexts[row : row + 1], counted[row : row + 1])
        for name in Spending.__slots__:
            assert np.array_equal(getattr(one, name)[0], getattr(many, name)[row])


def test_known_input_tokens_are_priced_exactly() -> None:
    contexts, counted, rows = _world()
    learnt = _model().fit(contexts, rows, counted)
    assert learnt.arrays_.billed_input == pytest.approx(np.array([[40, 1.2], [90, 3.0]]), rel=0.01)
    assert learnt.arrays_.priced.tolist() == [1.0, 1.0]
    cost = learnt.predict(np.zeros((2, COLUMNS)), np.array([100.0, 10_100.0])).cost_usd
    assert cost[1] - cost[0] == pytest.approx([0.006, 0.15], rel=0.02)


def test_expected_cost_and_tokens_are_right_on_average_on_unseen_rows() -> None:
    contexts, counted, rows = _world()
    unseen_contexts, unseen_counted, unseen = _world(seed=1)
    learnt = _model().fit(contexts, rows, counted)
    found = learnt.predict(unseen_contexts, unseen_counted)
    for arm in (0, 1):
        mine = unseen.arm == arm
        for expected, true in (
            (found.cost_usd, unseen.cost_usd),
            (found.output_tokens, unseen.output_tokens),
        ):
            assert expected[mine, arm].mean() == pytest.approx(true[mine].mean(), rel=0.08)


def test_a_cost_that_its_tokens_do_not_explain_is_learnt_on_top_of_their_price() -> None:
    contexts, counted, rows = _world()
    checked = contexts[:, 4] > 0
    contexts[:, 4] = checked
    dearer = replace(rows, cost_usd=rows.cost_usd * np.where(checked, 3.0, 1.0))
    found = _model().fit(contexts, dearer, counted).predict(contexts, counted).cost_usd
    expected = at_rows(found, rows)
    for part in (checked, ~checked):
        assert expected[part].mean() == pytest.approx(dearer.cost_usd[part].mean(), rel=0.1)


def test_output_is_priced_per_query_only_where_tokens_explain_the_cost() -> None:
    contexts, counted, rows = _world()
    learnt = _model().fit(contexts, replace(rows, cost_usd=rows.cost_usd * 1.3), counted)
    assert learnt.arrays_.billed_output.tolist() == [[0.0, 1.0]] * 2
    noise = np.random.default_rng(0).exponential(size=len(rows))
    learnt = _model().fit(contexts, replace(rows, cost_usd=rows.cost_usd * noise), counted)
    constant, ratio = learnt.arrays_.billed_output.T
    assert constant == pytest.approx([rows.output_tokens.mean()] * 2, rel=0.1)
    assert ratio.tolist() == [0.0, 0.0]


def test_a_change_of_price_needs_no_training() -> None:
    contexts, counted, rows = _world()
    arrays = _model().fit(contexts, rows, counted).arrays_
    cheaper = replace(LARGE, input_usd_per_mtok=2.5, output_usd_per_mtok=10.0)
    before = _predictor(arrays).predict(contexts, counted).cost_usd
    after = _predictor(arrays, replace(CATALOG, models=(SMALL, cheaper)))
    ratio = after.predict(contexts, counted).cost_usd / before
    assert ratio[:, 0] == pytest.approx(1.0)
    assert ratio[:, 1] == pytest.approx(0.5)


def test_an_arm_that_was_not_trained_on_has_its_prior_and_its_input_priced() -> None:
    contexts, counted, rows = _world(200)
    arrays = _model().fit(contexts, rows, counted).arrays_
    new = Arm(model="large", strategy="tree_of_thoughts")
    found = _predictor(arrays, replace(CATALOG, arms=(new, SINGLE))).predict(
        contexts[:2], np.array([200.0, 1_200.0])
    )
    expected = prior(new, LARGE)
    assert found.cost_usd[0, 0] == pytest.approx(expected.cost_usd)
    assert found.cost_usd[1, 0] - found.cost_usd[0, 0] == pytest.approx(15 * 1_000 * 5e-6)
    assert found.output_tokens[0, 0] == pytest.approx(expected.output_tokens)
    assert found.latency_s[0, :, 0] == pytest.approx(expected.latency_s * np.exp(LATENCY_SPREAD))
    trained = _predictor(arrays).predict(contexts[:1], np.array([200.0]))
    assert found.cost_usd[0, 1] == trained.cost_usd[0, 0]


def test_an_arm_without_figures_in_the_log_has_priors_and_no_latency() -> None:
    contexts, counted, rows = _world(200)
    blank = np.where(rows.arm == 1, np.nan, 1.0)
    names = ("cost_usd", "input_tokens", "output_tokens", "latency_s")
    without = replace(rows, **{name: getattr(rows, name) * blank for name in names})
    learnt = _model().fit(contexts, without, counted)
    assert learnt.costed_.tolist() == learnt.timed_.tolist() == [True, False]
    found = _predictor(learnt.arrays_).predict(contexts[:1], np.array([200.0]))
    assert found.cost_usd[0, 1] == pytest.approx(prior(SAMPLED, LARGE).cost_usd)
    assert np.isnan(found.latency_s[0, :, 1]).all()
    assert np.isfinite(found.latency_s[0, :, 0]).all()


def test_without_a_cost_in_the_log_tokens_are_priced_by_the_catalog() -> None:
    contexts, counted, rows = _world()
    priceless = replace(rows, cost_usd=np.full(len(rows), np.nan))
    learnt = _model().fit(contexts, priceless, counted)
    expected = at_rows(learnt.predict(contexts, counted).cost_usd, rows)
    assert expected.mean() == pytest.approx(rows.cost_usd.mean(), rel=0.05)


@pytest.mark.parametrize("free", [True, False])
def test_without_prices_the_cost_itself_is_learnt(free: bool) -> None:
    contexts, counted, rows = _world()
    rows = replace(rows, cost_usd=np.zeros(len(rows))) if free else rows
    unpriced = tuple(
        replace(model, input_usd_per_mtok=0.0, output_usd_per_mtok=0.0) for model in CATALOG.models
    )
    learnt = _model(unpriced).fit(contexts, rows, counted)
    found = at_rows(learnt.predict(contexts, counted).cost_usd, rows)
    assert learnt.arrays_.priced.tolist() == [0.0, 0.0]
    assert found.mean() == pytest.approx(max(rows.cost_usd.mean(), LEAST_COST_USD), rel=0.05)


def test_arms_of_few_rows_are_given_their_means() -> None:
    contexts, counted, rows = _world(25)
    learnt = _model().fit(contexts, rows, counted)
    assert not learnt.arrays_.weights[:, :, 1:].any()
    found = learnt.predict(contexts, counted)
    for arm in (0, 1):
        mine = rows.arm == arm
        assert found.output_tokens[0, arm] == pytest.approx(rows.output_tokens[mine].mean())
        assert found.cost_usd[mine, arm].mean() == pytest.approx(rows.cost_usd[mine].mean())


@pytest.mark.parametrize("queries", [1, 2, 40])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e6])
def test_constant_figures_and_contexts_are_learnt_as_they_are(queries: int, value: float) -> None:
    contexts, counted = np.ones((queries, COLUMNS)), np.zeros(queries)
    names = ("cost_usd", "input_tokens", "output_tokens", "latency_s")
    rows = _rows(np.zeros(queries, np.intp), **dict.fromkeys(names, np.full(queries, value)))
    learnt = _model().fit(contexts, rows, counted)
    latency = finish(learnt.predict(contexts, counted), rows)
    found = _predictor(learnt.finished(latency)).predict(contexts, counted)
    assert found.output_tokens[:, 0] == pytest.approx(value)
    assert found.cost_usd[:, 0] == pytest.approx(max(value, LEAST_COST_USD))
    assert found.latency_s[:, 0, 0] == pytest.approx(max(value, 1e-3))
    assert (np.diff(found.latency_s[:, :, 0]) >= 0).all()


def test_a_context_unlike_all_others_gets_no_figure_beyond_those_of_training() -> None:
    contexts, counted, rows = _world()
    learnt = _model().fit(contexts, rows, counted)
    seen = learnt.predict(contexts, counted)
    odd = learnt.predict(np.full((1, COLUMNS), 1e6), np.array([100.0]))
    assert (odd.output_tokens <= seen.output_tokens.max(axis=0) * 1.01).all()
    assert (odd.latency_spread <= seen.latency_spread.max(axis=0) * 1.01).all()


def _covered(learnt: SpendingModel, forecast: SpendingForecast, rows: Rows) -> Floats:
    """Which of fresh rows (n,) are at or below their 0.95 quantile."""
    contexts, counted, fresh = _world(6_000, seed=5)
    arrays = learnt.finished(finish(forecast, rows))
    bound = _predictor(arrays).predict(contexts, counted).latency_s[:, 1]
    return np.asarray(fresh.latency_s <= at_rows(bound, fresh), np.float64)


def test_latency_quantiles_are_valid_and_wider_where_latency_spreads() -> None:
    contexts, counted, rows = _world(3_000)
    forecast = _out_of_fold(contexts, counted, rows, np.arange(3_000) % 5)
    learnt = _model().fit(contexts, rows, counted)
    calm = _world(6_000, seed=5)[0][:, 1] < 0
    assert finish(forecast, rows).strength >= 0.75
    covered = _covered(learnt, forecast, rows)
    assert covered.mean() == pytest.approx(0.95, abs=0.015)
    assert covered[calm].mean() == pytest.approx(0.95, abs=0.025)
    assert covered[~calm].mean() == pytest.approx(0.95, abs=0.025)


def test_a_predicted_spread_that_is_wrong_is_dropped_and_coverage_holds() -> None:
    contexts, counted, rows = _world(3_000)
    forecast = _out_of_fold(contexts, counted, rows, np.arange(3_000) % 5)
    wrong = replace(forecast, latency_spread=1.0 / forecast.latency_spread)
    assert finish(wrong, rows).strength == 0.0
    learnt = _model().fit(contexts, rows, counted)
    assert _covered(learnt, wrong, rows).mean() == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200))
def test_conformal_quantiles_have_the_finite_sample_rank(errors: list[float]) -> None:
    found = conformal(np.array(errors), np.ones(len(errors)))
    for quantile, value in zip((0.5, 0.95, 0.99), found, strict=True):
        rank = math.ceil((len(errors) + 1) * quantile)
        if rank <= len(errors):
            assert value == sorted(errors)[rank - 1]
        else:
            assert value >= max(errors)
    assert (np.diff(found) >= 0).all()


def test_a_row_of_twice_the_weight_counts_as_two() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(size=2_000)
    weight = np.where(errors > 0, 3.0, 1.0)
    repeated = np.repeat(errors, weight.astype(int))
    assert conformal(errors, weight) == pytest.approx(
        conformal(repeated, np.ones(len(repeated))), abs=0.02
    )


def test_few_residuals_give_no_tighter_quantiles_than_the_prior() -> None:
    assert conformal(np.zeros(5), np.ones(5)).tolist() == [0.0, *LATENCY_SPREAD[1:]]


def test_arrays_come_back_from_their_names_in_a_bundle() -> None:
    arrays = prior_arrays(CATALOG.arms, CATALOG.models, 3)
    named = arrays.to_mapping()
    assert set(named) == {f"spending_{name}" for name in SpendingArrays.__slots__}
    again = SpendingArrays.from_mapping(named)
    for name in SpendingArrays.__slots__:
        assert np.array_equal(getattr(again, name), getattr(arrays, name))
    with pytest.raises(KeyError):
        SpendingArrays.from_mapping({name: named[name] for name in list(named)[1:]})


def test_energy_counts_what_is_billed_and_written() -> None:
    contexts, counted, rows = _world(200)
    found = _predictor(_model().fit(contexts, rows, counted).arrays_).predict(contexts, counted)
    billed = 90.0 + 3.0 * counted
    expected = (billed + found.output_tokens[:, 1]) / 1_000 * LARGE.energy_wh_per_ktok
    assert found.energy_wh[:, 1] == pytest.approx(expected, rel=0.02)
