"""The network: values go in, values or `CallFailed` come out.

Blocking calls go through httpx, one pool of connections for each provider; asynchronous ones through
`network_async`. A request is made and an error is told in one way for both.
"""

import ssl
import threading
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

import httpx
from pydantic import SecretStr
from pydantic_core import PydanticSerializationError, to_json

from tracemill.errors import CallFailed
from tracemill.llm.flow import Answer, Exchange, Opened, OpenedAsync
from tracemill.llm.providers import Provider
from tracemill.messages import Json
from tracemill.settings import Settings

if TYPE_CHECKING:
    from tracemill.llm.network_async import Sessions

_POOL_IDLE_S = 60
_REDIRECTS = {301, 302, 303, 307, 308}


class Asked(NamedTuple):
    """A request as it goes out."""

    method: str
    url: httpx.URL
    headers: dict[str, str]
    content: bytes | None
    timeout_s: float


class Network:
    """The pools of connections of one client."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sync: dict[str, httpx.Client] = {}
        self._async: Sessions | None = None

    def send(self, exchange: Exchange, key: SecretStr | None) -> Answer:
        """Send a request and read the whole answer. Raises `CallFailed`."""
        with _translated(exchange):
            answer = self._client(exchange.provider).send(_request(exchange, key))
        _check_place(answer.status_code, answer.headers, exchange)
        return Answer(answer.status_code, dict(answer.headers.items()), answer.content)

    @contextmanager
    def open(self, exchange: Exchange, key: SecretStr | None) -> Generator[Opened]:
        """Send a request and read its answer piece by piece. Raises `CallFailed`."""
        with _translated(exchange):
            answer = self._client(exchange.provider).send(_request(exchange, key), stream=True)
        try:
            _check_place(answer.status_code, answer.headers, exchange)
            yield Opened(
                answer.status_code, dict(answer.headers.items()), _chunks(answer, exchange)
            )
        finally:
            answer.close()

    async def asend(self, exchange: Exchange, key: SecretStr | None) -> Answer:
        """As `send`."""
        with _translated(exchange):
            answer = await self._sessions().send(_asked(exchange, key))
        _check_place(answer.status, answer.headers, exchange)
        return answer

    @asynccontextmanager
    async def aopen(self, exchange: Exchange, key: SecretStr | None) -> AsyncGenerator[OpenedAsync]:
        """As `open`."""
        with _translated(exchange):
            opening = self._sessions().open(_asked(exchange, key))
            status, headers, chunks = await opening.__aenter__()
        try:
            _check_place(status, headers, exchange)
            yield OpenedAsync(status, headers, _achunks(chunks, exchange))
        finally:
            await opening.__aexit__(None, None, None)

    def prepare(self) -> None:
        """Load what `asend` and `aopen` need."""
        self._sessions()

    def close(self) -> None:
        """Close the connections of the blocking calls."""
        with self._lock:
            for client in self._sync.values():
                client.close()
            self._sync.clear()

    async def aclose(self) -> None:
        """Close the connections of this event loop, and those of the blocking calls."""
        self.close()
        if self._async:
            await self._async.close()

    def _sessions(self) -> "Sessions":
        if self._async is None:
            from tracemill.llm.network_async import Sessions

            with self._lock:
                self._async = self._async or Sessions(self._most, _tls())
        return self._async

    def _client(self, provider: Provider) -> httpx.Client:
        client = self._sync.get(provider.base_url)
        if client is None:
            with self._lock:
                client = self._sync.setdefault(
                    provider.base_url,
                    httpx.Client(http1=True, http2=False, limits=self._limits(), verify=_tls()),
                )
        return client

    @property
    def _most(self) -> int:
        return self._settings.llm_connections if self._settings else 100

    def _limits(self) -> httpx.Limits:
        return httpx.Limits(
            max_connections=self._most,
            max_keepalive_connections=self._most,
            keepalive_expiry=_POOL_IDLE_S,
        )


def _request(exchange: Exchange, key: SecretStr | None) -> httpx.Request:
    method, url, headers, content, timeout_s = _asked(exchange, key)
    extensions = {"timeout": _timeouts(timeout_s)}
    return httpx.Request(method, url, headers=headers, content=content, extensions=extensions)


def _asked(exchange: Exchange, key: SecretStr | None) -> Asked:
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
    return Asked(wire.method, url, headers, content, timeout_s)


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


def _check_place(status: int, headers: Mapping[str, str], exchange: Exchange) -> None:
    """A redirect is not followed: the key would go along."""
    if status not in _REDIRECTS or "location" not in headers:
        return
    with _translated(exchange):
        place = _url(exchange.provider.base_url + exchange.wire.path)[0].join(headers["location"])
    raise CallFailed(
        "invalid_request",
        f"{_host(exchange)} sends its callers on to {place.scheme}://{place.host}{place.path}: "
        "where that is the API, set the base URL to it",
        status=status,
    )


def _chunks(answer: httpx.Response, exchange: Exchange) -> Iterator[bytes]:
    with _translated(exchange):
        yield from answer.iter_bytes()


async def _achunks(chunks: AsyncIterator[bytes], exchange: Exchange) -> AsyncIterator[bytes]:
    with _translated(exchange):
        async for chunk in chunks:
            yield chunk


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
