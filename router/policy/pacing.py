"""Budgets that are paced: the price of a dollar of a period's budget, and how much to lease.

Choices maximise value x accuracy - (1 + mu) x cost, the Lagrangian of a budget. The dual
price mu is solved for again and again, as the one at which the demand to come is expected to
spend what is left (the resolving heuristic of Jasin & Kumar 2012; Balseiro, Besbes & Pizarro
2023). It only shapes the spending: the cap is kept by leases, which a worker takes before it
spends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from router.policy.demand import ELASTICITY, EVEN, Demand

DOUBT = 0.2
"""Of a share d of a period's demand that is to come, d - DOUBT * sqrt(d) is counted on, as if it
came in independent bursts: near the end nothing is, so that what is left is spent."""

SPARE = 0.01
"""The share of a budget that is never hurried to be spent: what the last queries live on."""

BOLDNESS = 2.0
"""How much the logarithm of the price may be per logarithm of what is counted on over what is
left of the budget: no price where only all that is counted on would spend it."""

KNOWN, UNKNOWN = 2.0, 0.01
"""The weight of what a period usually costs against a whole period's evidence, and that of the
guess, where nothing is known, that it is the budget."""

SMOOTHING = 0.001
"""The price follows within about so much of the period."""

MOST_LOG_PRICE = math.log(1e4)

LEASE_S = 10.0
"""A lease lasts about so many seconds of a worker's recent spending."""

SHARE = 8
"""No worker asks for more than one so many-th of what is left, but for what it needs now."""

CENT = 10_000
"""A cent in millionths of a dollar: the least that a lease asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The dual price of one budget in one period, and what it follows from.

    `log_price` is the logarithm of 1 + mu, `elapsed` a share of the period's time, `began` the
    one at which spending did, and `unpriced_micro_usd` what it would be by now at the price 0.
    A period usually costs `usual_micro_usd` at that price, which is worth `trust` periods of
    evidence.
    """

    log_price: float = 0.0
    elapsed: float = 0.0
    began: float = 0.0
    spent_micro_usd: int = 0
    unpriced_micro_usd: float = 0.0
    usual_micro_usd: float = 0.0
    trust: float = 0.0

    @property
    def mu(self) -> float:
        """What a dollar of budget is worth on top of itself; 0 while the budget binds nothing."""
        return math.expm1(self.log_price)

    def look(
        self,
        *,
        budget_micro_usd: int,
        spent_micro_usd: int,
        elapsed: float,
        demand: Demand = EVEN,
        log_multiplier: float | None = None,
    ) -> Pace:
        """The pace after a look at what all workers together have spent by now.

        `log_multiplier` is the logarithm of what a dollar counted for since the last look, this
        price's own where it is None. Time that runs backwards (another worker's clock) changes
        nothing.
        """
        if elapsed <= self.elapsed:
            return self
        log = self.log_price if log_multiplier is None else log_multiplier
        used = max(spent_micro_usd - self.spent_micro_usd, 0)
        seen = replace(
            self,
            elapsed=min(elapsed, 1.0),
            spent_micro_usd=spent_micro_usd,
            unpriced_micro_usd=self.unpriced_micro_usd + used * math.exp(ELASTICITY * log),
        )
        share = -math.expm1((self.elapsed - elapsed) / SMOOTHING)
        moved = share * (seen.due_log_price(budget_micro_usd, demand) - self.log_price)
        return replace(seen, log_price=self.log_price + moved)

    def due_log_price(self, budget_micro_usd: int, demand: Demand = EVEN) -> float:
        """The logarithm of the price at which the demand to come spends what is left.

        It is lower where less demand than expected would leave more than the SPARE unspent
        whatever the price; 0 where all that is counted on can't spend what is left.
        """
        passed = demand.before(self.elapsed)
        coming, left = 1.0 - passed, max(budget_micro_usd - self.spent_micro_usd, 1)
        trust = self.trust or UNKNOWN
        usual = self.usual_micro_usd if self.trust else budget_micro_usd
        seen = passed - demand.before(self.began)
        whole = (trust * usual + self.unpriced_micro_usd) / (trust + seen)
        if whole * coming <= left:
            return 0.0
        due = min(math.log(whole * coming / left) / ELASTICITY, MOST_LOG_PRICE)
        hurried = left - SPARE * budget_micro_usd
        if hurried <= 0.0:
            return due
        certain = max(coming - DOUBT * math.sqrt(coming), 0.0)
        return min(due, BOLDNESS * math.log(max(whole * certain / hurried, 1.0)))

    def at_once(self, budget_micro_usd: int, demand: Demand = EVEN) -> Pace:
        """The pace with the price that is due: of a period that begins, or that is joined."""
        return replace(self, log_price=self.due_log_price(budget_micro_usd, demand))

    def next_period(self, budget_micro_usd: int, demand: Demand = EVEN) -> Pace:
        """The pace at the start of the next period, which is expected to cost what this one did."""
        usual = Pace(usual_micro_usd=self.unpriced_micro_usd, trust=KNOWN)
        return usual.at_once(budget_micro_usd, demand)


