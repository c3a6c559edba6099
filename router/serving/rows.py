"""Decisions as rows of their table, and rows as replies: what was logged is what was said."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from operator import attrgetter
from typing import Any, cast
from uuid import UUID

import numpy as np
import orjson
from google.protobuf.json_format import ParseDict

from router.conditions import Reason
from router.explanation import Explanation
from router.serving.asked import Asked
from router.slo import Slo
from router.types import Arm, Decision, Floats, Predictions, read_param
from router.v1 import catalog_pb2, router_pb2

FIGURES = tuple(Predictions.__slots__)
"""The arrays of `predictions`, in this order."""

_figures = attrgetter(*FIGURES)

_STATUS = {
    "met": router_pb2.SLO_STATUS_MET,
    "best_effort": router_pb2.SLO_STATUS_BEST_EFFORT,
    "no_slo": router_pb2.SLO_STATUS_NO_SLO,
}
_SOURCE = {
    "learned": router_pb2.POLICY_SOURCE_LEARNED,
    "static": router_pb2.POLICY_SOURCE_STATIC,
    "import": router_pb2.POLICY_SOURCE_IMPORT,
}

ArmMessages = Mapping[str, catalog_pb2.Arm]
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
        "reasons": [plain_reason(reason) for reason in choice.reasons] or None,
        "novelty": decision.novelty,
        **({} if explanation is None else {"explanation": read(orjson.dumps(explanation))}),
    }


def plain_reason(reason: Reason) -> dict[str, Any]:
    """What a reason says, without what it leaves unsaid."""
    said = asdict(reason)
    return {name: value for name, value in said.items() if value or name == "limit"}


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


def reply(row: Row, arms: ArmMessages) -> router_pb2.RouteResponse:
    """The reply that a decision's row stands for.

    `arms` are the messages of the catalog's arms; an arm that has left it is read off its key.
    Imported history has no predictions.
    """
    predicted = row["predictions"] or {"arms": [row["arm"]], "alternatives": []}
    picked = [predicted["arms"].index(row["arm"]), *predicted["alternatives"]]
    chosen, *others = predictions(predicted, picked, arms)
    explained, conditions = row.get("explanation"), row.get("conditions") or {}
    promise = conditions.get("promise", {})
    return router_pb2.RouteResponse(
        decision_id=str(row["decision_id"]),
        chosen=chosen,
        difficulty=row["difficulty"],
        propensity=row["propensity"],
        alternatives=others,
        slo_status=_STATUS.get(row["slo_status"], router_pb2.SLO_STATUS_UNSPECIFIED),
        reason=row["reason"],
        policy_version=row["policy_version"],
        policy_source=_SOURCE[row["policy_source"]],
        should_continue=row["should_continue"],
        slo_version=row["slo_version"],
        input_tokens=row["input_tokens"],
        explanation=ParseDict(explained, router_pb2.Explanation()) if explained else None,
        certificate_id=promise.get("certificate_id", ""),
        monitor=promise.get("monitor", ""),
        novelty=row.get("novelty"),
        reasons=[router_pb2.Reason(**reason) for reason in row.get("reasons") or ()],
        gco2e=predicted.get("gco2e", 0.0),
    )


def predictions(
    predicted: Mapping[str, Any], picked: Sequence[int], arms: ArmMessages
) -> list[router_pb2.Prediction]:
    """The messages of the arms at these places of a row's predictions."""
    keys: Sequence[str] = predicted["arms"]
    unknown = [None] * len(keys)
    table = np.array([predicted.get(name, unknown) for name in FIGURES], np.float32)
    columns = table[:, picked].T.tolist()
    return [
        _prediction(arms.get(keys[index]) or arm_message(arm_of(keys[index])), figures)
        for index, figures in zip(picked, columns, strict=True)
    ]


def _prediction(arm: catalog_pb2.Arm, figures: Sequence[float]) -> router_pb2.Prediction:
    """`figures` are one arm's, as FIGURES orders them; NaN, which nobody knows, stays unset."""
    accuracy, low, high, cost_usd, p50_s, p95_s, p99_s, _output_tokens, energy_wh = figures
    return router_pb2.Prediction(
        arm=arm,
        accuracy=0.0 if isnan(accuracy) else accuracy,
        accuracy_low=0.0 if isnan(low) else low,
        accuracy_high=0.0 if isnan(high) else high,
        cost_usd=0.0 if isnan(cost_usd) else cost_usd,
        latency_p50_s=None if isnan(p50_s) else p50_s,
        latency_p95_s=None if isnan(p95_s) else p95_s,
        latency_p99_s=None if isnan(p99_s) else p99_s,
        energy_wh=0.0 if isnan(energy_wh) else energy_wh,
    )


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


def arm_message(arm: Arm) -> catalog_pb2.Arm:
    """The arm on the wire."""
    message = catalog_pb2.Arm(model=arm.model, strategy=str(arm.strategy), key=arm.key)
    message.params.update(dict(arm.params))
    return message


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
