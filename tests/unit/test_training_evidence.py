"""Evidence models learn what confidence shows, and the curves what continuing brings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from router.policy.evidence import ALIKE, PASSED_ON, Beliefs, EvidenceModel, probit
from router.types import Floats
from tests.kit import logs
from training.evaluation.held_out import Predicted
from training.learning import evidence
from training.learning.tradeoffs import continued, traced
from training.log.dataset import Dataset

KEYS = ("small:single", "large:single", "large:self_consistency?samples=3")


def probability(made: logs.Simulated, dataset: Dataset) -> Floats:
    """The true probabilities in the dataset's order of queries and arms."""
    place = {text: row for row, text in enumerate(made.texts)}
    columns = [KEYS.index(arm.key) for arm in dataset.arms]
    return np.asarray(made.probability[[place[text] for text in dataset.queries]][:, columns])


def copula(queries: int, seed: int = 0) -> tuple[Dataset, Floats, Floats, Floats]:
    """A log of three arms out of a known copula, with its accuracies, transfer and likeness."""
    rng = np.random.default_rng(seed)
    loading = np.array([0.8, 0.6, 0.3])
    common, own = rng.normal(size=(queries, 1)), rng.normal(size=(queries, 3))
    xi = 0.6 * common + 0.8 * own
    shown = loading * (0.7 * common + np.sqrt(0.51) * own) + np.sqrt(1 - loading**2) * rng.normal(
        size=(queries, 3)
    )
    mu = rng.normal(0.4, 0.5, size=(queries, 3))
    score = (mu + xi > 0).astype(float)
    rows = [
        logs.row(f"q{q}", f"text {q:05}", arm, score=score[q, arm], confidence=shown[q, arm])
        for q in range(queries)
        for arm in range(3)
    ]
    dataset = logs.dataset(rows)
    columns = [KEYS.index(arm.key) for arm in dataset.arms]
    transfer = 0.42 * np.outer(loading, np.ones(3)) + np.diag(loading * np.sqrt(0.51) * 0.8)
    likeness = 0.49 * np.outer(loading, loading)
    np.fill_diagonal(likeness, 1.0)
    order = np.ix_(columns, columns)
    return dataset, ndtr(mu)[:, columns], transfer[order], likeness[order]


def surprises(model: EvidenceModel, dataset: Dataset, accuracy: Floats) -> Floats:
    confidence, mu = dataset.table("confidence"), probit(accuracy)
    arms = range(mu.shape[1])
    columns = [model.surprise(np.full(len(mu), j), mu[:, j], confidence[:, j]) for j in arms]
    return np.stack(columns, axis=1)


def test_the_correlations_of_a_copula_are_found() -> None:
    dataset, accuracy, transfer, likeness = copula(4_000)
    model = evidence.fit(dataset, accuracy)
    assert model.transfer == pytest.approx(transfer, abs=0.07)
    assert model.likeness == pytest.approx(likeness, abs=0.05)
    assert np.linalg.eigvalsh(model.likeness).min() > 0.0


def test_beliefs_after_one_and_two_attempts_are_calibrated_and_better_than_before() -> None:
    dataset, accuracy, _, _ = copula(4_000)
    first = np.arange(4_000) < 2_000
    half = dataset.rows.take(first[dataset.rows.query])
    model = evidence.fit(replace(dataset, rows=half), np.where(first[:, None], accuracy, np.nan))
    shown, score = surprises(model, dataset, accuracy)[~first], dataset.table("score")[~first]
    before = Beliefs.of(model, probit(accuracy[~first]))
    one = before.after(np.zeros(len(shown), np.intp), shown[:, 0])
    two = one.after(np.ones(len(shown), np.intp), shown[:, 1])
    briers = [float(((each.accuracy - score) ** 2).mean()) for each in (before, one, two)]
    assert briers[0] > briers[1] + 0.003
    assert briers[1] > briers[2] + 0.003
    for each in (one, two):
        believed = each.accuracy.ravel()
        for low in (0.0, 0.25, 0.5, 0.75):
            inside = (believed >= low) & (believed < low + 0.25)
            assert believed[inside].mean() == pytest.approx(score.ravel()[inside].mean(), abs=0.05)


def test_confidence_on_any_rising_scale_teaches_the_same() -> None:
    dataset, accuracy, _, _ = copula(600)
    rows = replace(dataset.rows, confidence=-np.exp(-dataset.rows.confidence))
    one, other = (
        evidence.fit(dataset, accuracy),
        evidence.fit(replace(dataset, rows=rows), accuracy),
    )
    assert one.transfer == pytest.approx(other.transfer, abs=0.01)
    assert one.likeness == pytest.approx(other.likeness, abs=0.01)


