"""From held-out interactions and policies, as serving binds them, to the gate's contest.

Every contestant decides for every held-out query under the slo that asked it, by the very
code that serves, so that what is judged is what would serve. Exploration is left out: it
costs whoever serves the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.stats import norm

from router.errors import InvalidInput
from router.policy.embedding import Embedder
from router.policy.policy import Policy
from router.types import Arm, Floats, Mask
from training.evaluation.logged import one_hot
from training.evaluation.slices import Facet
from training.gate.asked import Asked
from training.gate.contest import Contest, Contestant, Held
from training.gate.rewards import FOLDS, corrected
from training.learning.decided import decided, predicted
from training.log.dataset import Dataset, Indices
from training.log.splits import folds, normalised

LATE_QUANTILE = 0.95
"""Where an slo bounds no latency, late is what takes longer than so many of its answers."""

LATE_ALLOWED = 0.1
"""The share of answers that may then be late: twice as many as now."""

_P95_Z = float(norm.ppf(0.95))


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """n first attempts with propensities, of queries from which no contestant has learnt.

    Of later attempts the propensities are not known, so that they are left out. `arm` holds
    keys; `asked` (n,) is each row's place among the slos. Figures (n,) are NaN where
    unknown. `response`, `cluster` and `region` are as in `training.evaluation.logged`.
    """

    texts: Sequence[str]
    arm: Sequence[str]
    asked: Indices
    propensity: Floats
    score: Floats
    cost_usd: Floats
    latency_s: Floats
    facets: tuple[Facet, ...] = ()
    response: Floats | None = None
    cluster: Indices | None = None
    region: Indices | None = None

    @classmethod
    def of(cls, held: Dataset) -> Outcomes:
        """Those of a dataset under one slo; rows without a propensity are left out.

        Raises InvalidInput when no row has one.
        """
        rows = held.rows.take(~np.isnan(held.rows.propensity))
        if not len(rows):
            raise InvalidInput(
                "no held-out row has a propensity; the gate needs logged decisions", field="log"
            )
        return cls(
            texts=[held.queries[place] for place in rows.query.tolist()],
            arm=[held.arms[place].key for place in rows.arm.tolist()],
            asked=np.zeros(len(rows), np.intp),
            propensity=rows.propensity,
            score=rows.score,
            cost_usd=rows.cost_usd,
            latency_s=rows.latency_s,
            response=responses(rows.score, rows.score_weight),
            cluster=rows.query,
        )

    def __len__(self) -> int:
        return len(self.texts)


def responses(score: Floats, weight: Floats) -> Floats | None:
    """How many rows each scored one stands for, (n,); None where all count the same."""
    known = ~np.isnan(score)
    if not known.any() or (weight[known] == weight[known][0]).all():
        return None
    share = weight / weight[known].mean() * len(score) / known.sum()
    return np.asarray(np.maximum(share, 1.0))


def seen(found: Outcomes, learnt: Sequence[str]) -> int:
    """How many interactions have a text that is among those which were learnt from.

    Texts that differ in case or white space alone are the same.
    """
    known = set(map(normalised, learnt))
    return sum(normalised(text) in known for text in found.texts)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A contest, and what it leaves out.

    `unanswered` counts interactions for which the incumbent has an arm and the candidate has
    none; `left_out` all for which some contestant has none.
    """

    contest: Contest
    unanswered: int
    left_out: int


def contest(
    found: Outcomes,
    slos: Sequence[Asked],
    candidate: Policy,
    incumbent: Policy | None,
    embedder: Embedder,
) -> Made:
    """Has every contestant decide for the interactions, under each one's slo.

    Both policies are bound to the same catalog. Raises InvalidInput when they are not, and
    when no interaction is left.
    """
    arms = candidate.arms
    if incumbent is not None and incumbent.arms != arms:
        raise InvalidInput("candidate and incumbent must have the same arms", field="incumbent")
    own = _Decisions.of(candidate, found, slos)
    other = own if incumbent is None else _Decisions.of(incumbent, found, slos)
    rows = np.flatnonzero(own.answered & other.answered)
    if not len(rows):
        raise InvalidInput("no interaction is left that contestants have an arm for", field="log")
    guess = own.blank() if incumbent is None else other
    held = _held(found, slos, arms, embedder, guess)
    made = Contest(
        held=held,
        candidate=own.contestant(held.expected_score),
        incumbent=None if incumbent is None else other.contestant(held.expected_score),
        constant=_places([slos[place].constant for place in found.asked.tolist()], arms),
    )
    return Made(
        contest=made.take(rows),
        unanswered=int((other.answered & ~own.answered).sum()),
        left_out=len(found) - len(rows),
    )


