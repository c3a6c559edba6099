"""Continuation keeps an answer that is good enough and goes on where it pays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.policy.continuation import MAX_ATTEMPTS, EvidenceModel, Tried, plan
from router.policy.tradeoff import Tradeoff
from router.types import AccuracyScope, Bounds, Evidence, Slo
from tests.kit.policies import predictions

MODEL = EvidenceModel(
    weights=np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [np.nan] * 3]),
    center=np.zeros(3),
    scale=np.ones(3),
    transfer=0.5,
)
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


def after(
    confidence: float, slo: Slo = PER_QUERY, cost_usd: float = 0.0, latency_s: float = 0.0
) -> int | None:
    evidence = Evidence(confidence=confidence, cost_usd=cost_usd, latency_s=latency_s)
    tried = [Tried(index=0, evidence=evidence)]
    everything = np.ones(3, bool)
    return plan(
        PREDICTED, everything, tried, slo, Bounds(), evidence_model=MODEL, tradeoff=CURVE
    ).next_index


def test_the_posterior_is_the_logistic_of_its_parts() -> None:
    expected = 1 / (1 + math.exp(-(math.log(0.6 / 0.4) + 2.0 * 0.7)))
    assert MODEL.posterior(0, 0.6, Evidence(confidence=0.7)) == pytest.approx(expected)


def test_an_arm_without_evidence_leaves_the_belief_as_it_was() -> None:
    assert MODEL.posterior(2, 0.9, Evidence(confidence=0.7)) == 0.9
    assert MODEL.posterior(0, 0.6, Evidence()) == 0.6
    assert not MODEL.informs(2)


def test_a_confident_answer_above_the_floor_is_kept() -> None:
    assert after(3.0) is None


def test_a_doubtful_answer_goes_to_a_more_accurate_arm() -> None:
    assert after(-1.0) is not None


def test_what_was_spent_counts_against_the_cost_bound() -> None:
    slo = Slo(min_accuracy=0.85, accuracy_scope=AccuracyScope.PER_QUERY, max_cost_usd=0.05)
    assert after(-1.0, slo, cost_usd=0.001) == 1
    assert after(-1.0, slo, cost_usd=0.049) is None


def test_what_was_waited_counts_against_the_latency_bound() -> None:
    slo = Slo(min_accuracy=0.85, accuracy_scope=AccuracyScope.PER_QUERY, max_latency_s=6.0)
    assert after(-1.0, slo, latency_s=0.5) is not None
    assert after(-1.0, slo, latency_s=5.9) is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-30, 1), min_size=1, max_size=3), st.floats(1e-6, 100))
def test_no_arm_is_tried_twice_and_never_more_than_three(
    confidences: list[float], value_usd: float
) -> None:
    tried: list[Tried] = []
    step_index: int | None = 0
    for confidence in confidences:
        if step_index is None:
            break
        assert step_index not in {attempt.index for attempt in tried}
        tried.append(Tried(index=step_index, evidence=Evidence(confidence=confidence)))
        step = plan(
            PREDICTED,
            np.ones(3, bool),
            tried,
            Slo(accuracy_value_usd=value_usd),
            Bounds(),
            evidence_model=MODEL,
            tradeoff=CURVE,
        )
        step_index = step.next_index
        assert 0.0 <= step.accuracy <= 1.0
        assert step.best < len(tried)
    assert len(tried) <= MAX_ATTEMPTS
