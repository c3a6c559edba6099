"""What stands around every method: admission, the caller, the message, errors, figures.

A method is `async def (request, call) -> response`; here it becomes a gRPC handler over
raw bytes, without interceptors, since each of those costs more than all of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from router.errors import InvalidInput, LeadlineError, OutboxFull
from router.serving.auth import ROLES, Callers, require
from router.serving.status import Unexpected, code_of, status_of
from router.serving.telemetry import SLOW_CALL_S, Logger, Metrics
from router.serving.tracing import Tracer
from router.types import Identity, Role

Context = Any
Handler = Callable[[Any, Context], Awaitable[bytes]]
Method = Callable[[Any, Identity], Awaitable[Message]]
Answers = Callable[[Any, Identity, float | None], AsyncGenerator[Message, None]]
"""A method that answers with a stream, within so many seconds, None for no deadline."""

M = TypeVar("M", bound=Message)

ASK_AGAIN_MESSAGES = 64
ASK_AGAIN_S = 1.0
"""How long a stream goes on before its caller is asked for again, whichever is first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method: its full name, its request, what runs it.

    Its requests stream where it `streams`; its responses where `answers` runs it instead.
    """

    name: str
    request: type[Message]
    run: Method | None = None
    streams: bool = False
    answers: Answers | None = None


class Servicer(Protocol):
    """Some methods of one service."""

    def rpcs(self) -> list[Rpc]:
        """The methods."""


class Places:
    """The places for calls under way, which a call has until its task ends."""

    def __init__(self, most: int) -> None:
        self._most, self.taken = most, 0

    def take(self) -> bool:
        """Whether there was one for the call whose task this runs in."""
        if self.taken >= self._most:
            return False
        self.taken += 1
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(self._give_back)
        return True

    def _give_back(self, _task: object) -> None:
        self.taken -= 1


class Edge(grpc.GenericRpcHandler):
    """Serves methods. At most `most` calls are under way; the rest are refused at once.

    Calls whose answers stream last for as long as models write, so they have as many places
    of their own and take none of those of decisions.
    """

    def __init__(
        self,
        rpcs: list[Rpc],
        *,
        callers: Callers,
        metrics: Metrics,
        log: Logger,
        most: int,
        tracer: Tracer | None = None,
    ) -> None:
        self._callers, self._metrics, self._log, self._tracer = callers, metrics, log, tracer
        self.places, self.lasting = Places(most), Places(most)
        self._handlers = {rpc.name: self._handler(rpc) for rpc in rpcs}
        self._overloaded: Mapping[tuple[bool, bool], Any] = {
            (False, False): grpc.unary_unary_rpc_method_handler(_refuse_overload),
            (True, False): grpc.stream_unary_rpc_method_handler(_refuse_overload),
            (False, True): grpc.unary_stream_rpc_method_handler(_refuse_overload),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Admits a call; runs in the call's own task."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            return None
        places = self.lasting if handler.response_streaming else self.places
        if places.take():
            return handler
        self._metrics.overloaded.inc()
        return self._overloaded[handler.request_streaming, handler.response_streaming]

    def _handler(self, rpc: Rpc) -> Any:
        run = self._guarded(rpc) if rpc.answers is None else self._answering(rpc, rpc.answers)
        if self._tracer is not None:
            run = self._tracer.traced(rpc.name, run)
        if rpc.answers is not None:
            return grpc.unary_stream_rpc_method_handler(run)
        if rpc.streams:
            return grpc.stream_unary_rpc_method_handler(run)
        return grpc.unary_unary_rpc_method_handler(run)

    def _guarded(self, rpc: Rpc) -> Handler:
        """The method with all that stands around it; the path of every call."""
        known, role, run = self._callers.known, ROLES[rpc.name], _run(rpc)
        read: Callable[[Any], Any] = _stream(rpc.request) if rpc.streams else parser(rpc.request)
        count, observe = self._metrics.of(rpc.name)

        async def handle(body: Any, context: Context) -> bytes:
            started = perf_counter()
            try:
                _check_deadline(context)
                caller = known(context) or await self._callers.look_up(context)
                require(caller, role)
                if rpc.streams:
                    body = self._while_known(body, context, role)
                reply = (await run(read(body), caller)).SerializeToString()
            except Exception as error:  # noqa: BLE001 (the log has it, the caller its id)
                return await self._refuse(rpc.name, error, context, count, started)
            seconds = perf_counter() - started
            count("OK")
            observe(seconds)
            if seconds > SLOW_CALL_S and not rpc.streams:
                self._log.warning(
                    "slow call", method=rpc.name, tenant=caller.tenant, seconds=seconds
                )
            return reply

        return handle

    def _answering(self, rpc: Rpc, answers: Answers) -> Handler:
        """The method that answers with a stream; whoever leaves it ends what it does."""
        known, role, parse = self._callers.known, ROLES[rpc.name], parser(rpc.request)
        count, observe = self._metrics.of(rpc.name)

        async def handle(body: Any, context: Context) -> bytes:
            started = perf_counter()
            try:
                _check_deadline(context)
                caller = known(context) or await self._callers.look_up(context)
                require(caller, role)
                async with aclosing(
                    answers(parse(body), caller, context.time_remaining())
                ) as replies:
                    async for reply in replies:
                        await context.write(reply.SerializeToString())
            except Exception as error:  # noqa: BLE001 (the log has it, the caller its id)
                return await self._refuse(rpc.name, error, context, count, started)
            count("OK")
            observe(perf_counter() - started)
            return b""

        return handle

    async def _while_known(
        self, bodies: AsyncIterator[bytes], context: Context, role: Role
    ) -> AsyncIterator[bytes]:
        """The stream, for as long as its caller is one; asks again every so often."""
        asked, since = perf_counter(), 0
        async for body in bodies:
            since += 1
            if since >= ASK_AGAIN_MESSAGES or perf_counter() - asked > ASK_AGAIN_S:
                caller = self._callers.known(context) or await self._callers.look_up(context)
                require(caller, role)
                asked, since = perf_counter(), 0
            yield body

    def _expected(self, method: str, error: Exception) -> LeadlineError:
        """The error itself, or a fault with an id under which the log has it."""
        if isinstance(error, LeadlineError):
            return error
        fault = Unexpected()
        self._log.error(
            "fault",
            method=method,
            fault_id=fault.fault_id,
            kind=type(error).__name__,
            where=where(error),
        )
        return fault

    async def _refuse(
        self,
        method: str,
        error: Exception,
        context: Context,
        count: Callable[[str], None],
        started: float,
    ) -> bytes:
        told = self._expected(method, error)
        code = code_of(told).name
        count(code)
        self._log.debug(
            "refused",
            method=method,
            code=code,
            reason=told.reason,
            seconds=perf_counter() - started,
        )
        return await _abort(context, told)


def _run(rpc: Rpc) -> Method:
    if rpc.run is None:
        raise ValueError(f"nothing runs {rpc.name}")
    return rpc.run


def parser(request: type[M]) -> Callable[[bytes], M]:
    """Reads a message. Raises InvalidInput (MALFORMED) for bytes that are none."""

    def parse(body: bytes) -> M:
        try:
            return request.FromString(body)
        except DecodeError:
            raise InvalidInput(
                f"the bytes are no valid {request.DESCRIPTOR.name}; strings must be UTF-8",
                reason="MALFORMED",
            ) from None

    return parse


def _stream(request: type[M]) -> Callable[[AsyncIterator[bytes]], AsyncIterator[M | InvalidInput]]:
    """Reads a stream whose malformed messages come as the error that they are."""
    parse = parser(request)

    async def messages(bodies: AsyncIterator[bytes]) -> AsyncIterator[M | InvalidInput]:
        async for body in bodies:
            try:
                yield parse(body)
            except InvalidInput as error:
                yield error

    return messages


async def _refuse_overload(_body: Any, context: Context) -> bytes:
    error = OutboxFull(
        "too many calls are under way in this worker; try again", reason="OVERLOADED"
    )
    return await _abort(context, error)


async def _abort(context: Context, error: LeadlineError) -> bytes:
    status = status_of(error)
    await context.abort(status.code, status.details, status.trailing_metadata)
    return b""


def _check_deadline(context: Context) -> None:
    if context.time_remaining() == 0:
        raise LeadlineError(
            "the deadline passed before the call began; allow it more time", reason="DEADLINE"
        )


def where(error: BaseException) -> list[str]:
    """The frames without values or messages, since those may hold a query's text."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-12:]
