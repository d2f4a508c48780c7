"""Whether the server lives and can serve, and its figures: for whoever watches it."""

import asyncio

from starlette.responses import Response as HttpResponse

from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import Trouble
from tracemill.telemetry.metrics import OPENMETRICS, TEXT, wants_openmetrics


async def alive(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """It answers: that is all."""
    return answer({"status": "ok"})


async def ready(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """It can read its log."""
    try:
        position = await asyncio.to_thread(gateway.log.position)
    except Exception as error:
        raise Trouble(503, "overloaded", f"the log cannot be read: {error}", retry=True) from error
    return answer({"status": "ready", "position": position})


async def metrics(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Prometheus' text."""
    openmetrics = wants_openmetrics(asked.headers.get("accept", ""))
    body = await asyncio.to_thread(gateway.metrics.render, openmetrics=openmetrics)
    return HttpResponse(body, media_type=OPENMETRICS if openmetrics else TEXT)


ROUTES = (
    Route("GET", "/healthz", alive, OPENAI, "", "Whether the server lives."),
    Route("GET", "/readyz", ready, OPENAI, "", "Whether the server can serve."),
    Route("GET", "/metrics", metrics, OPENAI, "metrics", "Figures in Prometheus' text form."),
)
