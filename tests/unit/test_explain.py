"""An explanation adds up to the prediction that it explains, and tells nothing of the query."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import pipeline
from router.bundle.embedder import load_embedder
from router.bundle.loader import load, load_archive
from router.errors import Infeasible, NotFound
from router.explanation import AccuracyTerms, Explanation, Neighbour
from router.loading import bind, learned
from router.policy.explain import MOST_FEATURES, MOST_NEIGHBOURS, explain
from router.policy.features import ROW_FEATURES
from router.policy.policy import Policy, static_policy
from router.policy.signals import SIGNALS
from router.slo import AccuracyScope, Slo
from router.types import Arm, Bounds, Capability, Catalog, Decision, Query
from tests.kit import logs
from tests.kit.bundles import KEY, TRUSTED
from tests.kit.policies import catalog, some_slos
from tests.kit.serving_bundles import bundle
from training.learning.policy import learn, write_bundle

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NEW = Arm(model="m3", strategy="tree_of_thoughts", params={"depth": 3, "width": 5})
WIDER = Catalog(models=catalog().models, arms=(*catalog().arms, NEW))
FREE = Bounds()


@cache
def policy() -> Policy:
    """A learned policy of 24 arms that it was trained on and one that it was not."""
    loaded = load_archive(bundle(catalog(), trees=40, leaves=15), trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), WIDER, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy that was learnt from a small simulated log."""
    directory = tmp_path_factory.mktemp("explain") / "bundle"
    write_bundle(learn(logs.simulated(200).dataset, embedder=load_embedder()), directory, KEY, NOW)
    loaded = load(directory, trusted=TRUSTED, probe=False)
    own = Catalog(models=loaded.manifest.models, arms=loaded.manifest.arms)
    return bind(learned(loaded, load_embedder()), own, 1)


def explained(
    policy: Policy,
    text: str,
    slo: Slo = Slo(),  # noqa: B008 (it is immutable)
    bounds: Bounds = FREE,
    *,
    query: Query | None = None,
    beside: str | None = None,
) -> tuple[Decision, Explanation]:
    [known], query = policy.predict([text]), query or Query(text=text)
    decision = pipeline.decide(
        policy, query, slo, bounds, decision_id=UUID(int=7), now=NOW, predicted=known
    )
    return decision, explain(policy, known, decision, query, bounds, beside=beside)


def total(terms: AccuracyTerms) -> float:
    parts = [*terms.signals, *terms.trees]
    fixed = terms.mean + terms.trees_expected + terms.trees_other
    return fixed + sum(each.log_odds for each in parts)


def check_sums(decision: Decision, explanation: Explanation) -> None:
    """The law of AccuracyTerms."""
    keys = [arm.key for arm in decision.arms]
    for arm in explanation.arms:
        terms = arm.terms
        assert terms is not None
        assert total(terms) == pytest.approx(terms.log_odds, abs=1e-9)
        calibrated = 1 / (1 + np.exp(-(terms.slope * terms.log_odds + terms.offset)))
        assert terms.probability == pytest.approx(calibrated, abs=1e-12)
        assert arm.accuracy == decision.predictions.accuracy[keys.index(arm.arm)]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.sampled_from([arm.key for arm in WIDER.arms]))
def test_the_terms_of_any_query_and_arm_add_up_to_its_log_odds(text: str, key: str) -> None:
    decision, explanation = explained(policy(), text, beside=key)
    check_sums(decision, explanation)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300))
def test_an_arm_that_no_compute_ladder_binds_has_its_calibrated_probability(text: str) -> None:
    for key in ("m0:single", NEW.key):
        _, explanation = explained(policy(), text, beside=key)
        for arm in explanation.arms:
            if arm.arm == key:
                assert arm.terms is not None
                assert arm.accuracy == pytest.approx(arm.terms.probability, abs=1e-12)


def test_a_trained_policys_terms_add_up_too(trained: Policy) -> None:
    for number in range(12):
        check_sums(*explained(trained, logs.text(1_000 + number, number % 6)))


def test_terms_are_named_few_and_the_largest_come_first(trained: Policy) -> None:
    _, explanation = explained(trained, logs.text(5, 3))
    for arm in explanation.arms:
        assert arm.terms is not None
        assert [each.name for each in arm.terms.signals] == list(SIGNALS)
        sizes = [abs(each.log_odds) for each in arm.terms.trees]
        assert sizes == sorted(sizes, reverse=True)
        assert 0 < len(sizes) <= MOST_FEATURES
        assert {each.name for each in arm.terms.trees} <= set(ROW_FEATURES)


def test_a_hard_query_is_explained_by_signals_that_speak_against_it(trained: Policy) -> None:
    def signals(difficulty: int) -> float:
        _, explanation = explained(trained, logs.text(3, difficulty), beside="small:single")
        [terms] = [arm.terms for arm in explanation.arms if arm.arm == "small:single"]
        assert terms is not None
        return sum(each.log_odds for each in terms.signals)

    assert signals(0) > 0 > signals(5)


def test_the_nearest_neighbour_of_a_logged_query_is_where_it_stands(trained: Policy) -> None:
    made = logs.simulated(200)
    for number in range(20):
        _, explanation = explained(trained, made.texts[number], beside="small:single")
        [terms] = [arm.terms for arm in explanation.arms if arm.arm == "small:single"]
        assert terms is not None
        nearest = max(terms.neighbours, key=lambda each: each.similarity)
        assert nearest.similarity == pytest.approx(1.0, abs=1e-9)
        if nearest.rows == 1:
            assert nearest.accuracy == pytest.approx(made.rows[number * 3]["score"], abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300))
