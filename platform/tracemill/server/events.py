"""What answers are written as: JSON in one piece, or server-sent events."""

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Protocol

import anyio
from pydantic_core import to_json
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

_STREAMED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


class Closing(Protocol):
    """What a streamed answer is made of."""

    def more(self) -> bool: ...
    async def aclose(self) -> None: ...


class Events(StreamingResponse):
    """An answer that is written piece by piece.

    Where the caller goes away the generator is closed there and then, not when the collector finds
    it: the call behind it ends as cut, and gives back what it had reserved.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[bytes],
        headers: Mapping[str, str] | None = None,
        live: "Closing | None" = None,
    ) -> None:
        """`live` is what the pieces are made of: it tells whether the next one is here already, so
        that they leave together, and is closed also where nobody began to read."""
        super().__init__(
            _joined(pieces, live.more if live else lambda: False),
            media_type="text/event-stream",
            headers={**_STREAMED, **(headers or {})},
        )
        self._pieces, self._live = pieces, live

    async def stream_response(self, send: Send) -> None:
        """Write all pieces."""
        try:
            await super().stream_response(send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()
                if self._live is not None:
                    await self._live.aclose()


async def _joined(pieces: AsyncGenerator[bytes], more: Callable[[], bool]) -> AsyncGenerator[bytes]:
    held: list[bytes] = []
    async for piece in pieces:
        held.append(piece)
        if not more():
            yield b"".join(held)
            held.clear()
    if held:
        yield b"".join(held)


def event(data: Any, name: str | None = None) -> bytes:
    """One event, as JSON."""
    named = b"event: " + name.encode() + b"\n" if name else b""
    return named + b"data: " + to_json(data) + b"\n\n"


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in one piece, as JSON."""
    return Response(
        to_json(body), status, headers=dict(headers or {}), media_type="application/json"
    )
