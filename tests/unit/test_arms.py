"""Compute, priors and the static policy follow the published figures."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.pipeline import decide, uniform
from router.policy.arms import ARM_FEATURES, compute, describe, most_calls
from router.policy.features import TEXT_FEATURES, text_features
from router.policy.policy import static_policy
from router.policy.priors import prior
from router.policy.table import ArmTable
from router.slo import AccuracyScope, Slo
from router.types import Arm, Bounds, Catalog, Model, PolicySource, Query
from tests.kit.policies import catalog

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = static_policy(catalog())


def arm(strategy: str, **params: object) -> Arm:
    return Arm(model="m", strategy=strategy, params=params)


@pytest.mark.parametrize(
    ("arm_", "published"),
    [
        (arm("single"), 1),
        (arm("chain_of_thought", tokens=256), 2),
        (arm("chain_of_thought", tokens=1024), 4),
        (arm("chain_of_thought", tokens=4096), 8),
        (arm("self_consistency", samples=10), 20),
        (arm("self_consistency", samples=50), 100),
        (arm("refinement", rounds=3), 12),
        (arm("tree_of_thoughts", depth=3, width=5), 15),
        (arm("dynamic"), 4),
        (arm("self_consistency", samples=3, base="single"), 3),
    ],
)
def test_compute_is_the_published_multiple(arm_: Arm, published: float) -> None:
    assert compute(arm_) == pytest.approx(published)


@pytest.mark.parametrize(
    ("arm_", "calls"),
    [
        (arm("single"), 1),
        (arm("chain_of_thought", tokens=4096), 1),
        (arm("self_consistency", samples=5, tokens=64), 5),
        (arm("self_consistency", samples=5, base="single"), 5),
        (arm("refinement", rounds=3), 12),
        (arm("tree_of_thoughts", depth=3, width=5), 15),
        (arm("dynamic"), 4),
    ],
)
def test_an_attempt_may_cost_all_the_calls_that_its_strategy_makes(arm_: Arm, calls: int) -> None:
    model = Model(name="m", input_usd_per_mtok=3.0, output_usd_per_mtok=9.0, max_output_tokens=100)
    table = ArmTable(Catalog(models=(model,), arms=(arm_,)))
    assert most_calls(arm_) == calls
    assert table.most_usd(1_000)[0] == pytest.approx(calls * (3e-3 + 9e-4))


@pytest.mark.parametrize(
    "samples", [-1, 0, 1e-303, True, "ten", None, float("nan"), float("inf"), 10**400]
)
def test_a_senseless_parameter_reads_as_its_default(samples: object) -> None:
    assert compute(arm("self_consistency", samples=samples)) == 10


def test_priors_rise_with_compute_and_with_tier() -> None:
    for model in catalog().models:
        row = [prior(each, model) for each in catalog().arms if each.model == model.name]
        by_compute = sorted(row, key=lambda each: each.cost_usd)
        assert by_compute[0].accuracy < by_compute[-1].accuracy
    singles = [
        prior(Arm(model=model.name, strategy="single"), model).accuracy
        for model in catalog().models
    ]
    assert singles == sorted(singles)


def test_a_descriptor_has_one_value_for_each_name() -> None:
    known = catalog()
    assert len(describe(known.arms[0], known.models[0], index=0)) == len(ARM_FEATURES)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=5_000))
def test_text_features_are_finite_for_any_text(text: str) -> None:
    features = text_features(text, tokens=len(text))
    assert len(features) == len(TEXT_FEATURES)
    assert all(-1e9 < value < 1e9 for value in features)


def test_a_query_on_an_empty_log_gets_an_answer() -> None:
    slo = Slo(min_accuracy=0.6, accuracy_scope=AccuracyScope.PER_QUERY)
    decision = decide(
        POLICY, Query(text="2 + 2?"), slo, Bounds(), decision_id=uuid.uuid4(), now=NOW
    )
    assert decision.policy_source is PolicySource.STATIC
    assert decision.predictions.accuracy[decision.choice.index] >= 0.6
    assert 0 <= decision.difficulty <= 1
    assert not decision.should_continue


@settings(max_examples=50, deadline=None)
@given(st.uuids(), st.text(min_size=1, max_size=200), st.floats(0, 1))
def test_the_same_arguments_give_the_same_decision(
    decision_id: uuid.UUID, text: str, rate: float
) -> None:
    slo = Slo(exploration_rate=rate)
    one, other = (
        decide(POLICY, Query(text=text), slo, Bounds(), decision_id=decision_id, now=NOW)
        for _ in range(2)
    )
    assert one.choice.index == other.choice.index
    assert one.choice.propensity == other.choice.propensity


def test_exploration_draws_are_uniform_over_ids() -> None:
    draws = [uniform(uuid.UUID(int=number << 40)) for number in range(4_000)]
    assert all(0 <= draw < 1 for draw in draws)
    shares = [sum(low <= draw < low + 0.1 for draw in draws) / 4_000 for low in [0, 0.3, 0.6, 0.9]]
    assert shares == pytest.approx([0.1] * 4, abs=0.02)
