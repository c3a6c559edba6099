"""What an attempt may spend: monotone in the budget, and never more than was given."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.execution.allowance import SINGLE_PASS_TOKENS, Passes, Purse, allowance
from router.execution.backend import backend_failed
from router.execution.calls import CallMade, Failure, Usage
from router.execution.retrying import SAFE, Retries
from router.execution.strategy import Allowance, AllowanceSpent
from router.policy.arms import compute
from router.types import Arm, Model

MODEL = Model(name="m", input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, max_output_tokens=2_000)
ARMS = (
    Arm(model="m", strategy="single"),
    Arm(model="m", strategy="chain_of_thought", params={"tokens": 4096}),
    Arm(model="m", strategy="self_consistency", params={"samples": 10}),
    Arm(model="m", strategy="refinement", params={"rounds": 3}),
    Arm(model="m", strategy="tree_of_thoughts", params={"depth": 3, "width": 5}),
)


def given_for(arm: Arm, budget: int) -> Allowance:
    return allowance(arm, MODEL, Passes.of(budget), input_tokens=100, seconds=10.0)


def made(output_tokens: int = 10, cost_usd: float = 0.0) -> CallMade:
    usage = Usage(input_tokens=5, output_tokens=output_tokens)
    return CallMade(model="m", usage=usage, cost_usd=cost_usd, latency_s=0.1)


@given(st.sampled_from(ARMS), st.integers(1, 100), st.integers(1, 100))
def test_more_compute_budget_never_allows_less(arm: Arm, one: int, other: int) -> None:
    less, more = given_for(arm, min(one, other)), given_for(arm, max(one, other))
    assert less.calls <= more.calls
    assert less.output_tokens <= more.output_tokens
    assert less.usd <= more.usd


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.strategy)
def test_a_budget_bounds_calls_tokens_and_dollars_by_single_passes(arm: Arm) -> None:
    one = given_for(arm, 1)
    assert one.calls == 1
    assert one.output_tokens <= SINGLE_PASS_TOKENS
    assert one.usd == pytest.approx((100 * 1.0 + SINGLE_PASS_TOKENS * 4.0) / 1e6)
    without = given_for(arm, 0)
    assert without.calls >= compute(arm)
    assert without.usd == math.inf


def test_a_budget_is_of_all_attempts_together() -> None:
    passes = Passes.of(10).less(4, 3_000)
    assert given_for(ARMS[3], 10).calls == 10
    left = allowance(ARMS[3], MODEL, passes, input_tokens=100, seconds=1.0)
    assert left.calls == 6
    assert left.output_tokens == 10 * SINGLE_PASS_TOKENS - 3_000
    assert passes.cover(ARMS[0])
    assert not passes.cover(ARMS[2])


@given(
    st.integers(1, 20),
    st.integers(16, 5_000),
    st.lists(st.tuples(st.integers(1, 5), st.none() | st.integers(1, 800)), max_size=12),
)
def test_calls_side_by_side_never_hold_more_than_is_left(
    calls: int, tokens: int, asked: list[tuple[int, int | None]]
) -> None:
    purse = Purse(Allowance(calls=calls, output_tokens=tokens, seconds=60.0))
    held_calls, held_tokens = 0, 0
    for samples, most in asked:
        try:
            held, each = purse.hold(samples, most)
        except AllowanceSpent:
            continue
        assert each is not None
        held_calls, held_tokens = held_calls + held.calls, held_tokens + held.calls * each
    assert held_calls <= calls
    assert held_tokens <= tokens


def test_what_is_not_used_is_given_back() -> None:
    purse = Purse(Allowance(calls=2, output_tokens=100, seconds=60.0, usd=1.0))
    held, most = purse.hold(1, 90)
    assert most == 90
    with pytest.raises(AllowanceSpent):
        purse.hold(1, None)
    purse.pay(made(output_tokens=20, cost_usd=0.25))
    purse.settle(held)
    assert purse.left().output_tokens == 80
    assert purse.left().usd == 0.75
    assert purse.left().calls == 1
    assert purse.hold(5, None)[0].calls == 1


@pytest.mark.parametrize(
    ("spent", "reason"),
    [
        (Allowance(calls=0), "ALLOWANCE_SPENT"),
        (Allowance(output_tokens=3), "ALLOWANCE_SPENT"),
        (Allowance(usd=0), "ALLOWANCE_SPENT"),
        (Allowance(seconds=0), "DEADLINE"),
        (Allowance(calls=0, seconds=0), "DEADLINE"),
    ],
)
def test_nothing_left_of_anything_is_an_error(spent: Allowance, reason: str) -> None:
    with pytest.raises(AllowanceSpent) as caught:
        Purse(spent).hold(1, None)
    assert caught.value.reason == reason


def test_an_unbounded_purse_cuts_nothing() -> None:
    assert Purse(Allowance()).hold(3, None)[1] is None
    assert Purse(Allowance()).hold(3, 7)[1] == 7


@pytest.mark.parametrize("failure", list(Failure))
def test_only_what_generated_nothing_is_tried_again(failure: Failure) -> None:
    wait_s = Retries().wait_s(backend_failed(failure, "m"), 1, 60.0, random.Random(1))
    assert (wait_s is not None) == (failure in SAFE)


@given(st.floats(0, 100), st.integers(1, 3), st.floats(0, 100), st.integers(0, 99))
def test_a_wait_is_what_the_provider_asked_for_at_least_and_less_than_is_left(
    asked_s: float, tries: int, left_s: float, seed: int
) -> None:
    error = backend_failed(Failure.RATE_LIMITED, "m", retry_after_s=asked_s)
    wait_s = Retries().wait_s(error, tries, left_s, random.Random(seed))
    if wait_s is None:
        assert tries > 2 or asked_s + 1.0 >= left_s
    else:
        assert asked_s <= wait_s < left_s
