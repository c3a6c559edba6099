"""What a request to route asks, as values: checked the same by whichever door it came."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from router.errors import InvalidInput, NotFound
from router.serving.fields import clean, labels, optional_uuid, short
from router.types import Bounds, Capability, Query

NO_BOUNDS, WILLING = Bounds(), Bounds(may_continue=True)
NO_NEEDS: frozenset[Capability] = frozenset()


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request to route. `request` is what the log keeps of it, to ask the same again.

    `explain` asks for an explanation beside the decision, which it does not change. The same
    request has the same `digest`, and no other one.
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


def asked(
    text: str,
    *,
    request_id: str = "",
    slo: str = "",
    subject: str = "",
    conversation_id: str = "",
    labelled: Mapping[str, str] | None = None,
    bounds: Bounds = NO_BOUNDS,
    needs: frozenset[Capability] = NO_NEEDS,
    context_tokens: int = 0,
    explain: bool = False,
    digest: bytes | None = None,
) -> Asked:
    """What was said, checked; the digest is of all that, unless one is given.

    Raises InvalidInput. What a worker's state and settings have to say is left to `check`.
    """
    _check_said(text, context_tokens)
    kept = _kept(bounds, needs, context_tokens)
    said = (text, request_id, slo, subject, conversation_id, labelled, kept, explain)
    return Asked(
        request_id=optional_uuid(request_id, "request_id"),
        digest=digest or _digest(said),
        query=Query(text=clean(text), needs=needs, needs_context_tokens=context_tokens),
        slo_name=short(slo, "slo", 128),
        bounds=bounds,
        subject=short(subject, "subject", 256),
        conversation_id=short(conversation_id, "conversation_id", 256),
        labels=labels(labelled) if labelled else {},
        request=kept,
        explain=explain,
    )


def _check_said(text: str, context_tokens: int) -> None:
    if not text or text.isspace():
        raise InvalidInput(
            "the query has no text; send text, or chat messages with content", reason="QUERY_EMPTY"
        )
    if context_tokens < 0:
        raise InvalidInput(f"{context_tokens} is negative", field="needs.context_tokens")


def _digest(said: tuple[Any, ...]) -> bytes:
    told = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(told, digest_size=32).digest()


def check(question: Asked, *, arms: Collection[str], max_query_bytes: int) -> None:
    """Raises InvalidInput for too large a query, and NotFound for arms that the catalog lacks."""
    _check_size(question.query.text, max_query_bytes)
    _check_arms("allowed_arms", question.bounds.allowed_arms, arms)
    _check_arms("excluded_arms", question.bounds.excluded_arms, arms)


def _check_size(text: str, most: int) -> None:
    if 4 * len(text) > most and (size := len(text.encode())) > most:
        raise InvalidInput(
            f"the query has {size:,} bytes, more than {most:,}; shorten it, "
            "or raise LEADLINE_MAX_QUERY_BYTES",
            reason="QUERY_TOO_LARGE",
        )


def _check_arms(field: str, keys: Collection[str], arms: Collection[str]) -> None:
    for key in keys:
        if key not in arms:
            raise NotFound(
                f"{field}: the catalog has no enabled arm {key!r:.120}; "
                "list them with 'leadline arms list'",
                reason="ARM_NOT_FOUND",
            )


def _kept(bounds: Bounds, needs: frozenset[Capability], context_tokens: int) -> Mapping[str, Any]:
    if not needs and not context_tokens and bounds == NO_BOUNDS:
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