def test_neighbours_are_few_near_and_have_rows_of_the_arm(text: str) -> None:
    known = Bounds(excluded_arms=frozenset({NEW.key}))
    _, explanation = explained(policy(), text, bounds=known)
    for arm in explanation.arms:
        assert arm.terms is not None
        neighbours = arm.terms.neighbours
        assert 0 < len(neighbours) <= MOST_NEIGHBOURS
        weights = [each.similarity**2 * each.rows for each in neighbours]
        assert weights == sorted(weights, reverse=True)
        assert all(0 < each.similarity <= 1 and each.rows > 0 for each in neighbours)
        assert all(each.all_rows >= each.rows for each in neighbours)


def test_a_landmark_that_may_stand_for_one_query_is_left_out_where_it_is_told_to_callers(
    trained: Policy,
) -> None:
    asked = Query(text=logs.text(5, 3))
    [known] = trained.predict([asked.text])
    decision, everything = explained(trained, asked.text)
    assert any(each.rows < 2 for each in neighbours(everything))
    told = explain(trained, known, decision, asked, FREE, least_rows=2.0)
    assert all(each.rows >= 2 for each in neighbours(told))


def neighbours(explanation: Explanation) -> list[Neighbour]:
    terms = [arm.terms for arm in explanation.arms if arm.terms is not None]
    return [neighbour for each in terms for neighbour in each.neighbours]


def test_an_arm_that_was_not_trained_on_has_no_neighbours_of_its_own() -> None:
    _, explanation = explained(policy(), "What is 2 + 2?", beside=NEW.key)
    [terms] = [arm.terms for arm in explanation.arms if arm.arm == NEW.key]
    assert terms is not None
    assert terms.neighbours == ()
    assert [each.value for each in terms.trees if each.name == "arm_index"] in ([], [None])


@settings(max_examples=80, deadline=None)
@given(
    some_slos(),
    st.builds(
        Bounds,
        max_cost_usd=st.none() | st.floats(1e-6, 1.0),
        compute_budget=st.integers(0, 20),
        excluded_arms=st.frozensets(st.sampled_from([arm.key for arm in WIDER.arms]), max_size=3),
        may_continue=st.booleans(),
    ),
    st.frozensets(st.sampled_from(Capability), max_size=2),
    st.integers(0, 40_000),
)
def test_what_limits_leave_out_is_what_is_not_feasible(
    slo: Slo, bounds: Bounds, needs: frozenset[Capability], tokens: int
) -> None:
    query = Query(text="Is it?", needs=needs, needs_context_tokens=tokens)
    try:
        decision, explanation = explained(policy(), "Is it?", slo, bounds, query=query)
    except Infeasible:
        return
    left_out = {key for each in explanation.left_out for key in each.arms}
    feasible = decision.choice.feasible
    if feasible.any():
        out = np.flatnonzero(~feasible)
        assert left_out == {decision.arms[place].key for place in out}
    else:
        assert len(explanation.arms) == 1


@pytest.mark.parametrize("may_continue", [False, True])
@pytest.mark.parametrize(
    "slo",
    [
        Slo(),
        Slo(accuracy_value_usd=0.01),
        Slo(min_accuracy=0.6),
        Slo(min_accuracy=0.6, accuracy_scope=AccuracyScope.PER_QUERY),
    ],
)
def test_the_picked_arm_ranks_first_and_the_one_beside_it_next(
    slo: Slo, may_continue: bool
) -> None:
    floor = slo.accuracy_scope is AccuracyScope.PER_QUERY
    for number in range(8):
        bounds = Bounds(may_continue=may_continue)
        decision, explanation = explained(policy(), f"What is {number} + 3?", slo, bounds)
        first, second = explanation.arms
        assert first.arm == decision.arm.key
        assert first.utility_usd is not None
        assert second.utility_usd is not None
        assert first.utility_usd >= second.utility_usd
        assert (explanation.value_usd is None) is floor
        assert explanation.planned is (may_continue and not floor)
        if explanation.value_usd is not None and not may_continue:
            worth = explanation.value_usd * first.accuracy - first.cost_usd
            assert first.utility_usd == pytest.approx(worth)


def test_a_random_arm_is_said_to_be_one() -> None:
    _, explanation = explained(policy(), "x", Slo(exploration_rate=1.0))
    assert "at random" in explanation.note


def test_the_static_policy_says_that_nothing_is_learnt() -> None:
    decision, explanation = explained(static_policy(catalog()), "What is 2 + 2?")
    assert "nothing is learnt" in explanation.note
    assert [arm.terms for arm in explanation.arms] == [None, None]
    assert explanation.arms[0].arm == decision.arm.key


def test_an_explanation_holds_no_text_of_the_query() -> None:
    secret = "Zanzibar7741 owes Quetzal"
    _, explanation = explained(policy(), secret, Slo(max_cost_usd=1e-5))
    told = json.dumps(asdict(explanation))
    assert not any(word in told for word in secret.split())


def test_an_arm_that_there_is_not_is_named() -> None:
    with pytest.raises(NotFound, match="no arm 'm9:single'"):
        explained(policy(), "x", beside="m9:single")


def test_explaining_changes_no_decision() -> None:
    known = policy().predict(["What is 7 * 8?"])[0]
    before = replace(known.predictions, accuracy=known.predictions.accuracy.copy())
    explained(policy(), "What is 7 * 8?", Slo(accuracy_value_usd=0.01))
    after = policy().predict(["What is 7 * 8?"])[0].predictions
    assert np.array_equal(before.accuracy, after.accuracy)
