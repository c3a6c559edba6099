"""A small real server of the protos, whose answers a test writes down beforehand.

It runs on a thread of its own with grpc.aio, so that clients that block and clients that
await can both call it. Each method answers from its list, in order, and the last answer
goes on for ever; an answer is a reply, or an exception that becomes its gRPC status.
"""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from router.clients.messages import arm_message
from router.errors import LeadlineError
from router.serving.status import status_of
from router.types import Arm
from router.v1 import catalog_pb2, policies_pb2, router_pb2, slos_pb2

CHEAP = Arm(model="small", strategy="single")
STRONG = Arm(model="large", strategy="self_consistency", params={"samples": 3})

Answer = Message | LeadlineError | grpc.StatusCode


class EchoServer:
    """What it was asked (`requests`, `metadata`, by method) and what it shall answer."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.metadata: list[dict[str, Any]] = []
        self.delay_s = 0.0
        self.address = ""

    def answer(self, method: str, *answers: Answer) -> None:
        """Writes down what a method answers, call by call."""
        self.answers[method] = list(answers)

    async def serve(
        self, method: str, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        """Answers one call."""
        self.requests[method].append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))
        await asyncio.sleep(self.delay_s)
        answers = self.answers[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "as the test says")
        if isinstance(answer, LeadlineError):
            await context.abort_with_status(status_of(answer))
        return answer


@contextmanager
def echo_server(credentials: grpc.ServerCredentials | None = None) -> Iterator[EchoServer]:
    """The server on a free port of the loopback."""
    server, ready, done = EchoServer(), threading.Event(), threading.Event()

    async def run() -> None:
        edge = grpc.aio.server()
        edge.add_generic_rpc_handlers(_handlers(server))
        port = (
            edge.add_insecure_port("127.0.0.1:0")
            if credentials is None
            else edge.add_secure_port("localhost:0", credentials)
        )
        await edge.start()
        server.address = f"localhost:{port}"
        ready.set()
        await asyncio.to_thread(done.wait)
        await edge.stop(None)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        done.set()
        thread.join()


def _handlers(server: EchoServer) -> list[grpc.GenericRpcHandler]:
    files = (router_pb2, slos_pb2, catalog_pb2, policies_pb2)
    return [
        grpc.method_handlers_generic_handler(
            service.full_name,
            {method.name: _handler(server, module, method) for method in service.methods},
        )
        for module in files
        for service in module.DESCRIPTOR.services_by_name.values()
    ]


def _handler(server: EchoServer, module: Any, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
    request = getattr(module, method.input_type.name)

    async def unary(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await server.serve(method.name, message, context)

    async def stream(messages: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        return await server.serve(method.name, [each async for each in messages], context)

    make: Any = (
        grpc.stream_unary_rpc_method_handler
        if method.client_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        stream if method.client_streaming else unary,
        request_deserializer=request.FromString,
        response_serializer=lambda reply: reply.SerializeToString(),
    )
    return handler


def prediction(arm: Arm = CHEAP, **figures: float) -> router_pb2.Prediction:
    """A prediction for an arm."""
    usual = {"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9, "cost_usd": 0.001}
    return router_pb2.Prediction(arm=arm_message(arm), **usual | figures)


def decision(arm: Arm = CHEAP, **changes: Any) -> router_pb2.RouteResponse:
    """A decision for an arm."""
    usual: dict[str, Any] = {
        "decision_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "chosen": prediction(arm, latency_p95_s=1.5),
        "difficulty": 0.2,
        "propensity": 0.95,
        "alternatives": [prediction(STRONG)],
        "slo_status": router_pb2.SLO_STATUS_MET,
        "reason": "cheapest arm at or above the floor",
        "policy_version": 3,
        "policy_source": router_pb2.POLICY_SOURCE_LEARNED,
        "slo_version": 2,
        "input_tokens": 7,
    }
    return router_pb2.RouteResponse(**usual | changes)


def outcome_reply() -> router_pb2.ReportOutcomeResponse:
    """The acknowledgement of an outcome."""
    return router_pb2.ReportOutcomeResponse(outcome_id="01890a5d-ac96-774b-bcce-b302099a8058")
