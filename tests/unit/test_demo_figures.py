from __future__ import annotations

import pytest

from router.simulation.demo_figures import (
    Answered,
    Comparison,
    Interval,
    Way,
    best_constant,
    by_arm,
    compare,
    largest,
    measure,
    mixed,
    neighbours,
    wilson,
)
from router.simulation.demo_summary import verdict
from router.types import Arm

CHEAP, DEAR = Arm(model="small", strategy="single"), Arm(model="big", strategy="single")


def answered(question: int, score: float, cost_usd: float = 0.001, arm: Arm = CHEAP) -> Answered:
    return Answered(question=question, arms=(arm,), score=score, cost_usd=cost_usd, latency_s=2.0)


def way(name: str, accuracy: float, *, trials: int = 60, usd_per_1000: float = 1.0) -> Way:
    return Way(
        name=name,
        detail="",
        questions=trials,
        accuracy=accuracy,
        interval=wilson(accuracy * trials, trials),
        usd_per_1000=usd_per_1000,
        p95_latency_s=1.0,
    )


def comparison(gain: float, half: float, cost_share: float) -> Comparison:
    return Comparison(
        accuracy_gain=gain,
        interval=Interval(low=gain - half, high=gain + half),
        cost_share=cost_share,
        latency_share=1.0,
    )


def test_the_interval_is_wilsons() -> None:
    found = wilson(8, 10)
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 10).low == 0.0
    assert wilson(10, 10).high == pytest.approx(1.0)


def test_a_way_is_measured_by_its_means_and_its_latency_by_its_tail() -> None:
    found = measure("way", "", [answered(i, float(i % 4 > 0), 0.002) for i in range(100)])
    assert (found.questions, found.accuracy) == (100, 0.75)
    assert found.usd_per_1000 == pytest.approx(2.0)
    assert found.p95_latency_s == 2.0


def test_two_ways_are_compared_question_by_question() -> None:
    ours = [answered(i, 1.0, 0.001) for i in range(100)]
    theirs = [answered(i, float(i >= 10), 0.004) for i in reversed(range(100))]
    found = compare(ours, theirs)
    assert found.accuracy_gain == pytest.approx(0.10)
    assert 0.0 < found.interval.low < 0.10 < found.interval.high
    assert found.cost_share == pytest.approx(0.25)


def test_a_way_is_no_better_than_itself() -> None:
    same = [answered(i, float(i % 2)) for i in range(40)]
    assert compare(same, same).interval == Interval(low=0.0, high=0.0)


def test_an_arm_with_few_trials_is_not_the_best_constant() -> None:
    lucky, steady = Arm(model="big", strategy="refinement"), DEAR
    found = {lucky: way("lucky", 1.0, trials=3), steady: way("steady", 0.8), CHEAP: way("c", 0.5)}
    assert best_constant(found) == steady


def test_of_equally_accurate_arms_the_cheaper_is_the_best_constant() -> None:
    found = {DEAR: way("dear", 0.8, usd_per_1000=9.0), CHEAP: way("cheap", 0.8)}
    assert best_constant(found) == CHEAP
    assert largest(found, "big") == DEAR


MIDDLE = Arm(model="middle", strategy="single")
POOR = Arm(model="poor", strategy="single")
MENU = {
    DEAR: way("dear", 0.9, usd_per_1000=10.0),
    CHEAP: way("cheap", 0.5, usd_per_1000=1.0),
    POOR: way("poor", 0.55, usd_per_1000=4.0),
    MIDDLE: way("middle", 0.8, usd_per_1000=5.0),
}


@pytest.mark.parametrize(
    ("usd_per_1000", "expected"),
    [
        (0.5, (CHEAP, CHEAP)),
        (3.0, (CHEAP, MIDDLE)),
        (4.5, (CHEAP, MIDDLE)),
        (7.0, (MIDDLE, DEAR)),
        (20.0, (DEAR, DEAR)),
    ],
)
def test_the_best_mixture_at_a_cost_lies_on_the_envelope(
    usd_per_1000: float, expected: tuple[Arm, Arm]
) -> None:
    assert neighbours(MENU, usd_per_1000) == expected


def test_a_mixture_costs_what_it_is_asked_to() -> None:
    cheap = [answered(i, 0.0, 0.001) for i in range(10)]
    dear = [answered(i, 1.0, 0.005, arm=DEAR) for i in range(10)]
    found = measure("", "", mixed(cheap, dear, 0.002))
    assert found.usd_per_1000 == pytest.approx(2.0)
    assert found.accuracy == pytest.approx(0.25)
    assert measure("", "", mixed(cheap, cheap, 0.002)).usd_per_1000 == pytest.approx(1.0)
    assert measure("", "", mixed(cheap, dear, 0.009)).accuracy == 1.0


def test_an_arm_is_judged_by_the_questions_that_it_was_tried_on_first() -> None:
    log = [answered(0, 1.0), answered(1, 0.0), answered(2, 1.0, arm=DEAR)]
    found = by_arm(log, [DEAR, CHEAP])
    assert [(arm, each.questions, each.accuracy) for arm, each in found.items()] == [
        (DEAR, 1, 1.0),
        (CHEAP, 2, 0.5),
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (comparison(0.05, 0.02, 0.6), "was more accurate"),
        (comparison(-0.05, 0.02, 0.6), "was less accurate"),
        (comparison(-0.01, 0.02, 0.6), "within the noise"),
        (comparison(0.0, 0.02, 0.6), "at 60 % of its cost"),
        (comparison(0.0, 0.02, 1.0), "saved nothing"),
        (comparison(0.05, 0.02, 1.4), "on cost it lost"),
    ],
)
def test_the_verdict_says_whether_leadline_won_or_lost(found: Comparison, said: str) -> None:
    assert said in verdict(found)
