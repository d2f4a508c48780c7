"""The asynchronous half of the network: aiohttp itself, for with httpx over it a call takes a third
longer, and httpx alone falls to a tenth of the requests at 64 in flight.

Errors are raised as httpx's of the same meaning, so that both halves are told in the same words.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from ssl import SSLContext
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from tracemill.llm.flow import Answer

if TYPE_CHECKING:
    from tracemill.llm.network import Asked

_POOL_IDLE_S = 60
_CONNECT_S = 5.0


class Sessions:
    """A session for each event loop: connections belong to the loop that made them."""

    def __init__(self, most: int, tls: SSLContext) -> None:
        """`most` connections to one host."""
        self._most, self._tls = most, tls
        self.holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[aiohttp.ClientSession]] = {}
        self._open: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def send(self, asked: "Asked") -> Answer:
        """Send and read the whole answer. Raises httpx's errors."""
        with _as_httpx():
            async with await self._asked(asked) as answer:
                return Answer(answer.status, _headers(answer), await answer.read())

    @asynccontextmanager
    async def open(
        self, asked: "Asked"
    ) -> AsyncGenerator[tuple[int, dict[str, str], AsyncIterator[bytes]]]:
        """Send; status, headers, and the body as it comes. Raises as `send`."""
        with _as_httpx():
            answer = await self._asked(asked)
        try:
            yield answer.status, _headers(answer), _chunks(answer)
        finally:
            answer.release()

    async def close(self) -> None:
        """Close the connections of this event loop."""
        if holder := self.holders.get(asyncio.get_running_loop()):
            await holder.aclose()

    async def _asked(self, asked: "Asked") -> aiohttp.ClientResponse:
        loop = asyncio.get_running_loop()
        session = self._open.get(loop)
        if session is None:
            self.holders[loop] = holder = self._held(loop)
            session = await anext(holder)
        return await session.request(
            asked.method,
            _url(asked.url),
            data=asked.content,
            headers=asked.headers,
            timeout=_timeout(asked.timeout_s),
            allow_redirects=False,
            proxy=_proxy(asked.url.scheme, asked.url.host),
        )

    async def _held(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[aiohttp.ClientSession]:
        """The session of one event loop. An event loop closes its generators before it ends, so this
        closes the connections also where nobody calls `aclose`."""
        connector = aiohttp.TCPConnector(
            limit=0, limit_per_host=self._most, keepalive_timeout=_POOL_IDLE_S, ssl=self._tls
        )
        session = self._open[loop] = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        )
        try:
            yield session
        finally:
            del self._open[loop], self.holders[loop]
            await session.close()


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    with _as_httpx():
        async for chunk in answer.content.iter_any():
            yield chunk


@lru_cache(256)
def _url(url: httpx.URL) -> URL:
    return URL(str(url), encoded=True)


@lru_cache(256)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        connect=timeout_s, sock_connect=min(timeout_s, _CONNECT_S), sock_read=timeout_s
    )


@lru_cache(256)
def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a place; as urllib and httpx read it."""
    known = getproxies()
    found = known.get(scheme) or known.get("all")
    return None if found is None or proxy_bypass(host) else found


@contextmanager
def _as_httpx() -> Generator[None]:
    """Errors as httpx's; no words of theirs that may quote the URL, which may hold a password."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx.ConnectTimeout("no connection") from error
    except TimeoutError as error:
        raise httpx.ReadTimeout("no answer") from error
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise httpx.UnsupportedProtocol("it begins with neither http:// nor https://") from error
    except aiohttp.ClientPayloadError as error:
        if isinstance(error.__cause__, ContentEncodingError):
            raise httpx.DecodingError(_said(error.__cause__)) from error
        raise httpx.RemoteProtocolError(_said(error)) from error
    except aiohttp.ClientOSError as error:
        raise httpx.NetworkError(_said(error)) from error
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(_said(error)) from error
    except ValueError as error:
        # A header that none can be; it may be the key.
        raise httpx.LocalProtocolError(type(error).__name__) from error


def _said(error: BaseException) -> str:
    """One line of aiohttp's words; it may quote what came."""
    words = getattr(error, "message", None) or str(error)
    return (
        words.partition("\n")[0][:200].rstrip(":")
        if isinstance(words, str)
        else type(error).__name__
    )
