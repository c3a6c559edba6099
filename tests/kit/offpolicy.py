"""Logs of behaviour policies over real outcomes whose every arm is known, so that truth is too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from router.types import Floats, Mask
from tests.kit import bandits
from tests.kit.embedding import embedder
from training.benchmark.splits import Split
from training.evaluation.logged import Logged, one_hot
from training.learning.contexts import Encoded
from training.learning.learner import Forecast, Learner
from training.learning.threads import one_thread
from training.log.dataset import Indices
from training.log.models import described
from training.log.splits import folds

UNIFORM, INFORMED, KNOWING = "uniform", "informed", "knowing the outcomes"
"""Behaviour policies; the informed one knows predictions, the knowing one the outcomes."""

ROUTED, CONSTANT, DIFFERENCE = "routed", "constant", "difference"
LONGEST_S = 3.0
"""Where latencies are cut, as a timeout does: one in a thousand is 30 times the median."""

_EXPLORED, _SHARPNESS, _VALUE = 0.2, 2.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Reward:
    """One kind of reward: the truth and a reward model's predictions, both (q, a)."""

    true: Floats
    predicted: Floats
    least: float = 0.0
    most: float = np.inf


@dataclass(frozen=True, kw_only=True)
class People:
    """q queries that the reward model has not seen, with the odds (q, a) of behaviour policies.

    `targets` (q, a) are policies to evaluate; `utility` (q, a) is what ranks the arms.
    """

    name: str
    rewards: Mapping[str, Reward]
    odds: Mapping[str, Floats]
    targets: Mapping[str, Floats]
    utility: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and arms."""
        queries, arms = self.utility.shape
        return queries, arms


def people(name: str, split: Split) -> People:
    """The split's other half as the population of models that are fitted to the first."""
    forecast = _forecast(split)
    accuracy, cost_usd = 1.0 / (1.0 + np.exp(-forecast.raw)), forecast.cost_usd
    rewards = {
        "accuracy": Reward(true=split.test.table("score"), predicted=accuracy, most=1.0),
        "cost": Reward(true=split.test.table("cost_usd"), predicted=cost_usd),
    }
    latency_s = split.test.table("latency_s")
    if not np.isnan(latency_s).any():
        likely_s = np.exp(forecast.log_latency)
        true = np.minimum(latency_s, LONGEST_S)
        rewards["latency"] = Reward(true=true, predicted=likely_s, most=LONGEST_S)
    mean_score, mean_cost = (split.train.table(each) for each in ("score", "cost_usd"))
    best = int(np.nanmean(mean_score, axis=0).argmax())
    value_usd = _VALUE * float(np.nanmean(mean_cost[:, best]))
    utility = value_usd * accuracy - cost_usd
    queries, arms = utility.shape
    return People(
        name=name,
        rewards=rewards,
        odds={
            UNIFORM: np.full(utility.shape, 1.0 / arms),
            INFORMED: exploring(utility),
            KNOWING: bandits.policies(split.test)["informed"],
        },
        targets={
            ROUTED: one_hot(utility.argmax(axis=1), arms),
            CONSTANT: one_hot(np.full(queries, best, np.intp), arms),
        },
        utility=utility,
    )


@one_thread()
def _forecast(split: Split) -> Forecast:
    train = split.train
    learner = Learner(arms=train.arms, models=described(train), seed=0)
    fold = folds(train.queries, 5, 0)
    learner.fit(Encoded.of(train.queries, embedder()), train.rows, fold, lambda _step: None)
    every = np.ones(len(split.test.queries), bool)
    return learner.predict(Encoded.of(split.test.queries, embedder()), every)


def exploring(utility: Floats) -> Floats:
    """Softmax of the utility, mixed with some of every arm, (q, a)."""
    scaled = _SHARPNESS * utility / utility.std()
    odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    return np.asarray((1.0 - _EXPLORED) * odds + _EXPLORED / utility.shape[1])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One logged set: which query and arm each of n interactions is, and its propensity."""

    query: Indices
    arm: Indices
    propensity: Floats

    def logged(self, reward: Reward) -> Logged:
        """The interactions with one kind of reward."""
        return Logged(
            arm=self.arm,
            propensity=self.propensity,
            reward=reward.true[self.query, self.arm],
            predicted=reward.predicted[self.query],
            region=self.query % 100 // 10,
            least=reward.least,
            most=reward.most,
        )


def draw(odds: Floats, n: int, rng: np.random.Generator) -> Drawn:
    """Draws n queries with replacement, and for each the arm that a policy with odds picks."""
    query = rng.integers(0, len(odds), n)
    total = odds[query].cumsum(axis=1)
    passed = total > rng.random(n)[:, None] * total[:, -1:]
    arm = np.asarray(passed.argmax(axis=1), np.intp)
    return Drawn(query=query, arm=arm, propensity=odds[query, arm])


def effective_n(odds: Floats, target: Floats, n: int) -> float:
    """What n interactions are worth in truth; 0 where the log misses arms of the target."""
    if (target[odds <= 0.0] > 0.0).any():
        return 0.0
    square = np.divide(target**2, odds, out=np.zeros_like(odds), where=odds > 0.0)
    return float(n / square.sum(axis=1).mean())


FLOOR = 0.001


def greedy_logger(crowd: People, share: float, floor: float) -> tuple[Floats, Floats]:
    """A logger that picks the best arm, others at a floor; the target differs on a share."""
    order = np.argsort(-crowd.utility, axis=1)
    queries, arms = crowd.shape
    odds = np.full(crowd.shape, floor)
    odds[np.arange(queries), order[:, 0]] = 1.0 - floor * (arms - 1)
    return odds, one_hot(np.where(_some(queries, share), order[:, 1], order[:, 0]), arms)


def without_arm(crowd: People, share: float, floor: float) -> tuple[Floats, Floats]:
    """A logger that has one arm at a floor, or not yet; the target picks it on a share."""
    queries, arms = crowd.shape
    scarce = int(np.bincount(crowd.utility.argmax(axis=1)).argmax())
    odds = np.full(crowd.shape, (1.0 - floor) / (arms - 1))
    odds[:, scarce] = floor
    others = crowd.utility.copy()
    others[:, scarce] = -np.inf
    return odds, one_hot(np.where(_some(queries, share), scarce, others.argmax(axis=1)), arms)


def without_region(crowd: People, share: float, floor: float) -> tuple[Floats, Floats]:
    """A uniform logger that hardly tries, on a share of queries, what the target picks there."""
    queries, arms = crowd.shape
    best = crowd.utility.argmax(axis=1)
    odds, here = np.full(crowd.shape, 1.0 / arms), _some(queries, share)
    odds[here] = (1.0 - floor) / (arms - 1)
    odds[here, best[here]] = floor
    return odds, one_hot(best, arms)


def _some(queries: int, share: float) -> Mask:
    return np.asarray(np.arange(queries) % 100 < 100.0 * share)
