"""What a Route request asks, as values: parsed once, at the edge."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from router.errors import InvalidInput, NotFound
from router.serving.fields import clean, labels, optional, optional_uuid, short
from router.types import Bounds, Capability, Query
from router.v1.router_pb2 import Needs, RouteRequest

NO_BOUNDS, WILLING = Bounds(), Bounds(may_continue=True)
_NOTHING: frozenset[Capability] = frozenset()


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request to route. `request` is what the log keeps of it, to ask the same again.

    `explain` asks for an explanation beside the decision, which it does not change.
    """

    request_id: UUID | None
    digest: bytes
    query: Query
    slo_name: str
    bounds: Bounds
    subject: str
    conversation_id: str
    labels: Mapping[str, str]
    request: Mapping[str, Any]
    explain: bool


def asked(message: RouteRequest, *, arms: Collection[str], max_query_bytes: int) -> Asked:
    """Reads a request. Raises InvalidInput, or NotFound for arms that the catalog lacks."""
    text = clean(_text(message))
    _check_size(text, max_query_bytes)
    needs, context_tokens = _needs(message.needs) if message.HasField("needs") else (_NOTHING, 0)
    bounds = _bounds(message, arms)
    return Asked(
        request_id=optional_uuid(message.request_id, "request_id"),
        digest=hashlib.sha256(message.SerializeToString(deterministic=True)).digest(),
        query=Query(text=text, needs=needs, needs_context_tokens=context_tokens),
        slo_name=short(message.slo, "slo", 128),
        bounds=bounds,
        subject=short(message.subject, "subject", 256),
        conversation_id=short(message.conversation_id, "conversation_id", 256),
        labels=labels(message.labels) if message.labels else {},
        request=_kept(bounds, needs, context_tokens),
        explain=message.explain,
    )


def _text(message: RouteRequest) -> str:
    text = (
        "\n".join(f"{each.role}: {each.content}" for each in message.chat.messages if each.content)
        if message.WhichOneof("query") == "chat"
        else message.text
    )
    if not text or text.isspace():
        raise InvalidInput(
            "the query has no text; send text, or chat messages with content", reason="QUERY_EMPTY"
        )
    return text


def _check_size(text: str, most: int) -> None:
    if 4 * len(text) > most and (size := len(text.encode())) > most:
        raise InvalidInput(
            f"the query has {size:,} bytes, more than {most:,}; shorten it, "
            "or raise LEADLINE_MAX_QUERY_BYTES",
            reason="QUERY_TOO_LARGE",
        )


def _needs(needs: Needs) -> tuple[frozenset[Capability], int]:
    if needs.context_tokens < 0:
        raise InvalidInput(f"{needs.context_tokens} is negative", field="needs.context_tokens")
    named = frozenset(each for each in Capability if getattr(needs, each.value))
    return named, needs.context_tokens


def _bounds(message: RouteRequest, arms: Collection[str]) -> Bounds:
    allowed, excluded = message.allowed_arms, message.excluded_arms
    bounded = message.HasField("max_cost_usd") or message.HasField("max_latency_s")
    if not (allowed or excluded or bounded or message.compute_budget):
        return WILLING if message.may_continue else NO_BOUNDS
    return Bounds(
        max_cost_usd=optional(message, "max_cost_usd"),
        max_latency_s=optional(message, "max_latency_s"),
        compute_budget=message.compute_budget,
        allowed_arms=_named("allowed_arms", allowed, arms),
        excluded_arms=_named("excluded_arms", excluded, arms),
        may_continue=message.may_continue,
    )


def _named(field: str, keys: Collection[str], arms: Collection[str]) -> frozenset[str]:
    for key in keys:
        if key not in arms:
            raise NotFound(
                f"{field}: the catalog has no enabled arm {key!r:.120}; "
                "list them with 'leadline arms list'",
                reason="ARM_NOT_FOUND",
            )
    return frozenset(keys)


def _kept(bounds: Bounds, needs: frozenset[Capability], context_tokens: int) -> Mapping[str, Any]:
    if bounds is NO_BOUNDS and not needs and not context_tokens:
        return {}
    kept = {
        "max_cost_usd": bounds.max_cost_usd,
        "max_latency_s": bounds.max_latency_s,
        "compute_budget": bounds.compute_budget,
        "allowed_arms": sorted(bounds.allowed_arms),
        "excluded_arms": sorted(bounds.excluded_arms),
        "may_continue": bounds.may_continue,
        "needs": sorted(needs),
        "needs_context_tokens": context_tokens,
    }
    return {name: value for name, value in kept.items() if value}
