"""Splits, models and calibration on data whose truth is known."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.calibration import Calibration
from router.types import Arm, Floats
from tests.kit import logs
from training.learning.calibration import calibrate, calibration_error
from training.log.dataset import Indices, Rows
from training.log.models import described
from training.log.splits import folds, holdout

QUERIES = st.lists(st.text(max_size=20), min_size=1, max_size=30)


@given(QUERIES, st.integers(0, 3))
def test_texts_that_differ_in_case_or_space_alone_share_a_side(texts: list[str], seed: int) -> None:
    spaced = [f"  {text} " for text in texts]
    assert np.array_equal(folds(texts, 5, seed), folds(spaced, 5, seed))
    assert np.array_equal(holdout(texts, 0.3, seed), holdout(spaced, 0.3, seed))


def test_a_split_holds_about_its_share_and_folds_do_not_follow_it() -> None:
    texts = [logs.text(number, number % 5) for number in range(4_000)]
    held, fold = holdout(texts, 0.2), folds(texts, 5)
    assert held.mean() == pytest.approx(0.2, abs=0.03)
    counts = np.bincount(fold[held], minlength=5)
    assert counts.min() > 0.14 * counts.sum()


def test_the_dataset_does_not_depend_on_the_order_of_the_rows() -> None:
    rows = logs.bandit(60).rows
    assert logs.dataset(rows).digest == logs.dataset(rows[::-1]).digest
    changed = [{**rows[0], "score": 0.5}, *rows[1:]]
    assert logs.dataset(rows).digest != logs.dataset(changed).digest


def test_query_ids_that_share_a_text_are_one_query() -> None:
    rows = [logs.row(f"q{copy}", "same text", 0, score=copy % 2) for copy in range(4)]
    found = logs.dataset(rows)
    assert (len(found.queries), len(found.rows)) == (1, 4)
    assert found.table("score").tolist() == [[0.5]]


def test_improbable_arms_weigh_more_but_never_too_much() -> None:
    rows = [
        logs.row(f"q{i}", f"t{i}", 0, score=1, propensity=p) for i, p in enumerate((1, 0.5, 1e-9))
    ]
    weight = np.sort(logs.dataset(rows).rows.weight)
    assert weight.mean() == pytest.approx(1.0)
    assert (weight / weight[0]).tolist() == pytest.approx([1.0, 2.0, 20.0])


def test_prices_are_found_back_from_costs_and_tokens() -> None:
    rng = np.random.default_rng(0)
    rows = [
        logs.row(
            f"q{index}",
            f"text {index}",
            index % 2,
            score=float(index % 2 or index % 3 == 0),
            input_tokens=int(used[0]),
            output_tokens=int(used[1]),
            cost_usd=(used[0] * price[0] + used[1] * price[1]) / 1e6,
        )
        for index, used in enumerate(rng.integers(10, 500, (200, 2)))
        for price in [((0.15, 0.6), (2.5, 10.0))[index % 2]]
    ]
    large, small = described(logs.dataset(rows))
    assert (small.input_usd_per_mtok, small.output_usd_per_mtok) == pytest.approx((0.15, 0.6))
    assert (large.input_usd_per_mtok, large.output_usd_per_mtok) == pytest.approx((2.5, 10.0))
    assert (small.tier, large.tier) == (0, 1)


def test_without_tokens_prices_follow_the_mean_cost() -> None:
    rows = [logs.row(f"q{i}", f"t{i}", i % 2, cost_usd=(0.001, 0.1)[i % 2]) for i in range(10)]
    large, small = described(logs.dataset(rows))
    assert 0 < small.input_usd_per_mtok < large.input_usd_per_mtok


def test_a_calibrated_probability_holds() -> None:
    rng = np.random.default_rng(3)
    truth = rng.beta(2, 1, 60_000)
    score = (rng.random(len(truth)) < truth).astype(float)
    raw = 3.0 * np.log(truth / (1 - truth)) + 1.0
    half = len(raw) // 2
    weight = np.ones(half)
    fitted = _calibrated(raw[:half], score[:half])
    assert len(fitted.level) <= 64
    accuracy, low, high = (each[:, 0] for each in fitted(raw[half:, None]))
    before = calibration_error(1 / (1 + np.exp(-raw[half:])), score[half:], weight)
    assert calibration_error(accuracy, score[half:], weight) < 0.015 < before
    assert np.abs(accuracy - truth[half:]).mean() < 0.02
    assert (low <= accuracy).all()
    assert (accuracy <= high).all()


@given(st.lists(st.tuples(st.floats(-40, 40), st.floats(0, 1)), min_size=1, max_size=300))
def test_calibration_rises_and_stays_inside_its_interval(pairs: list[tuple[float, float]]) -> None:
    raw, score = np.array(pairs).T
    fitted = _calibrated(raw, score)
    accuracy, low, high = fitted(np.linspace(-50.0, 50.0, 101)[:, None])
    assert (np.diff(accuracy, axis=0) >= 0).all()
    assert ((low >= 0) & (low <= accuracy) & (accuracy <= high) & (high <= 1)).all()


def test_an_arms_offset_is_its_own_where_its_rows_say_so_and_common_where_they_are_few() -> None:
    rng = np.random.default_rng(4)
    arm = np.repeat([0, 1, 2], [4_000, 4_000, 10])
    raw = rng.normal(size=len(arm))
    truth = 1 / (1 + np.exp(-(raw + np.array([0.5, -0.5, 2.0])[arm])))
    fitted = _calibrated(raw, (rng.random(len(arm)) < truth).astype(float), arm)
    assert fitted.offset[0] - fitted.offset[1] == pytest.approx(1.0, abs=0.15)
    assert fitted.offset[2] < 1.0


def _calibrated(raw: Floats, score: Floats, arm: Indices | None = None) -> Calibration:
    place = np.zeros(len(raw), np.intp) if arm is None else arm
    table = np.full((len(raw), int(place.max()) + 1), np.nan)
    table[np.arange(len(raw)), place] = raw
    blank = np.full(len(raw), np.nan)
    figures = dict.fromkeys([item.name for item in fields(Rows)], blank) | {
        "query": np.arange(len(raw)),
        "arm": place,
        "score": score,
        "weight": np.ones(len(raw)),
    }
    arms = tuple(Arm(model=f"m{index}", strategy="single") for index in range(table.shape[1]))
    return calibrate(table, Rows(**figures), arms)
