"""Off-policy evaluation: what a target policy would have brought, from a behaviour policy's log.

logged interactions + target -> weights -> scores, whose mean is the estimate -> interval
                                        -> overlap: can the log tell at all?

One call evaluates one kind of reward: score, cost in dollars, latency in seconds, or a
utility made of them. Where the log cannot tell, the interval is infinite and says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from router.errors import InvalidInput
from router.types import Floats
from training.benchmark.bootstrap import Interval
from training.evaluation.clipping import bernstein_interval, switch_clip, switched
from training.evaluation.intervals import Scores, bootstrap_interval, t_interval
from training.evaluation.logged import Logged, counted
from training.evaluation.overlap import Overlap, Weighed, overlap


class Estimator(StrEnum):
    """How scores are made of weights w, rewards r and predictions q; direct = sum_a pi(a) q(a).

    `IPS`: w r (Horvitz & Thompson 1952). `SNIPS`: sum w r / sum w (Hajek 1971; Swaminathan &
    Joachims 2015). `DM`: direct, as good as the predictions. `DR`: direct + w (r - q), which
    is right when the propensities are, and precise when the predictions are (Dudik, Langford
    & Li 2011). `SWITCH_DR`: DR that trusts the predictions alone where w is above the clip
    (Wang, Agarwal & Dudik 2017).
    """

    IPS = "ips"
    SNIPS = "snips"
    DM = "dm"
    DR = "dr"
    SWITCH_DR = "switch_dr"


class Method(StrEnum):
    """How an interval is made.

    `T` costs nothing and covers best where a few large weights decide; `BOOTSTRAP` follows
    the skew of scores; `BERNSTEIN` is of DR with clipped weights and holds at any n and
    overlap, for bounded rewards of independent rows, and is wide.
    """

    T = "t"
    BOOTSTRAP = "bootstrap"
    BERNSTEIN = "bernstein"


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How to evaluate; `clip` is for switch-DR and Bernstein's interval, chosen when None.

    Raises InvalidInput that names the field.
    """

    estimator: Estimator = Estimator.DR
    method: Method = Method.T
    confidence: float = 0.95
    clip: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.confidence < 1.0:
            raise InvalidInput(f"{self.confidence} is not between 0 and 1", field="confidence")
        if self.clip is not None and not self.clip > 0.0:
            raise InvalidInput(f"{self.clip} is not a positive number", field="clip")


DEFAULT = How()
_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a target policy would have brought on average, or how much more than another.

    With the confidence of `how` it is in [`low`, `high`], which is infinite where the log
    cannot tell; only Bernstein's interval holds even there. `clip` is the one that was used
    and `overlap` has one entry per policy.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    how: How
    clip: float
    overlap: tuple[Overlap, ...]

    @property
    def reason(self) -> str:
        """Why the log cannot tell; empty where it can."""
        return next((each.reason for each in self.overlap if each.reason), "")

    @property
    def can_tell(self) -> bool:
        """Whether the interval may be believed."""
        return not self.reason


def evaluate(logged: Logged, target: Floats, how: How = DEFAULT) -> Evaluation:
    """Evaluates a target policy, whose probability of each arm for each row is (n, a).

    Raises InvalidInput when the target is no such table, or when Bernstein's interval is
    asked of rewards without bounds or rows in clusters.
    """
    return _evaluated(logged, (target,), how)


def compare(logged: Logged, target: Floats, baseline: Floats, how: How = DEFAULT) -> Evaluation:
    """Evaluates how much more the target brings than the baseline, row by row on the same rows.

    What both policies share cancels, so that its interval is shorter than two apart. The
    log can tell where it can tell of both on the rows where they differ, which alone the
    overlap is of. Raises as `evaluate` does.
    """
    return _evaluated(logged, (target, baseline), how)


def scores(
    logged: Logged, target: Floats, estimator: Estimator = Estimator.DR, *, clip: float = np.inf
) -> Floats:
    """One score per row, (n,), whose mean is the estimate and whose spread its error.

    Those of SNIPS are linearised, v + w / mean(w) (r - v) with v the estimate, and NaN
    where no row has a weight.
    """
    return _scores(logged, logged.weighed(target), estimator, clip)


def _scores(logged: Logged, weighed: Weighed, estimator: Estimator, clip: float) -> Floats:
    match estimator:
        case Estimator.IPS:
            return np.asarray(weighed.weight * logged.filled)
        case Estimator.SNIPS:
            return _self_normalised(weighed.weight, logged.filled)
        case Estimator.DM:
            return logged.direct(weighed.target)
        case Estimator.DR:
            return logged.direct(weighed.target) + weighed.weight * logged.residual
        case Estimator.SWITCH_DR:
            return switched(logged, weighed, clip)


def _self_normalised(weight: Floats, reward: Floats) -> Floats:
    mean = float(weight.mean())
    if not mean:
        return np.full(len(weight), np.nan)
    value = float((weight * reward).mean()) / mean
    return np.asarray(value + weight / mean * (reward - value))


def _evaluated(logged: Logged, targets: Sequence[Floats], how: How) -> Evaluation:
    """Evaluates the first target, less the second where there is one."""
    weighed = [logged.weighed(target) for target in targets]
    clip = _clip(logged, weighed, how)
    values = [_scores(logged, each, how.estimator, clip) for each in weighed]
    found = Scores(values=values[0] - sum(values[1:]), cluster=counted(logged.cluster))
    shown = tuple(overlap(each, clip=clip) for each in _differing(weighed))
    can_tell = not any(each.reason for each in shown)
    interval = _interval(logged, weighed, found, how, can_tell=can_tell)
    return Evaluation(
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        standard_error=found.standard_error,
        how=how,
        clip=clip,
        overlap=shown,
    )


def _interval(
    logged: Logged, weighed: Sequence[Weighed], found: Scores, how: How, *, can_tell: bool
) -> Interval:
    if how.method is Method.BERNSTEIN:
        return bernstein_interval(logged, weighed, how.confidence, how.clip)
    if not can_tell:
        return Interval(estimate=found.mean, low=-np.inf, high=np.inf)
    if how.method is Method.BOOTSTRAP:
        return bootstrap_interval(found, how.confidence, how.seed)
    return t_interval(found, how.confidence)


def _clip(logged: Logged, weighed: Sequence[Weighed], how: How) -> float:
    if how.clip is not None:
        return how.clip
    if how.estimator is not Estimator.SWITCH_DR:
        return float("inf")
    return max(switch_clip(logged, each) for each in weighed)


def _differing(weighed: Sequence[Weighed]) -> Sequence[Weighed]:
    """The rows on which the targets differ; all of them where none do."""
    first, *others = (each.target for each in weighed)
    differs = np.zeros(len(first), bool)
    for other in others:
        differs |= np.abs(first - other).sum(axis=1) > _SAME
    return [each.take(differs) for each in weighed] if differs.any() else weighed
