"""From a policy and a log to a certificate: serving's decisions, honest weights, named errors."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import numpy as np
import pytest

from router import pipeline
from router.conditions import Conditions, Promise
from router.errors import InvalidInput
from router.policy.certificate import Status
from router.policy.hedging import lower_bound
from router.policy.policy import Policy, static_policy
from router.slo import AccuracyScope, OnInfeasible, Slo
from router.types import Bounds, Catalog, Floats, Query
from tests.kit import logs
from tests.kit.bound import bound
from tests.kit.embedding import embedder
from training.benchmark.splits import part
from training.certifying import certificate, shown
from training.evaluation.scored import Log
from training.learning.decided import Decided, decided
from training.learning.policy import learn
from training.log.dataset import Dataset

FLOOR = Slo(min_accuracy=0.52)
SMALL, LARGE = "small:single", "large:single"
SLOS = (
    FLOOR,
    Slo(min_accuracy=0.6, allowed_models=("large",)),
    Slo(min_accuracy=0.6, max_cost_usd=3e-4),
    Slo(min_accuracy=0.6, max_latency_s=3.0, exploration_rate=0.3),
    Slo(min_accuracy=0.6, max_latency_s=1.0, on_infeasible=OnInfeasible.CHEAPEST),
)


@cache
def policy() -> Policy:
    return bound(learn(logs.simulated(300, seed=1).dataset, embedder=embedder()))


@cache
def fresh(queries: int = 600, seed: int = 9) -> logs.Simulated:
    return logs.simulated(queries, seed=seed)


@cache
def bandit() -> logs.Simulated:
    return logs.bandit(2_000, seed=5)


def values() -> Floats:
    tradeoff = policy().tradeoff
    assert tradeoff is not None
    return tradeoff.value_usd


@pytest.mark.parametrize("slo", SLOS)
def test_decisions_are_servings_own_at_every_value(slo: Slo) -> None:
    texts = fresh().texts[:20]
    made = decided(policy(), texts, slo, values())
    for place, text in enumerate(texts):
        for column in range(0, len(values()), 4):
            promise = Promise(certificate_id="x", value_usd=float(values()[column]))
            decision = pipeline.decide(
                policy(),
                Query(text=text),
                replace(slo, exploration_rate=0.0),
                Bounds(),
                decision_id=UUID(int=column),
                now=datetime(2026, 1, 1, tzinfo=UTC),
                conditions=Conditions(promise=promise),
            )
            assert made.arms[place, column] == decision.choice.index
            assert (made.feasible[place] == decision.choice.feasible).all()


def test_exploration_is_part_of_what_is_certified() -> None:
    texts = fresh().texts[:30]
    made = decided(policy(), texts, replace(FLOOR, exploration_rate=0.5), values())
    score = np.random.default_rng(0).random((30, 3))
    picked = np.take_along_axis(score, made.arms, axis=1)
    expected = 0.5 * picked + 0.5 * score.mean(axis=1)[:, None]
    assert made.mean(score) == pytest.approx(expected)
    arms = np.repeat(np.arange(3)[None], 30, axis=0)
    chances = sum(made.chance(np.arange(30), arms[:, arm]) for arm in range(3))
    assert chances == pytest.approx(1.0)


def test_a_floor_is_certified_from_outcomes_that_training_has_not_seen() -> None:
    found = certificate(policy(), fresh().dataset, FLOOR)
    assert found.certified, found.message
    assert found.n == found.effective_n == len(fresh().dataset.queries)
    truth = _truth(found.value_usd)
    assert truth > 0.5
    assert found.estimate == pytest.approx(truth, abs=0.05)
    again = certificate(policy(), fresh().dataset, FLOOR)
    assert again == found


def _truth(value_usd: float) -> float:
    """The mean probability of a right answer of the decisions at a value."""
    texts = fresh().texts
    made = decided(policy(), texts, FLOOR, np.array([value_usd]))
    order = [logs_place(arm.key) for arm in policy().arms]
    return float(made.mean(fresh().probability[:, order]).mean())


def logs_place(key: str) -> int:
    keys = [SMALL, LARGE, "large:self_consistency?samples=3"]
    return keys.index(key)


def test_bounds_of_the_slo_bind_what_is_certified() -> None:
    cheap = certificate(policy(), fresh().dataset, replace(FLOOR, allowed_models=("small",)))
    assert cheap.status is Status.INFEASIBLE
    assert cheap.cost_usd < certificate(policy(), fresh().dataset, FLOOR).cost_usd


def test_a_pool_of_queries_without_outcomes_sharpens_the_bound() -> None:
    few = part(fresh().dataset, np.arange(len(fresh().dataset.queries)) % 4 == 0)
    pool = logs.simulated(1_200, seed=11).texts
    plain = shown(policy(), few, FLOOR).candidates.sample
    tuned = shown(policy(), few, FLOOR, pool=pool)
    assert plain.controls is None
    assert tuned.unlabelled_n == 1_200 // len(few.queries) * len(few.queries)
    sample = tuned.candidates.sample
    assert sample.corrected[:, -1].var() < 0.95 * plain.values[:, -1].var()
    assert certificate(policy(), few, FLOOR, pool=pool[:5]).unlabelled_n == 0


def test_queries_that_lack_an_outcome_are_left_out_and_counted() -> None:
    rows = fresh().rows
    rows = [row for place, row in enumerate(rows) if place % 31]
    found = certificate(policy(), logs.dataset(rows), FLOOR)
    assert found.left_out > 0
    assert found.n + found.left_out == len(logs.dataset(rows).queries)


def test_a_bandit_logs_weighted_scores_have_the_mean_of_the_truth() -> None:
    dataset = bandit().dataset
    made = decided(policy(), dataset.queries, FLOOR, values())
    scored = Log.of(dataset, policy()).scored(made)
    sample = shown(policy(), dataset, FLOOR).candidates.sample
    assert sample.controls is not None
    error = sample.controls.std(axis=0) / np.sqrt(len(sample))
    assert (np.abs(sample.controls.mean(axis=0)) <= 4.5 * error + 1e-9).all()
    truth = np.array([_truth(float(value)) for value in (values()[0], values()[-1])])
    spread = sample.corrected.std(axis=0)[[0, -1]] / np.sqrt(len(sample))
    assert (np.abs(sample.corrected.mean(axis=0)[[0, -1]] - truth) < 4.0 * spread + 0.02).all()
    assert (sample.corrected.var(axis=0)[-1]) < scored.value.var(axis=0)[-1]


def test_a_bandit_log_certifies_with_its_effective_sample_size() -> None:
    found = certificate(policy(), bandit().dataset, Slo(min_accuracy=0.35))
    assert found.certified, found.message
    assert _truth(found.value_usd) >= 0.35
    assert found.effective_n < found.n


def test_arms_that_the_log_could_not_pick_count_as_wrong() -> None:
    """Every row picked the small model for certain: nothing is known of the large one."""
    rows = [{**row, "propensity": 1.0} for row in fresh().rows if row["model"] == "small"]
    for floor in (0.6, 0.9):
        found = certificate(policy(), logs.dataset(rows), Slo(min_accuracy=floor))
        assert found.status is Status.NOT_CERTIFIABLE
        assert "the log has never tried what this would take" in found.message
        assert "set exploration_rate" in found.message
        assert found.estimate < 0.1


def test_a_floor_beyond_what_a_log_has_tried_at_random_is_infeasible() -> None:
    found = certificate(policy(), bandit().dataset, Slo(min_accuracy=0.97))
    assert found.status is Status.INFEASIBLE, found.message


def test_weights_that_fall_short_of_their_mean_lose_their_controls() -> None:
    """The log says that it picked at random, and never picked the large model."""
    rows = [{**row, "propensity": 0.8} for row in fresh().rows if row["model"] == "small"]
    sample = shown(policy(), logs.dataset(rows), FLOOR).candidates.sample
    assert sample.controls is not None
    assert (sample.values[:, -1] >= 0.0).all()
    assert sample.corrected[:, -1].mean() < 0.1


def test_a_relative_floor_is_certified_by_the_difference() -> None:
    dataset, key = fresh().dataset, "large:self_consistency?samples=3"
    relative = Slo(min_relative_accuracy=0.9, reference_arm=key)
    found = certificate(policy(), dataset, relative)
    mean = float(dataset.table("score")[:, [a.key for a in dataset.arms].index(key)].mean())
    assert found.certified, found.message
    assert found.reference_arm == key
    assert found.reference_share == 0.9
    assert found.reference_bound is not None
    assert mean - 0.1 < found.reference_bound < mean
    assert found.floor == pytest.approx(0.9 * mean)
    assert _truth(found.value_usd) >= 0.9 * float(fresh().probability[:, 2].mean()) - 1e-9
    absolute = certificate(policy(), dataset, Slo(min_accuracy=found.floor))
    assert found.cost_usd <= absolute.cost_usd or not absolute.certified


def test_a_relative_floor_on_a_bandit_log_counts_what_is_not_known_against_it() -> None:
    dataset = bandit().dataset
    relative = Slo(min_relative_accuracy=0.5, reference_arm=LARGE)
    known = shown(policy(), dataset, relative).candidates
    sample = known.sample
    assert known.referred is not None
    assert 0.0 < lower_bound(known.referred, 0.025) < fresh().probability[:, 1].mean()
    assert sample.values.min() >= sample.least - 1e-9
    assert sample.controls is not None
    assert sample.controls.max() <= sample.most_control
    same = shown(policy(), dataset, Slo(min_relative_accuracy=1.0, reference_arm=SMALL))
    values_of_small = same.candidates.sample.values[:, 0]
    assert np.abs(values_of_small).max() < 1e-9 or values_of_small.mean() < 0.1


@pytest.mark.parametrize(
    ("slo", "what"),
    [
        (Slo(), "there is no floor to certify"),
        (Slo(min_accuracy=0.6, accuracy_scope=AccuracyScope.PER_QUERY), "mean accuracy"),
        (Slo(min_relative_accuracy=0.9, reference_arm="nobody:single"), "has no arm 'nobody"),
    ],
)
def test_what_cannot_be_certified_is_refused_by_name(slo: Slo, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        certificate(policy(), fresh().dataset, slo)


def test_a_policy_without_a_trade_off_and_a_log_without_scores_are_refused() -> None:
    plain = static_policy(Catalog(models=(), arms=()))
    with pytest.raises(InvalidInput, match="no trade-off"):
        certificate(plain, fresh().dataset, FLOOR)
    unscored = logs.dataset([{**row, "score": None} for row in fresh().rows])
    with pytest.raises(InvalidInput, match="no query has a score for every arm"):
        certificate(policy(), unscored, FLOOR)


def test_a_log_in_another_order_gives_the_same_certificate() -> None:
    rows = list(fresh().rows)
    turned: Dataset = logs.dataset(rows[::-1])
    one, other = (certificate(policy(), each, FLOOR) for each in (fresh().dataset, turned))
    assert one == other


def test_decisions_of_unanswered_queries_have_no_part() -> None:
    made = decided(policy(), fresh().texts[:5], replace(FLOOR, allowed_models=("none",)), values())
    assert isinstance(made, Decided)
    assert not made.answered.any()
