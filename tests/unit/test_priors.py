"""Priors reproduce the published figures, and arms tell of arms that are like them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from router.policy.arms import compute
from router.policy.policy import static_policy
from router.policy.priors import EXPONENT, SINGLE_PASS_ERROR, expect, prior
from router.policy.resemblance import borrowed, covariance, tier_by_price
from router.policy.scaling import EXPONENT_HIGH, EXPONENT_LOW, MATH, STRATEGIES, Measured
from router.types import Arm, Catalog, Model, Strategy
from tests.kit.policies import catalog


def model(name: str = "m", *, tier: int = 0, price: float = 1.0) -> Model:
    return Model(name=name, tier=tier, input_usd_per_mtok=price, output_usd_per_mtok=price)


def arm(strategy: str = "single", name: str = "m", **params: Any) -> Arm:
    return Arm(model=name, strategy=strategy, params=params)


def accuracy(each: Arm, tier: int = 0) -> float:
    return prior(each, model(tier=tier)).accuracy


def measured(row: Measured) -> Arm:
    return Arm(model="m", strategy=row.strategy, params=row.params)


def test_the_law_is_the_least_squares_fit_of_the_published_table() -> None:
    computes = np.array([row.compute for row in MATH])
    errors = np.array([1.0 - row.math_accuracy for row in MATH])
    found, _ = curve_fit(
        lambda spent, one, power: one * spent**-power, computes, errors, (0.5, 0.2)
    )
    assert found.tolist() == pytest.approx([SINGLE_PASS_ERROR, EXPONENT], abs=5e-4)
    assert EXPONENT_LOW <= EXPONENT <= EXPONENT_HIGH


@pytest.mark.parametrize("row", MATH, ids=lambda row: f"{row.compute}x")
def test_the_published_table_comes_out_within_its_stated_error(row: Measured) -> None:
    assert accuracy(measured(row)) == pytest.approx(row.math_accuracy, abs=0.033)


def test_accuracy_grows_with_compute_by_a_published_power() -> None:
    one = accuracy(arm())
    for budget in (256, 1024, 4096):
        thought = arm("chain_of_thought", tokens=budget)
        power = math.log(accuracy(thought) / one) / math.log(compute(thought))
        assert EXPONENT_LOW <= power <= EXPONENT_HIGH


@pytest.mark.parametrize("strategy", ["tree_of_thoughts", "dynamic"])
def test_a_strategy_of_the_other_published_table_comes_out_within_a_twentieth(
    strategy: str,
) -> None:
    (row,) = (each for each in STRATEGIES if each.strategy == strategy)
    assert accuracy(measured(row)) == pytest.approx(row.math_accuracy, abs=0.05)


@given(st.integers(0, 12), st.integers(0, 12), st.floats(0.1, 1e3), st.floats(0.1, 1e3))
def test_a_higher_tier_or_a_larger_budget_is_never_expected_to_do_worse(
    tier: int, other: int, tokens: float, more: float
) -> None:
    low, high = sorted((tier, other))
    small, large = sorted((tokens, more))
    less = accuracy(arm("chain_of_thought", tokens=small), low)
    assert less <= accuracy(arm("chain_of_thought", tokens=small), high)
    assert less <= accuracy(arm("chain_of_thought", tokens=large), low)


def test_nothing_is_expected_of_samples_and_rounds_beyond_where_they_flatten() -> None:
    assert accuracy(arm("self_consistency", samples=400)) == accuracy(
        arm("self_consistency", samples=50)
    )
    assert accuracy(arm("refinement", rounds=40)) == accuracy(arm("refinement", rounds=9))
    assert accuracy(arm("refinement", rounds=3)) < accuracy(arm("refinement", rounds=9))


def test_with_no_log_the_static_policy_expects_the_priors_of_any_arm() -> None:
    every = tuple(
        Arm(model=each.name, strategy=strategy)
        for each in catalog().models
        for strategy in (*Strategy, "of_their_own")
    )
    found = static_policy(Catalog(models=catalog().models, arms=every)).predict(["2 + 2?"])
    predictions = found[0].predictions
    assert ((predictions.accuracy > 0) & (predictions.accuracy < 1)).all()
    by_model = predictions.accuracy.reshape(len(catalog().models), -1)
    assert (np.diff(by_model, axis=0) > 0).all()


def test_without_trained_arms_the_priors_are_expected() -> None:
    arms, models = [arm(), arm("dynamic")], [model(), model()]
    found = expect(arms, models, {})
    assert found.accuracy.tolist() == pytest.approx([accuracy(each) for each in arms])
    assert (found.rows < 10).all()


def test_trained_arms_that_do_better_than_their_priors_raise_what_is_expected_of_others() -> None:
    arms = [arm(), arm("chain_of_thought"), arm("single", "far")]
    models = [model(), model(), model("far", price=300.0)]
    plain = expect(arms, models, {}).accuracy
    found = expect(arms, models, {arms[0].key: 0.8}).accuracy
    moved = np.log(found / (1 - found)) - np.log(plain / (1 - plain))
    assert (moved > 0).all()
    assert moved[1] > moved[2]


def test_an_expectation_is_worth_more_rows_the_better_trained_arms_foretell_one_another() -> None:
    arms = [arm("single", f"m{place}") for place in range(9)]
    models = [model(f"m{place}", tier=place, price=0.1 * 2**place) for place in range(9)]
    steady = {
        each.key: prior(each, of).accuracy for each, of in zip(arms[:-1], models, strict=False)
    }
    erratic = {key: (0.15, 0.9)[place % 2] for place, key in enumerate(steady)}
    rows = [float(expect(arms, models, seen).rows[-1]) for seen in (steady, erratic)]
    assert rows[0] > 3 * rows[1]


def test_resemblance_is_a_covariance_and_greatest_for_the_same_model() -> None:
    table = catalog()
    models = [table.model(each.model) for each in table.arms]
    alike = covariance(table.arms, models)
    assert np.linalg.eigvalsh(alike).min() > -1e-9
    same = np.array([one.name == other.name for one in models for other in models])
    assert alike.ravel()[same].min() > alike.ravel()[~same].max()


def test_an_arm_borrows_most_from_the_same_model_at_nearly_its_compute() -> None:
    table = catalog()
    models = [table.model(each.model) for each in table.arms]
    weights = borrowed(
        arm("self_consistency", "m1", samples=12), table.models[1], table.arms, models
    )
    assert table.arms[int(weights.argmax())].model == "m1"
    assert weights.sum() < 1.5


def test_a_model_that_nobody_ranked_has_the_tier_of_those_of_its_price() -> None:
    ranked = [model(f"m{tier}", tier=tier, price=0.1 * 8.0**tier) for tier in range(4)]
    assert [tier_by_price(model(price=0.1 * 8.0**tier), ranked) for tier in range(4)] == [
        0,
        1,
        2,
        3,
    ]
    assert tier_by_price(model(price=1e9), ranked) == 3
