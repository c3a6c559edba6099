"""Logs and metrics of a worker. Neither ever holds a query's text."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.conditions import Backend
from router.types import Decision

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
SLOW_CALL_S = 0.25

Logger = structlog.typing.FilteringBoundLogger


def configure_logs(level: str) -> None:
    """One JSON object a line on stderr."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(**fields: Any) -> Logger:
    """A logger whose lines carry the fields."""
    bound: Logger = structlog.get_logger(**fields)
    return bound


def _json(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _number(level: str) -> int:
    return logging.getLevelNamesMapping().get(level.upper(), logging.INFO)


class Metrics:
    """The worker's figures; children are bound once, since labels cost more than counting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "leadline_requests", "Calls that ended", ("method", "code"), registry=registry
        )
        self._seconds = Histogram(
            "leadline_request_seconds",
            "Time from the request to the reply",
            ("method",),
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._decisions = Counter(
            "leadline_decisions",
            "Decisions made",
            ("arm", "policy_version", "slo_status"),
            registry=registry,
        )
        self._reloads = Counter(
            "leadline_reloads", "Reloads of configuration", ("result",), registry=registry
        )
        self.overloaded = Counter(
            "leadline_overloaded",
            "Calls refused because too many were under way",
            registry=registry,
        )
        self.refused_bundles = Counter(
            "leadline_refused_bundles", "Policy bundles that were refused", registry=registry
        )
        self.policy_version = Gauge(
            "leadline_policy_version",
            "Version of the policy that serves; 0 is the static one",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._slowdown = Gauge(
            "leadline_backend_slowdown",
            "Recent latency of a model over what is predicted",
            ("model",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._available = Gauge(
            "leadline_backend_available",
            "1 while a model may be chosen, 0 while it fails",
            ("model",),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._probes = Counter(
            "leadline_backend_probes",
            "Decisions that took a model in trouble, to see how it does",
            ("model",),
            registry=registry,
        )
        self._spent_share = Gauge(
            "leadline_budget_spent_share",
            "What all workers have spent of the current period's budget",
            ("tenant_id", "slo", "period"),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._price = Gauge(
            "leadline_budget_price",
            "What a dollar of the budget is worth on top of itself, so that it lasts its period",
            ("tenant_id", "slo", "period"),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._by_decision: dict[tuple[str, int, str], Counter] = {}

    def of(self, method: str) -> tuple[Callable[[str], None], Callable[[float], None]]:
        """How to count a method's ended calls by code, and to observe their seconds."""
        children: dict[str, Counter] = {}

        def count(code: str) -> None:
            if code not in children:
                children[code] = self._requests.labels(method, code)
            children[code].inc()

        return count, self._seconds.labels(method).observe

    def decided(self, decision: Decision) -> None:
        """Counts a decision by arm, policy and slo status."""
        status = decision.choice.slo_status.value
        place = (decision.arm.key, decision.policy_version, status)
        child = self._by_decision.get(place)
        if child is None:
            child = self._decisions.labels(place[0], str(place[1]), status)
            self._by_decision[place] = child
        child.inc()

    def backend(self, model: str, backend: Backend) -> None:
        """Shows how a model's backend does now."""
        self._slowdown.labels(model).set(backend.slowdown)
        self._available.labels(model).set(backend.available)

    def probed(self, model: str) -> None:
        """Counts a decision that was a probe."""
        self._probes.labels(model).inc()

    def budget(self, tenant_id: str, slo: str, period: str, *, spent: float, price: float) -> None:
        """Shows how far a budget is spent, and its price."""
        self._spent_share.labels(tenant_id, slo, period).set(spent)
        self._price.labels(tenant_id, slo, period).set(price)

    def reloaded(self, result: str) -> None:
        """Counts a reload: done, refused or failed."""
        self._reloads.labels(result).inc()
