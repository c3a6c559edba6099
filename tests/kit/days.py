"""What the days of a loop brought, and their picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a day brought; means per decision.

    `expected` is the true mean accuracy of what was picked, exploration included. `certified`
    and `monitor` say how the slo's floor stood at its end, where it has one.
    """

    day: int
    decisions: int
    accuracy: float
    expected: float
    cost_usd: float
    constant: str
    constant_accuracy: float
    constant_cost_usd: float
    oracle_accuracy: float
    oracle_cost_usd: float
    policies: dict[int, int]
    arms: dict[str, int]
    told: list[str]
    certified: bool = False
    monitor: str = ""

    @property
    def error(self) -> float:
        """The standard error of the day's accuracy."""
        return float(np.sqrt(self.accuracy * (1.0 - self.accuracy) / self.decisions))

    def worth_usd(self, value_usd: float) -> tuple[float, float, float]:
        """Value x true accuracy - cost per decision: Leadline's, the constant's, the oracle's."""
        return (
            value_usd * self.expected - self.cost_usd,
            value_usd * self.constant_accuracy - self.constant_cost_usd,
            value_usd * self.oracle_accuracy - self.oracle_cost_usd,
        )

    def share_of(self, model: str) -> float:
        """The share of the day's decisions that a model answered."""
        own = sum(count for arm, count in self.arms.items() if arm.partition(":")[0] == model)
        return own / self.decisions

    @property
    def models(self) -> list[str]:
        """The models that answered, the one that answered most first."""
        names = dict.fromkeys(arm.partition(":")[0] for arm in self.arms)
        return sorted(names, key=lambda name: -self.share_of(name))

    def __str__(self) -> str:
        told = "".join(f"\n      {each}" for each in self.told)
        floor = f"; floor {'' if self.certified else 'not '}certified, {self.monitor}"
        arms = ", ".join(f"{arm} {count}" for arm, count in list(self.arms.items())[:4])
        return (
            f"day {self.day}: accuracy {self.accuracy:.3f} (true {self.expected:.3f}), "
            f"${1e3 * self.cost_usd:.3f} per 1,000; best constant {self.constant} "
            f"{self.constant_accuracy:.3f}, ${1e3 * self.constant_cost_usd:.3f}; oracle "
            f"${1e3 * self.oracle_cost_usd:.3f}{floor if self.monitor else ''}; "
            f"policies {self.policies} [{arms}]{told}"
        )
