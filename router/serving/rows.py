"""Decisions as rows of their table: what is logged is what is said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, cast
from uuid import UUID

import numpy as np
import orjson

from router.explanation import Explanation
from router.serving.asked import Asked
from router.slo import Slo
from router.types import Arm, Decision, Floats, Predictions, read_param

FIGURES = tuple(Predictions.__slots__)
"""The arrays of `predictions`, in this order."""

_figures = attrgetter(*FIGURES)

Row = Mapping[str, Any]


def decision_row(
    decision: Decision,
    asked: Asked,
    tenant_id: UUID,
    keys: Sequence[str],
    others: Sequence[int],
    *,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    """The row of the decisions table.

    Predictions are kept as float32, half the bytes, and the reply is made of the same
    numbers. `others` are the indices of the alternatives, the next best first.
    """
    choice, arm, predictions = decision.choice, decision.arm, decision.predictions
    figures = np.concatenate(_figures(predictions), dtype=np.float32, casting="same_kind")
    return {
        "tenant_id": tenant_id,
        "decision_id": decision.decision_id,
        "occurred_at": decision.occurred_at,
        **_asked_columns(asked, decision.slo),
        "slo_name": decision.slo.name,
        "slo_version": decision.slo.version,
        "policy_version": decision.policy_version,
        "policy_source": decision.policy_source,
        "arm": arm.key,
        "model": arm.model,
        "strategy": arm.strategy,
        "params": arm.params,
        "input_tokens": decision.input_tokens,
        "propensity": choice.propensity,
        "explored": choice.explored,
        "difficulty": decision.difficulty,
        "slo_status": choice.slo_status,
        "reason": choice.reason,
        "should_continue": decision.should_continue,
        "feasible": choice.feasible.nonzero()[0].tolist(),
        "predictions": {
            "arms": keys,
            "alternatives": others,
            **dict(zip(FIGURES, figures.reshape(len(FIGURES), -1), strict=True)),
            "gco2e": decision.gco2e,
        },
        "conditions": decision.conditions.to_mapping() or None,
        "reasons": [reason.to_mapping() for reason in choice.reasons] or None,
        "novelty": decision.novelty,
        **({} if explanation is None else {"explanation": read(orjson.dumps(explanation))}),
    }


def _asked_columns(asked: Asked, slo: Slo) -> dict[str, Any]:
    """What was asked. Where no slo was set, the exploration that the settings ask stands here."""
    settings = {} if slo.version else {"exploration_rate": slo.exploration_rate}
    return {
        "request_id": asked.request_id,
        "body_digest": asked.digest.hex(),
        "query_id": query_id(asked.query.text),
        "query": asked.query.text,
        "dataset": None,
        "subject": asked.subject or None,
        "conversation_id": asked.conversation_id or None,
        "labels": asked.labels,
        "request": {**asked.request, **settings},
    }


def query_id(text: str) -> str:
    """The name of a query in the log: the same text, the same name."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def dump(row: Row) -> bytes:
    """The row as JSON; NaN is null."""
    return orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)


def read(row: bytes) -> dict[str, Any]:
    """A row that `dump` wrote."""
    return cast("dict[str, Any]", orjson.loads(row))


def alternatives(decision: Decision, value_usd: float | None, most: int = 3) -> list[int]:
    """Indices of the other feasible arms, the next best first.

    With a value of a correct answer, by value x accuracy - cost; without, the cheapest first.
    """
    choice, predictions = decision.choice, decision.predictions
    loss: Floats = predictions.cost_usd
    if value_usd is not None:
        loss = loss - value_usd * predictions.accuracy
    loss = np.where(choice.feasible, loss, np.inf)
    loss[choice.index] = np.inf
    order: list[int] = loss.argsort(kind="stable")[:most].tolist()
    return [index for index in order if loss[index] < np.inf]


def arm_of(key: str) -> Arm:
    """The arm that a key names. Raises ValueError for text that is none."""
    head, _, tail = key.partition("?")
    model, _, strategy = head.rpartition(":")
    if not model or not strategy:
        raise ValueError(f"{key!r:.120} is not of the form model:strategy?param=value")
    pairs = (pair.partition("=") for pair in tail.split("&")) if tail else ()
    return Arm(
        model=model, strategy=strategy, params={name: read_param(value) for name, _, value in pairs}
    )
