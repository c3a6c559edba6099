"""What a benchmark found, as values: the content of benchmark.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from training.benchmark.bootstrap import Interval
from training.benchmark.coverage import Coverage
from training.benchmark.pgr import Recovered
from training.benchmark.prediction import PredictionFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A mean cost with the mean accuracy that it bought."""

    cost_usd: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CostShare:
    """What a share of the best constant's accuracy costs, as a share of its cost.

    `cost` is infinite (null in JSON) where a way does not reach that accuracy.
    """

    of_accuracy: float
    cost: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AtBudget:
    """A way's own envelope, without the constants, against the best mixture at one budget.

    `difference` is the way's accuracy less the mixture's; both are None at a budget below
    the way's cheapest point. `with_constants` is the difference after the constants were
    added to the way's points, which is never below 0.
    """

    budget_usd: float
    mixture: float
    accuracy: Interval | None
    difference: Interval | None
    with_constants: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class WayFigures:
    """How a way did; intervals are paired-bootstrap 95 %.

    `gap_closed` is the design's, with the constants added. `gap_closed_alone` takes the
    way's own envelope, and the mixture's where the way does not reach a budget; it can be
    negative. `against_best_constant` is the way's accuracy less the best constant's at the
    best constant's cost, None where all its points cost more. `worse_budgets` and
    `better_budgets` count the budgets that it reaches at which the interval of the
    difference lies wholly below or above 0. `gap_closed_by_split` has the gap closed on each
    split's test queries alone, where `gap_closed` takes those of all splits together.
    """

    name: str
    verdict: str
    gap_closed: Interval | None
    gap_closed_by_split: tuple[float, ...]
    gap_closed_alone: Interval | None
    against_best_constant: Interval | None
    cost_shares: tuple[CostShare, ...]
    worse_budgets: int
    better_budgets: int
    unreached_budgets: int
    better_budgets_with_constants: int
    aiq: float | None
    pgr: Recovered | None
    prediction: PredictionFigures | None
    points: tuple[Point, ...]
    budgets: tuple[AtBudget, ...]
    fit_s: float
    walk_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """Gap closed by a way that learnt from some of the training queries."""

    way: str
    queries: int
    gap_closed: Interval | None
    gap_closed_alone: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablated:
    """Gap closed without one part, and how much less that is than with it."""

    without: str
    way: str
    gap_closed: Interval | None
    loss: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Rows of like predicted accuracy: its mean, and that of their scores."""

    rows: int
    predicted: float
    score: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A constant arm: its means on the test queries and those that training saw."""

    arm: str
    test: Point
    train: Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """How a sampling rule did; intervals are paired-bootstrap 95 % over queries.

    `difference` is its accuracy less that of a vote over all samples; the shares are of
    what all samples count and cost, the latter None where costs are not known.
    """

    rule: str
    samples: Interval
    accuracy: Interval
    difference: Interval
    sample_share: Interval
    cost_share: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """How a way predicts an arm that training had not, after so many of its outcomes.

    `outcomes` is None for all that there are. Figures are means over `arms` left out in
    turn, with their intervals over arms; `mean_error` is how far the mean prediction lies
    from the mean score.
    """

    way: str
    outcomes: int | None
    arms: int
    auc: Interval | None
    brier: Interval | None
    ece: Interval | None
    mean_error: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a way's decisions use at its cheapest point that is as accurate as the best constant.

    At its most accurate point where none is. Figures are per decision, over all its
    attempts; `gco2e` is None where the grid of a model that it picks is not known.
    """

    way: str
    at: Point
    energy_wh: Interval
    gco2e: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What was compared on what; `left_out` says what took no part, and why."""

    how: str
    seed: int
    resamples: int
    train_queries: int
    test_queries: int
    left_out: Mapping[str, int]
    left_out_arms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A whole benchmark. `best_constant` and `cheapest_constant` are as training saw them."""

    setup: Setup
    best_constant: str
    cheapest_constant: str
    constants: tuple[Constant, ...]
    ways: tuple[WayFigures, ...]
    learning_curve: tuple[Learnt, ...]
    ablation: tuple[Ablated, ...]
    calibration: tuple[CalibrationBin, ...]
    latency_coverage: tuple[Coverage, ...]
    importance: Mapping[str, float]
    sampling: tuple[Sampled, ...] = ()
    new_arms: tuple[Foretold, ...] = ()
    energy: tuple[Used, ...] = ()

    def way(self, name: str) -> WayFigures | None:
        """The figures of the way of that name, if it took part."""
        return next((each for each in self.ways if each.name == name), None)
