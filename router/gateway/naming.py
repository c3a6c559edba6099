"""What a client may say as `model`: "auto", "auto:<slo>", a model's name, or an arm's key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from router.errors import NotFound
from router.serving.state import State
from router.types import Arm, Strategy

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a name stands for: the arms that may be picked, all where there are none, or an slo."""

    arms: frozenset[str] = frozenset()
    slo: str = ""


def named(model: str, state: State) -> Named:
    """Reads a name.

    A model's is its single pass; where it has none, all its arms. Raises NotFound.
    """
    if model == AUTO:
        return Named()
    if model.startswith(f"{AUTO}:"):
        return Named(slo=model.removeprefix(f"{AUTO}:"))
    arms = {model} if model in state.arms else _arms(model, state)
    if arms:
        return Named(arms=frozenset(arms))
    raise NotFound(
        f"there is no model {model!r:.120} with an enabled arm; use 'auto', or one that "
        "GET /v1/models lists",
        reason="MODEL_NOT_FOUND",
    )


def _arms(model: str, state: State) -> set[str]:
    single = Arm(model=model, strategy=Strategy.SINGLE).key
    if single in state.arms:
        return {single}
    return {arm.key for arm in state.policy.arms if arm.model == model}


def listed(state: State, slos: Iterable[str]) -> list[dict[str, Any]]:
    """What may be named, in OpenAI's shape; arms' keys may be too, but are not listed."""
    automatic = [AUTO, *(f"{AUTO}:{slo}" for slo in sorted(slos))]
    with_arms = {arm.model for arm in state.policy.arms}
    return [
        *(_listed(name, "leadline") for name in automatic),
        *(_listed(name, "catalog") for name in sorted(with_arms)),
    ]


def _listed(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
