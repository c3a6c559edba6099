"""The ways of the benchmark: what they choose, and what they may not see."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from router.bundle.embedder import load_embedder
from router.types import Floats
from tests.kit import logs
from training.benchmark import constants, rivals
from training.benchmark.ablation import parts
from training.benchmark.encoding import Encoder
from training.benchmark.leadline import Continuing, OneAttempt, Teacher
from training.benchmark.scale import Scale
from training.benchmark.splits import held_out
from training.benchmark.trial import Limited
from training.benchmark.ways import Way, best_arms, spent
from training.learning.policy import learn
from training.learning.targets import Trained
from training.log.dataset import Dataset

EMBEDDER = load_embedder()
ENCODER = Encoder(EMBEDDER)
SPLIT = held_out(logs.simulated(500).dataset, 0.4, seed=0)
VALUES = Scale.of(SPLIT.train).values_usd[::12]
TEACHER = Teacher(partial(learn, embedder=EMBEDDER))

WAYS: dict[str, Callable[[], Way]] = {
    "best constant": constants.BestConstant,
    "mixture": constants.Mixture,
    "uniform": constants.Uniform,
    "knn": lambda: rivals.knn(ENCODER, 0),
    "linear": lambda: rivals.linear(ENCODER),
    "mlp": lambda: rivals.mlp(ENCODER, 0),
    "lightgbm": lambda: rivals.trees(ENCODER, 0),
    "leadline": lambda: OneAttempt(TEACHER),
    "continuation": lambda: Continuing(TEACHER),
}


def shuffled(test: Dataset) -> Dataset:
    """The test with every score put at random."""
    scores = np.random.default_rng(9).permutation(test.rows.score)
    return replace(test, rows=replace(test.rows, score=scores))


@pytest.mark.parametrize("name", WAYS)
def test_a_way_chooses_the_same_whatever_the_scores_are(name: str) -> None:
    way = WAYS[name]().fit(SPLIT.train)
    told = way.walk(SPLIT.test, VALUES)
    blind = way.walk(shuffled(SPLIT.test), VALUES)
    assert told.cost_usd.shape == told.score.shape == (len(VALUES), len(SPLIT.test.queries))
    assert np.array_equal(told.cost_usd, blind.cost_usd)
    assert not np.array_equal(told.score, blind.score)


def test_the_oracle_has_the_greatest_utility_that_one_attempt_can_have() -> None:
    walked = constants.Oracle().fit(SPLIT.train).walk(SPLIT.test, VALUES)
    score, cost = SPLIT.test.table("score"), SPLIT.test.table("cost_usd")
    for place, value in enumerate(VALUES):
        best = (value * score - cost).max(axis=1)
        assert np.allclose(value * walked.score[place] - walked.cost_usd[place], best)


def test_constants_are_chosen_by_what_training_saw() -> None:
    score, cost = SPLIT.train.table("score"), SPLIT.train.table("cost_usd")
    best = int(score.mean(axis=0).argmax())
    walked = constants.BestConstant().fit(SPLIT.train).walk(SPLIT.test, VALUES)
    assert np.array_equal(walked.cost_usd[0], SPLIT.test.table("cost_usd")[:, best])
    mixture = constants.Mixture().fit(SPLIT.train).walk(SPLIT.test, VALUES)
    for place, value in enumerate(VALUES):
        arm = int((value * score.mean(axis=0) - cost.mean(axis=0)).argmax())
        assert np.array_equal(mixture.score[place], SPLIT.test.table("score")[:, arm])


def test_uniform_is_its_exact_expectation() -> None:
    walked = constants.Uniform().fit(SPLIT.train).walk(SPLIT.test, VALUES)
    assert np.allclose(walked.score[2], SPLIT.test.table("score").mean(axis=1))


def test_an_arm_of_unknown_accuracy_or_cost_is_never_chosen() -> None:
    accuracy = np.array([[0.9, np.nan, 0.5], [0.1, 0.9, 0.9]])
    cost = np.array([[np.nan, 0.1, 0.2], [0.1, 0.2, 0.3]])
    assert best_arms(accuracy, cost, np.array([1.0])).tolist() == [[2, 1]]


def test_spent_is_the_truth_of_the_chosen_arms() -> None:
    arms = np.random.default_rng(0).integers(0, 3, (2, len(SPLIT.test.queries)))
    walked = spent(arms, SPLIT.test)
    score = SPLIT.test.table("score")
    assert walked.score[1, 7] == score[7, arms[1, 7]]


@pytest.mark.parametrize("name", ["knn", "linear", "mlp", "lightgbm", "leadline"])
def test_every_learner_beats_the_mean_of_each_arm_where_texts_tell(name: str) -> None:
    walked = WAYS[name]().fit(SPLIT.train).walk(SPLIT.test, VALUES)
    assert walked.predicted is not None
    score = SPLIT.test.table("score")
    flat = SPLIT.train.table("score").mean(axis=0)
    assert _brier(walked.predicted.accuracy, score) < _brier(np.tile(flat, (len(score), 1)), score)


def _brier(accuracy: Floats, score: Floats) -> float:
    return float(((accuracy - score) ** 2).mean())


@pytest.mark.parametrize("name", ["knn", "linear", "mlp", "lightgbm"])
def test_rivals_learn_from_a_bandit_log_too(name: str) -> None:
    train_side = logs.bandit(400).dataset
    walked = WAYS[name]().fit(train_side).walk(SPLIT.test, VALUES)
    assert walked.predicted is not None
    assert not np.isnan(walked.predicted.accuracy).any()


class Interrupted:
    """Does with Ctrl-C what scikit-learn's networks do."""

    def fit(self, _features: Floats, _targets: Floats) -> None:
        warnings.warn("Training interrupted by user.", stacklevel=1)

    def predict(self, features: Floats) -> Floats:
        return features


