"""The gateway's paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from router.errors import LeadlineError
from router.execution.deciding import Decider
from router.execution.executor import Executes
from router.gateway.chat import Chat
from router.gateway.feedback import FeedbackPath
from router.gateway.guarding import Guard, Handler
from router.gateway.models import ModelsPath
from router.gateway.refusals import refusal
from router.gateway.replies import JSON, Reply
from router.gateway.streaming import PACE, Pace
from router.serving.auth import Callers
from router.serving.outcomes import Outcomes
from router.serving.state import Current
from router.serving.telemetry import Logger, Metrics
from router.serving.tenants import TenantDirectory
from router.settings import Settings
from router.types import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the gateway is made of; all belongs to one worker. `key` is secret."""

    executor: Executes
    decider: Callable[[Identity], Decider]
    current: Current
    tenants: TenantDirectory
    outcomes: Outcomes
    callers: Callers
    metrics: Metrics
    log: Logger
    key: bytes
    pace: Pace = PACE


def application(parts: Parts, settings: Settings) -> Router:
    """The ASGI application: the guard around each path does what middleware would."""
    guard = Guard(
        callers=parts.callers,
        metrics=parts.metrics,
        log=parts.log,
        most=settings.max_concurrency,
        max_body_bytes=settings.gateway_max_body_bytes,
    )
    chat = Chat(
        executor=parts.executor,
        decider=parts.decider,
        current=parts.current,
        key=parts.key,
        most_s=settings.execution_timeout_s,
        pace=parts.pace,
    )
    models = ModelsPath(parts.current, parts.tenants)

    def path(method: str, at: str, run: Handler) -> Route:
        return _Path(at, guard.around(f"{method} {at}", run), methods=[method])

    return Router(
        routes=[
            path("POST", "/v1/chat/completions", chat.answer),
            path("GET", "/v1/models", models.all),
            path("GET", "/v1/models/{name:path}", models.get),
            path("POST", "/v1/feedback", FeedbackPath(parts.outcomes).take),
            _Path("/healthz", _healthy, methods=["GET"]),
        ],
        default=_no_such_path,
    )


async def _healthy(_request: Request) -> Response:
    return Response(b'{"status":"serving"}', headers=JSON)


class _Path(Route):
    """A path that refuses other methods as all is refused."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers."""
        if scope["method"] in (self.methods or ()):
            await self.app(scope, receive, send)
        else:
            await _refusing("Method Not Allowed", "METHOD_NOT_ALLOWED").send(send)


async def _no_such_path(_scope: Scope, _receive: Receive, send: Send) -> None:
    await _refusing("Not Found", "NOT_FOUND").send(send)


def _refusing(what: str, reason: str) -> Reply:
    here = "here are POST /v1/chat/completions, GET /v1/models and POST /v1/feedback"
    return Reply.refusing(refusal(LeadlineError(f"{what}; {here}", reason=reason)))
