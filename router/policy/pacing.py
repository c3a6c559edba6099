"""Budgets that are paced: the price of a dollar of a period's budget, and how much to lease.

Choices maximise value x accuracy - (1 + mu) x cost, the Lagrangian of a budget. The dual
price mu is learnt online by mirror descent on what is spent against what is due (Agarwal,
Ghosh, Wei & You 2014; Balseiro & Gur 2019). It only shapes the spending: the cap is kept
by leases, which a worker takes before it spends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np

from router.errors import InvalidInput
from router.policy.periods import periods

GAIN, FIRST_GAIN = 1.2, 0.5
"""How much the logarithm of 1 + mu moves per share of what was left that is spent undue: the
first, and the second over the share of a period's demand that was ever seen."""

MOST_STEP = 0.5
MOST_LOG_PRICE = math.log(1e4)

LEASE_S = 10.0
"""A lease lasts about so many seconds of a worker's recent spending."""

SHARE = 8
"""No worker asks for more than one so many-th of what is left, but for what it needs now."""

CENT = 10_000
"""A cent in millionths of a dollar: the least that a lease asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """How a period's demand is expected to be spread over it: weights of equal slots."""

    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.weights or not all(0.0 < weight < math.inf for weight in self.weights):
            raise InvalidInput(f"{self.weights!r:.80} are not positive weights", field="weights")

    @classmethod
    def of(cls, counts: Sequence[float], trust: float = 0.8) -> Self:
        """As in an earlier period with these counts per slot, the rest of the trust in evenness."""
        total = sum(counts)
        if total <= 0.0:
            return cls(weights=(1.0,) * max(len(counts), 1))
        even = (1.0 - trust) / len(counts)
        return cls(weights=tuple(trust * count / total + even for count in counts))

    def before(self, elapsed: float) -> float:
        """The share of the period's demand expected by this share of its time."""
        ends = np.concatenate(([0.0], np.cumsum(self.weights)))
        return float(np.interp(elapsed * len(self.weights), np.arange(len(ends)), ends / ends[-1]))


EVEN = Demand()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The dual price of one budget in one period, and where it stood at the last look.

    `log_price` is the logarithm of 1 + mu and `mean_log_price` its mean over the demand so
    far; `elapsed` is a share of the period's time, `seen` counts periods' demand since the
    first look ever.
    """

    log_price: float = 0.0
    mean_log_price: float = 0.0
    elapsed: float = 0.0
    spent_micro_usd: int = 0
    seen: float = 0.0

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
    ) -> Pace:
        """The pace after a look at what all workers together have spent by now.

        Of what was left at the last look, the share that is due is that of the expected
        demand left which has passed. What was spent beyond it raises the price, what was
        not lowers it; time that runs backwards (another worker's clock) changes nothing.
        """
        if elapsed <= self.elapsed:
            return self
        before, now = demand.before(self.elapsed), demand.before(min(elapsed, 1.0))
        left = max(budget_micro_usd - self.spent_micro_usd, 1)
        used = (spent_micro_usd - self.spent_micro_usd) / left
        due = (now - before) / max(1.0 - before, 1e-9)
        step = (GAIN + FIRST_GAIN / (self.seen + 0.02)) * (used - due)
        moved = self.log_price + min(max(step, -MOST_STEP), MOST_STEP)
        price = min(max(moved, 0.0), MOST_LOG_PRICE)
        weight = (now - before) / now if now else 1.0
        return Pace(
            log_price=price,
            mean_log_price=self.mean_log_price + weight * (price - self.mean_log_price),
            elapsed=elapsed,
            spent_micro_usd=spent_micro_usd,
            seen=self.seen + now - before,
        )

    def next_period(self) -> Pace:
        """The pace at the start of the next period, which begins at this one's mean price."""
        return Pace(
            log_price=self.mean_log_price, mean_log_price=self.mean_log_price, seen=self.seen
        )

    def to_mapping(self) -> dict[str, Any]:
        """The pace as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises InvalidInput for anything else."""
        try:
            return cls(
                spent_micro_usd=int(value["spent_micro_usd"]),
                **{name: float(value[name]) for name in _FLOATS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"not a pace ({error!r}); begin a new one", field="pace") from None


_FLOATS = ("log_price", "mean_log_price", "elapsed", "seen")


def cost_multiplier(paces: Iterable[Pace]) -> float:
    """What a dollar counts for under several budgets at once: 1 + the sum of their mu."""
    return 1.0 + sum(pace.mu for pace in paces)


def elapsed_share(period: str, now: datetime) -> float:
    """The share of the hour, day or month (UTC) of `now` that has passed. Raises KeyError."""
    start = periods(now)[period]
    days = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
    if period == "month":
        length = (start + timedelta(days=32)).replace(day=1) - start
    else:
        length = days[period]
    return (now.astimezone(UTC) - start) / length


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
