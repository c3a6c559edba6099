"""What reports tell of policies on held-out interactions: frontier points and reliability."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from scipy.stats import beta

from router.types import Arm, Floats
from training.evaluation.logged import Logged, one_hot
from training.evaluation.ope import Evaluation, evaluate
from training.evaluation.overlap import effective_n
from training.gate.contest import Contest, Contestant, Held
from training.learning.calibration import calibration_error

BINS = 10
_LEAST_BIN_ROWS = 20
_TAIL = 0.025


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An estimate with its 95 % interval, or in words why there is none."""

    estimate: float
    low: float
    high: float
    reason: str = ""

    @classmethod
    def of(cls, found: Evaluation) -> Self:
        """What an evaluation says."""
        return cls(
            estimate=found.estimate, low=found.low, high=found.high, reason=str(found.reason)
        )

    @classmethod
    def untold(cls, reason: str) -> Self:
        """That nothing is known, and why."""
        return cls(estimate=math.nan, low=-math.inf, high=math.inf, reason=reason)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads plain JSON values, in which null stands for what is not finite."""
        estimate, low, high = (value[name] for name in ("estimate", "low", "high"))
        return cls(
            estimate=math.nan if estimate is None else estimate,
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
            reason=value["reason"],
        )


class Kind(StrEnum):
    """Whose point it is."""

    CANDIDATE = "candidate"
    INCUMBENT = "incumbent"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a policy, or one arm for every query, reaches per query."""

    name: str
    kind: Kind
    accuracy: Told
    cost_usd: Told
    late: Told | None = None

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads plain JSON values."""
        late = value["late"]
        return cls(
            name=value["name"],
            kind=Kind(value["kind"]),
            accuracy=Told.from_mapping(value["accuracy"]),
            cost_usd=Told.from_mapping(value["cost_usd"]),
            late=None if late is None else Told.from_mapping(late),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Answers that were predicted alike: the mean prediction and the mean score."""

    predicted: float
    score: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """How predicted accuracies hold on n scored answers; `ece` is the calibration error."""

    name: str
    ece: float
    n: int
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the contestants reach on the same interactions, the candidate first."""

    interactions: int
    points: tuple[Point, ...]
    reliability: tuple[Reliability, ...]

    def point(self, kind: Kind) -> Point | None:
        """The first point of that kind."""
        return next((each for each in self.points if each.kind is kind), None)

    def to_mapping(self) -> dict[str, Any]:
        """Plain JSON values once written; null then stands for what is not finite."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` gave, from JSON."""
        return cls(
            interactions=value["interactions"],
            points=tuple(map(Point.from_mapping, value["points"])),
            reliability=tuple(
                Reliability(**{**each, "bins": tuple(Bin(**one) for one in each["bins"])})
                for each in value["reliability"]
            ),
        )


def measured(contest: Contest, arms: Sequence[Arm]) -> Measured:
    """What a contest's contestants and each of its arms alone reach.

    `arms` are its first columns; those beyond them are arms that nobody can pick.
    """
    held, columns = contest.held, contest.candidate.target.shape[1]
    known: dict[Kind, Contestant] = {Kind.CANDIDATE: contest.candidate}
    if contest.incumbent is not None:
        known[Kind.INCUMBENT] = contest.incumbent
    points = [_point(held, kind, kind, each.target) for kind, each in known.items()]
    for place, arm in enumerate(arms):
        target = one_hot(np.full(len(held), place), columns)
        points.append(_point(held, arm.key, Kind.CONSTANT, target))
    return Measured(
        interactions=len(held),
        points=tuple(points),
        reliability=tuple(_reliabilities(held, known)),
    )


def _point(held: Held, name: str, kind: Kind, target: Floats) -> Point:
    return Point(
        name=name,
        kind=kind,
        accuracy=_told(held, held.score, held.expected_score, target, response=held.response),
        cost_usd=_told(held, held.cost_usd, held.expected_cost_usd, target),
        late=None
        if np.isnan(held.late).all()
        else _told(held, held.late, held.expected_late, target),
    )


def _told(
    held: Held,
    reward: Floats,
    predicted: Floats,
    target: Floats,
    *,
    response: Floats | None = None,
) -> Told:
    logged = Logged(
        arm=held.arm,
        propensity=held.propensity,
        reward=reward,
        predicted=predicted,
        response=response,
        cluster=held.cluster,
        region=held.region,
    )
    return Told.of(evaluate(logged, target))


def _reliabilities(held: Held, known: Mapping[Kind, Contestant]) -> list[Reliability]:
    rows = np.arange(len(held))
    found = [
        reliability(str(kind), each.accuracy[rows, held.arm], held.score, held.response)
        for kind, each in known.items()
    ]
    return [each for each in found if each is not None]


def reliability(
    name: str, predicted: Floats, score: Floats, response: Floats | None = None
) -> Reliability | None:
    """How predictions hold on scores, both (n,), NaN where unknown; None of too few.

    `response` (n,) is what a known score stands for. Bins have equal counts.
    """
    known = ~np.isnan(score) & ~np.isnan(predicted)
    if known.sum() < _LEAST_BIN_ROWS:
        return None
    predicted, score = predicted[known], score[known]
    weight = np.ones(len(score)) if response is None else response[known]
    count = int(np.clip(len(score) // _LEAST_BIN_ROWS, 1, BINS))
    edges = np.unique(np.quantile(predicted, np.arange(1, count) / count))
    where = np.searchsorted(edges, predicted, side="right")
    bins = [
        _bin(*(each[where == place] for each in (predicted, score, weight)))
        for place in np.unique(where)
    ]
    return Reliability(
        name=name,
        ece=calibration_error(predicted, score, weight),
        n=len(score),
        bins=tuple(bins),
    )


def _bin(predicted: Floats, score: Floats, weight: Floats) -> Bin:
    """The means by weight; the interval is the central 95 % of the score's Jeffreys posterior."""
    mean = float(np.average(score, weights=weight))
    count = float(effective_n(weight))
    right, wrong = mean * count + 0.5, (1.0 - mean) * count + 0.5
    return Bin(
        predicted=float(np.average(predicted, weights=weight)),
        score=mean,
        low=min(float(beta.ppf(_TAIL, right, wrong)), mean),
        high=max(float(beta.ppf(1.0 - _TAIL, right, wrong)), mean),
        n=len(score),
    )
