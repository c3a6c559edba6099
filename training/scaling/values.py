"""What the scaling-law report says, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import TypeAdapter

from router.policy.scaling import EXPONENT_HIGH, EXPONENT_LOW
from training.benchmark.bootstrap import Interval

FITTED = "fitted"
_LEAST_TRAFFIC = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One arm of a ladder: its compute in single passes, and what that bought."""

    arm: str
    compute: float
    accuracy: Interval
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """What compute buys one model with one strategy.

    `told` says why there is no exponent, or that it was fitted; `saturation_told` the same
    of the accuracy that no compute exceeds. `gain` is from the least compute to the most,
    `efficiency` that over the compute added: the compute efficiency ratio. `curve` holds
    the fitted accuracy at some computes.
    """

    model: str
    strategy: str
    params: str
    queries: int
    paired: bool
    rungs: tuple[Rung, ...]
    gain: Interval
    efficiency: Interval
    told: str
    exponent: Interval | None
    growth: Interval | None
    saturation_told: str
    saturation: Interval | None
    curve: tuple[tuple[float, float], ...]

    @property
    def as_published(self) -> bool | None:
        """Whether either exponent may lie in the published range; None where there is none."""
        if self.exponent is None or self.growth is None:
            return None
        found = (self.exponent, self.growth)
        return any(each.low <= EXPONENT_HIGH and each.high >= EXPONENT_LOW for each in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """From one arm to the next dearer one: accuracy gained, per dollar and per compute.

    `per_usd` is accuracy per dollar on one query, the same as right answers per dollar.
    `traffic` is the share of decisions that the weaker arm gets, None where not given.
    `frontier` steps lead from model to model too, along the best mixtures of arms.
    """

    weaker: str
    stronger: str
    frontier: bool
    gain: Interval
    added_usd: float
    per_usd: Interval
    per_compute: Interval | None
    traffic: float | None

    @property
    def buys(self) -> bool:
        """Whether it surely gains, where there is traffic to gain on."""
        return self.gain.low > 0.0 and (self.traffic is None or self.traffic >= _LEAST_TRAFFIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingLaws:
    """The report's content; steps come with the surest gain per dollar first."""

    laws: tuple[Law, ...]
    steps: tuple[Step, ...]

    @property
    def next_dollar(self) -> Step | None:
        """Where the next dollar surely buys most, None where no step surely gains."""
        return next((each for each in self.steps if each.buys), None)

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain JSON values; what is infinite becomes null there."""
        best = self.next_dollar
        return {**asdict(self), "next_dollar": None if best is None else asdict(best)}

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """Reads what `to_mapping` gave."""
        return cls(
            laws=_LAWS.validate_python(value["laws"]), steps=_STEPS.validate_python(value["steps"])
        )


_LAWS: TypeAdapter[tuple[Law, ...]] = TypeAdapter(tuple[Law, ...])
_STEPS: TypeAdapter[tuple[Step, ...]] = TypeAdapter(tuple[Step, ...])
