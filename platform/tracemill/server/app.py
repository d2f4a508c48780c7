"""The ASGI application: finds the route, checks the key, lets the handler answer, tells errors in the
words of the route's dialect, and writes one line for each request.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from tracemill.access.keys import Key
from tracemill.errors import KeyRefused
from tracemill.events import new_id
from tracemill.server import openapi, trouble
from tracemill.server.catalogue import ROUTES
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming, check_origin, request_id, secret_of
from tracemill.server.page.look import page
from tracemill.server.page.pages import Pages
from tracemill.server.routes import Dialect, Route
from tracemill.server.trouble import Trouble
from tracemill.server.working import working

_log = logging.getLogger("tracemill.server")
_LONGEST = 100  # characters of a path that are looked at, to find one that is like it


def create(
    gateway: Gateway, began: Callable[[], None] | None = None, *, workers: int = 0
) -> Starlette:
    """The application. It closes the client's connections when it ends; the log is the caller's.

    Args:
        began: told when requests are about to be taken.
        workers: processes that do the requests of jobs, as long as there are any; 0: others do.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        gateway.client.prepare()
        if began:
            began()
        gateway.following.resume()
        at_work: asyncio.Task[None] | None = None
        if workers:
            at_work = asyncio.create_task(working(gateway.jobs, gateway.settings, workers))
        yield
        if at_work:
            at_work.cancel()
            await asyncio.gather(at_work, return_exceptions=True)
        await gateway.following.close()
        await gateway.client.aclose()

    def unrouted(http: HttpRequest, error: Exception) -> HttpResponse:
        status = error.status_code if isinstance(error, HTTPException) else 404
        near = _nearest(http.url.path)
        there = "the path is right, the method is not" if status == 405 else "there is no such path"
        if near and status == 404:
            there += f": did you mean {near.shown}?"
        told = Trouble(status, "not_found", f"{http.method} {http.url.path}: {there}")
        headers = dict(getattr(error, "headers", None) or {})
        return _told(told, near.dialect if near else OPENAI, new_id(), headers)

    described = openapi.document(ROUTES)

    async def document(_: HttpRequest) -> HttpResponse:
        return answer(described)

    async def docs(_: HttpRequest) -> HttpResponse:
        return page("docs.html", here="/docs", paths=described["paths"])

    return Starlette(
        # In the order of the catalogue: what is asked most often stands first.
        routes=[
            *(Path(one.path, _Endpoint(gateway, one), methods=[one.method]) for one in ROUTES),
            *Pages(gateway).routes(),
            Path("/openapi.json", document),
            Path("/docs", docs),
        ],
        exception_handlers={404: unrouted, 405: unrouted},
        lifespan=lifespan,
    )


def _nearest(path: str) -> Route | None:
    """The route that somebody may have meant: often an SDK whose base URL lacks a part."""
    routes = {route.shown: route for route in reversed(ROUTES)}
    found = get_close_matches(path[:_LONGEST], routes, n=1)
    return routes[found[0]] if found else None


@dataclass(frozen=True)
class _Endpoint:
    """One route, as ASGI itself: what Starlette wraps around functions takes as long as a budget."""

    gateway: Gateway
    route: Route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and write a line about it."""
        begun = time.perf_counter()
        http = HttpRequest(scope, receive, send)
        made = request_id(http, f"req_{new_id()}")
        key, response = await self._answered(http, made)
        _log.info(
            "request",
            extra={
                "request_id": made,
                "key_id": key.key_id if key else None,
                "method": self.route.method,
                "route": self.route.path,
                "status": response.status_code,
                "duration_ms": round((time.perf_counter() - begun) * 1000, 3),
            },
        )
        await response(scope, receive, send)

    async def _answered(self, http: HttpRequest, made: str) -> tuple[Key | None, HttpResponse]:
        dialect = self.route.dialect
        key: Key | None = None
        try:
            key = _allowed(self.gateway, self.route, http)
            response = await self.route.handler(self.gateway, Incoming(http, made, key))
            response.headers[dialect.request_id] = made
        except Exception as error:  # noqa: BLE001 (every error becomes an answer)
            told = trouble.of(error)
            if told.status == 500:
                _log.exception("broke", exc_info=error, extra={"request_id": made})
            if self.route.spoken:
                dialect = self.route.spoken(http)
            response = _told(told, dialect, made)
        return key, response


def _allowed(gateway: Gateway, route: Route, http: HttpRequest) -> Key | None:
    """The key of a request. Raises `Trouble`: none, or not for this."""
    if not gateway.keys.any:
        check_origin(http)
        return None
    if not route.scope:
        return None
    secret = secret_of(http)
    if secret is None:
        raise Trouble(
            401,
            "authentication",
            "no key was sent: `tracemill keys create NAME` makes one",
            code="invalid_api_key",
        )
    try:
        key = gateway.keys.check(secret)
    except KeyRefused as error:
        raise Trouble(401, "authentication", str(error), code="invalid_api_key") from None
    if not key.may(route=route.scope):
        raise Trouble(403, "permission_denied", f"this key may not be used for {route.scope}")
    return key


def _told(
    told: Trouble, dialect: Dialect, made: str, headers: dict[str, str] | None = None
) -> HttpResponse:
    response = answer(dialect.error(told, made), told.status, {**told.said(), **(headers or {})})
    response.headers[dialect.request_id] = made
    return response
