"""Energy: each token that is sent or written counts, and emissions follow the region's grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.energy import emission_usd, emitted_gco2e
from router.policy.policy import static_policy
from router.policy.spending import SpendingPredictor, prior_arrays
from router.policy.table import ArmTable
from router.types import Arm, Catalog, Model

CLEAN = Model(
    name="clean",
    input_usd_per_mtok=1.0,
    output_usd_per_mtok=4.0,
    energy_wh_per_ktok=0.4,
    grid_gco2e_per_kwh=30.0,
)
MODELS = (CLEAN, replace(CLEAN, name="coal", grid_gco2e_per_kwh=800.0))
ARMS = tuple(
    Arm(model=model.name, strategy=strategy, params=params)
    for model in MODELS
    for strategy, params in (("single", {}), ("self_consistency", {"samples": 5, "base": "single"}))
)
CATALOG = Catalog(models=MODELS, arms=ARMS)
TABLE = ArmTable(CATALOG)


def test_an_arm_emits_its_energy_times_its_grid() -> None:
    found = emitted_gco2e(TABLE, np.full(4, 2.5))
    assert found == pytest.approx([2.5e-3 * 30.0] * 2 + [2.5e-3 * 800.0] * 2)


def test_a_price_of_emissions_is_per_kilogram() -> None:
    found = emission_usd(TABLE, np.full((2, 4), 1_000.0), 0.1)
    assert found == pytest.approx(np.tile([0.003, 0.003, 0.08, 0.08], (2, 1)))


@given(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(0, 10), st.floats(0, 10))
def test_emissions_cost_no_less_for_more_energy_or_a_higher_price(
    energy_wh: float, more_wh: float, price: float, higher: float
) -> None:
    least = emission_usd(TABLE, np.full(4, energy_wh), price)
    assert (emission_usd(TABLE, np.full(4, energy_wh + more_wh), price) >= least).all()
    assert (emission_usd(TABLE, np.full(4, energy_wh), price + higher) >= least).all()
    assert (least >= 0.0).all()


def test_every_call_of_an_arm_that_was_never_run_counts_its_input_and_its_output() -> None:
    """As the fallback and as a policy that has nothing but priors of it."""
    text, columns = "x" * 4_000, 3
    predictions = static_policy(CATALOG).predict([text])[0].predictions
    predictor = SpendingPredictor(
        arrays=prior_arrays(ARMS, [CATALOG.model(arm.model) for arm in ARMS], columns),
        trained_arms=ARMS,
        catalog=CATALOG,
    )
    spent = predictor.predict(np.zeros((1, columns)), np.array([1_000.0]))
    for energy_wh, written in (
        (predictions.energy_wh, predictions.output_tokens),
        (spent.energy_wh[0], spent.output_tokens[0]),
    ):
        tokens = 1_000.0 * np.array([1, 5, 1, 5]) + written
        assert energy_wh == pytest.approx(tokens / 1_000.0 * 0.4)
