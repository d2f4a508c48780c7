"""Spans of other programs: whatever is instrumented with OpenTelemetry logs here by changing one URL."""

import asyncio

from starlette.responses import Response as HttpResponse

from tracemill.server.dialects.openai import OPENAI
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.telemetry import ingest, otlp


async def traces(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """An `ExportTraceServiceRequest`; when it is answered, what it held survives the server's death."""
    body = await asked.body()
    kind = asked.headers.get("content-type", "")
    encoding = asked.headers.get("content-encoding")
    key_id = asked.key.key_id if asked.key else None

    def take() -> bytes:
        spans = otlp.read(body, kind, encoding)
        done = ingest.ingest(gateway.log, spans, key_id)
        return otlp.answer(done.rejected, done.message, kind)

    return HttpResponse(await asyncio.to_thread(take), media_type=kind.partition(";")[0].strip())


ROUTES = (
    Route("POST", "/v1/traces", traces, OPENAI, "telemetry", "Spans as OTLP, JSON or protobuf."),
)
