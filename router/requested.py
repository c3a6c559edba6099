"""What a logged decision was asked, as values again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.types import Bounds, Capability, Query


def again(row: Mapping[str, Any]) -> tuple[Query, Bounds]:
    """The query and the bounds of a logged decision; `Conditions` reads its own column."""
    kept = row["request"] or {}
    query = Query(
        text=row["query"] or "",
        input_tokens=row["input_tokens"] or 0,
        needs=frozenset(map(Capability, kept.get("needs", ()))),
        needs_context_tokens=kept.get("needs_context_tokens", 0),
    )
    bounds = Bounds(
        max_cost_usd=kept.get("max_cost_usd"),
        max_latency_s=kept.get("max_latency_s"),
        compute_budget=kept.get("compute_budget", 0),
        allowed_arms=frozenset(kept.get("allowed_arms", ())),
        excluded_arms=frozenset(kept.get("excluded_arms", ())),
        may_continue=kept.get("may_continue", False),
    )
    return query, bounds
