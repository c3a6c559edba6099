"""The edge without a network: deadlines, admission, faults, and the closed set of reasons."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from prometheus_client import CollectorRegistry

from router.errors import InvalidInput
from router.serving.auth import ROLES
from router.serving.edge import Edge, Rpc
from router.serving.status import CODES, status_of
from router.serving.telemetry import Metrics, logger
from router.types import Identity, Role
from router.v1 import errors_pb2
from router.v1.execution_pb2 import ExecuteRequest, ExecuteResponse
from router.v1.router_pb2 import RouteRequest, RouteResponse

ROUTE, EXECUTE = "/router.v1.Router/Route", "/router.v1.Executor/Execute"
BODY = RouteRequest(text="x").SerializeToString()
SOMEONE = Identity(tenant_id=UUID(int=1), tenant="acme", role=Role.CALLER, key_id="k")


class _Aborted(Exception):
    pass


class _Context:
    """As much of a call's context as the edge asks."""

    def __init__(self, remaining_s: float | None = None) -> None:
        self._remaining_s = remaining_s
        self.code: grpc.StatusCode | None = None
        self.reason = ""

    def time_remaining(self) -> float | None:
        return self._remaining_s

    async def abort(self, code: grpc.StatusCode, _details: str, trailing: Any) -> None:
        info = ErrorInfo()
        Status.FromString(trailing[0][1]).details[0].Unpack(info)
        self.code, self.reason = code, info.reason
        raise _Aborted


class _Callers:
    def known(self, _context: Any) -> Identity | None:
        return SOMEONE

    async def look_up(self, _context: Any) -> Identity:
        return SOMEONE


class _Details:
    method = ROUTE


class _Executing:
    method = EXECUTE


def edge(run: Any, most: int = 8) -> Edge:
    rpc = Rpc(name=ROUTE, request=RouteRequest, run=run)
    metrics = Metrics(CollectorRegistry())
    return Edge([rpc], callers=_Callers(), metrics=metrics, log=logger(), most=most)


async def outcome(served: Edge, context: _Context) -> _Context:
    handler = served.service(_Details())  # type: ignore[arg-type]
    with pytest.raises(_Aborted):
        await handler.unary_unary(BODY, context)
    return context


async def test_a_call_whose_deadline_passed_is_refused_and_runs_nothing() -> None:
    ran = []

    async def run(request: RouteRequest, _caller: Identity) -> RouteResponse:
        ran.append(request)
        return RouteResponse()

    refused = await outcome(edge(run), _Context(remaining_s=0.0))
    assert (refused.code, refused.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
    assert not ran


async def test_calls_beyond_the_bound_are_refused_at_once_and_places_come_back() -> None:
    release = asyncio.Event()

    async def run(_request: RouteRequest, _caller: Identity) -> RouteResponse:
        await release.wait()
        return RouteResponse()

    served = edge(run, most=2)

    async def call() -> bytes:
        reply: bytes = await served.service(_Details()).unary_unary(BODY, _Context())  # type: ignore[arg-type]
        return reply

    waiting = [asyncio.create_task(call()) for _ in range(2)]
    await asyncio.sleep(0)
    refused = await outcome(served, _Context())
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    release.set()
    await asyncio.gather(*waiting)
    await asyncio.sleep(0)
    assert served.places.taken == 0


async def test_executions_take_no_places_of_decisions() -> None:
    async def run(_request: RouteRequest, _caller: Identity) -> RouteResponse:
        return RouteResponse()

    async def answers(_request: Any, _caller: Identity, _s: Any) -> AsyncGenerator[Any, None]:
        yield ExecuteResponse()

    rpcs = [
        Rpc(name=ROUTE, request=RouteRequest, run=run),
        Rpc(name=EXECUTE, request=ExecuteRequest, answers=answers),
    ]
    metrics = Metrics(CollectorRegistry())
    served = Edge(rpcs, callers=_Callers(), metrics=metrics, log=logger(), most=1)
    assert served.lasting.take()
    assert await served.service(_Details()).unary_unary(BODY, _Context()) == b""  # type: ignore[arg-type]
    refused = _Context()
    with pytest.raises(_Aborted):
        await served.service(_Executing()).unary_stream(BODY, refused)  # type: ignore[arg-type]
    assert refused.reason == "OVERLOADED"


async def test_a_fault_is_internal_and_its_message_does_not_travel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def run(_request: RouteRequest, _caller: Identity) -> RouteResponse:
        raise ZeroDivisionError("the secret recipe")

    refused = await outcome(edge(run), _Context())
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    printed = capsys.readouterr()
    assert "secret" not in printed.out + printed.err


def test_every_reason_of_the_protos_has_its_documented_code() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items()}
    assert names - {"UNSPECIFIED"} == set(CODES)


def test_an_error_carries_its_field() -> None:
    status = status_of(InvalidInput("is wrong", field="score"))
    info = ErrorInfo()
    detail = Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    assert detail.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["field"]) == (
        "INVALID_FIELD",
        "leadline",
        "score",
    )


def test_every_method_of_the_protos_needs_a_role() -> None:
    from router.v1 import catalog_pb2, execution_pb2, policies_pb2, router_pb2, slos_pb2

    files = (router_pb2, execution_pb2, slos_pb2, catalog_pb2, policies_pb2)
    named = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert named == set(ROLES)


def test_the_supervisor_loads_neither_grpc_nor_lightgbm() -> None:
    check = "import sys, router.serving.supervisor; print({'grpc', 'lightgbm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"
