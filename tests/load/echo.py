"""The yardstick: a bare echo server on grpc.aio and uvloop, built as Leadline's workers are."""

from __future__ import annotations

import argparse
import asyncio
import signal

import grpc
import uvloop

METHOD = "/router.v1.Router/Route"
OPTIONS = (("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", 4 << 20))


async def _echo(request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request


async def serve(port: int) -> None:
    """Serves until SIGTERM; prints the port once it listens."""
    server = grpc.aio.server(options=OPTIONS)
    handler = grpc.method_handlers_generic_handler(
        "router.v1.Router", {"Route": grpc.unary_unary_rpc_method_handler(_echo)}
    )
    server.add_generic_rpc_handlers((handler,))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(bound, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(grace=0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    uvloop.run(serve(parser.parse_args().port))
