"""The gate's slices: no language, topic, label or tenant may pay for the gains of others.

These conditions block instead of having to be shown, and there are many: each slice must
be worse beyond what chance would explain in any of them, so that all together seldom
block a candidate that is worse in none.

In a slice outcomes are few, so the reward model speaks too: what it expects is corrected by
the outcomes of all slices, and by the slice's own as far as these are surer than that
(empirical Bayes; Efron & Morris 1973). Where a pick was hardly ever tried, the model tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from router.types import Floats, Mask
from training.evaluation.logged import counted
from training.evaluation.ope import Estimator, scores
from training.evaluation.simultaneous import Estimates, Linear, estimates, normals
from training.evaluation.slices import Facet
from training.fairness.figures import Measure, least_errors, linear
from training.gate.conditions import utility
from training.gate.contest import Contest
from training.gate.verdict import Condition
from training.log.dataset import Indices

LEVEL = 0.1
"""Half of it is the chance that any slice of a candidate which is worse in none blocks."""

LEAST_INTERACTIONS = 50
"""Interactions that a slice must have before anything is said of it."""

MODEL_ERROR = 0.04
"""How far off the reward model may be in one slice and not in others, in correct answers."""

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Short:
    """By how much each interaction falls short of what the rival brings it, in dollars, (n,).

    It is what the reward model `expected` and what the outcome `corrected` of that.
    """

    expected: Floats
    corrected: Floats
    facets: tuple[Facet, ...]
    unit: Indices
    doubt_usd: float

    @classmethod
    def of(cls, contest: Contest) -> _Short:
        """The shortfalls of a contest's interactions."""
        held, logged = contest.held, utility(contest.held)
        targets = contest.rival_target, contest.candidate.target
        rival, own = (logged.direct(each) for each in targets)
        whole = [scores(logged, each, Estimator.DR) for each in targets]
        cluster = counted(held.cluster)
        return cls(
            expected=rival - own,
            corrected=(whole[0] - rival) - (whole[1] - own),
            facets=held.facets,
            unit=np.arange(len(held)) if cluster is None else cluster,
            doubt_usd=MODEL_ERROR * float(held.value_usd.mean()),
        )

    def estimated(self) -> tuple[Floats, Estimates]:
        """Each slice's shortfall and its error, and the errors' correlations."""
        nothing = np.zeros(sum(map(len, self.facets)))
        least = np.concatenate([least_errors(self.corrected, each) for each in self.facets])
        outcomes = estimates(
            [_mean(self.corrected, each) for each in self.facets], self.facets, self.unit, least
        )
        trust = self.doubt_usd**2 / (self.doubt_usd**2 + outcomes.error**2)
        usual = float(self.corrected.mean())
        ends = np.cumsum([len(each) for each in self.facets])[:-1]
        parts = [
            _mean(self.expected + usual + own[each.of] * (self.corrected - usual), each)
            for own, each in zip(np.split(trust, ends), self.facets, strict=True)
        ]
        found = estimates(parts, self.facets, self.unit, nothing)
        outcome_error = np.maximum(found.error, trust * outcomes.error)
        return np.hypot(outcome_error, (1.0 - trust) * self.doubt_usd), found


def _mean(short: Floats, facet: Facet) -> Linear:
    return linear(short, None, facet, Measure.ACCURACY, None)


def no_slice_worse(contest: Contest, *, seed: int = 0) -> Condition:
    """Whether no slice's utility is significantly below what the incumbent brings it."""
    held, must = contest.held, "no slice significantly worse, all slices at once"
    if not held.facets:
        return Condition(name="slices", held=True, measured={"slices": 0}, must=must)
    count = np.concatenate([np.bincount(each.of, minlength=len(each)) for each in held.facets])
    error, found = _Short.of(contest).estimated()
    told = count >= LEAST_INTERACTIONS
    drawn = normals(len(told), np.random.default_rng(seed))
    least = found.estimate - error * found.critical(told, count.astype(np.float64), LEVEL, drawn)
    worse = told & (least > 0.0)
    value = float(held.value_usd.mean())
    points = np.where(told, found.estimate, -np.inf) * 100.0 / value
    names = [f"{facet.name} {name}" for facet in held.facets for name in facet.names]
    return Condition(
        name="slices",
        held=not worse.any(),
        measured={
            "slices": len(names),
            "too_few_to_tell": int((~told).sum()),
            "worse": int(worse.sum()),
            "worst": names[int(points.argmax())] if told.any() else None,
            "worst_points": -float(points.max()) if told.any() else None,
        },
        must=must,
        why=_named(names, worse, points, contest.rival),
    )


def _named(names: list[str], worse: Mask, points: Floats, rival: str) -> str:
    order = [place for place in np.argsort(-points).tolist() if worse[place]]
    if not order:
        return ""
    told = (f"{names[place]} by {points[place]:.1f} points" for place in order[:_MOST_NAMED])
    return f"worse than the {rival}: {', '.join(told)}"
