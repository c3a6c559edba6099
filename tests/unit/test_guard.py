"""The guard, and text that asks for compute: neither loosens what a request or its slo bounds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from uuid import UUID

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router import pipeline
from router.conditions import Conditions, Limit
from router.errors import Infeasible
from router.offline import Policy
from router.policy.features import Context
from router.policy.guard import LEAST_CHARS, parts
from router.policy.policy import Predicted
from router.slo import Slo
from router.types import Bounds, Decision, Query
from tests.kit.bundles import TRUSTED
from tests.kit.inflating import WISHES
from tests.kit.laws import NOW, POLICY, QUERY, random_predictions
from tests.kit.policies import catalog, some_conditions, some_slos
from tests.kit.serving_bundles import bundle


def _predicted(seed: int, novelty: float | None = None, views: tuple[int, ...] = ()) -> Predicted:
    context = Context(values=np.empty(0), words=np.empty(0, np.intp), input_tokens=5)
    return Predicted(
        context=context,
        predictions=random_predictions(seed),
        novelty=novelty,
        views=tuple(_predicted(each) for each in views),
    )


def _decide(known: Predicted, slo: Slo, conditions: Conditions) -> Decision | Infeasible:
    try:
        return pipeline.decide(
            POLICY,
            QUERY,
            slo,
            Bounds(),
            decision_id=UUID(int=7),
            now=NOW,
            predicted=known,
            conditions=conditions,
        )
    except Infeasible as error:
        return error


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 10_000), max_size=2),
    st.sampled_from([None, 0.5, 0.999]),
    some_slos(),
    st.just(Conditions()) | some_conditions(),
)
def test_the_guard_takes_only_feasible_arms_that_are_no_dearer(
    seed: int, views: list[int], novelty: float | None, slo: Slo, conditions: Conditions
) -> None:
    slo = replace(slo, exploration_rate=0.0, usd_per_kgco2e=0.0)
    known = _predicted(seed, novelty, tuple(views))
    plain = _decide(known, slo, conditions)
    found = _decide(known, replace(slo, guarded=True), conditions)
    if isinstance(plain, Infeasible) or isinstance(found, Infeasible):
        assert isinstance(found, Infeasible)
        assert isinstance(plain, Infeasible)
        return
    cost_usd, picked = plain.predictions.cost_usd, found.choice.index
    assert np.array_equal(plain.choice.feasible, found.choice.feasible)
    assert found.choice.propensity == plain.choice.propensity
    changed = picked != plain.choice.index
    if changed and conditions.conversation is None:
        assert plain.choice.feasible[picked]
        assert cost_usd[picked] < cost_usd[plain.choice.index]
    assert changed == (Limit.GUARD in {reason.limit for reason in found.choice.reasons})


def test_a_part_that_makes_a_query_novel_buys_no_safe_arm_past_the_guard() -> None:
    slo = Slo(min_accuracy=0.7)
    plain = _decide(_predicted(1, 0.999, (2, 3)), slo, Conditions())
    found = _decide(_predicted(1, 0.999, (2, 3)), replace(slo, guarded=True), Conditions())
    assert isinstance(plain, Decision)
    assert isinstance(found, Decision)
    assert "safe arm" in plain.choice.reason
    assert "guarded" in found.choice.reason
    assert found.predictions.cost_usd[found.choice.index] < plain.predictions.cost_usd.max()


@given(st.text(min_size=LEAST_CHARS, max_size=400))
def test_each_part_lacks_up_to_a_quarter_at_one_end(text: str) -> None:
    first, last = parts(text)
    assert text.startswith(first)
    assert text.endswith(last)
    assert all(0.74 * len(text) - 24 <= len(each) < len(text) + 24 for each in (first, last))


def test_a_short_text_has_no_parts() -> None:
    assert parts("2 + 2?") == ()


@cache
def _policy() -> Policy:
    archive = bundle(catalog())
    return Policy.registered(archive, version=1, catalog=catalog(), trusted=TRUSTED)


_WORDS = st.sampled_from([*WISHES, "```def f(x): return x^2", "What is 2 + 2?", "?" * 50])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(_WORDS, min_size=1, max_size=30).map(" ".join),
    st.sampled_from([None, 0.0005, 0.02]),
    st.sampled_from([0, 1, 5, 20]),
    st.booleans(),
)
def test_no_text_loosens_the_bounds_of_its_request(
    text: str, max_cost_usd: float | None, compute_budget: int, guarded: bool
) -> None:
    policy = _policy()
    bounds = Bounds(max_cost_usd=max_cost_usd, compute_budget=compute_budget)
    slo = Slo(accuracy_value_usd=1.0, guarded=guarded, excluded_models=("m3",))
    decision = policy.decide(text, slo=slo, bounds=bounds)
    choice, table = decision.choice, policy.bound.table
    cost_usd = decision.predictions.cost_usd[choice.index]
    assert choice.feasible[choice.index] or not choice.feasible.any()
    assert max_cost_usd is None or cost_usd <= max_cost_usd or not choice.feasible.any()
    assert table.eligible(Query(text=text), slo, bounds)[choice.index]
    assert compute_budget != 1 or decision.arm.strategy == "single"
