"""The gate's slices: no language, topic, label or tenant may pay for the gains of others.

These conditions block instead of having to be shown, and there are many: each slice must
be worse beyond what chance would explain in any of them, so that all together seldom
block a candidate that is worse in none.

In a slice outcomes are few, so the reward model speaks too: the truth is what the model
expects, give or take `MODEL_ERROR`, and the slice's own outcomes move that as far as they
are surer (empirical Bayes; Efron & Morris 1973). Where a pick was hardly ever tried, the
model tells. Other slices' outcomes do not: a candidate that gains elsewhere would hide by
them what it ruins here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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

LEVEL = 0.2
"""Half of it is the chance that any slice of a candidate which is worse in none blocks.

One that is better by 2 points hardly ever blocks, since most of its slices are better too.
"""

LEAST_INTERACTIONS = 50
"""Interactions that a slice must have before anything is said of it."""

MODEL_ERROR = 0.04
"""How far off the reward model may be in one slice and not in others, in correct answers."""

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class _Short:
    """By how much each interaction falls short of what the rival brings it, in dollars, (n,).

    It is what the reward model `expected`, and what outcomes make of that, doubly robust.
    """

    expected: Floats
    found: Floats
    facets: tuple[Facet, ...]
    unit: Indices
    doubt_usd: float

    @classmethod
    def of(cls, contest: Contest) -> _Short:
        """The shortfalls of a contest's interactions."""
        held, logged = contest.held, utility(contest.held)
        rival, own = contest.rival_target, contest.candidate.target
        cluster = counted(held.cluster)
        return cls(
            expected=logged.direct(rival) - logged.direct(own),
            found=scores(logged, rival, Estimator.DR) - scores(logged, own, Estimator.DR),
            facets=held.facets,
            unit=np.arange(len(held)) if cluster is None else cluster,
            doubt_usd=MODEL_ERROR * float(held.value_usd.mean()),
        )

    def estimated(self) -> Estimates:
        """Each slice's shortfall with its error, and the errors' correlations."""
        least = np.concatenate([least_errors(self.found, each) for each in self.facets])
        parts = [_mean(self.found, each) for each in self.facets]
        outcomes = estimates(parts, self.facets, self.unit, least)
        expected = np.concatenate([_mean(self.expected, each).estimate for each in self.facets])
        trust = self.doubt_usd**2 / (self.doubt_usd**2 + outcomes.error**2)
        return replace(
            outcomes,
            estimate=expected + trust * (outcomes.estimate - expected),
            error=np.sqrt(trust) * outcomes.error,
        )


def _mean(short: Floats, facet: Facet) -> Linear:
    return linear(short, None, facet, Measure.ACCURACY, None)


def no_slice_worse(contest: Contest, *, seed: int = 0) -> Condition:
    """Whether no slice's utility is significantly below what the incumbent brings it."""
    held, must = contest.held, "no slice significantly worse, all slices at once"
    if not held.facets:
        return Condition(name="slices", held=True, measured={"slices": 0}, must=must)
    count = np.concatenate([np.bincount(each.of, minlength=len(each)) for each in held.facets])
    found = _Short.of(contest).estimated()
    told = count >= LEAST_INTERACTIONS
    drawn = normals(len(told), np.random.default_rng(seed))
    away = found.critical(told, count.astype(np.float64), LEVEL, drawn)
    worse = told & (found.estimate > found.error * away)
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
