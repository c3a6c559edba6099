"""What holds around a query moves its decision as it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.conditions import Backend, Conditions, Limit, MonitorState, Promise
from router.errors import Infeasible
from router.slo import Slo
from router.types import SloStatus
from tests.kit.laws import CURVE, POLICY, check, decided
from tests.kit.policies import some_conditions, some_slos

FLOOR = Slo(min_accuracy=0.7)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), some_slos(), some_conditions())
def test_every_bound_is_met_or_the_choice_says_so(
    seed: int, slo: Slo, conditions: Conditions
) -> None:
    check(seed, slo, conditions)


@given(st.integers(0, 1_000), st.floats(0.001, 5.0))
def test_a_certificate_sets_the_value_of_a_correct_answer(seed: int, value_usd: float) -> None:
    promised = Conditions(promise=Promise(certificate_id="c", value_usd=value_usd))
    with_floor, at_value = (
        decided(seed, FLOOR, promised),
        decided(seed, Slo(accuracy_value_usd=value_usd), Conditions()),
    )
    assert with_floor.choice.index == at_value.choice.index
    assert with_floor.choice.slo_status is SloStatus.MET


@pytest.mark.parametrize(
    "promise",
    [
        Promise(certificate_id="c", value_usd=None),
        Promise(certificate_id="c", value_usd=0.01, monitor=MonitorState.BROKEN),
    ],
)
def test_without_a_certificate_that_holds_the_safe_arm_is_taken(promise: Promise) -> None:
    slo, conditions = replace(FLOOR, safe_arm="m2:single"), Conditions(promise=promise)
    for seed in range(20):
        decision = decided(seed, slo, conditions)
        assert decision.arm.key == "m2:single"
        assert decision.choice.slo_status is SloStatus.BEST_EFFORT


def test_a_slow_backend_is_expected_to_be_slow_and_one_that_is_down_is_not_taken() -> None:
    slow = Conditions(backends={"m1": Backend(slowdown=4.0)})
    for seed in range(1, 20, 3):
        plain, slowed = (decided(seed, Slo(), each) for each in (Conditions(), slow))
        mine = np.array([model == "m1" for model in POLICY.table.models])
        expected = plain.predictions.latency_p95_s * np.where(mine, 4.0, 1.0)
        assert np.allclose(slowed.predictions.latency_p95_s, expected, equal_nan=True)
        down = Conditions(backends={plain.arm.model: Backend(available=False)})
        decision = decided(seed, Slo(), down)
        assert decision.arm.model != plain.arm.model
        [reason] = [each for each in decision.choice.reasons if each.limit is Limit.BACKEND]
        assert reason.binding
        assert reason.left_out == 6


def test_where_every_backend_is_down_one_is_tried_all_the_same() -> None:
    down = Conditions(backends={f"m{each}": Backend(available=False) for each in range(4)})
    assert decided(1, Slo(), down).choice.feasible.all()


@given(st.integers(0, 1_000), st.floats(1.0, 20.0), st.floats(1.0, 20.0))
def test_a_dearer_dollar_never_buys_a_dearer_arm(seed: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    slo = Slo(accuracy_value_usd=1.0)
    cheap, dear = (
        decided(seed, slo, Conditions(cost_multiplier=multiplier)) for multiplier in (high, low)
    )
    paid = [each.predictions.cost_usd[each.choice.index] for each in (cheap, dear)]
    assert paid[0] <= paid[1] + 1e-9


def test_a_used_up_budget_refuses_with_its_reason() -> None:
    for left in (0.0, 1e-9):
        with pytest.raises(Infeasible, match="budget") as caught:
            decided(1, Slo(), Conditions(budget_left_usd=left))
        assert caught.value.reason == "BUDGET_EXHAUSTED"


def test_a_relative_floor_is_that_share_of_the_reference_arms_accuracy() -> None:
    relative = Slo(min_relative_accuracy=0.87, reference_arm="m3:single")
    for seed in range(20):
        same = decided(seed, Slo(min_accuracy=0.7), Conditions())
        assert decided(seed, relative, Conditions()).choice.index == same.choice.index
    unknown = decided(1, replace(relative, reference_arm="m9:single"), Conditions())
    assert unknown.choice.slo_status is SloStatus.BEST_EFFORT
    assert CURVE.value_for(0.7)[1]


@given(st.integers(0, 1_000))
def test_the_safe_arm_is_of_a_model_that_has_not_fallen_unless_all_have(seed: int) -> None:
    usual = decided(seed, FLOOR, Conditions(promise=Promise(certificate_id="c", value_usd=None)))
    arm = usual.arms[usual.choice.index]
    fell = Promise(certificate_id="c", value_usd=None, fallen=(arm.model,))
    found = decided(seed, FLOOR, Conditions(promise=fell))
    assert found.arms[found.choice.index].model != arm.model
    assert arm.model in found.choice.reason
    assert Conditions.from_mapping(found.conditions.to_mapping()) == found.conditions
    models = tuple({each.model for each in usual.arms})
    every = decided(seed, FLOOR, Conditions(promise=replace(fell, fallen=models)))
    assert every.choice.index == usual.choice.index
    named = decided(seed, replace(FLOOR, safe_arm=arm.key), Conditions(promise=fell))
    assert named.choice.index == usual.choice.index