def log_multiplier(paces: Iterable[Pace]) -> float:
    """The logarithm of what a dollar counts for under several budgets at once.

    The highest of their prices: each says at which one the demand fits its budget, and at the
    highest it fits all of them. So mu is 0 but for the budgets that bind.
    """
    return max((pace.log_price for pace in paces), default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What one worker holds of a budget, in whole millionths of a dollar.

    `free_micro_usd` may be promised to an attempt, `reserved_micro_usd` is promised to those
    that run, `spent_micro_usd` was spent since the last `settled`. A worker that reserves
    the most that an attempt may cost never spends more than it leased.
    """

    free_micro_usd: int = 0
    reserved_micro_usd: int = 0
    spent_micro_usd: int = 0

    def leased(self, granted_micro_usd: int) -> Purse:
        """The purse with a lease in it."""
        return replace(self, free_micro_usd=self.free_micro_usd + granted_micro_usd)

    def reserve(self, most_micro_usd: int) -> Purse | None:
        """The purse once an attempt may spend so much; None when it holds less."""
        if most_micro_usd > self.free_micro_usd:
            return None
        return replace(
            self,
            free_micro_usd=self.free_micro_usd - most_micro_usd,
            reserved_micro_usd=self.reserved_micro_usd + most_micro_usd,
        )

    def spend(self, reserved_micro_usd: int, cost_micro_usd: int) -> Purse:
        """The purse after an attempt with this reservation came to this cost.

        What it cost beyond its reservation is taken from what is free, below zero if need be.
        """
        return replace(
            self,
            free_micro_usd=self.free_micro_usd + reserved_micro_usd - cost_micro_usd,
            reserved_micro_usd=self.reserved_micro_usd - reserved_micro_usd,
            spent_micro_usd=self.spent_micro_usd + cost_micro_usd,
        )

    def settled(self, given_back_micro_usd: int = 0) -> Purse:
        """The purse after its spending was reported and some of what is free given back."""
        free = self.free_micro_usd - given_back_micro_usd
        return replace(self, free_micro_usd=free, spent_micro_usd=0)


def ask_micro_usd(
    purse: Purse, *, left_micro_usd: int, per_s_micro_usd: float, need_micro_usd: int = 0
) -> int:
    """How big a lease a worker asks for: 0 while it holds enough, never more than is left.

    Enough is half of what it spends in LEASE_S seconds at its recent rate, and what is needed
    now: the most that its next attempt may cost. It fills up to the whole, at most a SHARE of
    what is left and at least a cent, so that leases shrink to the cent near the end.
    """
    recent = math.ceil(per_s_micro_usd * LEASE_S)
    if purse.free_micro_usd >= max(recent // 2, need_micro_usd):
        return 0
    wanted = min(recent - purse.free_micro_usd, left_micro_usd // SHARE)
    needed = need_micro_usd - purse.free_micro_usd
    return max(min(max(wanted, needed, CENT), left_micro_usd), 0)


def spare_micro_usd(
    purse: Purse, *, left_micro_usd: int, per_s_micro_usd: float, need_micro_usd: int = 0
) -> int:
    """What a worker gives back for others to lease: what it holds beyond its next LEASE_S.

    When nothing is left for others it keeps no more than it needs now.
    """
    recent = math.ceil(per_s_micro_usd * LEASE_S) if left_micro_usd > 0 else 0
    return max(purse.free_micro_usd - max(recent, need_micro_usd, 0), 0)
