"""The least that a gateway can be: Starlette and aiohttp hand bytes on. No key, no log, no price.

python benchmarks/peers/gateway_passthrough.py UPSTREAM PORT
"""

import sys

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

UPSTREAM = sys.argv[1]
_session: list[aiohttp.ClientSession] = []


async def chat(request: Request) -> Response:
    """Hand on."""
    if not _session:
        _session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)))
    body = await request.body()
    answer = await _session[0].post(
        f"{UPSTREAM}/chat/completions", data=body, headers={"content-type": "application/json"}
    )
    if answer.content_type == "text/event-stream":
        return StreamingResponse(answer.content.iter_any(), media_type="text/event-stream")
    async with answer:
        return Response(await answer.read(), answer.status, media_type="application/json")


async def alive(_: Request) -> Response:
    """It lives."""
    return Response("ok")


app = Starlette(
    routes=[
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/healthz", alive),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_config=None, access_log=False)
