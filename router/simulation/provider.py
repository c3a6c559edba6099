"""The simulated provider: an OpenAI-compatible HTTP server.

`serve` runs it in a thread, `spawn` and `python -m router.simulation.provider` in a
process of its own. Every reply carries `x-simulated`, and chat completions
`x-simulated-latency-s`: the latency that the reply stands for. `PUT /simulated/faults`
takes a list of faults for the calls that follow, `GET /simulated/counters` tells what
became of the calls so far.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from itertools import count
from typing import cast

import numpy as np
import orjson
import uvicorn
from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from router.errors import ConfigurationError
from router.simulation.answering import Respondent
from router.simulation.api import ApiError, ChatRequest, ask_of, read_chat
from router.simulation.faults import Counters, Fault, Faults, Kind
from router.simulation.sending import Sent, Timing, while_there
from router.simulation.workload import questions
from router.simulation.writing import NOTICE, write_chat, write_chunks, write_models

MAX_BODY_BYTES = 4 * 1024 * 1024
READY = "simulated provider ready at "
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
HANG_S = 60.0
FAULTS = TypeAdapter(list[Fault])


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """Which workload it knows, how fast time passes, and which faults it injects.

    It sleeps `time_scale` x the simulated latency. A share `error_rate` of the calls
    fails with status 500, a share `hang_rate` waits `hang_s` first; both are drawn
    from `seed` in the order of the calls.
    """

    seed: int = 0
    count: int = 2_000
    time_scale: float = 0.0
    error_rate: float = 0.0
    hang_rate: float = 0.0
    hang_s: float = HANG_S


class Provider:
    """The handlers of the HTTP interface."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        known = questions(settings.count, settings.seed)
        self._respondent = Respondent.of(known, settings.seed)
        self._chance = np.random.default_rng([settings.seed, 1])
        self._numbers = count(1)
        self._faults, self._counters = Faults(), Counters()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models, methods=["GET"]),
                Route("/simulated/faults", self.faults, methods=["PUT"]),
                Route("/simulated/counters", self.counters, methods=["GET"]),
            ],
            exception_handlers={
                ApiError: _refuse,
                HTTPException: _refuse_http,
                ClientDisconnect: _give_up,
            },
        )

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        self._counters.calls += 1
        await self._by_chance()
        asked = read_chat(await _body(request))
        fault = self._faults.next(asked.model)
        if fault is not None:
            self._counters.faulty += 1
            await self._go_wrong(request, fault)
        return self._sent(asked, None if fault is None else fault.kind)

    def _sent(self, asked: ChatRequest, broken: Kind | None) -> Response:
        number, created = next(self._numbers), int(time.time())
        reply = self._respondent.reply(ask_of(asked, self._respondent.knows, f"call {number}"))
        parts = (
            list(write_chunks(asked, reply, number=number, created=created))
            if asked.stream
            else [write_chat(asked, reply, number=number, created=created)]
        )
        timing = Timing(
            wait_s=reply.latency_s * self._settings.time_scale,
            streams=bool(asked.stream),
            broken=broken if broken in {Kind.HALF, Kind.CLOSE} else None,
        )
        headers = {"x-simulated": "true", "x-simulated-latency-s": f"{reply.latency_s:.6f}"}
        return Sent(parts, headers, timing, self._counters)

    async def faults(self, request: Request) -> Response:
        """PUT /simulated/faults: a JSON list of faults."""
        try:
            self._faults.set(FAULTS.validate_json(await _body(request)))
        except ValidationError as error:
            raise ApiError(400, f"faults: {error.errors()[0]['msg']}") from None
        return _json(b"{}")

    async def counters(self, _request: Request) -> Response:
        """GET /simulated/counters."""
        return _json(orjson.dumps(self._counters.as_dict()))

    async def models(self, _request: Request) -> Response:
        """GET /v1/models."""
        return _json(write_models())

    async def _go_wrong(self, request: Request, fault: Fault) -> None:
        """Raises what is to be answered instead, or waits."""
        match fault.kind:
            case Kind.RATE_LIMIT:
                after = {} if fault.seconds is None else {"retry-after": f"{fault.seconds:g}"}
                raise ApiError(429, "Too many calls.", kind="rate_limit_error", headers=after)
            case Kind.ERROR:
                raise ApiError(500, "An injected fault; try again.", kind="server_error")
            case Kind.GARBAGE:
                raise ApiError(200, "", garbage=b"<html>this is no JSON</html>")
            case Kind.HANG:
                hung = partial(asyncio.sleep, HANG_S if fault.seconds is None else fault.seconds)
                if not await while_there(request.receive, hung):
                    self._counters.leave()
                    raise ClientDisconnect

    async def _by_chance(self) -> None:
        if not self._settings.error_rate and not self._settings.hang_rate:
            return
        fails, hangs = self._chance.random(2) < (
            self._settings.error_rate,
            self._settings.hang_rate,
        )
        if hangs:
            await asyncio.sleep(self._settings.hang_s)
        if fails:
            raise ApiError(500, "An injected fault; try again.", kind="server_error")


