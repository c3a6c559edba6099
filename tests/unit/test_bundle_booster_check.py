"""The structural check lets all that LightGBM writes pass, quickly, and survives all else."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.bundle import booster_check
from router.errors import BundleRefused
from tests.kit.bundles import NAMES, flip, trained


@pytest.mark.parametrize(
    "params",
    [
        {"objective": "cross_entropy"},
        {"objective": "binary"},
        {"objective": "regression"},
        {"objective": "regression", "monotone_constraints": [1, 0, 0, 0, 0, 0]},
        {"objective": "cross_entropy", "min_data_in_leaf": 10_000},
        {"objective": "cross_entropy", "boosting": "dart"},
        {"objective": "cross_entropy", "extra_trees": True},
    ],
    ids=str,
)
def test_what_lightgbm_trains_passes(params: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, len(NAMES)))
    rows[rng.random(rows.shape) < 0.2] = np.nan
    rows[:, 5] = rng.integers(0, 40, 500)
    target = (np.nan_to_num(rows[:, 0]) + rows[:, 5] % 3 > 1).astype(float)
    data = lightgbm.Dataset(rows, target, feature_name=list(NAMES), categorical_feature=[5])
    fixed = {"verbose": -1, "num_threads": 1, "num_leaves": 15}
    booster = lightgbm.train(fixed | params, data, 20)
    booster_check.check(booster.model_to_string().encode(), NAMES)


def test_a_booster_without_categories_or_missing_values_passes() -> None:
    rows = np.random.default_rng(4).normal(size=(300, 1))
    data = lightgbm.Dataset(rows, (rows[:, 0] > 0).astype(float), feature_name=["only"])
    booster = lightgbm.train({"verbose": -1, "num_threads": 1, "objective": "binary"}, data, 3)
    booster_check.check(booster.model_to_string().encode(), ["only"])


def test_the_check_of_a_large_booster_is_quick() -> None:
    text = trained(trees=300).text.encode()
    start = time.process_time()
    booster_check.check(text, NAMES)
    assert time.process_time() - start < 0.5


@settings(max_examples=200)
@given(position=st.integers(0, 1 << 20), mask=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_harmless_and_never_another_error(
    position: int, mask: int
) -> None:
    text = flip(trained().text.encode(), position, mask)
    with contextlib.suppress(BundleRefused):
        booster_check.check(text, NAMES)


@settings(max_examples=100)
@given(length=st.integers(0, 1 << 20))
def test_a_text_cut_short_is_refused(length: int) -> None:
    text = trained().text.encode()
    end = text.index(b"end of parameters")
    with pytest.raises(BundleRefused):
        booster_check.check(text[: length % end], NAMES)


@settings(max_examples=100)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BundleRefused):
        booster_check.check(b"tree\nversion=v4\n" + data, NAMES)
