"""HTTP as uvicorn speaks it, with the limits that it lacks: how long and how large headers may be.

Without them a few clients that send one letter a minute, or headers without end, hold every
connection or all memory.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_URL_BYTES = 16 * 1024
HEADERS_S = 10.0
"""How long the headers of a request may take, from the first byte of the connection or request."""


class Limited(HttpToolsProtocol):
    """One connection."""

    _bytes = 0
    _in_headers = True
    _begun = False
    """Whether the headers of a request have begun to come, and have not ended."""
    _ended = 0
    """How many requests have come whole."""
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        ended = self._ended
        super().data_received(data)
        # Only where they did not come at once: most do, and a timer costs as much as reading them.
        if self._begun and self._timer is None:
            self._begin()
        # Only now: the parser tells where a request begins, which sets the count back. Where one
        # has ended, what came was its body.
        if self._in_headers and ended == self._ended:
            self._bytes += len(data)
            if self._bytes > MAX_HEADER_BYTES:
                self._refuse("431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        self._in_headers = self._begun = True
        self._bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse("414 URI Too Long")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refuse("431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        self._in_headers = self._begun = False
        self._stop()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_headers = True
        self._bytes = 0
        self._ended += 1
        if not self.transport.is_closing():
            super().on_message_complete()

    def _begin(self) -> None:
        self._timer = self.loop.call_later(HEADERS_S, self._late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        self._refuse("408 Request Timeout")

    def _refuse(self, status: str) -> None:
        self._stop()
        if self.transport.is_closing():
            return
        head: Any = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()
