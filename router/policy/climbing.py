"""How far up its range of arms a tenant's decisions climb, held against what is usual for it.

The bound is the usual mean with its own error and a margin. While each decision's climb,
given those before it, is expected to be at most that, an alarm rings after as many decisions
as it is set to on average, at the least, however often one looks: it is an e-detector, a sum
of bets that began at each decision (Shin, Ramdas and Rinaldo 2023, "E-detectors: a
nonparametric framework for sequential change detection").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Self

from router.errors import InvalidInput
from router.types import Floats

MARGIN = 0.03
"""How much more than usual is no alarm, in units of climb."""

ALARM_EVERY, LEAST_BETWEEN = timedelta(days=30), 10_000
"""About the time between false alarms at the usual pace, and the least decisions between them."""

STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""What each bet puts at stake, as a share of what a decision can take at most."""

LEAST_DECISIONS, LEAST_SPAN = 500, timedelta(hours=6)
"""From so many decisions, made over so long, is known what is usual."""

QUIET_AFTER = 200
"""An alarm ends once so many decisions on end climb no higher than the bound, on average."""

_NORMAL_995 = 2.5758
_MOST_BOUND = 0.99


def climb(cost_usd: Floats, arm: int) -> float:
    """Where an arm's cost lies between those of all arms (a,), on a log scale: 0 the cheapest.

    A long query costs more with every arm, and climbs no higher for it. 0 where all cost alike.
    """
    least, most = float(cost_usd.min()), float(cost_usd.max())
    if not 0.0 < least < most:
        return 0.0
    found = math.log(float(cost_usd[arm]) / least) / math.log(most / least)
    return min(max(found, 0.0), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Climbing:
    """What is usual under one version of an slo and of the policy, and how it goes since.

    `decisions`, `total` and `squares` are those from which the usual mean is learnt, from
    `began` on. Once it is known an alarm takes `needed`, and `bets` is what each stake's bets
    have become together. `recent` is a running mean over about QUIET_AFTER decisions. While
    it rings, `lately` decisions with a sum of `lately_total` are those that may end it.
    """

    slo_version: int
    policy_version: int
    began: datetime | None = None
    decisions: int = 0
    total: float = 0.0
    squares: float = 0.0
    needed: float | None = None
    bets: tuple[float, ...] = (0.0,) * len(STAKES)
    recent: float = 0.0
    ringing: bool = False
    lately: int = 0
    lately_total: float = 0.0

    @property
    def usual(self) -> float:
        """The usual mean; 0 before the first decision."""
        return self.total / max(self.decisions, 1)

    def bound(self, margin: float = MARGIN) -> float:
        """The mean from which on it is more than usual."""
        count = max(self.decisions, 1)
        variance = max(self.squares / count - self.usual**2, 0.0)
        error = _NORMAL_995 * math.sqrt(variance / count)
        return min(self.usual + error + margin, _MOST_BOUND)

    def observe(self, value: float, at: datetime, *, margin: float = MARGIN) -> Climbing:
        """With one more decision's climb."""
        if self.needed is None:
            return self._learning(value, at)
        more = replace(self, recent=self.recent + (value - self.recent) / QUIET_AFTER)
        bound = self.bound(margin)
        return _ending(more, value, bound) if self.ringing else _betting(more, value, bound)

    def _learning(self, value: float, at: datetime) -> Climbing:
        began = self.began or at
        more = replace(
            self,
            began=began,
            decisions=self.decisions + 1,
            total=self.total + value,
            squares=self.squares + value**2,
        )
        if more.decisions < LEAST_DECISIONS or at - began < LEAST_SPAN:
            return more
        between = more.decisions * (ALARM_EVERY / (at - began))
        return replace(more, needed=max(between, LEAST_BETWEEN), recent=more.usual)

    def to_mapping(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        began = self.began.isoformat() if self.began else None
        return plain | {"began": began, "bets": list(self.bets)}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` wrote. Raises InvalidInput for anything else."""
        try:
            known = {item.name: value[item.name] for item in fields(cls)}
            began, bets = known.pop("began"), tuple(map(float, known.pop("bets")))
            at = datetime.fromisoformat(began) if began else None
            return cls(**known, began=at, bets=tuple(bets[place] for place in range(len(STAKES))))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"not a climb of this version ({error!r}); begin anew", field="alarm"
            ) from None


def _betting(now: Climbing, value: float, bound: float) -> Climbing:
    """One more decision is bet on; each bet's growth is 1 on average at the bound, or less."""
    excess = (value - bound) / bound
    grown = zip(now.bets, STAKES, strict=True)
    bets = tuple((before + 1.0) * (1.0 + stake * excess) for before, stake in grown)
    rings = now.needed is not None and sum(bets) / len(bets) >= now.needed
    return replace(now, bets=bets, ringing=rings)


def _ending(now: Climbing, value: float, bound: float) -> Climbing:
    """While it rings: quiet after a stretch of usual decisions, with nothing at stake."""
    count, total = now.lately + 1, now.lately_total + value
    if count < QUIET_AFTER:
        return replace(now, lately=count, lately_total=total)
    quiet = total / count <= bound
    bets = (0.0,) * len(STAKES) if quiet else now.bets
    return replace(now, lately=0, lately_total=0.0, ringing=not quiet, bets=bets)