def test_noise_that_arms_do_not_share_moves_no_other_arm() -> None:
    made = logs.simulated(1_500)
    dataset = made.dataset
    model = evidence.fit(dataset, probability(made, dataset))
    others = ~np.eye(3, dtype=bool)
    assert (np.diag(model.transfer) > 0.6).all()
    assert np.abs(model.transfer[others]).max() < 0.15


def test_a_bandit_log_teaches_an_arm_of_itself_and_leaves_the_prior_for_others() -> None:
    made = logs.bandit(3_000)
    dataset = made.dataset
    model = evidence.fit(dataset, probability(made, dataset))
    own, others = np.diag(model.transfer), ~np.eye(3, dtype=bool)
    assert (own > 0.4).all()
    assert model.transfer[others] == pytest.approx((PASSED_ON * own).repeat(2))
    assert model.likeness[others] == pytest.approx(ALIKE)


@pytest.mark.parametrize(
    "change",
    [{"confidence": 0.5}, {"confidence": None}, {"score": 1.0}, {"score": None}],
    ids=["the same confidence", "no confidence", "the same score", "no score"],
)
def test_rows_that_cannot_teach_inform_of_nothing(change: dict[str, float | None]) -> None:
    made = logs.simulated(200)
    rows = [{**each, **change} if each["model"] == "small" else each for each in made.rows]
    dataset = logs.dataset(rows)
    model = evidence.fit(dataset, np.full((200, 3), 0.7))
    informs = {arm.key: model.informs(index) for index, arm in enumerate(dataset.arms)}
    assert informs == dict(zip(KEYS, (False, True, True), strict=True))
    assert all(np.isfinite(values).all() for values in model.to_mapping().values())


def test_few_rows_inform_of_nothing() -> None:
    made = logs.simulated(40)
    model = evidence.fit(made.dataset, probability(made, made.dataset))
    assert not model.transfer.any()


def test_the_curve_of_a_bandit_log_promises_what_its_picks_reach() -> None:
    made = logs.bandit(4_000, seed=3)
    dataset, rng = made.dataset, np.random.default_rng(0)
    truth = probability(made, dataset)
    noisy = ndtr(probit(truth) + rng.normal(0.0, 0.5, truth.shape))
    cost_usd = np.tile([4e-3, 2e-3, 5e-4], (len(truth), 1))
    predicted = Predicted(accuracy=noisy, cost_usd=cost_usd)
    curve, _ = traced(predicted, dataset)
    picks = [predicted.choose(value) for value in curve.value_usd]
    reached = np.array([truth[np.arange(len(truth)), arms].mean() for arms in picks])
    promised = np.array([noisy[np.arange(len(truth)), arms].mean() for arms in picks])
    assert promised[-1] > reached[-1] + 0.03
    assert np.abs(curve.accuracy - reached).max() < 0.06
    assert abs(curve.accuracy[-1] - reached[-1]) < promised[-1] - reached[-1]


def test_continuing_costs_less_at_the_same_accuracy_and_nothing_is_lost_without_evidence() -> None:
    made = logs.simulated(1_200)
    dataset, rng = made.dataset, np.random.default_rng(0)
    predicted = Predicted(
        accuracy=probability(made, dataset),
        cost_usd=np.tile(np.nanmean(dataset.table("cost_usd"), axis=0), (1_200, 1)),
    )
    single, _ = traced(predicted, dataset)
    model = evidence.fit(dataset, predicted.accuracy)
    both = continued(model, predicted, dataset, single, rng)
    assert both.accuracy.max() > single.accuracy.max()
    floor = 0.98 * single.accuracy.max()
    cost = [float(each.cost_usd[each.accuracy >= floor].min()) for each in (single, both)]
    assert cost[1] < cost[0]
    silent = replace(model, transfer=np.zeros_like(model.transfer))
    assert continued(silent, predicted, dataset, single, rng) is single


def test_a_bandit_log_has_a_curve_of_continuing_too() -> None:
    made = logs.bandit(3_000)
    dataset, rng = made.dataset, np.random.default_rng(0)
    accuracy = probability(made, dataset)
    predicted = Predicted(accuracy=accuracy, cost_usd=np.tile([4e-3, 2e-3, 5e-4], (3_000, 1)))
    single, _ = traced(predicted, dataset)
    model = evidence.fit(dataset, accuracy)
    curve = continued(model, predicted, dataset, single, rng)
    assert (np.diff(curve.accuracy) >= 0).all()
    assert curve.accuracy[-1] > single.accuracy[-1]
