"""A rehearsal's figures are those of the slo, and their errors are told honestly."""

from __future__ import annotations

from math import isnan, nan, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.exploration import explore, probabilities
from router.policy.rehearsal import (
    Rehearsed,
    estimate,
    expected,
    summarise,
)
from router.policy.unknown import unknown_names
from router.slo import Slo
from router.types import Choice, SloStatus
from tests.kit.policies import catalog, predictions


def choice(feasible: list[bool], index: int) -> Choice:
    return Choice(
        index=index,
        feasible=np.array(feasible),
        propensity=1.0,
        explored=False,
        slo_status=SloStatus.MET,
        reason="",
    )


def rehearsed(**changes: Any) -> Rehearsed:
    usual: dict[str, Any] = {
        "expected": np.array([0.8, 0.01, 1.0, 2.0, 0.5]),
        "decided": np.array([0.6, 0.02, nan, nan, 0.5]),
        "feasible": True,
        "changed": False,
        "continuing": False,
        "weight": 1.0,
        "score": 1.0,
        "cost_usd": 0.01,
        "latency_s": nan,
    }
    return Rehearsed(**{**usual, **changes})


@given(
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_probabilities_are_those_that_exploration_draws_with(
    feasible: list[bool], rate: float, draw: float
) -> None:
    greedy = choice(feasible, int(np.argmax(feasible)))
    found = probabilities(greedy, rate)
    drawn = explore(greedy, rate, draw)
    assert found.sum() == pytest.approx(1.0)
    assert found[drawn.index] == pytest.approx(drawn.propensity)


def test_an_arm_that_is_never_taken_adds_nothing_even_where_it_was_never_measured() -> None:
    known = predictions(np.array([0.5, 0.9]), np.array([1.0, 2.0]), np.array([nan, 4.0]))
    found = expected(known, np.array([0.0, 1.0]))
    assert found[:3].tolist() == [0.9, 2.0, 4.0]
    assert isnan(expected(known, np.array([0.5, 0.5]))[2])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_with_the_logs_own_choices_the_estimate_is_the_plain_mean(scores: list[float]) -> None:
    found = estimate(np.ones(len(scores)), np.array(scores))
    assert found is not None
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.standard_error == pytest.approx(np.std(scores) / sqrt(len(scores)), abs=1e-12)
    assert found.effective_outcomes == pytest.approx(len(scores))
    assert found.support == 1.0


def test_the_estimate_finds_what_another_choice_brings_and_how_sure_that_is() -> None:
    rng = np.random.default_rng(5)
    arms = rng.integers(0, 4, 20_000)
    scores = rng.random(20_000) < np.array([0.2, 0.4, 0.6, 0.9])[arms]
    weight = np.where(arms == 3, 4.0, 0.0)
    covered = 0
    for part in np.split(np.arange(20_000), 100):
        found = estimate(weight[part], scores[part].astype(float))
        assert found is not None
        covered += abs(found.mean - 0.9) <= 1.96 * found.standard_error
    assert covered >= 85
    whole = estimate(weight, scores.astype(float))
    assert whole is not None
    assert whole.mean == pytest.approx(0.9, abs=0.02)
    assert whole.support == pytest.approx(1.0, abs=0.05)
    assert whole.effective_outcomes == pytest.approx(5_000, rel=0.05)


@pytest.mark.parametrize(
    ("weight", "score"),
    [([], []), ([1.0], [1.0]), ([0.0, 0.0], [1.0, 0.0]), ([nan, nan], [1.0, 1.0])],
)
def test_a_log_that_cannot_tell_gives_no_estimate(weight: list[float], score: list[float]) -> None:
    assert estimate(np.array(weight), np.array(score)) is None


def test_no_decisions_give_no_figures() -> None:
    found = summarise([])
    assert found.decisions == 0
    assert (found.infeasible_share, found.predicted, found.accuracy) == (None, None, None)


def test_a_refused_decision_is_infeasible_and_in_no_mean() -> None:
    refused = rehearsed(expected=None, feasible=False, changed=True, weight=0.0, score=0.0)
    found = summarise([rehearsed(), rehearsed(score=0.0), refused, rehearsed(feasible=False)])
    assert (found.infeasible_share, found.rejected_share, found.changed_share) == (0.5, 0.25, 0.25)
    assert found.predicted is not None
    assert found.predicted.accuracy == pytest.approx(0.8)
    assert found.accuracy is not None
    assert found.accuracy.outcomes == 3
    assert found.accuracy.support == 1.0
    assert found.latency_s is None
    assert found.decided is not None
    assert found.decided.latency_p50_s is None


def test_arms_that_exploration_drew_do_not_count_as_changed() -> None:
    found = summarise([rehearsed(changed=None), rehearsed(changed=True), rehearsed()])
    assert found.changed_share == 0.5


@pytest.mark.parametrize(
    ("slo", "fields"),
    [
        (Slo(allowed_models=("m0", "gpt-9")), ["allowed_models"]),
        (Slo(excluded_models=("gpt-9",)), ["excluded_models"]),
        (Slo(allowed_strategies=("single", "debate")), ["allowed_strategies"]),
        (Slo(allowed_regions=("eu-west",)), ["allowed_regions"]),
        (Slo(min_relative_accuracy=0.99, reference_arm="gpt-9:single"), ["reference_arm"]),
        (Slo(safe_arm="m0:self_consistency?samples=99"), ["safe_arm"]),
        (Slo(allowed_models=("m0", "m3"), safe_arm="m3:single"), []),
    ],
)
def test_names_that_the_catalog_does_not_have_are_told_by_field(
    slo: Slo, fields: list[str]
) -> None:
    assert [text.partition(":")[0] for text in unknown_names(slo, catalog())] == fields
