"""The simulated models behave as published."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from router.errors import InvalidInput
from router.policy.scaling import (
    MATH,
    SECONDS_PER_COMPUTE,
    STRATEGIES,
    USD_PER_COMPUTE,
    Measured,
    measured,
)
from router.simulation.answering import Ask, Reply, Respondent
from router.simulation.fleet import (
    BY_NAME,
    FLEET,
    REFERENCE,
    catalog,
    expected_accuracy,
)
from router.simulation.scaling import Effort, effort
from router.simulation.votes import vote_accuracy, wrong_shares
from router.simulation.workload import Question, questions, score
from router.types import Arm, Strategy

COUNT = 2_000
SEED = 11
MODEL = BY_NAME[REFERENCE]


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return questions(COUNT, SEED)


@pytest.fixture(scope="module")
def respondent(asked: list[Question]) -> Respondent:
    return Respondent.of(asked, SEED)


def arm_of(row: Measured) -> Arm:
    return Arm(model=REFERENCE, strategy=row.strategy, params=row.params)


def run(respondent: Respondent, question: Question, arm: Arm, key: str = "1") -> list[Reply]:
    """Each round of the arm."""
    spent = effort(arm)
    rounds = [replace(spent, rounds=number) for number in range(1, spent.rounds + 1)]
    ask = Ask(model=BY_NAME[arm.model], text=question.text, effort=spent, key=key)
    return [respondent.reply(replace(ask, effort=each)) for each in rounds]


def is_right(question: Question, reply: Reply) -> float:
    votes = Counter(sample.content.rpartition("Answer: ")[2] for sample in reply.samples)
    return score(question, votes.most_common(1)[0][0])


def row_name(row: Measured) -> str:
    return arm_of(row).key


@pytest.mark.parametrize("row", MATH, ids=row_name)
def test_expected_accuracy_is_within_a_point_of_the_published_row(
    row: Measured, asked: list[Question]
) -> None:
    expected = np.mean([expected_accuracy(arm_of(row), question) for question in asked])
    assert expected == pytest.approx(row.math_accuracy, abs=0.01)


@pytest.mark.parametrize("row", MATH, ids=row_name)
def test_drawn_answers_reproduce_the_published_row(
    row: Measured, asked: list[Question], respondent: Respondent
) -> None:
    arm = arm_of(row)
    replies = [run(respondent, question, arm) for question in asked]
    right = [is_right(question, r[-1]) for question, r in zip(asked, replies, strict=True)]
    tokens = [sum(s.output_tokens for reply in r for s in reply.samples) for r in replies]
    cost_usd = np.mean(tokens) * MODEL.model.output_usd_per_mtok / 1e6
    sampling_error = 3 * np.sqrt(row.math_accuracy * (1 - row.math_accuracy) / COUNT)
    assert np.mean(right) == pytest.approx(row.math_accuracy, abs=0.01 + sampling_error)
    assert cost_usd == pytest.approx(row.cost_usd, rel=0.02)


@pytest.mark.parametrize("row", MATH, ids=row_name)
def test_compute_is_the_published_multiple(row: Measured) -> None:
    assert effort(arm_of(row)).compute == row.compute
    assert row.cost_usd == pytest.approx(row.compute * USD_PER_COMPUTE)


@pytest.mark.parametrize("row", STRATEGIES, ids=row_name)
def test_the_published_latency_grows_as_compute(row: Measured) -> None:
    assert row.latency_s == pytest.approx(row.compute * SECONDS_PER_COMPUTE)


def test_a_row_that_is_not_published_is_refused() -> None:
    assert measured(Strategy.DYNAMIC).latency_s == 3.2
    with pytest.raises(KeyError, match="no published row"):
        measured(Strategy.REFINEMENT, rounds=4)


def test_serial_latency_has_the_published_median_and_grows_with_compute(
    asked: list[Question], respondent: Respondent
) -> None:
    rows = [measured(Strategy.SINGLE)]
    rows += [measured(Strategy.CHAIN_OF_THOUGHT, tokens=n) for n in (256, 1024, 4096)]
    rows += [measured(Strategy.REFINEMENT, rounds=3)]
    medians = []
    for row in rows:
        runs = [run(respondent, question, arm_of(row)) for question in asked[:400]]
        medians.append(np.median([sum(reply.latency_s for reply in each) for each in runs]))
    published = [row.compute * SECONDS_PER_COMPUTE for row in rows]
    assert medians == pytest.approx(published, rel=0.12)
    assert all(less < more for less, more in pairwise(medians))


def test_fifty_samples_take_the_published_ten_to_thirty_seconds(
    asked: list[Question], respondent: Respondent
) -> None:
    arm = Arm(model=REFERENCE, strategy=Strategy.SELF_CONSISTENCY, params={"samples": 50})
    latencies = [run(respondent, question, arm)[0].latency_s for question in asked[:200]]
    assert 10 <= np.quantile(latencies, 0.05) <= np.quantile(latencies, 0.95) <= 30


def test_confidence_tells_right_from_wrong_but_not_surely(
    asked: list[Question], respondent: Respondent
) -> None:
    arm = Arm(model=REFERENCE, strategy=Strategy.CHAIN_OF_THOUGHT, params={"tokens": 256})
    replies = [run(respondent, question, arm)[0] for question in asked]
    right = [is_right(question, r) for question, r in zip(asked, replies, strict=True)]
    confidence = [reply.samples[0].confidence for reply in replies]
    assert max(confidence) <= 0
    assert 0.73 <= roc_auc_score(right, confidence) <= 0.83


def test_the_same_ask_gets_the_same_reply_and_another_key_another(
    asked: list[Question], respondent: Respondent
) -> None:
    arm = Arm(model=REFERENCE, strategy=Strategy.SELF_CONSISTENCY, params={"samples": 5})
    twin = Respondent.of(questions(50, SEED), SEED)
    for question in asked[:50]:
        assert run(respondent, question, arm) == run(twin, question, arm)
        assert run(respondent, question, arm) != run(twin, question, arm, key="2")


def test_a_later_round_never_loses_a_right_answer(
    asked: list[Question], respondent: Respondent
) -> None:
    arm = Arm(model=REFERENCE, strategy=Strategy.REFINEMENT, params={"rounds": 3})
    for question in asked[:300]:
        rights = [is_right(question, reply) for reply in run(respondent, question, arm)]
        assert rights == sorted(rights)


def test_a_harder_question_is_answered_right_less_often(asked: list[Question]) -> None:
    arm = Arm(model=REFERENCE, strategy=Strategy.SINGLE)
    by_level: dict[float, list[float]] = {}
    for question in asked:
        by_level.setdefault(question.difficulty, []).append(expected_accuracy(arm, question))
    means = [np.mean(by_level[level]) for level in sorted(by_level)]
    assert all(easier > harder for easier, harder in pairwise(means))


def test_one_vote_is_one_sample_and_certainty_stays_certain() -> None:
    accuracy = np.array([0.0, 0.2, 0.7, 1.0])
    assert vote_accuracy(accuracy, 1) == pytest.approx(accuracy)
    assert vote_accuracy(np.array([0.0, 1.0]), 10) == pytest.approx([0.0, 1.0])


def test_the_closed_form_of_votes_agrees_with_counted_votes() -> None:
    rng = np.random.default_rng(5)
    shares = np.array([0.4, *(0.6 * wrong_shares())])
    counts = rng.multinomial(10, shares, size=40_000)
    wins = (counts[:, 0] == counts.max(axis=1)) / (counts == counts.max(axis=1)[:, None]).sum(1)
    assert float(vote_accuracy(0.4, 10)) == pytest.approx(wins.mean(), abs=0.01)


def test_refinement_flattens_where_it_is_published_to() -> None:
    def expected(rounds: int) -> float:
        arm = Arm(model=REFERENCE, strategy=Strategy.REFINEMENT, params={"rounds": rounds})
        return expected_accuracy(arm, questions(1, SEED)[0])

    assert expected(8) < expected(9) == expected(20)


def test_a_strategy_that_is_not_simulated_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tree_of_thoughts is not simulated"):
        effort(Arm(model=REFERENCE, strategy=Strategy.TREE_OF_THOUGHTS))


def test_the_fleet_has_24_distinct_arms_within_each_models_compute() -> None:
    fleet = catalog("http://localhost/v1")
    assert len({arm.key for arm in fleet.arms}) == 24
    for arm in fleet.arms:
        assert effort(arm).compute <= BY_NAME[arm.model].compute_max
        assert fleet.model(arm.model).endpoint == "http://localhost/v1"


def test_a_dearer_model_is_stronger_but_not_at_every_task(asked: list[Question]) -> None:
    means = []
    for item in FLEET:
        arm = Arm(model=item.model.name, strategy=Strategy.SINGLE)
        means.append(np.mean([expected_accuracy(arm, question) for question in asked]))
    assert means == sorted(means)
    assert any(item.strengths for item in FLEET)


def test_effort_reads_the_base_of_self_consistency() -> None:
    params = {"samples": 3, "base": "single"}
    arm = Arm(model="any", strategy=Strategy.SELF_CONSISTENCY, params=params)
    assert effort(arm) == Effort(samples=3)
