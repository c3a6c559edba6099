"""Exploration: with a small probability another feasible arm, so that the log can teach.

Uniform exploration draws any feasible arm, each as often. Where the slo says what share of
its cost exploring may add, it is directed: in place of the greedy arm g it draws the arm a
with odds in proportion to

    sqrt(P(a is worth more than g) / max(cost of a, cost of g)),

and with a fifth of them spread evenly, so that weights stay bounded. At the same cost such
odds let the log tell best of the arms that the next policy may pick instead: they minimise
the sum of P / odds, the variance of inverse propensity weights, given the sum of odds x cost
(optimum allocation: Neyman 1934; Cochran 1977, section 5.5). It explores at the slo's rate,
less often where that were expected to add more to the cost than the share allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from router.policy.standing import Standing
from router.slo import Slo
from router.types import Choice, Floats, Mask, Predictions

EVEN = 0.2
"""The part of directed odds that is the same for every feasible arm but the greedy one."""

_ERRORS = 2.0 * 1.6449  # standard errors in a central 90 % interval
_LEAST_DOUBT = 0.05
_LEAST_USD, _LEAST_SCORE = 1e-15, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploring:
    """How a decision explores: how often, and with which odds (a,); None are equal ones."""

    rate: float
    odds: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Around:
    """What n queries' greedy arms (n,) stand among; the other arrays are (n, a).

    `doubt` is the standard error of a predicted accuracy, `weighed_usd` what a cost counts
    for when arms are ranked.
    """

    greedy: NDArray[np.intp]
    feasible: Mask
    accuracy: Floats
    doubt: Floats
    cost_usd: Floats
    weighed_usd: Floats

    @classmethod
    def of(cls, choice: Choice, standing: Standing) -> Self:
        """What a greedy choice stands among."""
        predictions = standing.predictions
        return cls(
            greedy=np.array([choice.index]),
            feasible=choice.feasible[None],
            accuracy=predictions.accuracy[None],
            doubt=doubt(predictions)[None],
            cost_usd=predictions.cost_usd[None],
            weighed_usd=standing.weighed_usd[None],
        )

    def odds(self, value_usd: Floats | float | None) -> Floats:
        """The odds of each arm to be explored, (n, a): none for the greedy one, 1 together.

        `value_usd` is what a correct answer is worth, to all or to each (n,); None takes any
        arm for as likely to be the better one. Where there is no other feasible arm, all are 0.
        """
        others = self.feasible.copy()
        others.ravel()[self._place] = False
        price = np.maximum(self.cost_usd, self._greedy(self.cost_usd) + _LEAST_USD)
        better = 1.0 if value_usd is None else self._better(np.reshape(value_usd, (-1, 1)))
        score = np.where(others, np.sqrt(better / price) + _LEAST_SCORE, 0.0)
        total = np.add.reduce(score, axis=1, keepdims=True)
        many = np.add.reduce(others, axis=1, keepdims=True)
        own = (1.0 - EVEN) / np.maximum(total, _LEAST_SCORE)
        return np.asarray(score * own + others * (EVEN / np.maximum(many, 1)))

    def rate(self, odds: Floats, slo: Slo, mean_cost_usd: float | None = None) -> Floats:
        """How often each query explores, (n,): at most the slo's rate, and as its share allows.

        Exploring is expected to add at most the share of `mean_cost_usd` to a decision's
        cost; where that is not known, of what the greedy arm is expected to cost. What a
        cheaper arm saves counts for nothing.
        """
        paid = self._greedy(self.cost_usd)
        dearer = np.where(odds > 0.0, np.maximum(self.cost_usd - paid, 0.0), 0.0)
        added = np.add.reduce(odds * dearer, axis=1)
        usual = paid[:, 0] if mean_cost_usd is None else mean_cost_usd
        allowed = (slo.exploration_cost_share or 0.0) * usual
        most = slo.exploration_rate * np.logical_or.reduce(odds, axis=1)
        return np.asarray(np.where(added * most > allowed, allowed / (added + _LEAST_USD), most))

    def _better(self, value_usd: Floats) -> Floats:
        """The probability that each arm is worth more than the greedy one."""
        worth = value_usd * self.accuracy - self.weighed_usd
        error = value_usd * np.hypot(self.doubt, self._greedy(self.doubt))
        return np.asarray(ndtr((worth - self._greedy(worth)) / (error + _LEAST_USD)))

    def _greedy(self, values: Floats) -> Floats:
        """The values (n, a) of the greedy arms, (n, 1)."""
        return values.take(self._place)[:, None]

    @cached_property
    def _place(self) -> NDArray[np.intp]:
        """Where the greedy arms stand, row after row, (n,)."""
        rows, arms = self.feasible.shape
        return np.asarray(np.arange(0, rows * arms, arms) + self.greedy, np.intp)


def doubt(predictions: Predictions) -> Floats:
    """The standard error of each predicted accuracy, by its interval."""
    width = (predictions.accuracy_high - predictions.accuracy_low) / _ERRORS
    return np.asarray(np.maximum(width, _LEAST_DOUBT))


def exploring(
    choice: Choice,
    standing: Standing,
    slo: Slo,
    value_usd: float | None,
    mean_cost_usd: float | None = None,
) -> Exploring:
    """How a decision explores whose greedy choice is known.

    `value_usd` is what arms were ranked by, `mean_cost_usd` what the slo's decisions are
    expected to cost on average.
    """
    if not slo.has_directed:
        return Exploring(rate=slo.exploration_rate)
    around = Around.of(choice, standing)
    odds = around.odds(value_usd)
    return Exploring(rate=float(around.rate(odds, slo, mean_cost_usd)[0]), odds=odds[0])


def explore(choice: Choice, rate: float, draw: float, odds: Floats | None = None) -> Choice:
    """Explores inside the feasible set with the exact propensity.

    `draw` is uniform in [0, 1). With probability `rate` an arm is drawn with the odds (a,),
    or uniformly from the m feasible ones, so an arm's propensity is rate x its odds or
    rate / m, plus 1 - rate for the greedy one. With no feasible arm, or a single one, there
    is nothing to explore.
    """
    if rate <= 0.0:
        return choice
    arms = choice.feasible.nonzero()[0]
    if len(arms) < 2:
        return choice
    index = choice.index
    if explored := draw < rate:
        index = _drawn(arms, draw / rate, odds)
    chance = rate / len(arms) if odds is None else rate * float(odds[index])
    propensity = chance + (1.0 - rate if index == choice.index else 0.0)
    reason = f"explored inside the feasible set; {choice.reason}" if explored else choice.reason
    return replace(choice, index=index, propensity=propensity, explored=explored, reason=reason)


def _drawn(arms: NDArray[np.intp], draw: float, odds: Floats | None) -> int:
    """The arm that a draw in [0, 1) takes: an even one, or by the inverse of the odds' sums."""
    if odds is None:
        return int(arms[min(int(draw * len(arms)), len(arms) - 1)])
    possible = odds.nonzero()[0]
    sums = odds[possible].cumsum()
    place = int(np.searchsorted(sums, draw * sums[-1], side="right"))
    return int(possible[min(place, len(possible) - 1)])


def probabilities(choice: Choice, rate: float, odds: Floats | None = None) -> Floats:
    """With what probability each arm is taken (a,), by the law of `explore`.

    `choice` is the greedy one, before exploration.
    """
    found = np.zeros(len(choice.feasible))
    found[choice.index] = 1.0
    many = int(choice.feasible.sum())
    if rate <= 0.0 or many < 2:
        return found
    even = choice.feasible * (rate / many)
    return np.asarray(found * (1.0 - rate) + (even if odds is None else rate * odds))
