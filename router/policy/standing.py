"""How one query's arms stand under the conditions: what is expected now, and what it counts for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from router.conditions import Conditions
from router.errors import Infeasible
from router.policy.conversation import cached_saving_usd, discounted, staying_usd
from router.policy.energy import emission_usd
from router.policy.load import loaded
from router.policy.predictor import Predicted
from router.policy.table import ArmTable
from router.slo import Slo
from router.types import Decision, Floats, Mask, Predictions

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is expected of each arm now, all arrays (a,).

    `weighed_usd` is what its cost counts for when arms are ranked: paced by the budget, with
    the price of its emissions, less what it is worth to stay in a conversation. `affordable`
    are those that the budget covers whatever they come to cost; None where there is no
    budget. `novelty` is that of the query, and `paced` says that costs count for more than
    they are, so that a budget lasts.
    """

    predictions: Predictions
    weighed_usd: Floats
    affordable: Mask | None = None
    novelty: float | None = None
    paced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Standings of n queries that share an slo and conditions; the arrays (n, a)."""

    each: Sequence[Standing]
    accuracy: Floats
    weighed_usd: Floats

    @classmethod
    def of(cls, standings: Sequence[Standing]) -> Together:
        """Those of at least one query."""
        return cls(
            each=standings,
            accuracy=rows([standing.predictions.accuracy for standing in standings]),
            weighed_usd=rows([standing.weighed_usd for standing in standings]),
        )

    def take(self, places: Sequence[int]) -> Together:
        """Some of them."""
        if len(places) == len(self.each):
            return self
        return Together.of([self.each[place] for place in places])


def rows(arrays: Sequence[NDArray[T]]) -> NDArray[T]:
    """Arrays (a,) as the rows of one (n, a); of a single one without copying it."""
    return arrays[0][None] if len(arrays) == 1 else np.array(arrays)


def stand(
    table: ArmTable, known: Predicted, slo: Slo, conditions: Conditions, input_tokens: int
) -> Standing:
    """The standing of a query's arms. Raises Infeasible when the budget is used up."""
    predictions = _expected(table, known.predictions, conditions, input_tokens)
    weighed_usd = _weighed(table, predictions, slo, conditions, input_tokens)
    return Standing(
        predictions=predictions,
        weighed_usd=weighed_usd,
        affordable=_affordable(table, conditions, input_tokens),
        novelty=known.novelty,
        paced=conditions.cost_multiplier > 1.0,
    )


def restand(table: ArmTable, decision: Decision) -> Standing:
    """The standing that a decision was made with."""
    tokens, conditions = decision.input_tokens, decision.conditions
    return Standing(
        predictions=decision.predictions,
        weighed_usd=_weighed(table, decision.predictions, decision.slo, conditions, tokens),
        novelty=decision.novelty,
    )


def _expected(
    table: ArmTable, predictions: Predictions, conditions: Conditions, input_tokens: int
) -> Predictions:
    """What is expected of slow backends, and of a model that has the prompt already."""
    if conditions.backends:
        predictions = loaded(predictions, table, conditions.backends)
    if conditions.conversation is not None:
        saving_usd = cached_saving_usd(table, conditions.conversation, input_tokens)
        predictions = discounted(predictions, saving_usd)
    return predictions


def _weighed(
    table: ArmTable, predictions: Predictions, slo: Slo, conditions: Conditions, input_tokens: int
) -> Floats:
    """What each arm's cost counts for, shape (a,)."""
    weighed = predictions.cost_usd
    if conditions.conversation is not None:
        weighed = weighed - staying_usd(table, conditions.conversation, input_tokens)
    if conditions.cost_multiplier != 1.0:
        weighed = weighed * conditions.cost_multiplier
    if slo.usd_per_kgco2e:
        weighed = weighed + emission_usd(table, predictions.energy_wh, slo.usd_per_kgco2e)
    return weighed


def _affordable(table: ArmTable, conditions: Conditions, input_tokens: int) -> Mask | None:
    if conditions.budget_left_usd is None:
        return None
    affordable: Mask = table.most_usd(input_tokens) <= conditions.budget_left_usd
    if not affordable.any():
        raise Infeasible(
            "the budget of this period is used up; raise it, or wait for the next period",
            reason="BUDGET_EXHAUSTED",
        )
    return affordable
