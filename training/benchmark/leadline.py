"""Leadline as its users meet it: trained, bundled, verified, loaded, then asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Self

import lightgbm
import numpy as np

from router.bundle.signing import SigningKey
from router.errors import Infeasible
from router.offline import Asked, Policy, Replayed
from router.policy.continuation import MAX_ATTEMPTS
from router.slo import Slo
from router.types import Decision, Evidence, Floats
from training.benchmark.ways import Predicted, Walked, spent
from training.learning.policy import write_bundle
from training.learning.targets import Trained
from training.log.dataset import Dataset, Indices

Train = Callable[[Dataset], Trained]
"""What learns a policy from a log: `training.learning.policy.learn` with its options set."""

_MADE_AT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A policy that went through its bundle, and what each feature gained in its booster."""

    policy: Policy
    importance: Mapping[str, float]


class Teacher:
    """Trains a policy and loads it from its bundle; once for both ways of using it."""

    def __init__(self, train: Train) -> None:
        self.train = train
        self._last: tuple[str, Taught] | None = None

    def __call__(self, dataset: Dataset) -> Taught:
        """The policy that the dataset teaches."""
        if self._last is None or self._last[0] != dataset.digest:
            self._last = dataset.digest, _taught(self.train(dataset))
        return self._last[1]


def _taught(trained: Trained) -> Taught:
    with TemporaryDirectory(prefix="leadline-benchmark-") as directory:
        key = SigningKey.load_or_create(Path(directory) / "signing.key")
        bundle = Path(directory) / "bundle"
        write_bundle(trained, bundle, key, _MADE_AT)
        policy = Policy.load(bundle, trusted_keys=(key.public_key.hex(),))
    return Taught(policy=policy, importance=_importance(trained))


def _importance(trained: Trained) -> Mapping[str, float]:
    """The share of the loss that splits on each feature took away."""
    booster = lightgbm.Booster(model_str=trained.booster_text)
    gains = booster.feature_importance("gain")
    total = float(gains.sum()) or 1.0
    return {
        name: float(gain) / total for name, gain in zip(booster.feature_name(), gains, strict=True)
    }


class _Leadline:
    """Leadline under a name, that of its way unless another is given."""

    NAME: ClassVar[str]

    def __init__(self, teacher: Teacher, name: str | None = None) -> None:
        self.name = name or self.NAME
        self.teacher = teacher

    def fit(self, train: Dataset) -> Self:
        """Trains the policy."""
        self.taught_ = self.teacher(train)
        return self


class OneAttempt(_Leadline):
    """Leadline's decisions, each one attempt."""

    NAME = "leadline"

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        policy = self.taught_.policy
        place = _places(policy, test)
        chosen = np.empty((len(values_usd), len(test.queries)), np.intp)
        decisions: list[Decision] = []
        for slo, asked, decided in policy.decide_many(_asked(test), _slos(values_usd)):
            if isinstance(decided, Infeasible):
                raise decided
            chosen[slo, int(asked.query_id)] = place[decided.choice.index]
            if slo == 0:
                decisions.append(decided)
        return spent(chosen, test, _predicted(decisions, place, len(test.arms)))


class Continuing(_Leadline):
    """Leadline with continuation: it may look at an answer's evidence and try another arm."""

    NAME = "leadline_continuation"

    def walk(self, test: Dataset, values_usd: Floats) -> Walked:
        """As Way says."""
        log = _recorded(test)
        index = {arm.key: place for place, arm in enumerate(test.arms)}
        shape = (len(values_usd), len(test.queries))
        cost_usd, final = np.empty(shape), np.empty(shape, np.intp)
        tried = np.full((*shape, MAX_ATTEMPTS), -1, np.intp)
        for slo, replayed in self.taught_.policy.replay(log, _slos(values_usd)):
            query = int(replayed.query_id)
            if replayed.final is None:
                raise Infeasible(replayed.reason)
            cost_usd[slo, query] = _cost(replayed)
            final[slo, query] = index[replayed.final.key]
            attempted = [index[arm.key] for arm, _ in replayed.attempts]
            tried[slo, query, : len(attempted)] = attempted
        score = test.table("score")[np.arange(len(test.queries)), final]
        return Walked(cost_usd=cost_usd, score=score, tried=tried)


def _asked(test: Dataset) -> list[Asked]:
    return [Asked(query_id=str(place), text=text) for place, text in enumerate(test.queries)]


def _slos(values_usd: Floats) -> list[Slo]:
    return [Slo(accuracy_value_usd=float(value)) for value in values_usd]


def _places(policy: Policy, test: Dataset) -> Indices:
    """Where each of the policy's arms stands in the test."""
    index = {arm.key: place for place, arm in enumerate(test.arms)}
    return np.array([index[arm.key] for arm in policy.arms], np.intp)


def _predicted(decisions: list[Decision], place: Indices, arms: int) -> Predicted:
    accuracy = np.full((len(decisions), arms), np.nan)
    latency_s = np.full((len(decisions), arms, 3), np.nan)
    for row, decision in enumerate(decisions):
        expected = decision.predictions
        accuracy[row, place] = expected.accuracy
        latency_s[row, place, 0] = expected.latency_p50_s
        latency_s[row, place, 1] = expected.latency_p95_s
        latency_s[row, place, 2] = expected.latency_p99_s
    return Predicted(accuracy=accuracy, latency_s=latency_s)


def _cost(replayed: Replayed) -> float:
    return sum(evidence.cost_usd or 0.0 for _, evidence in replayed.attempts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """A test query as replay may see it: an arm's evidence once it is attempted, no score."""

    asked: Asked
    shown: Mapping[str, Evidence]

    @property
    def arms(self) -> Collection[str]:
        """Keys of the arms."""
        return self.shown.keys()

    def attempt(self, arm: str) -> Evidence:
        """What an attempt with the arm shows."""
        return self.shown[arm]


def _recorded(test: Dataset) -> list[_Recorded]:
    confidence, cost_usd = test.table("confidence"), test.table("cost_usd")
    latency_s, tokens = test.table("latency_s"), test.table("output_tokens")
    return [
        _Recorded(
            asked=asked,
            shown={
                arm.key: Evidence(
                    confidence=_known(confidence[query, place]),
                    output_tokens=None
                    if np.isnan(tokens[query, place])
                    else int(tokens[query, place]),
                    cost_usd=_known(cost_usd[query, place]),
                    latency_s=_known(latency_s[query, place]),
                )
                for place, arm in enumerate(test.arms)
            },
        )
        for query, asked in enumerate(_asked(test))
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
