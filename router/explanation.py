"""What an explanation says: the terms of a predicted accuracy, and those of the choice.

It holds names, numbers and arms' keys, and nothing of any query's text.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one signal or feature adds to the log-odds; its `value` is None where not known."""

    name: str
    value: float | None
    log_odds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A landmark near the query, which stands for the training queries around it.

    `similarity` is in (0, 1]. `rows` is the weight of the arm's rows there and `accuracy`
    their mean score; `all_rows` and `all_accuracy` are those of all arms.
    """

    landmark: int
    similarity: float
    rows: float
    accuracy: float
    all_rows: float
    all_accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyTerms:
    """The terms of an arm's predicted accuracy.

    `mean` are the arm's log-odds where nothing is known of the query. To rounding,
    mean + signals + trees_expected + trees + trees_other = log_odds, and `probability` is
    the logistic of slope x log_odds + offset. The arm's accuracy is that, but for arms
    that differ in compute alone, whose accuracies are made to rise with it. `trees` are
    the largest SHAP contributions (Lundberg et al. 2020), the largest first.
    """

    mean: float
    signals: tuple[Contribution, ...]
    trees_expected: float
    trees: tuple[Contribution, ...]
    trees_other: float
    log_odds: float
    slope: float
    offset: float
    probability: float
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedArm:
    """An arm by its key: what it is expected to bring, and why.

    Arms are ranked by `utility_usd`: at a value of a correct answer, value x accuracy - cost,
    planned ahead where more attempts may follow; without one, minus the cost. `terms` is
    None where nothing is learnt.
    """

    arm: str
    feasible: bool
    accuracy: float
    cost_usd: float
    utility_usd: float | None
    terms: AccuracyTerms | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A limit with the keys of the arms that it leaves out, whatever the other limits do."""

    limit: str
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What moved a choice: the arm that was picked first, then the one it is held against.

    `value_usd` is that of a correct answer, None where the cheapest feasible arm is
    picked; `planned` says that attempts which may follow are counted in.
    """

    note: str
    value_usd: float | None
    planned: bool
    arms: tuple[ExplainedArm, ...]
    left_out: tuple[LeftOut, ...]