@dataclass(frozen=True, kw_only=True)
class _Decisions:
    """What one policy decides for n interactions, with a last column for arms that are gone.

    `target`, `accuracy`, `cost_usd`, `p50_s` and `p95_s` are (n, a + 1).
    """

    target: Floats
    accuracy: Floats
    cost_usd: Floats
    p50_s: Floats
    p95_s: Floats
    answered: Mask

    def contestant(self, expected: Floats) -> Contestant:
        """The contestant that decides so; of arms that are gone it predicts what is expected."""
        accuracy = np.hstack((self.accuracy[:, :-1], expected[:, -1:]))
        return Contestant(target=self.target, accuracy=accuracy)

    def blank(self) -> _Decisions:
        """The same without any idea of scores and costs, so that no candidate judges itself."""
        nothing = np.zeros_like(self.accuracy)
        return replace(self, accuracy=nothing, cost_usd=nothing)

    @classmethod
    def of(cls, policy: Policy, found: Outcomes, slos: Sequence[Asked]) -> _Decisions:
        """Decides for all interactions, each slo's together, every text once."""
        shape = (len(found), len(policy.arms) + 1)
        made = {item.name: np.zeros(shape) for item in fields(cls)[:-1]}
        answered = np.zeros(len(found), bool)
        for place, each in enumerate(slos):
            rows = np.flatnonzero(found.asked == place)
            if not len(rows):
                continue
            texts, text = _distinct([found.texts[row] for row in rows.tolist()])
            figures, told = _decided(policy, texts, each)
            for name, values in figures.items():
                made[name][rows, :-1] = values[text]
            answered[rows] = told[text]
        return cls(**made, answered=answered)


def _distinct(texts: Sequence[str]) -> tuple[list[str], Indices]:
    """The different texts, and the place of each one among them, (n,)."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    return list(places), np.array([places[text] for text in texts], np.intp)


def _decided(
    policy: Policy, texts: Sequence[str], asked: Asked
) -> tuple[Mapping[str, Floats], Mask]:
    """The figures (q, a) of the decisions for some texts, and which have one (q,)."""
    slo = replace(asked.slo, exploration_rate=0.0)
    known = predicted(policy, texts)
    made = decided(policy, texts, slo, np.array([asked.value_usd]), known=known)
    figures = {
        "target": one_hot(made.arms[:, 0], len(policy.arms)),
        "accuracy": np.nan_to_num(made.accuracy),
        "cost_usd": np.nan_to_num(made.cost_usd),
        "p50_s": np.array([each.predictions.latency_p50_s for each in known]),
        "p95_s": np.array([each.predictions.latency_p95_s for each in known]),
    }
    return figures, made.answered


def _held(
    found: Outcomes,
    slos: Sequence[Asked],
    arms: Sequence[Arm],
    embedder: Embedder,
    guess: _Decisions,
) -> Held:
    """The interactions with what an independent reward model expects of every arm."""
    arm, fold = _places(found.arm, arms), folds(found.texts, FOLDS)
    vectors = embedder.encode_many(found.texts).vectors.astype(np.float64)
    bound_s, allowed = _bounds(found, slos)
    late = np.where(np.isnan(found.latency_s), np.nan, found.latency_s > bound_s)
    score = corrected(guess.accuracy, found.score, arm, vectors, fold)
    return Held(
        arm=arm,
        propensity=found.propensity,
        score=found.score,
        cost_usd=found.cost_usd,
        late=late,
        late_allowed=allowed,
        value_usd=np.array([each.value_usd for each in slos])[found.asked],
        expected_score=np.clip(score, 0.0, 1.0),
        expected_cost_usd=corrected(guess.cost_usd, found.cost_usd, arm, vectors, fold),
        expected_late=_lateness(guess, bound_s, late),
        facets=found.facets,
        response=found.response,
        cluster=found.cluster,
        region=found.region,
    )


def _bounds(found: Outcomes, slos: Sequence[Asked]) -> tuple[Floats, Floats]:
    """What each interaction's answer may take, in seconds, and how many may take longer."""
    bound_s, allowed = np.full(len(found), np.inf), np.full(len(found), LATE_ALLOWED)
    for place, each in enumerate(slos):
        own = found.asked == place
        timed = found.latency_s[own & ~np.isnan(found.latency_s)]
        if each.slo.max_latency_s is not None:
            bound_s[own], allowed[own] = each.slo.max_latency_s, 1.0 - each.slo.latency_quantile
        elif len(timed):
            bound_s[own] = np.quantile(timed, LATE_QUANTILE)
    return bound_s, allowed


def _lateness(guess: _Decisions, bound_s: Floats, late: Floats) -> Floats:
    """How probable it is that each arm is late, of log-normal latencies, (n, a + 1)."""
    usual = float(np.nanmean(late)) if not np.isnan(late).all() else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(guess.p95_s / guess.p50_s) / _P95_Z
        found = norm.sf((np.log(bound_s)[:, None] - np.log(guess.p50_s)) / spread)
    return np.asarray(np.where(np.isfinite(found), found, usual))


def _places(keys: Sequence[str], arms: Sequence[Arm]) -> Indices:
    """Each key's place among the arms; those that are gone have the one behind the last."""
    places = {arm.key: place for place, arm in enumerate(arms)}
    return np.array([places.get(key, len(arms)) for key in keys], np.intp)
