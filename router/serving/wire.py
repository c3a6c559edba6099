"""The service Router on the wire: requests to values, rows to replies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from router.clients.values import OutcomeReport
from router.serving import fields
from router.serving.asked import NO_BOUNDS, NO_NEEDS, WILLING, Asked, asked
from router.serving.rows import FIGURES, Row, arm_of
from router.types import Arm, Bounds, Capability, Evidence
from router.v1 import catalog_pb2, router_pb2

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

_FIGURES_OF_OUTCOMES = (
    *("score", "cost_usd", "input_tokens", "output_tokens", "latency_s"),
    *("confidence", "time_to_first_token_s"),
)

ArmMessages = Mapping[str, catalog_pb2.Arm]


def question(message: router_pb2.RouteRequest) -> Asked:
    """Reads a request; its digest is that of its bytes. Raises InvalidInput."""
    needs, context_tokens = _needs(message.needs) if message.HasField("needs") else (NO_NEEDS, 0)
    return asked(
        _text(message),
        request_id=message.request_id,
        slo=message.slo,
        subject=message.subject,
        conversation_id=message.conversation_id,
        labelled=message.labels,
        bounds=_bounds(message),
        needs=needs,
        context_tokens=context_tokens,
        explain=message.explain,
        digest=digest(message),
    )


def _text(message: router_pb2.RouteRequest) -> str:
    if message.WhichOneof("query") != "chat":
        return message.text
    given = message.chat.messages
    return "\n".join(f"{each.role}: {each.content}" for each in given if each.content)


def _needs(needs: router_pb2.Needs) -> tuple[frozenset[Capability], int]:
    named = frozenset(each for each in Capability if getattr(needs, each.value))
    return named, needs.context_tokens


def _bounds(message: router_pb2.RouteRequest) -> Bounds:
    allowed, excluded = message.allowed_arms, message.excluded_arms
    bounded = message.HasField("max_cost_usd") or message.HasField("max_latency_s")
    if not (allowed or excluded or bounded or message.compute_budget):
        return WILLING if message.may_continue else NO_BOUNDS
    return Bounds(
        max_cost_usd=fields.optional(message, "max_cost_usd"),
        max_latency_s=fields.optional(message, "max_latency_s"),
        compute_budget=message.compute_budget,
        allowed_arms=frozenset(allowed),
        excluded_arms=frozenset(excluded),
        may_continue=message.may_continue,
    )


def evidence(message: router_pb2.Evidence) -> Evidence:
    """What an attempt showed."""
    return Evidence(**{name: fields.optional(message, name) for name in Evidence.__slots__})


def outcome(message: router_pb2.ReportOutcomeRequest) -> OutcomeReport:
    """What became of an attempt. Raises InvalidInput."""
    said = {name: fields.optional(message, name) for name in _FIGURES_OF_OUTCOMES}
    return OutcomeReport(
        request_id=fields.optional_uuid(message.request_id, "request_id"),
        decision_id=fields.uuid(message.decision_id, "decision_id"),
        attempt=message.attempt,
        source=message.source,
        error=message.error,
        occurred_at=fields.time(message, "occurred_at"),
        **said,
    )


def digest(message: Message) -> bytes:
    """What tells a message from all others."""
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


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


def continued(row: Row, arms: ArmMessages) -> router_pb2.ContinueResponse:
    """The reply that an attempt's row stands for."""
    key, shown = row["next_arm"], row["evidence"]
    message = router_pb2.ContinueResponse(
        keep=row["keep"],
        attempt=shown["best"] if key is None else row["attempt"] + 1,
        accuracy=row["accuracy"],
        reason=row["reason"],
    )
    if key is not None:
        predicted = {name: [value] for name, value in shown["next"].items()}
        message.next.CopyFrom(predictions({"arms": [key], **predicted}, [0], arms)[0])
    return message


def arm_message(arm: Arm) -> catalog_pb2.Arm:
    """The arm on the wire."""
    message = catalog_pb2.Arm(model=arm.model, strategy=str(arm.strategy), key=arm.key)
    message.params.update(dict(arm.params))
    return message
