"""From policies and a log to the gate's contest: what serves is judged, by an independent model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from router import pipeline
from router.bundle.archive import pack
from router.errors import InvalidInput
from router.policy.policy import Policy, static_policy
from router.slo import Slo
from router.types import Bounds, Catalog, Query
from tests.kit import bandits, bundles, logs
from tests.kit.bound import bound
from tests.kit.embedding import embedder
from training.evaluation.slices import script_facet
from training.gate.asked import Asked, asked, best_constant
from training.gate.contest import Contest
from training.gate.facts import Bundle, Learnt
from training.gate.inputs import Outcomes, contest, seen
from training.gate.judge import Checks, judge
from training.gate.rewards import corrected
from training.gate.trials import bundle, fairness, promised, timing
from training.learning.policy import learn
from training.log.dataset import Dataset
from training.log.models import described
from training.log.splits import folds

VALUE = Slo(accuracy_value_usd=1e-3, exploration_rate=0.2)
FLOOR = Slo(name="gold", min_accuracy=0.5)


@cache
def past() -> Dataset:
    return logs.simulated(300, seed=1).dataset


@cache
def policy() -> Policy:
    return bound(learn(past(), embedder=embedder()))


@cache
def static() -> Policy:
    return static_policy(Catalog(models=tuple(described(past())), arms=past().arms))


@cache
def fresh() -> logs.Simulated:
    return logs.simulated(400, seed=5)


@cache
def held() -> Dataset:
    """A log of a policy that picks any arm of three."""
    full = fresh().dataset
    return bandits.logged(full, np.full((400, 3), 1.0 / 3.0), np.random.default_rng(3))


@cache
def made(slo: Slo = VALUE) -> Contest:
    found = Outcomes.of(held())
    slos = [asked(slo, policy(), past())]
    found = replace(found, facets=(script_facet(found.texts),))
    return contest(found, slos, policy(), static(), embedder()).contest


def test_what_is_judged_is_what_serves_but_for_exploration() -> None:
    judged, found = made(), Outcomes.of(held())
    for row in range(0, len(found), 40):
        query = Query(text=found.texts[row])
        plain = replace(VALUE, exploration_rate=0.0)
        decision = pipeline.decide(
            policy(), query, plain, Bounds(), decision_id=UUID(int=row), now=bundles.NOW
        )
        assert judged.candidate.target[row].argmax() == decision.choice.index
        assert judged.candidate.accuracy[row, :3] == pytest.approx(decision.predictions.accuracy)
    for each in (judged.candidate, judged.incumbent):
        assert each is not None
        assert each.target.sum(axis=1) == pytest.approx(1.0)


def test_the_measured_difference_is_that_of_the_truth() -> None:
    judged, found = made(), Outcomes.of(held())
    known = dict(zip(fresh().texts, fresh().probability, strict=True))
    place = {arm.key: place for place, arm in enumerate(held().arms)}
    order = [place[f"{model}:{strategy}"] for model, strategy, _ in logs.ARMS[:2]]
    true = np.zeros((len(found), 4))
    for row, text in enumerate(found.texts):
        true[row, order] = known[text][:2]
        true[row, 3 - sum(order)] = known[text][2]
    utility = 1e-3 * true - judged.held.expected_cost_usd
    gained = judged.candidate.target - judged.constant_target
    measured = judge(judged, checks()).conditions[1].measured
    error = (float(measured["difference_usd"] or 0) - float(measured["low_usd"] or 0)) / 1.64
    assert measured["difference_usd"] == pytest.approx(
        float((gained * utility).sum(axis=1).mean()), abs=3.0 * error
    )


def test_all_contestants_are_valued_alike_and_the_constant_is_of_the_training_side() -> None:
    own = asked(FLOOR, policy(), past())
    tradeoff = policy().tradeoff
    assert tradeoff is not None
    assert own.value_usd == tradeoff.value_for(0.5)[0]
    assert asked(VALUE, static(), past()).value_usd == 1e-3
    assert own.constant == best_constant(past(), FLOOR, own.value_usd)
    small = replace(FLOOR, allowed_models=("small",))
    assert best_constant(past(), small, 1.0) == "small:single"
    with pytest.raises(InvalidInput, match="no arm that the slo permits"):
        best_constant(past(), replace(FLOOR, allowed_models=("none",)), 1.0)
    with pytest.raises(InvalidInput, match="learnt no trade-off"):
        asked(FLOOR, static(), past())


def test_each_interaction_is_decided_under_its_own_slo() -> None:
    found = Outcomes.of(held())
    half = np.arange(len(found)) % 2
    slos = [
        Asked(slo=replace(VALUE, allowed_models=(model,)), value_usd=1e-3, constant=key)
        for model, key in (("small", "small:single"), ("large", "large:single"))
    ]
    both = contest(replace(found, asked=half), slos, policy(), None, embedder()).contest
    of_small = [arm.model == "small" for arm in policy().arms]
    assert (both.candidate.target[:, :3][:, of_small].sum(axis=1) > 0.0).tolist() == (
        (half == 0).tolist()
    )
    assert both.constant[:2].tolist() == [
        [arm.key for arm in policy().arms].index(each.constant) for each in slos
    ]


def test_no_expectation_has_seen_its_own_outcome() -> None:
    rng = np.random.default_rng(1)
    texts = [f"case {place % 40}" for place in range(200)]
    fold, vectors = folds(texts, 5), rng.normal(size=(200, 4))
    arm, outcome = rng.integers(0, 3, 200), rng.random(200)
    guess = np.full((200, 3), 0.5)
    usual = corrected(guess, outcome, arm, vectors, fold)
    changed = outcome.copy()
    changed[7] = 100.0
    again = corrected(guess, changed, arm, vectors, fold)
    inside = fold == fold[7]
    assert again[inside] == pytest.approx(usual[inside])
    assert not np.allclose(again[~inside], usual[~inside])


def test_a_first_candidate_has_no_say_in_what_it_is_judged_by() -> None:
    other = bound(learn(logs.simulated(120, seed=8).dataset, embedder=embedder()))
    slos = [asked(VALUE, policy(), past())]
    one, two = (
        contest(Outcomes.of(held()), slos, each, None, embedder()).contest.held
        for each in (policy(), other)
    )
    assert one.expected_score == pytest.approx(two.expected_score)
    assert one.expected_cost_usd == pytest.approx(two.expected_cost_usd)
    assert np.abs(one.expected_score[:, :3].mean() - 0.6) < 0.25


def test_a_reward_model_learns_what_the_guess_misses() -> None:
    rng = np.random.default_rng(2)
    vectors, arm = rng.normal(size=(3_000, 4)), rng.integers(0, 2, 3_000)
    outcome = 0.5 + 0.2 * vectors[:, 0] + 0.1 * rng.normal(size=3_000)
    found = corrected(np.zeros((3_000, 2)), outcome, arm, vectors, np.arange(3_000) % 5)
    missed = found - (0.5 + 0.2 * vectors[:, :1])
    assert np.abs(missed).mean() < 0.02


def test_arms_that_are_gone_from_the_catalog_are_never_picked_and_still_weigh() -> None:
    found = Outcomes.of(held())
    gone = ["retired:single" if place % 50 == 0 else key for place, key in enumerate(found.arm)]
    slos = [asked(VALUE, policy(), past())]
    left = contest(replace(found, arm=gone), slos, policy(), static(), embedder()).contest
    assert (left.held.arm == 3).sum() == len(range(0, len(found), 50))
    assert (left.candidate.target[:, 3] == 0.0).all()
    assert judge(left, checks()).conditions


def checks() -> Checks:
    timed = timing(policy(), static(), held().queries[:5], VALUE, clock=ticking(), decisions=5)
    return Checks(learnt=Learnt(), bundle=Bundle(verified=True), timing=timed)


def ticking() -> Callable[[], float]:
    """A clock by which whatever is timed takes a millisecond."""
    ticks = count()
    return lambda: next(ticks) / 1_000.0


def test_interactions_that_were_learnt_from_are_counted() -> None:
    found = Outcomes.of(held())
    assert seen(found, past().queries) == sum(text in past().queries for text in found.texts)
    assert seen(found, [f" {text.upper()}" for text in found.texts[:7]]) == 7


def test_both_policies_must_have_the_same_arms() -> None:
    other = static_policy(Catalog(models=tuple(described(past())), arms=past().arms[:2]))
    slos = [asked(VALUE, policy(), past())]
    with pytest.raises(InvalidInput, match="the same arms"):
        contest(Outcomes.of(held()), slos, policy(), other, embedder())


def test_a_log_without_propensities_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no held-out row has a propensity"):
        Outcomes.of(past())


def test_a_bundle_is_tried_as_a_server_would(tmp_path: Path) -> None:
    bundles.make(tmp_path / "bundle")
    archive = pack(tmp_path / "bundle")
    assert bundle(archive, bundles.TRUSTED) == Bundle(verified=True)
    spoiled = bundle(archive, {})
    assert not spoiled.verified
    assert spoiled.why


def test_slos_are_certified_under_both() -> None:
    low = replace(FLOOR, min_accuracy=0.3)
    found = promised("acme", low, policy(), policy(), held())
    assert found is not None
    assert (found.before, found.after) == (True, True)
    beyond = promised("acme", replace(FLOOR, min_accuracy=0.99), policy(), None, held())
    assert beyond is not None
    assert (beyond.before, beyond.after, bool(beyond.why)) == (False, False, True)
    assert promised("acme", VALUE, policy(), policy(), held()) is None


def test_the_fairness_audit_is_made_of_doubly_robust_scores() -> None:
    found = fairness(made(), np.array([1.0, 3.0, 1.0]))
    assert found is not None
    assert found.slices[0].facet == "language"
    assert fairness(replace(made(), held=replace(made().held, facets=())), np.ones(3)) is None
