"""Live monitoring of an accuracy floor, valid at any time and for any number of looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from router.conditions import MonitorState
from router.errors import InvalidInput
from router.policy.betting import Capital, odds_at
from router.types import Floats

AT_RISK = 2.0
"""The capital from which an slo is at risk: half of the streams at the floor never see it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums over the outcomes in the order of their arrival, and counts of decisions.

    `weight`, `squared_weight` and `score` are sums of w, w^2 and w x score; `variation`
    is that of w^2 x (score - the mean before it)^2. What is out of distribution is
    counted in `apart_` and in nothing else.
    """

    decisions: int = 0
    outcomes: int = 0
    weight: float = 0.0
    squared_weight: float = 0.0
    score: float = 0.0
    variation: float = 0.0
    apart_decisions: int = 0
    apart_outcomes: int = 0
    apart_score: float = 0.0

    @property
    def mean(self) -> float | None:
        """The weighted mean of the scores; None before the first."""
        return self.score / self.weight if self.weight else None

    @property
    def apart_mean(self) -> float | None:
        """The mean of the scores out of distribution; None before the first."""
        return self.apart_score / self.apart_outcomes if self.apart_outcomes else None

    @property
    def effective_outcomes(self) -> float:
        """As many outcomes of equal weight tell as much (Kish)."""
        return self.weight**2 / self.squared_weight if self.weight else 0.0

    @property
    def coverage(self) -> float:
        """The share of decisions whose outcome is known; 1 before the first decision."""
        return min(self.outcomes / self.decisions, 1.0) if self.decisions else 1.0

    def add(self, scores: Floats, weights: Floats) -> Tally:
        """The tally with outcomes (n,) of positive weights (n,) that arrived in this order."""
        total, weighted = _sums(self.weight, weights), _sums(self.score, weights * scores)
        before = (0.5 + weighted[:-1]) / (1.0 + total[:-1])
        squared = _sums(self.squared_weight, weights**2)
        variation = _sums(self.variation, (weights * (scores - before)) ** 2)
        return replace(
            self,
            outcomes=self.outcomes + len(scores),
            weight=float(total[-1]),
            squared_weight=float(squared[-1]),
            score=float(weighted[-1]),
            variation=float(variation[-1]),
        )

    def interval(self, confidence: float) -> tuple[float, float]:
        """Holds the running mean of accuracy at all times at once, however accuracy drifts.

        An empirical Bernstein confidence sequence: sums of w x (accuracy - score) stay below
        a mixture boundary in `variation` (Howard, Ramdas, McAuliffe & Sekhon 2021, theorem
        4), on either side at half of the error.
        """
        mean = self.mean
        if mean is None:
            return 0.0, 1.0
        away = boundary(self.variation, 2.0 / (1.0 - confidence)) / self.weight
        return max(mean - away, 0.0), min(mean + away, 1.0)


def _sums(start: float, values: Floats) -> Floats:
    """The running sums from `start` on, added one by one: batches change no bit."""
    return np.cumsum(np.concatenate(([start], values)))


_RATES = 0.9 * 1.5 ** -np.arange(24.0)
_LOG_PRIOR = -np.log(np.arange(1.0, 25.0) * np.arange(2.0, 26.0))
_COST = -np.log1p(-_RATES) - _RATES


def boundary(variation: float, level: float) -> float:
    """Where a mixture over rates r of exp(r s - (-log(1 - r) - r) variation) reaches the level."""
    constant = _LOG_PRIOR - _COST * variation - np.log(level)
    highest = float(np.min(-constant / _RATES))

    def excess(total: float) -> float:
        return float(np.logaddexp.reduce(_RATES * total + constant))

    return float(brentq(excess, 0.0, highest + 1e-9, xtol=1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a monitor says: a number, a confidence, a sample size and its coverage.

    `coverage` is the share of decisions whose outcome is known. `e_value` of `alarm_at`
    or more is broken; then accuracy fell below the floor after about `since` outcomes.
    """

    state: MonitorState
    floor: float
    confidence: float
    estimate: float | None
    low: float
    high: float
    outcomes: int
    effective_outcomes: float
    decisions: int
    coverage: float
    e_value: float
    alarm_at: float
    since: int
    apart_decisions: int
    apart_outcomes: int
    apart_estimate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """Watches one accuracy floor. Immutable.

    The same outcomes in the same order, one by one or in batches, give the same monitor.
    Any order of arrival is valid, and outcomes may be missing, as long as whether and when
    one arrives does not hang on its score; where it hangs on what was known before, weigh
    each outcome by 1 / propensity of its arrival over the greatest such weight.
    """

    floor: float
    confidence: float = 0.95
    tally: Tally = field(default_factory=Tally)
    capital: Capital = field(default_factory=Capital.of)
    highest: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.floor <= 1.0:
            raise InvalidInput(f"{self.floor} is not above 0 and at most 1", field="floor")
        if not 0.5 <= self.confidence <= 0.9999:
            raise InvalidInput(
                f"{self.confidence} is not between 0.5 and 0.9999", field="confidence"
            )

    def decided(self, decisions: int, *, apart: int = 0) -> Monitor:
        """Counts decisions, and `apart` from them those that were out of distribution."""
        tally = replace(
            self.tally,
            decisions=self.tally.decisions + decisions,
            apart_decisions=self.tally.apart_decisions + apart,
        )
        return replace(self, tally=tally)

    def observe(
        self,
        scores: ArrayLike,
        *,
        weights: ArrayLike = 1.0,
        apart: ArrayLike = False,
    ) -> Monitor:
        """The monitor after outcomes whose scores (n,) arrived in this order.

        `weights` (n,) in [0, 1] count an outcome for more or less, 0 leaves it out; explored
        decisions are weighed so. `apart` (n,) marks what was out of distribution. Raises
        InvalidInput for scores or weights beyond [0, 1].
        """
        given = np.atleast_1d(np.asarray(scores, float))
        weight = np.broadcast_to(_within("weights", weights), given.shape)
        aside = np.broadcast_to(np.asarray(apart, bool), given.shape)
        counts = ~aside & (weight > 0.0)
        valid = _within("scores", given)
        tally = replace(
            self.tally.add(valid[counts], weight[counts]),
            apart_outcomes=self.tally.apart_outcomes + int(aside.sum()),
            apart_score=float(_sums(self.tally.apart_score, valid[aside])[-1]),
        )
        capital, highest = self._bet(weight[counts] * (self.floor - valid[counts]))
        return replace(self, tally=tally, capital=capital, highest=highest)

    def _bet(self, shortfalls: Floats) -> tuple[Capital, float]:
        capital, highest, odds = self.capital, self.highest, odds_at(self.floor)
        for shortfall in shortfalls:
            capital = capital.bet(shortfall, odds)
            highest = max(highest, float(capital.total))
        return capital, highest

    @property
    def alarm_at(self) -> float:
        """The capital at which the floor counts as broken."""
        return 1.0 / (1.0 - self.confidence)

    @property
    def state(self) -> MonitorState:
        """What the outcomes so far say of the floor.

        Broken: at the stated confidence accuracy has been below it; this stays so. At risk:
        the capital, as it is now, has doubled at least. Holding: neither; with few outcomes
        that is no proof, which is why a statement has an interval and a coverage.
        """
        if self.highest >= self.alarm_at:
            return MonitorState.BROKEN
        return MonitorState.AT_RISK if self.capital.total >= AT_RISK else MonitorState.HOLDING

    def statement(self) -> Statement:
        """What the monitor says now."""
        tally, capital = self.tally, self.capital
        low, high = tally.interval(self.confidence)
        return Statement(
            state=self.state,
            floor=self.floor,
            confidence=self.confidence,
            estimate=tally.mean,
            low=low,
            high=high,
            outcomes=tally.outcomes,
            effective_outcomes=tally.effective_outcomes,
            decisions=tally.decisions,
            coverage=tally.coverage,
            e_value=float(capital.total),
            alarm_at=self.alarm_at,
            since=int(capital.since[capital.staked.argmax()]),
            apart_decisions=tally.apart_decisions,
            apart_outcomes=tally.apart_outcomes,
            apart_estimate=tally.apart_mean,
        )

    def to_mapping(self) -> dict[str, Any]:
        """The monitor as plain JSON values, about 600 bytes."""
        return {
            "floor": self.floor,
            "confidence": self.confidence,
            "highest": self.highest,
            "tally": asdict(self.tally),
            "capital": self.capital.to_mapping(),
        }

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote, bit for bit. Raises InvalidInput for anything else."""
        try:
            return cls(
                floor=float(value["floor"]),
                confidence=float(value["confidence"]),
                highest=float(value["highest"]),
                tally=Tally(**value["tally"]),
                capital=Capital.from_mapping(value["capital"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"not a monitor of this version ({error!r}); begin a new one", field="monitor"
            ) from None


def _within(name: str, values: ArrayLike) -> Floats:
    given = np.asarray(values, float)
    wrong = given[~((given >= 0.0) & (given <= 1.0))]
    if wrong.size:
        raise InvalidInput(f"{wrong.flat[0]} is not between 0 and 1", field=name)
    return given
