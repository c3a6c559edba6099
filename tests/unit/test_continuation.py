"""Continuation keeps an answer that is good enough and goes on where it pays."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from router.policy.continuation import MAX_ATTEMPTS, Aim, Step, Tried, following, plan, walk
from router.policy.evidence import NODES, Beliefs, EvidenceModel, probit
from router.policy.planning import Ahead, Continuation, planned
from router.policy.tradeoff import Tradeoff
from router.policy.worth import worth
from router.slo import AccuracyScope, Slo
from router.types import Bounds, Evidence, Floats
from tests.kit.policies import predictions, standing

CURVE = Tradeoff(
    value_usd=np.array([0.001, 1.0]),
    accuracy=np.array([0.5, 0.9]),
    cost_usd=np.array([0.001, 0.1]),
    best_constant_accuracy=0.9,
)
PREDICTED = predictions(
    np.array([0.6, 0.8, 0.9]), np.array([0.001, 0.01, 0.1]), np.array([0.5, 1.0, 2.0])
)
PER_QUERY = Slo(min_accuracy=0.85, accuracy_scope=AccuracyScope.PER_QUERY)


def model(transfer: Floats, likeness: Floats | None = None) -> EvidenceModel:
    """An evidence model whose confidence is the surprise itself."""
    arms = len(transfer)
    line = np.linspace(-2.5, 2.5, 5)
    return EvidenceModel(
        knots=np.tile(line, (arms, 1)),
        scores=np.tile(line, (arms, 1)),
        expected=np.zeros((arms, 2)),
        spread=np.ones(arms),
        transfer=transfer,
        likeness=np.eye(arms) if likeness is None else likeness,
    )


MODEL = model(
    np.array([[0.7, 0.3, 0.2], [0.3, 0.6, 0.3], [0.0, 0.0, 0.0]]),
    np.array([[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]),
)


def after(
    confidence: float | None, slo: Slo = PER_QUERY, cost_usd: float = 0.0, latency_s: float = 0.0
) -> Step:
    evidence = Evidence(confidence=confidence, cost_usd=cost_usd, latency_s=latency_s)
    return steps([Tried(index=0, evidence=evidence)], slo)


def steps(tried: list[Tried], slo: Slo) -> Step:
    everything, aim = np.ones(3, bool), Aim.of(slo, worth(slo, CURVE))
    return plan(standing(PREDICTED), everything, tried, slo, Bounds(), evidence=MODEL, aim=aim)


def believed(confidence: float) -> Floats:
    beliefs = Beliefs.of(MODEL, probit(PREDICTED.accuracy[None]))
    return np.asarray(beliefs.after(np.array([0]), np.array([confidence])).accuracy[0])


def test_the_belief_is_the_conditional_of_the_copula() -> None:
    expected = ndtr((ndtri(0.6) + 0.7 * 1.2) / math.sqrt(1 - 0.7**2))
    assert believed(1.2)[0] == pytest.approx(expected)
    expected = ndtr((ndtri(0.8) + 0.3 * 1.2) / math.sqrt(1 - 0.3**2))
    assert believed(1.2)[1] == pytest.approx(expected)


def test_the_order_of_attempts_does_not_matter_to_beliefs() -> None:
    start = Beliefs.of(MODEL, probit(PREDICTED.accuracy[None]))
    one, other = (np.array([0]), np.array([0.4])), (np.array([1]), np.array([-1.0]))
    forth = start.after(*one).after(*other).accuracy
    assert forth == pytest.approx(start.after(*other).after(*one).accuracy)


@given(st.floats(0.02, 0.98), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_beliefs_are_right_on_average_over_what_may_be_seen(
    accuracy: float, own: float, other: float
) -> None:
    copula = model(np.array([[own, other], [0.0, 0.0]]))
    seen = ndtri((np.arange(4_000) + 0.5) / 4_000)
    mu = probit(np.full((len(seen), 2), accuracy))
    beliefs = Beliefs.of(copula, mu).after(np.zeros(len(seen), np.intp), seen)
    assert beliefs.accuracy.mean(axis=0) == pytest.approx([accuracy, accuracy], abs=2e-3)


def test_an_attempt_that_shows_nothing_leaves_beliefs_as_they_were() -> None:
    assert after(None).predictions.accuracy == pytest.approx(PREDICTED.accuracy)
    tried = [Tried(index=2, evidence=Evidence(confidence=2.0))]
    assert steps(tried, PER_QUERY).predictions.accuracy == pytest.approx(PREDICTED.accuracy)
    assert [MODEL.informs(arm) for arm in range(3)] == [True, True, False]


def test_an_arm_that_was_not_trained_on_informs_of_nothing_and_is_moved_by_the_prior() -> None:
    from router.types import Arm

    arms = [Arm(model=name, strategy="single") for name in "abcd"]
    bound = MODEL.bind(arms[:3], [arms[3], arms[1]])
    assert not bound.informs(0)
    assert bound.transfer[1].tolist() == [0.3, 0.6]
    assert bound.likeness.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_confident_answer_above_the_floor_is_kept() -> None:
    assert after(2.0).next_index is None


def test_a_doubtful_answer_goes_to_the_cheapest_arm_at_the_floor_or_the_most_accurate() -> None:
    assert after(-2.0).next_index == 2
    low = Slo(min_accuracy=0.5, accuracy_scope=AccuracyScope.PER_QUERY)
    assert after(-2.0, low).next_index == 1


def test_what_was_spent_counts_against_the_cost_bound() -> None:
    slo = Slo(min_accuracy=0.85, accuracy_scope=AccuracyScope.PER_QUERY, max_cost_usd=0.05)
    assert after(-1.0, slo, cost_usd=0.001).next_index == 1
    assert after(-1.0, slo, cost_usd=0.049).next_index is None


def test_what_was_waited_counts_against_the_latency_bound() -> None:
    slo = Slo(min_accuracy=0.85, accuracy_scope=AccuracyScope.PER_QUERY, max_latency_s=6.0)
    assert after(-1.0, slo, latency_s=0.5).next_index is not None
    assert after(-1.0, slo, latency_s=5.9).next_index is None


def test_the_answer_of_the_highest_belief_is_kept() -> None:
    doubtful = Tried(index=1, evidence=Evidence(confidence=-2.5))
    sure = Tried(index=0, evidence=Evidence(confidence=2.0))
    worthless = Slo(accuracy_value_usd=1e-9)
    assert steps([doubtful, sure], worthless).best == 1
    assert steps([sure, doubtful], worthless).best == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-30, 1), min_size=1, max_size=4), st.floats(1e-6, 100))
def test_no_arm_is_tried_twice_and_never_more_than_three(
    confidences: list[float], value_usd: float
) -> None:
    tried: list[Tried] = []
    following_index: int | None = 0
    for confidence in confidences:
        if following_index is None:
            break
        assert following_index not in {attempt.index for attempt in tried}
        tried.append(Tried(index=following_index, evidence=Evidence(confidence=confidence)))
        step = steps(tried, Slo(accuracy_value_usd=value_usd))
        following_index = step.next_index
        assert 0.0 <= step.accuracy <= 1.0
        assert step.best < len(tried)
        low, high = step.predictions.accuracy_low, step.predictions.accuracy_high
        assert (low <= step.predictions.accuracy).all()
        assert (step.predictions.accuracy <= high).all()
    assert len(tried) <= MAX_ATTEMPTS


def some_models(arms: int) -> st.SearchStrategy[EvidenceModel]:
    """Evidence models that some true joint distribution has: correlations of random vectors."""
    return st.integers(0, 10_000).map(lambda seed: _random_model(arms, seed))


def _random_model(arms: int, seed: int) -> EvidenceModel:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(2 * arms, arms + 3))
    vectors[arms:] += 1.5 * vectors[:arms]
    correlation: Floats = np.asarray(np.corrcoef(vectors))
    return model(0.8 * correlation[:arms, arms:], correlation[:arms, :arms])


def _brute_force(
    evidence: EvidenceModel, mu: Floats, cost_usd: Floats, value_usd: float
) -> list[float]:
    """Each first arm's planned value - cost, node by node, with the beliefs' own updates."""
    arms = range(len(mu))
    start, shape = Beliefs.of(evidence, mu[None]), (len(NODES), len(arms))
    worth = []
    for first in arms:
        total = 0.0
        for node in NODES:
            seen = start.after(np.array([first]), np.array([node]))
            best = value_usd * seen.accuracy[0, first]
            for second in arms:
                if second != first:
                    held = []
                    for late in NODES:
                        deviation = math.sqrt(seen.likeness[0, second, second])
                        surprise = seen.awaited[0, second] + deviation * late
                        both = seen.after(np.array([second]), np.array([surprise]))
                        held.append(max(both.accuracy[0, [first, second]]))
                    best = max(best, value_usd * float(np.mean(held)) - cost_usd[second])
            total += best / len(NODES)
        worth.append(total - cost_usd[first])
    assert len(worth) == shape[1]
    return worth


@settings(max_examples=60, deadline=None)
@given(some_models(4), st.integers(0, 1_000), st.floats(1e-3, 30.0))
def test_the_plan_is_that_of_walking_every_branch(
    evidence: EvidenceModel, seed: int, value_usd: float
) -> None:
    rng = np.random.default_rng(seed)
    accuracy, cost_usd = rng.uniform(0.1, 0.95, 4), rng.uniform(0.001, 1.0, 4)
    predicted = predictions(accuracy, cost_usd, np.ones(4))
    ahead = Continuation(evidence, CURVE).ahead(accuracy[None])
    found = planned(lambda: ahead, standing(predicted), Slo(), Bounds())(
        value_usd, np.ones(4, bool)
    )
    assert found == pytest.approx(_brute_force(evidence, probit(accuracy), cost_usd, value_usd))


@given(some_models(3), st.integers(0, 1_000), st.floats(1e-3, 30.0))
def test_willingness_to_continue_is_never_worth_less_than_one_attempt(
    evidence: EvidenceModel, seed: int, value_usd: float
) -> None:
    rng = np.random.default_rng(seed)
    accuracy, cost_usd = rng.uniform(0.1, 0.95, (1, 3)), rng.uniform(0.001, 1.0, (1, 3))
    ahead = Continuation(evidence, CURVE).ahead(accuracy)
    none, others = np.zeros((1, 3, 3), bool), ~np.eye(3, dtype=bool)[None]
    alone = ahead.utility(value_usd, cost_usd, none)
    assert (ahead.utility(value_usd, cost_usd, others) >= alone - 1e-12).all()


@given(some_models(3), st.integers(0, 1_000), st.floats(-2.5, 2.5))
def test_an_answer_of_no_value_is_never_followed_up(
    evidence: EvidenceModel, seed: int, confidence: float
) -> None:
    rng = np.random.default_rng(seed)
    mu, cost_usd = probit(rng.uniform(0.1, 0.95, (1, 3))), rng.uniform(1e-6, 1.0, (1, 3))
    beliefs = Beliefs.of(evidence, mu).after(np.array([0]), np.array([confidence]))
    left = np.ones((1, 3), bool)
    step = following(beliefs, np.array([[0]]), cost_usd, left, Aim(value_usd=0.0))
    assert step.arm.tolist() == [-1]


def test_a_pair_of_arms_beyond_the_cost_bound_is_not_planned() -> None:
    continuation = Continuation(MODEL, CURVE)
    ahead = continuation.ahead(PREDICTED.accuracy[None])
    everything = np.ones(3, bool)
    free = planned(lambda: ahead, standing(PREDICTED), Slo(), Bounds())(10.0, everything)
    bound = planned(lambda: ahead, standing(PREDICTED), Slo(max_cost_usd=0.1005), Bounds())(
        10.0, everything
    )
    assert bound[2] < free[2]
    alone = 10.0 * ahead.first[0, 2].mean() - 0.1
    assert bound[2] == pytest.approx(alone)


def test_second_attempts_are_worth_waiting_for_only_where_they_pay() -> None:
    continuation = Continuation(MODEL, CURVE)
    accuracy, cost_usd = (
        np.tile(each, (2, 1)) for each in (PREDICTED.accuracy, PREDICTED.cost_usd)
    )
    arms = np.array([0, 2])
    assert continuation.pays(arms, accuracy, cost_usd, 1.0).tolist() == [True, False]
    assert continuation.pays(arms, accuracy, cost_usd, 1e-6).tolist() == [False, False]


@given(some_models(3), st.integers(0, 1_000), st.floats(1e-3, 30.0))
def test_a_willing_caller_waits_wherever_another_attempt_is_expected_to_pay(
    evidence: EvidenceModel, seed: int, value_usd: float
) -> None:
    rng = np.random.default_rng(seed)
    arms, accuracy = np.arange(3), rng.uniform(0.1, 0.95, (3, 3))
    known = arms, accuracy, rng.uniform(0.001, 1.0, (3, 3)), value_usd
    continuation = Continuation(evidence, CURVE)
    assert not (continuation.pays(*known) & ~continuation.may_pay(*known)).any()


def test_a_willing_caller_waits_for_rare_surprises_too() -> None:
    continuation = Continuation(MODEL, CURVE)
    known = np.array([0]), np.array([[0.9, 0.9, 0.5]]), np.array([[0.01, 0.3, 1.0]]), 1.0
    assert not continuation.pays(*known).any()
    assert continuation.may_pay(*known).all()


def test_queries_walked_together_are_those_walked_one_by_one() -> None:
    rng = np.random.default_rng(5)
    evidence = _random_model(5, 3)
    accuracy, cost_usd = rng.uniform(0.1, 0.95, (60, 5)), rng.uniform(0.001, 0.3, (60, 5))
    shown = np.clip(rng.normal(size=(60, 5)), -2.5, 2.5)
    shown[rng.random((60, 5)) < 0.2] = np.nan
    slo = Slo(accuracy_value_usd=2.0)
    ahead = Continuation(evidence, CURVE).ahead(accuracy)
    others = ~np.eye(5, dtype=bool)[None]
    together = walk(
        evidence,
        (accuracy, cost_usd),
        ahead.utility(2.0, cost_usd, others).argmax(axis=1),
        Aim.of(slo, worth(slo, CURVE)),
        shown=lambda queries, arms: shown[queries, arms],
        left=lambda queries, _tried: np.ones((len(queries), 5), bool),
    )
    for query in range(60):
        predicted = predictions(accuracy[query], cost_usd[query], np.ones(5))
        alone = Continuation(evidence, CURVE).ahead(accuracy[query][None])
        utility = planned(partial(_same, alone), standing(predicted), slo, Bounds())(
            2.0, np.ones(5, bool)
        )
        tried = [_tried(int(utility.argmax()), shown[query])]
        while True:
            everything, aim = np.ones(5, bool), Aim.of(slo, worth(slo, CURVE))
            step = plan(
                standing(predicted), everything, tried, slo, Bounds(), evidence=evidence, aim=aim
            )
            if step.next_index is None:
                break
            tried.append(_tried(step.next_index, shown[query]))
        arms = [each.index for each in tried]
        assert together.arms[query].tolist() == arms + [-1] * (MAX_ATTEMPTS - len(arms))
        assert together.kept[query] == arms[step.best]
        assert together.accuracy[query] == pytest.approx(step.accuracy)


def _same(ahead: Ahead) -> Ahead:
    return ahead


def _tried(index: int, shown: Floats) -> Tried:
    value = None if math.isnan(shown[index]) else float(shown[index])
    return Tried(index=index, evidence=Evidence(confidence=value))


def test_a_walk_asks_for_nothing_but_the_attempts_that_it_makes() -> None:
    rng = np.random.default_rng(1)
    accuracy, cost_usd = rng.uniform(0.2, 0.9, (40, 3)), rng.uniform(0.001, 0.3, (40, 3))
    asked: list[tuple[int, int]] = []

    def shown(queries: Floats, arms: Floats) -> Floats:
        asked.extend(zip(queries.tolist(), arms.tolist(), strict=True))
        return rng.normal(size=len(queries))

    walked = walk(
        MODEL,
        (accuracy, cost_usd),
        np.zeros(40, np.intp),
        Aim(value_usd=5.0),
        shown=shown,  # type: ignore[arg-type]
        left=lambda queries, _tried: np.ones((len(queries), 3), bool),
    )
    made = {(row, arm) for row, arms in enumerate(walked.arms.tolist()) for arm in arms if arm >= 0}
    assert len(asked) == len(set(asked))
    assert set(asked) == made
    assert len(made) > 40
    assert all(kept in arms for kept, arms in zip(walked.kept, walked.arms, strict=True))


def test_every_pair_of_arms_is_planned_once_for_all_values() -> None:
    ahead = Continuation(MODEL, CURVE).ahead(np.tile(PREDICTED.accuracy, (7, 1)))
    assert ahead.first.shape == (7, 3, 3)
    assert ahead.second.shape == (7, 3, 3, 3)
    for first, second in itertools.permutations(range(3), 2):
        least = ahead.first[0, first].mean()
        assert ahead.second[0, first, :, second].mean() >= least - 1e-2
