"""Queries that are decided together get the decisions that each would get alone."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from router import pipeline
from router.conditions import Conditions
from router.errors import Infeasible
from router.pipeline import Case
from router.policy.evidence import EvidenceModel
from router.policy.features import Context
from router.policy.planning import Continuation
from router.policy.policy import Predicted
from router.slo import Slo
from router.types import Bounds, Capability, Decision, Query
from tests.kit.laws import CURVE, NOW, POLICY, random_predictions
from tests.kit.policies import some_conditions, some_slos

_ARMS = len(POLICY.arms)
EVIDENCE = EvidenceModel(
    knots=np.tile(np.linspace(-2.0, 1.0, 5), (_ARMS, 1)),
    scores=np.tile(np.linspace(-2.0, 2.0, 5), (_ARMS, 1)),
    expected=np.zeros((_ARMS, 2)),
    spread=np.ones(_ARMS),
    transfer=np.where(np.arange(_ARMS)[:, None] % 3, 0.2 + 0.4 * np.eye(_ARMS), 0.0),
    likeness=0.3 + 0.7 * np.eye(_ARMS),
)
CONTINUING = replace(POLICY, continuation=Continuation(EVIDENCE, CURVE))


def some_cases() -> st.SearchStrategy[Case]:
    """Queries of any length and novelty, some of which need more than most models have."""
    return st.builds(
        _case,
        st.integers(0, 10_000),
        tokens=st.sampled_from([5, 5, 5, 9_000, 50_000]),
        novelty=st.sampled_from([None, 0.5, 0.9, 0.999]),
        needs=st.sampled_from([frozenset[Capability](), frozenset({Capability.TOOLS})]),
    )


def _case(seed: int, *, tokens: int, novelty: float | None, needs: frozenset[Capability]) -> Case:
    context = Context(values=np.empty(0), words=np.empty(0, np.intp), input_tokens=tokens)
    return Case(
        decision_id=UUID(int=seed << 64),
        now=NOW,
        query=Query(text="2 + 2?", needs=needs),
        predicted=Predicted(context=context, predictions=random_predictions(seed), novelty=novelty),
    )


def _plain(decided: Decision | Infeasible) -> Any:
    if isinstance(decided, Infeasible):
        return decided.message
    return orjson.dumps(asdict(decided), option=orjson.OPT_SERIALIZE_NUMPY)


def _alone(case: Case, slo: Slo, bounds: Bounds, conditions: Conditions) -> Any:
    try:
        return _plain(
            pipeline.decide(
                CONTINUING,
                case.query,
                slo,
                bounds,
                decision_id=case.decision_id,
                now=case.now,
                predicted=case.predicted,
                conditions=conditions,
            )
        )
    except Infeasible as error:
        return error.message


@settings(max_examples=60, deadline=None)
@given(
    st.lists(some_cases(), min_size=1, max_size=9),
    some_slos(),
    st.just(Conditions()) | some_conditions(),
    st.booleans(),
)
def test_queries_together_are_decided_as_one_by_one_bit_for_bit(
    cases: list[Case], slo: Slo, conditions: Conditions, willing: bool
) -> None:
    bounds = Bounds(may_continue=willing)
    together = pipeline.decide_many(CONTINUING, cases, slo, bounds, conditions=conditions)
    assert list(map(_plain, together)) == [_alone(case, slo, bounds, conditions) for case in cases]
