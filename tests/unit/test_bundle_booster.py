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


@pytest.mark.parametrize("shape", [(5,), (3, 5), (3, 7)])
def test_rows_of_another_shape_are_refused(
    booster: lightgbm.Booster, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"not \(n, 6\)"):
        FlatBooster(booster).predict(np.zeros(shape))
