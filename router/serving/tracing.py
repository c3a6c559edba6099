"""OpenTelemetry traces, when OTEL_EXPORTER_OTLP_ENDPOINT asks for them and the extra is there."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any

from router.serving.telemetry import Logger

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SEND_S = 2.0

Handler = Callable[[Any, Any], Awaitable[bytes]]


class Tracer:
    """A span around every call; its parent comes from the caller's `traceparent`."""

    def __init__(self) -> None:
        from opentelemetry import propagate  # noqa: PLC0415 (an extra)
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        self._provider = TracerProvider(resource=Resource.create({"service.name": "leadline"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=SEND_S)))
        self._tracer = self._provider.get_tracer("leadline")
        self._parent = propagate.extract
        self._kind = SpanKind.SERVER

    def traced(self, method: str, run: Handler) -> Handler:
        """The handler inside a span named after the method."""

        async def handle(body: Any, context: Any) -> bytes:
            carrier = {name: str(value) for name, value in context.invocation_metadata()}
            parent = self._parent(carrier)
            with self._tracer.start_as_current_span(method, context=parent, kind=self._kind):
                return await run(body, context)

        return handle

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def tracer(log: Logger) -> Tracer | None:
    """The tracer, or None when no endpoint is set or the extra is not installed."""
    if not os.environ.get(ENDPOINT):
        return None
    if find_spec("opentelemetry.sdk" if find_spec("opentelemetry") else "opentelemetry") is None:
        log.warning("no traces: pip install 'leadline[otel]'", because=f"{ENDPOINT} is set")
        return None
    return Tracer()