def test_ctrl_c_during_a_fit_is_never_half_a_fit() -> None:
    with pytest.raises(KeyboardInterrupt):
        rivals.Rival("x", ENCODER.vectors, lambda _rows: Interrupted()).fit(SPLIT.train)


def test_a_regressor_per_pattern_leaves_unknown_arms_unknown() -> None:
    rng = np.random.default_rng(0)
    features, targets = rng.random((60, 3)), rng.random((60, 4))
    targets[:50, 1] = np.nan
    targets[:, 2] = np.nan
    fitted = rivals.PerArm(rivals.linear_regressor).fit(features, targets)
    found = fitted.predict(features)
    assert np.isnan(found[:, 2]).all()
    assert np.allclose(found[:, 1], targets[50:, 1].mean())
    assert not np.isnan(found[:, [0, 1, 3]]).any()


def test_leadline_is_trained_once_for_both_ways_of_using_it() -> None:
    calls: list[Dataset] = []

    def counted(dataset: Dataset) -> Trained:
        calls.append(dataset)
        return learn(dataset, embedder=EMBEDDER)

    teacher = Teacher(counted)
    one, more = OneAttempt(teacher).fit(SPLIT.train), Continuing(teacher).fit(SPLIT.train)
    assert len(calls) == 1
    assert one.taught_ is more.taught_
    assert sum(one.taught_.importance.values()) == pytest.approx(1.0)
    Limited(one, 100, seed=0).fit(SPLIT.train)
    assert len(calls[1].queries) == 100


def test_one_attempt_costs_what_its_arm_costs_and_continuation_the_sum() -> None:
    one = OneAttempt(TEACHER).fit(SPLIT.train).walk(SPLIT.test, VALUES)
    cost = SPLIT.test.table("cost_usd")
    assert np.isclose(one.cost_usd[:, :, None], cost[None]).any(axis=2).all()
    more = Continuing(TEACHER).fit(SPLIT.train).walk(SPLIT.test, VALUES)
    sums = np.stack([cost @ np.array(which) for which in np.ndindex(2, 2, 2)], axis=1)
    assert np.isclose(more.cost_usd[:, :, None], sums[None]).any(axis=2).all()


def test_predictions_stand_under_the_tests_own_arms() -> None:
    walked = OneAttempt(TEACHER).fit(SPLIT.train).walk(SPLIT.test, VALUES[:1])
    assert walked.predicted is not None
    assert walked.predicted.latency_s is not None
    means = walked.predicted.accuracy.mean(axis=0)
    assert means == pytest.approx(SPLIT.test.table("score").mean(axis=0), abs=0.12)
    assert walked.predicted.latency_s.shape == (len(SPLIT.test.queries), 3, 3)


def test_only_a_log_with_propensities_can_do_without_them() -> None:
    learning = partial(learn, embedder=EMBEDDER)
    assert "propensity weights" not in parts(learning, SPLIT.train)
    bandit = logs.bandit(300).dataset
    trained = parts(learning, bandit)["propensity weights"](bandit)
    assert trained.summary["rows"] == 300
