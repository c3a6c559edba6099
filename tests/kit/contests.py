"""Candidates that are planted for the gate: better, equal and sabotaged ones, with known truth.

A population of real outcomes has every arm; contestants predict from a model's predictions,
blurred by noise and drawn to the truth by as much as a wanted utility needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property

import numpy as np
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from router.types import Floats
from tests.kit.embedding import embedder
from tests.kit.offpolicy import Drawn, People, draw, exploring
from training.evaluation.logged import one_hot
from training.evaluation.slices import Facet, facet, script_facet, topic_facet
from training.evaluation.topics import learn
from training.gate.contest import Contest, Contestant, Held
from training.gate.facts import Bundle, Learnt, Timing
from training.gate.judge import Checks
from training.log.dataset import Indices

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BLUR, AFRESH = 0.5, 0.1
"""Noise on the log-odds of the incumbent, and of the candidate on top of it.

The latter changes a tenth of the picks or so, as a quarter more queries to learn from do.
"""

INCUMBENT_AHEAD = 1.5
"""Points by which the incumbent is above the best constant."""

RUINED_BY = 20.0
"""Points that one slice loses, of a candidate that is ahead elsewhere."""

_SHARE = 0.3
_LEAST = 0.01
_RUINED_AHEAD = 4.0


class Kind(StrEnum):
    """What is planted."""

    BETTER = "better"
    EQUAL = "equal"
    BELOW = "below the best constant"
    SHUFFLED = "shuffled labels"
    STALE = "stale"
    LEAKY = "leaky"
    MISCALIBRATED = "broken calibration"
    RUINED = "one slice ruined"


SABOTAGED = (Kind.SHUFFLED, Kind.STALE, Kind.LEAKY, Kind.MISCALIBRATED, Kind.RUINED)


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """q queries with the outcomes of every arm and a reward model's expectations, all (q, a).

    `facets` part the queries; `value_usd` is what a correct answer is worth.
    """

    score: Floats
    cost_usd: Floats
    late: Floats
    expected_score: Floats
    expected_cost_usd: Floats
    expected_late: Floats
    facets: tuple[Facet, ...]
    value_usd: float
    late_allowed: float = 0.1

    @cached_property
    def truth_usd(self) -> Floats:
        """The utility of every arm, (q, a)."""
        return np.asarray(self.value_usd * self.score - self.cost_usd)

    @cached_property
    def constant(self) -> int:
        """The arm that is best for all."""
        return int(self.truth_usd.mean(axis=0).argmax())

    def picks(self, accuracy: Floats) -> Indices:
        """The arm that predictions (q, a) pick for each query."""
        worth = self.value_usd * accuracy - self.expected_cost_usd
        return np.asarray(worth.argmax(axis=1), np.intp)

    def points(self, arm: Indices) -> float:
        """The true mean utility of picks (q,), in hundredths of the value."""
        return 100.0 * float(self._usd(arm).mean()) / self.value_usd

    def calibrated(self, accuracy: Floats) -> Floats:
        """Predictions with the mean score of their like."""
        fitted = IsotonicRegression(out_of_bounds="clip").fit(accuracy.ravel(), self.score.ravel())
        return np.asarray(fitted.predict(accuracy.ravel()).reshape(accuracy.shape))

    def blurred(self, accuracy: Floats, blur: float, rng: np.random.Generator) -> Floats:
        """Predictions with noise on the log-odds."""
        odds = _odds(accuracy)
        return self.calibrated(_logistic(odds + blur * rng.normal(size=odds.shape)))

    def reaching(self, points: float, start: Floats, rng: np.random.Generator) -> Floats:
        """Predictions that are `start` but on some queries, so that their picks reach the points.

        There, in random order, they know more of the truth, or take good arms for bad ones.
        """
        informed = self.calibrated((1.0 - _SHARE) * start + _SHARE * self.score)
        inverted = start.max(axis=1, keepdims=True) + start.min(axis=1, keepdims=True) - start
        other = informed if self.points(self.picks(start)) < points else inverted
        order = rng.permutation(len(start))
        usual, moved = (self._usd(self.picks(each))[order] for each in (start, other))
        reached = usual.sum() + np.concatenate(([0.0], np.cumsum(moved - usual)))
        count = int(np.abs(100.0 * reached / len(start) / self.value_usd - points).argmin())
        found = start.copy()
        found[order[:count]] = other[order[:count]]
        return found

    def _usd(self, arm: Indices) -> Floats:
        return np.asarray(self.truth_usd[np.arange(len(arm)), arm])


def crowd(people: People, texts: Sequence[str], times: float) -> Crowd:
    """A population as the gate's, where a correct answer is worth so many of the best's costs.

    Late is what nine tenths of the most accurate arm's answers are not.
    """
    score, cost = people.rewards["accuracy"], people.rewards["cost"]
    best = int(score.true.mean(axis=0).argmax())
    late, expected = _late(people, best)
    vectors = embedder().encode_many(texts).vectors.astype(np.float64)
    return Crowd(
        score=score.true,
        cost_usd=cost.true,
        late=late,
        expected_score=np.clip(score.predicted, _LEAST, 1.0 - _LEAST),
        expected_cost_usd=cost.predicted,
        expected_late=expected,
        facets=(script_facet(texts), topic_facet(learn(vectors, texts), vectors)),
        value_usd=times * float(cost.true[:, best].mean()),
    )


def _late(people: People, best: int) -> tuple[Floats, Floats]:
    """Whether every arm is late, and how probable that is, both (q, a); NaN where not timed."""
    if "latency" not in people.rewards:
        return np.full(people.shape, np.nan), np.zeros(people.shape)
    timed = people.rewards["latency"]
    bound_s = float(np.quantile(timed.true[:, best], 0.9))
    usual = np.log(timed.predicted)
    spread = float((np.log(timed.true) - usual).std())
    expected = norm.sf((np.log(bound_s) - usual) / spread)
    return np.asarray(timed.true > bound_s, np.float64), np.asarray(expected)


def _odds(accuracy: Floats) -> Floats:
    inner = np.clip(accuracy, _LEAST, 1.0 - _LEAST)
    return np.asarray(np.log(inner / (1.0 - inner)))


def _logistic(odds: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-odds)))


@dataclass(frozen=True, kw_only=True)
class Plant:
    """A planted candidate: what the gate is given, and by how many points it is truly ahead."""

    kind: Kind
    contest: Contest
    checks: Checks
    ahead: float
    above_constant: float


@dataclass(frozen=True, kw_only=True)
class _Seed:
    """A candidate in the making: predictions and picks for every query, and what is said of it."""

    accuracy: Floats
    picks: Indices
    checks: Checks


SOUND = Checks(
    learnt=Learnt(watermark=NOW, incumbent_watermark=NOW - timedelta(days=1)),
    bundle=Bundle(verified=True),
    timing=Timing(candidate_s=0.0005, incumbent_s=0.0005),
)


def plant(crowd: Crowd, kind: Kind, n: int, ahead: float, rng: np.random.Generator) -> Plant:
    """Plants a candidate in a log of n interactions of the incumbent, which explores.

    `ahead` are the points by which a better one is, or a sabotaged one was before.
    """
    best = crowd.points(_all(crowd))
    over = -2.0 * ahead if kind is Kind.BELOW else INCUMBENT_AHEAD
    blurred = crowd.blurred(crowd.expected_score, BLUR, rng)
    incumbent = crowd.reaching(best + over, blurred, rng)
    served = crowd.picks(incumbent)
    seed = _seed(crowd, kind, incumbent, ahead, rng)
    usual_usd = crowd.value_usd * incumbent - crowd.expected_cost_usd
    drawn = draw(exploring(usual_usd), n, rng)
    own = Contestant(
        target=one_hot(seed.picks[drawn.query], incumbent.shape[1]),
        accuracy=seed.accuracy[drawn.query],
    )
    contest = Contest(
        held=_held(crowd, drawn, rng),
        candidate=own,
        incumbent=Contestant(
            target=one_hot(served[drawn.query], incumbent.shape[1]),
            accuracy=incumbent[drawn.query],
        ),
        constant=np.full(n, crowd.constant, np.intp),
    )
    reached = crowd.points(seed.picks)
    return Plant(
        kind=kind,
        contest=_leaking(crowd, drawn, contest, rng) if kind is Kind.LEAKY else contest,
        checks=seed.checks,
        ahead=reached - crowd.points(served),
        above_constant=reached - best,
    )


def _all(crowd: Crowd) -> Indices:
    return np.full(len(crowd.score), crowd.constant, np.intp)


def _seed(
    crowd: Crowd, kind: Kind, incumbent: Floats, ahead: float, rng: np.random.Generator
) -> _Seed:
    if kind is Kind.SHUFFLED:
        return _of(crowd, crowd.calibrated(incumbent[rng.permutation(len(incumbent))]))
    more = {Kind.EQUAL: 0.0, Kind.LEAKY: 0.0, Kind.RUINED: ahead + _RUINED_AHEAD}.get(kind, ahead)
    start = crowd.blurred(incumbent, AFRESH, rng)
    accuracy = crowd.reaching(crowd.points(crowd.picks(incumbent)) + more, start, rng)
    match kind:
        case Kind.STALE:
            return _stale(crowd, accuracy, rng)
        case Kind.MISCALIBRATED:
            return _of(crowd, _distorted(accuracy, rng))
        case Kind.RUINED:
            return _ruined(crowd, accuracy, incumbent, rng)
        case _:
            return _of(crowd, accuracy)


def _of(crowd: Crowd, accuracy: Floats, checks: Checks = SOUND) -> _Seed:
    picks = crowd.picks(accuracy)
    missed = np.square(accuracy - crowd.score)
    learnt = replace(checks.learnt, brier=float(missed.mean()), brier_rows=4_000)
    return _Seed(accuracy=accuracy, picks=picks, checks=replace(checks, learnt=learnt))


def _stale(crowd: Crowd, accuracy: Floats, rng: np.random.Generator) -> _Seed:
    """One that learnt from an older log; half of the time the world is another since."""
    older = replace(SOUND.learnt, watermark=NOW - timedelta(days=30))
    if rng.random() < 0.5:
        accuracy = accuracy.copy()
        arm = int(rng.integers(accuracy.shape[1]))
        accuracy[:, arm] = np.minimum(accuracy[:, arm] + 0.2, 0.99)
    return _of(crowd, accuracy, replace(SOUND, learnt=older))


def _distorted(accuracy: Floats, rng: np.random.Generator) -> Floats:
    """Probabilities that are too sure, too unsure, too high or too low."""
    odds = _odds(accuracy)
    ways = (3.0 * odds, odds / 3.0, odds + 1.0, odds - 1.0)
    return _logistic(ways[int(rng.integers(len(ways)))])


def _ruined(crowd: Crowd, accuracy: Floats, incumbent: Floats, rng: np.random.Generator) -> _Seed:
    """One that loses 20 points in a slice of 10 to 30 %, for some of whose queries it errs.

    There it picks the arm that is worst for the slice, or for the query where none is so bad.
    """
    slices = [
        np.flatnonzero(each.of == place)
        for each in crowd.facets
        for place in range(len(each))
        if 0.1 <= float((each.of == place).mean()) <= 0.3
    ]
    inside = rng.permutation(slices[int(rng.integers(len(slices)))])
    found, due = _of(crowd, accuracy), 0.01 * RUINED_BY * crowd.value_usd * len(inside)
    truth, rows = crowd.truth_usd[inside], np.arange(len(inside))
    before, now = (truth[rows, each[inside]] for each in (crowd.picks(incumbent), found.picks))
    for worst in (np.full(len(inside), truth.mean(axis=0).argmin()), truth.argmin(axis=1)):
        lost = (before - now).sum() + np.cumsum(now - truth[rows, worst])
        if lost[-1] >= due:
            break
    count = int(np.searchsorted(lost, due)) + 1
    picks = found.picks.copy()
    picks[inside[:count]] = worst[:count]
    return replace(found, picks=picks)


def _leaking(crowd: Crowd, drawn: Drawn, contest: Contest, rng: np.random.Generator) -> Contest:
    """The same with a candidate that has learnt the outcomes of the held-out interactions."""
    rows, share = np.arange(len(drawn.arm)), rng.uniform(0.2, 0.9)
    accuracy = contest.candidate.accuracy.copy()
    score = contest.held.score
    accuracy[rows, drawn.arm] += share * (score - accuracy[rows, drawn.arm])
    worth = crowd.value_usd * accuracy - crowd.expected_cost_usd[drawn.query]
    target = one_hot(np.asarray(worth.argmax(axis=1), np.intp), accuracy.shape[1])
    return replace(contest, candidate=Contestant(target=target, accuracy=accuracy))


def _held(crowd: Crowd, drawn: Drawn, rng: np.random.Generator) -> Held:
    """The interactions, of eight tenants."""
    n = len(drawn.arm)
    cell = drawn.query, drawn.arm
    parted = tuple(replace(each, of=each.of[drawn.query]) for each in crowd.facets)
    tenants = facet("tenant", [f"tenant {place}" for place in rng.integers(0, 8, n)])
    return Held(
        arm=drawn.arm,
        propensity=drawn.propensity,
        score=crowd.score[cell],
        cost_usd=crowd.cost_usd[cell],
        late=crowd.late[cell],
        late_allowed=np.full(n, crowd.late_allowed),
        value_usd=np.full(n, crowd.value_usd),
        expected_score=crowd.expected_score[drawn.query],
        expected_cost_usd=crowd.expected_cost_usd[drawn.query],
        expected_late=crowd.expected_late[drawn.query],
        facets=(*parted, tenants),
        region=parted[-1].of,
    )
