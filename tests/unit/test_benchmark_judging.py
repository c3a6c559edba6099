"""Judging: paired intervals, and words that follow from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from router.types import Floats
from training.benchmark import constants
from training.benchmark.bench import sizes
from training.benchmark.bootstrap import Interval, Resamples
from training.benchmark.energy import energies
from training.benchmark.extras import calibration
from training.benchmark.gap import gap_closed
from training.benchmark.judging import TARGETS, Judge, verdict
from training.benchmark.reckoning import Field, reckon
from training.benchmark.results import Results, Setup
from training.benchmark.scale import Scale
from training.benchmark.trial import Trial, together
from training.benchmark.ways import Predicted, Walked, best_arms
from training.learning.energy import EnergyRates
from training.log.dataset import Indices

RNG = np.random.default_rng(4)
QUERIES, COSTS = 300, np.array([1.0, 3.0, 10.0])

SETUP = Setup(
    how="a test",
    seed=0,
    resamples=200,
    train_queries=1,
    test_queries=QUERIES,
    left_out={},
    left_out_arms=(),
)


def trial(queries: int = QUERIES) -> Trial:
    """Three arms; `good` knows each query's chances, `noise` knows nothing, `dear` is."""
    chances = RNG.random((queries, 1)) ** np.array([2.0, 0.8, 0.4])
    score = (RNG.random(chances.shape) < chances).astype(float)
    cost = COSTS * RNG.uniform(0.9, 1.1, score.shape)
    scale = Scale(accuracy=score.mean(axis=0), cost_usd=cost.mean(axis=0))
    values = scale.values_usd

    def way(accuracy: Floats) -> Walked:
        return _spent(best_arms(accuracy, cost, values), score, cost, accuracy)

    arms = np.full((len(values), queries), 2)
    walked = {
        "oracle": way(score),
        "best_constant": _spent(arms, score, cost, None),
        "good": way(chances),
        "noise": way(RNG.random(chances.shape)),
        "dear": replace(_spent(arms, score, cost, None), cost_usd=np.tile(2 * cost[:, 2], (60, 1))),
    }
    return Trial(
        arms=("a:single", "b:single", "c:single"),
        scale=scale,
        train_queries=queries,
        score=score,
        cost_usd=cost,
        latency_s=np.full(score.shape, np.nan),
        walked=walked,
        taken_s=dict.fromkeys(walked, (0.0, 0.0)),
    )


def _spent(arms: Indices, score: Floats, cost: Floats, accuracy: Floats | None) -> Walked:
    rows, known = np.arange(len(score)), None if accuracy is None else Predicted(accuracy=accuracy)
    return Walked(cost_usd=cost[rows, arms], score=score[rows, arms], predicted=known)


TRIAL = trial()
RESAMPLES = Resamples(QUERIES, 200, np.random.default_rng(0))
JUDGE = Judge(TRIAL, RESAMPLES)


def test_the_gap_in_each_resample_is_the_designs_on_its_drawn_queries() -> None:
    for name in ("good", "noise"):
        gaps = JUDGE.gaps(name)
        for place in (0, 1, 57, 200):
            drawn = np.repeat(
                np.arange(QUERIES), np.rint(QUERIES * RESAMPLES.weights[place]).astype(int)
            )
            assert gaps[place] == pytest.approx(_gap(name, drawn))


def _gap(name: str, drawn: Indices) -> float | None:
    def points(walked: Walked) -> Floats:
        cost, score = walked.cost_usd[:, drawn], walked.score[:, drawn]
        return np.column_stack((cost.mean(axis=1), score.mean(axis=1)))

    cost, score = TRIAL.cost_usd[drawn], TRIAL.score[drawn]
    return gap_closed(
        points(TRIAL.walked[name]),
        np.column_stack((cost.mean(axis=0), score.mean(axis=0))),
        points(TRIAL.walked["oracle"]),
        TRIAL.scale.budgets_usd,
    )


def test_a_way_that_knows_the_chances_beats_the_mixture_and_noise_loses() -> None:
    good, noise = JUDGE.figures("good"), JUDGE.figures("noise")
    assert good.verdict == "beats the best mixture"
    assert good.better_budgets > 30
    assert (good.worse_budgets, good.unreached_budgets) == (0, 0)
    assert noise.gap_closed_alone is not None
    assert noise.gap_closed_alone.high < 0
    assert "loses" in noise.verdict
    assert noise.worse_budgets > 10


def test_with_the_constants_added_no_way_is_worse_than_their_mixture() -> None:
    for name in TRIAL.walked:
        for each in JUDGE.figures(name).budgets:
            assert each.with_constants.low >= -1e-12
            if each.difference is not None:
                assert each.with_constants.estimate >= each.difference.estimate - 1e-12


def test_a_way_dearer_than_the_best_constant_is_called_that() -> None:
    dear = JUDGE.figures("dear")
    assert dear.verdict == "dearer than the best constant"
    assert dear.against_best_constant is None
    assert dear.unreached_budgets == 60
    assert dear.worse_budgets == 0
    shares = {each.of_accuracy: each.cost for each in dear.cost_shares}
    assert shares[1.0] is not None
    assert shares[1.0].estimate == pytest.approx(2.0)


