"""Logs and metrics of a worker. Neither ever holds a query's text."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal
from uuid import UUID

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from router.conditions import Backend, MonitorState, Promise
from router.policy.measured import Live
from router.types import Decision

LATENCY_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)
SLOW_CALL_S = 0.25
_Mode = Literal["livemax", "livemin", "livesum"]
FLOOR_STATES = (MonitorState.HOLDING, MonitorState.AT_RISK, MonitorState.BROKEN)

_LIVE: Mapping[str, tuple[str, _Mode]] = {
    "first_token_seconds": ("Recent time to a model's first token, median", "livemax"),
    "tokens_per_second": ("How fast a model has lately written, median", "livemin"),
    "failed_share": ("Share of a model's recent attempts that failed", "livemax"),
    "under_way": ("Decisions whose attempts have not been reported yet", "livesum"),
}

Logger = structlog.typing.FilteringBoundLogger


def configure_logs(level: str) -> None:
    """One JSON object a line on stderr."""
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.make_filtering_bound_logger(_number(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def lines(level: str) -> Logger:
    """A logger of such lines that leaves what others log as it is."""
    wrapper = structlog.make_filtering_bound_logger(_number(level))
    printer = structlog.PrintLogger(sys.stderr)
    bound: Logger = structlog.wrap_logger(printer, processors=_processors(), wrapper_class=wrapper)
    return bound


def _processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(serializer=_json),
    ]


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
        self.canary_version = Gauge(
            "leadline_canary_version",
            "Version of the policy that is tried beside the active one; 0 where none is",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.canary_share = Gauge(
            "leadline_canary_share",
            "The share of the traffic that the canary decides",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.canary_failures = Counter(
            "leadline_canary_failures",
            "Faults of a canary, each of which ended it in a worker until the next reload",
            registry=registry,
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
        self._live = {
            name: Gauge(
                f"leadline_backend_{name}",
                text,
                ("model",),
                registry=registry,
                multiprocess_mode=mode,
            )
            for name, (text, mode) in _LIVE.items()
        }
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
        self._floor_state = Gauge(
            "leadline_floor_state",
            "What outcomes say of an slo's accuracy floor: 0 holding, 1 at risk, 2 broken",
            ("tenant_id", "slo"),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._floor_certified = Gauge(
            "leadline_floor_certified",
            "1 while the newest certificate of the slo's version certifies its accuracy floor",
            ("tenant_id", "slo"),
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self._floors: dict[UUID, Mapping[str, Promise | None]] = {}
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

    def live(self, model: str, live: Live, under_way: int) -> None:
        """Shows what recent attempts of a model showed, and how many are under way."""
        figures = {
            "first_token_seconds": live.first_token_s,
            "tokens_per_second": live.tokens_per_s,
            "failed_share": live.failed_share,
            "under_way": under_way,
        }
        for name, value in figures.items():
            if value is not None:
                self._live[name].labels(model).set(value)

    def probed(self, model: str) -> None:
        """Counts a decision that was a probe."""
        self._probes.labels(model).inc()

    def budget(self, tenant_id: str, slo: str, period: str, *, spent: float, price: float) -> None:
        """Shows how far a budget is spent, and its price."""
        self._spent_share.labels(tenant_id, slo, period).set(spent)
        self._price.labels(tenant_id, slo, period).set(price)

    def floors(self, tenant_id: UUID, floors: Mapping[str, Promise | None]) -> None:
        """Shows what is promised of a tenant's floors, by slo; None is nothing as yet.

        An slo that has no floor any more shows NaN, since figures that several processes
        share cannot be removed.
        """
        for name in self._floors.get(tenant_id, {}).keys() - floors.keys():
            self._show_floor(tenant_id, name, state=math.nan, certified=math.nan)
        for name, promise in floors.items():
            state = MonitorState.HOLDING if promise is None else promise.monitor
            certified = promise is not None and promise.value_usd is not None
            self._show_floor(tenant_id, name, state=FLOOR_STATES.index(state), certified=certified)
        self._floors[tenant_id] = floors

    def _show_floor(self, tenant_id: UUID, slo: str, *, state: float, certified: float) -> None:
        self._floor_state.labels(str(tenant_id), slo).set(state)
        self._floor_certified.labels(str(tenant_id), slo).set(certified)

    def reloaded(self, result: str) -> None:
        """Counts a reload: done, refused or failed."""
        self._reloads.labels(result).inc()
