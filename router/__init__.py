"""Leadline: chooses the cheapest model and strategy that is good enough for each query.

The names below are loaded when they are first asked for: `import router.v1.router_pb2`
costs protobuf alone, and the command starts before NumPy does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.clients import AsyncClient, Attempt, Client, OutcomeReport
    from router.errors import LeadlineError
    from router.offline import Policy
    from router.slo import Slo
    from router.types import Arm, Bounds, Model

_HOMES = {
    "Arm": "router.types",
    "AsyncClient": "router.clients",
    "Attempt": "router.clients",
    "Bounds": "router.types",
    "Client": "router.clients",
    "LeadlineError": "router.errors",
    "Model": "router.types",
    "OutcomeReport": "router.clients",
    "Policy": "router.offline",
    "Slo": "router.slo",
}

__all__ = [
    "Arm",
    "AsyncClient",
    "Attempt",
    "Bounds",
    "Client",
    "LeadlineError",
    "Model",
    "OutcomeReport",
    "Policy",
    "Slo",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
