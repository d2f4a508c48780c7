"""The network: the one module that imports httpx. Values go in, values or `CallFailed` come out.

One pool of connections for each provider. Async calls go through aiohttp's transport, because
httpx's own serves a sixth of the requests at 64 in flight.
"""

import asyncio
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache, lru_cache
from urllib.request import getproxies

import httpx
from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from tracemill.errors import CallFailed
from tracemill.llm.flow import Answer, Exchange, Opened, OpenedAsync
from tracemill.llm.providers import Provider
from tracemill.messages import Json
from tracemill.settings import Settings

_POOL_IDLE_S = 60


class Network:
    """The pools of connections of one client."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sync: dict[str, httpx.Client] = {}
        # Connections belong to the event loop that made them, and end with it.
        self._async: dict[
            asyncio.AbstractEventLoop, AsyncGenerator[dict[str, httpx.AsyncClient]]
        ] = {}
        self._pools: dict[asyncio.AbstractEventLoop, dict[str, httpx.AsyncClient]] = {}

    def send(self, exchange: Exchange, key: SecretStr | None) -> Answer:
        """Send a request and read the whole answer. Raises `CallFailed`."""
        with _translated(exchange):
            answer = self._client(exchange.provider).send(_request(exchange, key))
        _check_place(answer, exchange)
        return Answer(answer.status_code, dict(answer.headers.items()), answer.content)

    @contextmanager
    def open(self, exchange: Exchange, key: SecretStr | None) -> Generator[Opened]:
        """Send a request and read its answer piece by piece. Raises `CallFailed`."""
        with _translated(exchange):
            answer = self._client(exchange.provider).send(_request(exchange, key), stream=True)
        try:
            _check_place(answer, exchange)
            yield Opened(
                answer.status_code, dict(answer.headers.items()), _chunks(answer, exchange)
            )
        finally:
            answer.close()

    async def asend(self, exchange: Exchange, key: SecretStr | None) -> Answer:
        """As `send`."""
        with _translated(exchange), _as_httpx():
            client = await self._async_client(exchange.provider)
            answer = await client.send(_request(exchange, key))
        _check_place(answer, exchange)
        return Answer(answer.status_code, dict(answer.headers.items()), answer.content)

    @asynccontextmanager
    async def aopen(self, exchange: Exchange, key: SecretStr | None) -> AsyncGenerator[OpenedAsync]:
        """As `open`."""
        with _translated(exchange), _as_httpx():
            client = await self._async_client(exchange.provider)
            answer = await client.send(_request(exchange, key), stream=True)
        try:
            _check_place(answer, exchange)
            yield OpenedAsync(
                answer.status_code, dict(answer.headers.items()), _achunks(answer, exchange)
            )
        finally:
            await answer.aclose()

    def close(self) -> None:
        """Close the connections of the blocking calls."""
        with self._lock:
            for client in self._sync.values():
                client.close()
            self._sync.clear()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of the blocking calls."""
        self.close()
        if holder := self._async.get(asyncio.get_running_loop()):
            await holder.aclose()

    def _client(self, provider: Provider) -> httpx.Client:
        client = self._sync.get(provider.base_url)
        if client is None:
            with self._lock:
                client = self._sync.setdefault(
                    provider.base_url,
                    httpx.Client(http1=True, http2=False, limits=self._limits(), verify=_tls()),
                )
        return client

    async def _async_client(self, provider: Provider) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        pools = self._pools.get(loop)
        if pools is None:
            self._async[loop] = holder = self._held(loop)
            pools = await anext(holder)
        client = pools.get(provider.base_url)
        if client is None:
            client = pools[provider.base_url] = self._new_async_client()
        return client

    def _new_async_client(self) -> httpx.AsyncClient:
        if getproxies().keys() - {"no"}:
            # Only httpx's own transport reads the proxies of the environment.
            return httpx.AsyncClient(limits=self._limits(), verify=_tls())
        from httpx_aiohttp import AiohttpTransport

        return httpx.AsyncClient(transport=AiohttpTransport(limits=self._limits(), verify=_tls()))

    async def _held(
        self, loop: asyncio.AbstractEventLoop
    ) -> AsyncGenerator[dict[str, httpx.AsyncClient]]:
        """The pools of one event loop. An event loop closes its generators before it ends, so this
        closes the connections also where nobody calls `aclose`."""
        pools = self._pools[loop] = {}
        try:
            yield pools
        finally:
            del self._pools[loop], self._async[loop]
            for client in pools.values():
                await client.aclose()

    def _limits(self) -> httpx.Limits:
        most = self._settings.llm_connections if self._settings else 100
        return httpx.Limits(
            max_connections=most,
            max_keepalive_connections=most,
            keepalive_expiry=_POOL_IDLE_S,
        )


