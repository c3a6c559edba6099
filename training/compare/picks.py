"""What a policy would decide for some queries, and what it predicts of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from router import pipeline
from router.errors import Infeasible
from router.offline import Asked, Policy
from router.slo import Slo
from router.types import Arm, Bounds, Decision, Floats, Mask
from training.log.dataset import Indices


@dataclass(frozen=True, kw_only=True)
class Picks:
    """Decisions for n queries among a arms, with the policy's predictions (n, a).

    `arm` (n,) is picked before exploration, with which the probabilities are `target` (n, a).
    Queries that are not `answered` (n,) have no arm that may be run. Predictions are NaN of
    arms that the policy does not know.
    """

    arm: Indices
    target: Floats
    answered: Mask
    accuracy: Floats
    cost_usd: Floats
    latency_s: Floats

    def take(self, rows: Indices | Mask) -> Self:
        """Those of some queries."""
        return replace(self, **{each.name: getattr(self, each.name)[rows] for each in fields(self)})

    def predicted(self, name: str) -> Floats:
        """What the policy predicts that its decisions bring, (n,)."""
        values = np.where(self.target > 0.0, getattr(self, name), 0.0)
        return np.asarray((self.target * values).sum(axis=1))


def picks(policy: Policy, texts: Sequence[str], slo: Slo, arms: Sequence[Arm]) -> Picks:
    """Decides for each text as serving does with no certificate and its budgets unspent.

    `arms` hold all of the policy's own. Equal texts are decided once.
    """
    different = tuple(dict.fromkeys(texts))
    asked = [Asked(query_id=str(place), text=text) for place, text in enumerate(different)]
    own = {arm.key: place for place, arm in enumerate(arms)}
    columns = np.array([own[arm.key] for arm in policy.arms], np.intp)
    found = _blank(len(different), len(arms))
    quiet = replace(slo, exploration_rate=0.0)
    for place, (_, _, decided) in enumerate(policy.decide_many(asked, (quiet,))):
        if not isinstance(decided, Infeasible):
            chances = pipeline.chances(policy.bound, decided, slo, Bounds())
            _fill(found, place, decided, columns, chances)
    of = {text: place for place, text in enumerate(different)}
    return found.take(np.array([of[text] for text in texts], np.intp))


def _blank(queries: int, arms: int) -> Picks:
    return Picks(
        arm=np.zeros(queries, np.intp),
        target=np.zeros((queries, arms)),
        answered=np.zeros(queries, bool),
        **{
            name: np.full((queries, arms), np.nan) for name in ("accuracy", "cost_usd", "latency_s")
        },
    )


def _fill(found: Picks, place: int, decided: Decision, columns: Indices, chances: Floats) -> None:
    predictions = decided.predictions
    found.arm[place], found.answered[place] = columns[decided.choice.index], True
    found.target[place, columns] = chances
    found.accuracy[place, columns] = predictions.accuracy
    found.cost_usd[place, columns] = predictions.cost_usd
    found.latency_s[place, columns] = predictions.latency_p50_s


def joined(several: Sequence[Picks]) -> Picks:
    """The decisions of several groups, one after the other."""
    names = [each.name for each in fields(Picks)]
    return Picks(
        **{name: np.concatenate([getattr(each, name) for each in several]) for name in names}
    )