def test_the_best_constant_costs_all_of_its_cost_at_its_own_accuracy() -> None:
    found = {each.of_accuracy: each.cost for each in JUDGE.figures("best_constant").cost_shares}
    assert tuple(found) == TARGETS
    whole = found[1.0]
    assert whole is not None
    assert (whole.low, whole.high) == pytest.approx((1.0, 1.0))
    assert found[1.01] == Interval(estimate=math.inf, low=math.inf, high=math.inf)


@pytest.mark.parametrize(
    ("alone", "against", "worse", "said"),
    [
        ((0.1, 0.2), (-0.01, 0.02), 0, "beats the best mixture"),
        ((0.1, 0.2), (-0.01, 0.02), 2, "beats the best mixture; budgets where it is worse: 2"),
        ((-0.1, 0.2), (-0.01, 0.02), 0, "no better than the best mixture"),
        ((-0.2, -0.1), (-0.01, 0.02), 0, "loses to the best mixture"),
        ((0.1, 0.2), (-0.03, -0.02), 0, "loses to the best constant"),
        ((0.1, 0.2), None, 0, "dearer than the best constant"),
        (None, (0.0, 0.0), 0, "no worse than the best constant"),
    ],
)
def test_the_verdict_is_the_worst_that_the_intervals_say(
    alone: tuple[float, float] | None,
    against: tuple[float, float] | None,
    worse: int,
    said: str,
) -> None:
    assert verdict(_interval(alone), _interval(against), worse) == said


def _interval(ends: tuple[float, float] | None) -> Interval | None:
    return None if ends is None else Interval(estimate=sum(ends) / 2, low=ends[0], high=ends[1])


def test_one_arm_alone_has_figures_but_no_gap() -> None:
    cost, score = np.full((30, 1), 2.0), RNG.integers(0, 2, (30, 1)).astype(float)
    only = np.zeros((60, 30), np.intp)
    walked: Mapping[str, Walked] = {"oracle": _spent(only, score, cost, None)}
    one = Trial(
        arms=("a:single",),
        scale=Scale(accuracy=score.mean(axis=0), cost_usd=cost.mean(axis=0)),
        train_queries=30,
        score=score,
        cost_usd=cost,
        latency_s=cost,
        walked=walked,
        taken_s={"oracle": (0.0, 0.0)},
    )
    found = Judge(one, Resamples(30, 100, np.random.default_rng(0))).figures("oracle")
    assert (found.gap_closed, found.budgets, found.pgr, found.aiq) == (None, (), None, None)
    whole = found.cost_shares[3].cost
    assert whole is not None
    assert whole.estimate == pytest.approx(1.0)


def test_folds_together_are_all_their_queries() -> None:
    parts = [trial(50), trial(70)]
    whole = together(parts)
    assert whole.score.shape == (120, 3)
    assert whole.walked["good"].score.shape == (60, 120)
    assert np.array_equal(whole.walked["good"].cost_usd[:, 50:], parts[1].walked["good"].cost_usd)
    assert whole.scale.high_usd == pytest.approx(np.mean([each.scale.high_usd for each in parts]))


def test_each_split_is_judged_alone_too() -> None:
    parts = [trial(50), trial(70)]
    field = Field(ways=[constants.Oracle()])
    resamples = Resamples(120, 10, np.random.default_rng(0))
    [found] = reckon(parts, field, resamples, SETUP, {}).ways
    alone = [Judge(each, Resamples.alone(len(each.score))).gaps("oracle")[0] for each in parts]
    assert found.gap_closed_by_split == pytest.approx(alone)


def test_calibration_bins_hold_every_row_once_and_cover_the_truth() -> None:
    predicted = TRIAL.walked["good"].predicted
    assert predicted is not None
    bins = calibration(TRIAL, predicted, RESAMPLES)
    assert sum(each.rows for each in bins) == 3 * QUERIES
    inside = [each.score.low - 0.02 <= each.predicted <= each.score.high + 0.02 for each in bins]
    assert np.mean(inside) > 0.8


def test_the_learning_curve_doubles_from_100_below_all_queries() -> None:
    assert sizes(100) == []
    assert sizes(801) == [100, 200, 400, 800]


def test_results_without_leadline_have_no_predictions_to_show() -> None:
    found: Results = reckon([TRIAL], Field(ways=()), RESAMPLES, SETUP, {})
    assert (found.ways, found.calibration, found.latency_coverage) == ((), (), ())
    assert found.best_constant == TRIAL.arms[TRIAL.scale.best_arm]


def test_energy_counts_every_attempt_and_no_query_whose_tokens_nobody_counted() -> None:
    tokens = np.tile([100.0, 200.0, 400.0], (QUERIES, 1))
    tokens[:5, 0] = np.nan
    walked = TRIAL.walked["dear"]
    tried = np.tile(np.array([2, 1, -1]), (len(walked.score), QUERIES, 1))
    told = {**TRIAL.walked, "dear": replace(walked, tried=tried)}
    judge = Judge(replace(TRIAL, tokens=tokens, walked=told), RESAMPLES)
    rates = EnergyRates(wh_per_token=np.full(3, 0.01), gco2e_per_token=np.array([1, np.nan, 1]))
    (found,) = energies(judge, ("good", "dear"), rates)
    assert (found.way, found.gco2e) == ("dear", None)
    assert found.energy_wh.estimate == pytest.approx(6.0)
    assert found.energy_wh.high == pytest.approx(6.0)
    assert energies(JUDGE, ("dear",), rates) == ()