def _request(exchange: Exchange, key: SecretStr | None) -> httpx.Request:
    provider, wire, timeout_s = exchange
    headers = {"accept-encoding": "gzip, deflate", "user-agent": _user_agent(), **wire.headers}
    if key:
        bearer = provider.key_header == "authorization"
        text = key.get_secret_value()
        headers[provider.key_header] = f"Bearer {text}" if bearer else text
    content = wire.body if isinstance(wire.body, bytes) else None
    if wire.body is not None and content is None:
        headers["content-type"] = "application/json"
        content = _json(wire.body)
    url, authorization = _url(provider.base_url + wire.path)
    if authorization:
        headers.setdefault("authorization", authorization)
    return httpx.Request(
        wire.method,
        url,
        headers=headers,
        content=content,
        extensions={"timeout": _timeouts(timeout_s)},
    )


@lru_cache(256)
def _url(text: str) -> tuple[httpx.URL, str]:
    """Read once: that takes longer than the rest of a request. A name and a password in it become
    a header, because httpx writes URLs to its log."""
    url = httpx.URL(text)
    if not url.userinfo:
        return url, ""
    basic = b64encode(f"{url.username}:{url.password}".encode()).decode()
    return url.copy_with(userinfo=b""), f"Basic {basic}"


def _json(body: Json | bytes) -> bytes:
    try:
        return to_json(body)
    except (PydanticSerializationError, ValueError, RecursionError):
        raise CallFailed(
            "invalid_request",
            "a text of the request has half of a character in it (a lone surrogate), which cannot "
            "be sent: `text.encode(errors='replace').decode()` takes it out",
        ) from None


@lru_cache(256)
def _timeouts(timeout_s: float) -> dict[str, float | None]:
    return httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)).as_dict()


def _check_place(answer: httpx.Response, exchange: Exchange) -> None:
    """A redirect is not followed: the key would go along."""
    if answer.has_redirect_location:
        with _translated(exchange):
            place = answer.url.join(answer.headers["location"])
        raise CallFailed(
            "invalid_request",
            f"{_host(exchange)} sends its callers on to {place.scheme}://{place.host}{place.path}: "
            "where that is the API, set the base URL to it",
            status=answer.status_code,
        )


def _chunks(answer: httpx.Response, exchange: Exchange) -> Iterator[bytes]:
    with _translated(exchange):
        yield from answer.iter_bytes()


async def _achunks(answer: httpx.Response, exchange: Exchange) -> AsyncIterator[bytes]:
    with _translated(exchange), _as_httpx():
        async for chunk in answer.aiter_bytes():
            yield chunk


@contextmanager
def _as_httpx() -> Generator[None]:
    """httpx-aiohttp 0.2 calls most broken connections timeouts, and lets some errors through: put
    right by what aiohttp raised."""
    import aiohttp

    try:
        yield
    except httpx.TimeoutException as error:
        cause = error.__cause__
        if not isinstance(cause, aiohttp.ClientError) or isinstance(cause, TimeoutError):
            raise
        raise httpx.NetworkError(_said(cause)) from cause
    except httpx.UnsupportedProtocol as error:
        # Its words are the URL, which may hold a password.
        raise httpx.UnsupportedProtocol("it begins with neither http:// nor https://") from error
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(_said(error)) from error


def _said(error: Exception) -> str:
    """One line of aiohttp's words; it may quote what came, and the URL."""
    words = getattr(error, "message", None) or str(error)
    return (
        words.partition("\n")[0][:200].rstrip(":")
        if isinstance(words, str)
        else type(error).__name__
    )


@contextmanager
def _translated(exchange: Exchange) -> Generator[None]:
    """Every exception of httpx in our words; `tests/llm/test_network.py` fails when it grows one."""
    begun = time.monotonic()
    try:
        yield
    except httpx.TimeoutException as error:
        waited_s = time.monotonic() - begun
        kind = type(error).__name__
        raise CallFailed(
            "timeout",
            f"{_host(exchange)} did not answer within {waited_s:.1f} s ({kind}); "
            "`timeout_s` says how long to wait",
            retry=True,
        ) from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise CallFailed(
            "invalid_request",
            f"{exchange.provider.name}: the base URL cannot be used: {_why(error)}",
        ) from None
    except (httpx.DecodingError, httpx.TooManyRedirects) as error:
        raise CallFailed(
            "malformed_response", f"{_host(exchange)} answered what cannot be read: {error}"
        ) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        # What breaks the protocol on our side may be a header, and a header may be the key.
        told = "" if isinstance(error, httpx.LocalProtocolError) else str(error)
        what = told or type(error).__name__
        raise CallFailed(
            "connection", f"the connection to {_host(exchange)} failed: {what}", retry=True
        ) from None


def _why(error: Exception) -> str:
    # What is wrong with a URL may be a password in it.
    if isinstance(error, httpx.InvalidURL):
        return "write it as https://host:port/path, and what is special in a password as %2F"
    return str(error)


def _host(exchange: Exchange) -> str:
    """Where a request went, without what a base URL may hold besides."""
    try:
        url = httpx.URL(exchange.provider.base_url)
    except httpx.InvalidURL:
        return exchange.provider.name
    return f"{url.host}:{url.port}" if url.port else url.host or exchange.provider.name


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes longer than a call."""
    return httpx.create_ssl_context()


@cache
def _user_agent() -> str:
    from importlib.metadata import version

    return f"tracemill/{version('tracemill')}"
