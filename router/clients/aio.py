"""The client that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import wraps
from inspect import isawaitable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import grpc
import grpc.aio

from router.clients import administration, calls, executing, replies, running
from router.clients.calls import Call, Query, RouteOptions
from router.clients.connection import OPTIONS, Connection, Tls
from router.clients.errors import error_of
from router.clients.executing import Answered, ExecuteOptions, ExecutionEvent
from router.clients.running import Attempt, Execute, Grade, Run
from router.clients.values import OutcomeReport, OutcomesSummary
from router.errors import Unavailable
from router.types import Arm
from router.v1.execution_pb2 import ExecuteResponse

T = TypeVar("T")
P = ParamSpec("P")


def _awaiting(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    """The method that makes the call and awaits its reply."""

    @wraps(build)
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.perform(build(*args, **kwargs))

    return method


class AsyncClient:
    """Calls a Leadline server from one event loop. A context manager that closes the connection.

    Without arguments it reads LEADLINE_ADDRESS and LEADLINE_API_KEY. Every call is tried
    again while the server is away, within `timeout_s` in all, and raises the
    LeadlineError that the server raised.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        api_key: str | None = None,
        tls: bool | Tls = False,
        timeout_s: float = 2.0,
    ) -> None:
        self._connection = Connection.of(
            address=address, api_key=api_key, tls=tls, timeout_s=timeout_s
        )
        target, credentials = self._connection.address, self._connection.credentials
        self._channel = (
            grpc.aio.insecure_channel(target, OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, OPTIONS)
        )
        self._methods: dict[str, Callable[..., Any]] = {}

    route = _awaiting(calls.route)
    route_batch = _awaiting(calls.route_batch)
    continue_ = _awaiting(calls.continue_)
    report_outcome = _awaiting(calls.report_outcome)
    get_decision = _awaiting(calls.get_decision)
    list_slos = _awaiting(administration.list_slos)
    get_slo = _awaiting(administration.get_slo)
    put_slo = _awaiting(administration.put_slo)
    dry_run_slo = _awaiting(administration.dry_run_slo)
    list_certificates = _awaiting(administration.list_certificates)
    get_certificate = _awaiting(administration.get_certificate)
    list_models = _awaiting(administration.list_models)
    put_model = _awaiting(administration.put_model)
    list_arms = _awaiting(administration.list_arms)
    put_arm = _awaiting(administration.put_arm)
    list_policies = _awaiting(administration.list_policies)
    get_policy = _awaiting(administration.get_policy)
    start_canary = _awaiting(administration.start_canary)
    reject_policy = _awaiting(administration.reject_policy)
    promote_policy = _awaiting(administration.promote_policy)
    rollback_policy = _awaiting(administration.rollback_policy)

    async def report_outcomes(self, outcomes: Iterable[OutcomeReport]) -> OutcomesSummary:
        """Reports many outcomes; the summary names those that were refused."""
        parts = calls.report_parts(outcomes)
        return replies.summary([(start, await self.perform(part)) for start, part in parts])

    async def run(
        self,
        query: Query,
        call: Callable[[Arm], Awaitable[T | Attempt[T]]],
        score: Callable[[T], float | Awaitable[float]] | None = None,
        *,
        source: str = "exact",
        **options: Unpack[RouteOptions],
    ) -> Run[T]:
        """Routes the query, runs `call` on the chosen arm, continues when asked, and reports.

        `call` answers with one arm and returns the answer, or an Attempt that also says
        its cost, tokens and confidence. `score` gives each answer a score in [0, 1] and
        `source` says where it comes from. What `call` or `score` raises is raised here.
        """
        steps = running.walk(
            query, options, scored=score is not None, source=source, clock=time.perf_counter
        )
        try:
            step = next(steps)
            while True:
                try:
                    result = await self._take(step, call, score)
                except Exception as error:  # noqa: BLE001 (the walk reports it and raises it)
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            run: Run[T] = end.value
            return run

    async def execute(
        self,
        query: Query,
        *,
        timeout_s: float = executing.TIMEOUT_S,
        **options: Unpack[ExecuteOptions],
    ) -> AsyncGenerator[ExecutionEvent, None]:
        """Has Leadline run the query; yields what happens, the answer last.

        Leaving early ends the calls that are under way. It is asked once: a run that was
        broken off may have cost something. Raises the error that the server raised.
        """
        request = executing.request(query, options)
        call = self._channel.unary_stream(
            executing.PATH, calls.serialize, ExecuteResponse.FromString
        )(request, timeout=timeout_s, metadata=self._connection.metadata)
        try:
            async for message in call:
                if (event := executing.event(message)) is not None:
                    yield event
        except grpc.RpcError as error:
            raise error_of(error, self._connection.address) from None
        finally:
            call.cancel()

    async def answer(
        self,
        query: Query,
        *,
        timeout_s: float = executing.TIMEOUT_S,
        **options: Unpack[ExecuteOptions],
    ) -> Answered:
        """Has Leadline run the query; the answer that is kept. Raises as `execute` does."""
        async with aclosing(self.execute(query, timeout_s=timeout_s, **options)) as events:
            async for event in events:
                if isinstance(event, Answered):
                    return event
        raise Unavailable("the server ended without an answer; try again")

    async def _take(self, step: running.Step, call: Callable[[Arm], Any], score: Any) -> Any:
        match step:
            case Execute(arm=arm):
                return await call(arm)
            case Grade(answer=answer):
                value = score(answer)
                return await value if isawaitable(value) else value
            case Call():
                return await self.perform(step)

    async def perform(self, call: Call[T]) -> T:
        """Sends a call, again while that is safe and time is left, and reads the reply."""
        patience = self._connection.patience(time.monotonic())
        while True:
            try:
                reply = await self._send(call, patience.left_s(time.monotonic()))
            except grpc.RpcError as error:
                await asyncio.sleep(patience.pause_s(error, time.monotonic()))
            else:
                return call.read(reply)

    async def _send(self, call: Call[Any], timeout_s: float) -> Any:
        method = self._methods.get(call.path)
        if method is None:
            kind = self._channel.stream_unary if call.streams else self._channel.unary_unary
            method = kind(call.path, calls.serialize, call.response.FromString)
            self._methods[call.path] = method
        return await method(call.sent(), timeout=timeout_s, metadata=self._connection.metadata)

    async def close(self) -> None:
        """Closes the connection; a second call does nothing."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._connection.address!r})"
