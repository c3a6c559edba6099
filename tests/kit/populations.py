"""Real outcomes as the population of a policy that has not seen them, sampled as logs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from router.policy.hedging import Sample
from router.policy.policy import Policy
from router.slo import Slo
from router.types import Floats
from tests.kit import bandits
from training.benchmark.splits import Split
from training.certifying import sample_of
from training.evaluation.scored import Log, Scored
from training.learning.decided import Decided, decided

FULL, UNIFORM, INFORMED = "full", "bandit, uniform", "bandit, informed"
"""How the outcomes of a sample are logged."""

_FLOORS = 4
_MOST_CELLS = 2_000_000
_SLO = Slo(min_accuracy=0.5)


@dataclass(frozen=True, kw_only=True)
class Population:
    """The half that the policy has not seen: its scores and costs (q, a), and its decisions.

    `accuracy` and `cost_usd` (k,) are the truth at each value, `expected` (k,) is what training
    expected of them; `odds` are those of loggers.
    """

    name: str
    made: Decided
    score: Floats
    accuracy: Floats
    cost_usd: Floats
    expected: Floats
    odds: Mapping[str, Floats]

    @property
    def best_constant(self) -> float:
        """The mean score of the most accurate arm."""
        return float(self.score.mean(axis=0).max())

    @property
    def floors(self) -> Floats:
        """From 0.70, or below what can be reached, to 1 % below the best constant."""
        most = 0.99 * self.best_constant
        return np.linspace(min(0.7, 0.94 * most), most, _FLOORS)

    def hindsight_usd(self, floor: float) -> float:
        """The least mean cost of a value that truly meets the floor."""
        enough = self.accuracy >= floor
        return float(self.cost_usd[enough].min()) if enough.any() else np.nan


def populated(name: str, split: Split, policy: Policy) -> Population:
    """The split's other half as the population."""
    assert policy.tradeoff is not None
    index = {arm.key: place for place, arm in enumerate(split.test.arms)}
    place = [index[arm.key] for arm in policy.arms]
    score, cost_usd = (split.test.table(each)[:, place] for each in ("score", "cost_usd"))
    made = decided(policy, split.test.queries, Slo(min_accuracy=0.5), policy.tradeoff.value_usd)
    odds = bandits.policies(split.test)
    return Population(
        name=name,
        made=made,
        score=score,
        accuracy=made.mean(score).mean(axis=0),
        cost_usd=made.mean(cost_usd).mean(axis=0),
        expected=policy.tradeoff.accuracy,
        odds={UNIFORM: odds["uniform"][:, place], INFORMED: odds["informed"][:, place]},
    )


def samples(
    people: Population, how: str, n: int, runs: int, rng: np.random.Generator
) -> Iterator[Sample]:
    """Samples of n under all values, many side by side: k columns each."""
    at_once = max(1, _MOST_CELLS // (n * len(people.accuracy)))
    draw = partial(_logged, people, people.odds[how]) if how in people.odds else _drawn(people)
    mean = people.made.mean(people.made.accuracy).mean(axis=0)
    for start in range(0, runs, at_once):
        drawn = [draw(n, rng) for _ in range(min(at_once, runs - start))]
        log = replace(drawn[0][0], propensity=np.concatenate([log.propensity for log, _ in drawn]))
        many = _side_by_side([scored for _, scored in drawn])
        groups = np.tile(mean, len(drawn)), n
        yield sample_of(many, log, _SLO, None if how in people.odds else groups)[0]


def _drawn(people: Population) -> Callable[[int, np.random.Generator], tuple[Log, Scored]]:
    """Draws queries with the scores of every arm."""
    nothing = np.empty(0)
    log = Log(
        query=np.empty(0, np.intp),
        arm=np.empty(0, np.intp),
        score=nothing,
        propensity=nothing,
        seen=np.ones(people.score.shape[1], bool),
        table=people.score,
    )
    every = log.scored(people.made)
    return lambda n, rng: (log, every.take(rng.integers(0, len(every), n)))


def _logged(
    people: Population, odds: Floats, n: int, rng: np.random.Generator
) -> tuple[Log, Scored]:
    """Draws queries with the score of the one arm that the logger picked."""
    query = rng.integers(0, len(odds), n)
    arm = (odds[query].cumsum(axis=1) > rng.random(n)[:, None]).argmax(axis=1)
    log = Log(
        query=query,
        arm=arm,
        score=people.score[query, arm],
        propensity=odds[query, arm],
        seen=np.ones(odds.shape[1], bool),
    )
    return log, log.scored(people.made)


def _side_by_side(scored: Sequence[Scored]) -> Scored:
    names = ("value", "own", "expected", "weight", "tried")
    return Scored(
        query=scored[0].query,
        **{
            name: np.concatenate([getattr(each, name) for each in scored], axis=1) for name in names
        },
    )
