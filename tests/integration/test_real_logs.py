"""What step 2 promises, small: a policy learnt from real outcomes, judged on unseen queries."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

from tests.kit import bandits
from tests.kit.embedding import embedder
from tests.kit.shared_data import shared
from training.benchmark import constants
from training.benchmark.bench import LEADLINE, Plan, benchmark, entered
from training.benchmark.leadline import OneAttempt, Teacher
from training.benchmark.reckoning import Field
from training.benchmark.results import Results
from training.benchmark.splits import Split, few, held_out, of_logs
from training.learning.policy import learn
from training.log.dataset import Dataset
from training.log.sources import read


@cache
def split() -> Split:
    whole = held_out(Dataset.from_table(read(shared("cascades")).table), 0.3, 0)
    return replace(whole, train=few(whole.train, 1_000, seed=0), test=few(whole.test, 400, seed=0))


@cache
def judged() -> Results:
    plan = Plan(ways=LEADLINE, resamples=200)
    field = entered([split()], plan, embedder())
    return benchmark([split()], field, plan, progress=lambda _: None, clock=time.perf_counter)


def closed(results: Results, way: str) -> float:
    found = results.way(way)
    assert found is not None
    assert found.gap_closed is not None
    return found.gap_closed.estimate


@pytest.mark.parametrize(("way", "least"), [("leadline", 0.05), ("leadline_continuation", 0.1)])
def test_unseen_queries_are_routed_better_than_any_mixture_of_constants(
    way: str, least: float
) -> None:
    found = judged().way(way)
    assert found is not None
    assert closed(judged(), way) > least
    assert found.worse_budgets == 0


def test_looking_at_the_answer_reaches_the_best_constants_accuracy_at_half_its_cost() -> None:
    found = judged().way("leadline_continuation")
    assert found is not None
    at = {share.of_accuracy: share.cost for share in found.cost_shares}[1.0]
    assert at is not None
    assert at.estimate < 0.5


def test_predictions_hold_on_unseen_rows() -> None:
    found = judged().way("leadline")
    assert found is not None
    assert found.prediction is not None
    assert found.prediction.ece < 0.05
    shares = [each.share for each in judged().latency_coverage if each.quantile == 0.95]
    assert len(shares) == 9
    assert np.mean(shares) == pytest.approx(0.95, abs=0.02)


def test_a_bandit_log_teaches_at_least_half_of_what_as_many_full_outcomes_do() -> None:
    full, odds = split().train, bandits.policies(split().train)
    bandit = bandits.logged(full, odds["uniform"], np.random.default_rng(0))
    same = few(full, len(bandit.rows) // len(full.arms), seed=0)
    ours, theirs = (_gap(of_logs(each, split().test)) for each in (bandit, same))
    assert ours > 0.5 * theirs


def _gap(taught: Split) -> float:
    teacher = Teacher(partial(learn, embedder=embedder()))
    ends = (constants.BestConstant(), constants.Mixture(), constants.Oracle())
    field, plan = Field(ways=[*ends, OneAttempt(teacher)]), Plan(resamples=100)
    results = benchmark([taught], field, plan, progress=lambda _: None, clock=time.perf_counter)
    return closed(results, "leadline")
