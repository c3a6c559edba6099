"""A policy: all that decides, bound to one revision of the catalog. Immutable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from router.conditions import PLAIN, Conditions
from router.policy.embedding import Embedder
from router.policy.evidence import EvidenceModel
from router.policy.fallback import StaticPredictor, estimate_tokens
from router.policy.features import Context, FeatureSpec
from router.policy.planning import Continuation
from router.policy.predictor import Booster, LearnedPredictor, Predicted, Predictor
from router.policy.sampling import SamplingModel
from router.policy.table import ArmTable
from router.policy.tradeoff import CONTINUED, Tradeoff
from router.policy.worth import Worth, worth
from router.slo import Slo
from router.types import Arm, Bounds, Catalog, Floats, PolicySource, Strategy

__all__ = ["Learned", "Policy", "Predicted", "Reader", "static_policy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads a query into its context, the same way in training and serving."""

    features: FeatureSpec
    embedder: Embedder

    def read(self, texts: Sequence[str]) -> list[Context]:
        """The contexts of some queries."""
        return self.features.contexts(texts, self.embedder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a decision needs; a request takes one and sees no other.

    The static policy has no reader, no trade-off and cannot plan continuation. `sampling` is
    there where the log had samples; `mean_accuracy` is that of each trained arm by key.
    """

    version: int
    source: PolicySource
    table: ArmTable
    predictor: Predictor
    single_pass: tuple[int, ...]
    reader: Reader | None = None
    tradeoff: Tradeoff | None = None
    continuation: Continuation | None = None
    sampling: SamplingModel | None = None
    mean_accuracy: Mapping[str, float] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms, in the order of every array."""
        return self.table.arms

    @property
    def informing(self) -> Continuation | None:
        """The continuation, where any attempt shows anything to go by."""
        continuation = self.continuation
        return continuation if continuation is not None and continuation.informs else None

    def planning(self, bounds: Bounds) -> Continuation | None:
        """The continuation by which the first attempt is planned; None plans for one alone."""
        return self.informing if bounds.may_continue else None

    def predict(self, texts: Sequence[str]) -> list[Predicted]:
        """What it makes of some queries' texts; at least one.

        Together they cost less than one by one, and come out the same bit for bit.
        """
        contexts = self.reader.read(texts) if self.reader else [_estimated(text) for text in texts]
        return self.predictor.predict(contexts)

    def aim(
        self,
        slo: Slo,
        bounds: Bounds,
        conditions: Conditions = PLAIN,
        novelty: float | None = None,
    ) -> Worth:
        """What a decision is after, on the curve that fits how the caller uses the policy."""
        continuation = self.planning(bounds)
        tradeoff = self.tradeoff if continuation is None else continuation.tradeoff
        return worth(slo, tradeoff, conditions.promise, self.mean_accuracy, novelty)

    def difficulty(self, accuracy: Floats, cost_usd: Floats) -> float:
        """1 - predicted accuracy of the cheapest single-pass arm (of all, if there is none)."""
        arms = self.single_pass or tuple(range(len(self.arms)))
        cheapest = min(arms, key=lambda arm: cost_usd[arm])
        return float(1.0 - accuracy[cheapest])


def _estimated(text: str) -> Context:
    return Context(
        values=np.empty(0), words=np.empty(0, np.intp), input_tokens=estimate_tokens(text)
    )


def static_policy(catalog: Catalog) -> Policy:
    """The fallback that needs no model; version 0."""
    return Policy(
        version=0,
        source=PolicySource.STATIC,
        table=ArmTable(catalog),
        predictor=StaticPredictor(catalog),
        single_pass=_single_pass(catalog),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a verified bundle holds, before it is bound to a catalog."""

    booster: Booster
    trained_arms: Sequence[Arm]
    arrays: Mapping[str, Floats]
    reader: Reader

    def bind(self, catalog: Catalog, version: int) -> Policy:
        """The policy for the catalog's arms. Raises KeyError when an array is missing.

        For a catalog without arms, which decides nothing, it is the static one.
        """
        if not catalog.arms:
            return static_policy(catalog)
        evidence = EvidenceModel.from_mapping(self.arrays)
        predictor = LearnedPredictor(
            booster=self.booster,
            arrays=self.arrays,
            trained_arms=self.trained_arms,
            catalog=catalog,
        )
        return Policy(
            version=version,
            source=PolicySource.LEARNED,
            table=ArmTable(catalog),
            predictor=predictor,
            single_pass=_single_pass(catalog),
            reader=self.reader,
            tradeoff=Tradeoff.from_mapping(self.arrays),
            continuation=Continuation(
                evidence.bind(self.trained_arms, catalog.arms),
                Tradeoff.from_mapping(self.arrays, CONTINUED),
            ),
            sampling=SamplingModel.from_mapping(self.arrays),
            mean_accuracy=predictor.mean_accuracy,
        )


def _single_pass(catalog: Catalog) -> tuple[int, ...]:
    return tuple(index for index, arm in enumerate(catalog.arms) if arm.strategy == Strategy.SINGLE)
