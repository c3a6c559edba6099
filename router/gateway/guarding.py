"""What stands around every path: admission, the caller, the body, errors, figures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter

from starlette.types import Receive, Scope, Send

from router.errors import InvalidInput, LeadlineError, OutboxFull
from router.gateway.body import Bodies, ClientGone
from router.gateway.hearing import while_there
from router.gateway.refusals import refusal
from router.gateway.replies import Reply
from router.serving.auth import Callers, require
from router.serving.edge import where
from router.serving.status import Unexpected
from router.serving.telemetry import Logger, Metrics
from router.types import Identity, Role

GONE = 499
"""What the figures call a request whose client went before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request that was read; `fault` logs an error that nobody foresaw."""

    caller: Identity
    headers: Mapping[str, str]
    path: Mapping[str, str]
    body: bytearray
    fault: Callable[[Exception], LeadlineError]


Handler = Callable[[Exchange, Send], Awaitable[int]]
"""Answers, and returns the status; an error that it raises has sent nothing."""


class Guard:
    """Stands around the handlers of one worker. At most `most` requests are under way."""

    def __init__(
        self, *, callers: Callers, metrics: Metrics, log: Logger, most: int, max_body_bytes: int
    ) -> None:
        self._callers, self._metrics, self._log, self._most = callers, metrics, log, most
        self._bodies = Bodies(max_body_bytes)
        self.under_way = 0

    def around(self, name: str, run: Handler) -> Guarded:
        """The handler of a path, guarded; `name` is what figures and logs call it."""
        return Guarded(self, name, run)

    def figures(self, name: str) -> tuple[Callable[[str], None], Callable[[float], None]]:
        """How to count and time a path's requests."""
        return self._metrics.of(name)

    def fault(self, name: str, error: Exception) -> Unexpected:
        """Logs an error that nobody foresaw, under the id that the client gets."""
        fault = Unexpected()
        self._log.error(
            "fault",
            method=name,
            fault_id=fault.fault_id,
            kind=type(error).__name__,
            where=where(error),
        )
        return fault

    async def exchange(self, name: str, scope: Scope, receive: Receive, run: Run) -> int:
        """Reads a request and has it answered."""
        headers = _headers(scope)
        if self.under_way >= self._most:
            self._metrics.overloaded.inc()
            raise OutboxFull(
                "too many requests are under way in this worker; try again", reason="OVERLOADED"
            )
        self.under_way += 1
        try:
            caller = await self._caller(scope)
            with self._bodies.room() as body:
                if scope["method"] == "POST":
                    _check_type(headers)
                    await body.read(receive, _declared(headers))
                exchange = Exchange(
                    caller=caller,
                    headers=headers,
                    path=scope.get("path_params", {}),
                    body=body.content,
                    fault=lambda error: self.fault(name, error),
                )
                return await run(exchange)
        finally:
            self.under_way -= 1

    async def _caller(self, scope: Scope) -> Identity:
        context = _Context(scope)
        caller = self._callers.known(context) or await self._callers.look_up(context)
        require(caller, Role.CALLER)
        return caller


Run = Callable[[Exchange], Awaitable[int]]


class Guarded:
    """One path as an ASGI application."""

    def __init__(self, guard: Guard, name: str, run: Handler) -> None:
        self._guard, self._name, self._handler = guard, name, run
        self._count, self._observe = guard.figures(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers every request, but for one whose client is gone."""
        started = perf_counter()
        try:
            status = await self._run(scope, receive, send)
        except ClientGone:
            status = GONE
        except LeadlineError as error:
            status = await self._refuse(error, send)
        except Exception as error:  # noqa: BLE001 (the log has it, the client its id)
            status = await self._refuse(self._guard.fault(self._name, error), send)
        self._count(str(status))
        self._observe(perf_counter() - started)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> int:
        async def run(exchange: Exchange) -> int:
            status = GONE

            async def work() -> None:
                nonlocal status
                status = await self._handler(exchange, send)

            await while_there(receive, work())
            return status

        return await self._guard.exchange(self._name, scope, receive, run)

    async def _refuse(self, error: LeadlineError, send: Send) -> int:
        refused = refusal(error)
        await Reply.refusing(refused).send(send)
        return refused.status


class _Context:
    """A request's headers as `Callers` read a call's metadata."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def invocation_metadata(self) -> Iterator[tuple[str, str]]:
        """Names and values."""
        for name, value in self._scope["headers"]:
            yield name.decode("latin-1"), value.decode("latin-1")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _check_type(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise InvalidInput(
            "the body must be JSON; send it with 'content-type: application/json'",
            reason="NOT_JSON",
        )


def _declared(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