@contextmanager
def serve(settings: ProviderSettings, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serves in a thread and yields the base URL; port 0 takes a free one.

    Raises ConfigurationError when the port is in use.
    """
    listener = _listen(host, port)
    server = _server(settings)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        _await_start(server, thread)
        yield _base_url(listener)
    finally:
        server.should_exit = True
        thread.join(STOP_TIMEOUT_S)
        listener.close()


@contextmanager
def spawn(settings: ProviderSettings, *, port: int = 0) -> Iterator[str]:
    """Serves in a process of its own and yields the base URL once it is ready."""
    options = [f"--{item.name.replace('_', '-')}" for item in fields(settings)]
    values = [str(getattr(settings, item.name)) for item in fields(settings)]
    pairs = [text for pair in zip(options, values, strict=True) for text in pair]
    command = [sys.executable, "-m", "router.simulation.provider", "--port", str(port), *pairs]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith(READY):
                raise ConfigurationError("the simulated provider did not start; see its message")
            yield line.removeprefix(READY).strip()
        finally:
            process.terminate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m router.simulation.provider", description=NOTICE
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    for item in fields(ProviderSettings):
        option = f"--{item.name.replace('_', '-')}"
        parser.add_argument(option, type=type(item.default), default=item.default)
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    try:
        listener = _listen(host, port)
        server = _server(ProviderSettings(**options))
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.write(f"{READY}{_base_url(listener)}\n")
    sys.stdout.flush()
    server.run([listener])
    return 0


def _server(settings: ProviderSettings) -> uvicorn.Server:
    config = uvicorn.Config(
        Provider(settings).app(),
        access_log=False,
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=512)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another port"
        ) from None


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}/v1"


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ConfigurationError("the simulated provider did not start; see the log")
        time.sleep(0.005)


async def _body(request: Request) -> bytes:
    """Reads the body to its end even when it is too large, so that the caller hears of it."""
    body, received = bytearray(), 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= MAX_BODY_BYTES:
            body += chunk
    if received > MAX_BODY_BYTES:
        raise ApiError(413, f"The body is over {MAX_BODY_BYTES} bytes; send a shorter one.")
    return bytes(body)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    notice = {"x-simulated": "true"}
    return Response(body, status, notice | (headers or {}), media_type="application/json")


async def _refuse(_request: Request, error: Exception) -> Response:
    refusal = cast("ApiError", error)
    body = refusal.garbage or orjson.dumps(refusal.body)
    return _json(body, refusal.status, refusal.headers)


async def _refuse_http(request: Request, error: Exception) -> Response:
    http = cast("HTTPException", error)
    message = f"{http.detail}: only POST /v1/chat/completions and GET /v1/models are here."
    return await _refuse(request, ApiError(http.status_code, message))


async def _give_up(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)


if __name__ == "__main__":
    sys.exit(main())
