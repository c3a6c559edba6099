"""The flat booster predicts what LightGBM's own wrapper does."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from router.bundle.booster import FlatBooster


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 6))
    rows[:, 5] = rng.integers(0, 4, 400)
    label = (rows[:, 0] + rows[:, 5] > 1).astype(float)
    data = lightgbm.Dataset(rows, label, categorical_feature=[5])
    return lightgbm.train({"objective": "cross_entropy", "verbose": -1}, data, 20)


@pytest.mark.parametrize("raw_score", [True, False])
def test_it_predicts_what_the_wrapper_predicts(booster: lightgbm.Booster, raw_score: bool) -> None:
    rows = np.random.default_rng(1).normal(size=(33, 6))
    rows[3, 5] = np.nan
    expected = booster.predict(rows, raw_score=raw_score)
    assert np.array_equal(FlatBooster(booster).predict(rows, raw_score=raw_score), expected)
    assert np.array_equal(
        FlatBooster(booster).predict(np.asfortranarray(rows), raw_score=raw_score), expected
    )


def test_contributions_are_the_wrappers_and_add_up_to_the_raw_score(
    booster: lightgbm.Booster,
) -> None:
    rows = np.random.default_rng(2).normal(size=(33, 6))
    rows[3, 5] = np.nan
    found = FlatBooster(booster).contributions(rows)
    assert np.array_equal(found, booster.predict(rows, pred_contrib=True))
    raw = FlatBooster(booster).predict(rows, raw_score=True)
    assert np.allclose(found.sum(axis=1), raw, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 7)])
def test_rows_of_another_shape_are_refused(
    booster: lightgbm.Booster, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"not \(n, 6\)"):
        FlatBooster(booster).predict(np.zeros(shape))
    with pytest.raises(ValueError, match=r"not \(n, 6\)"):
        FlatBooster(booster).contributions(np.zeros(shape))
