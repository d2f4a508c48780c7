"""What is no HTTP, over real sockets: blocking and async calls say the same of it."""

import asyncio
import contextlib
import inspect
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tracemill import EventLog, Request
from tracemill.errors import CallFailed
from tracemill.llm import network
from tracemill.llm.client import Client
from tracemill.llm.flow import Exchange
from tracemill.llm.providers import PROVIDERS, Wire

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextlib.contextmanager
def saying(data: bytes) -> Iterator[str]:
    """A server that says this to whoever connects, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(ConnectionError):
                        connection.recv(65_536)
                        connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


async def whole(client: Client, request: Request) -> None:
    async with client.astream(request) as stream:
        _ = [piece async for piece in stream]


WAYS: dict[str, Callable[[Client, Request], object]] = {
    "generate": lambda client, request: client.generate(request),
    "stream": lambda client, request: list(client.stream(request)),
    "agenerate": lambda client, request: asyncio.run(client.agenerate(request)),
    "astream": lambda client, request: asyncio.run(whole(client, request)),
}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
    with EventLog(tmp_path / "log") as log:
        client = Client(log)
        yield client
        client.close()


def failed(client: Client, way: str) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        WAYS[way](client, Request.of("Capital of France?", model="openai/gpt-5.4-mini"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return caught.value


@pytest.mark.parametrize(
    ("said", "error_type"),
    [
        pytest.param(b"", "connection", id="nothing"),
        pytest.param(b"garbage\r\n\r\n", "connection", id="no HTTP"),
        pytest.param(HEAD + b"Content-", "connection", id="half a head"),
        pytest.param(HEAD + b"\x00Bad\r\n\r\n", "connection", id="a header that is none"),
        pytest.param(HEAD + b"Content-Length: 50\r\n\r\n{}", "connection", id="half a body"),
        pytest.param(
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", "connection", id="bad chunks"
        ),
        pytest.param(
            HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            "malformed_response",
            id="no gzip",
        ),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_http(
    client: Client, monkeypatch: pytest.MonkeyPatch, way: str, said: bytes, error_type: str
) -> None:
    with saying(said) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert failed(client, way).error_type == error_type


@pytest.mark.parametrize("location", ["https://me:hush@new.invalid/v2?k=hush", "http://[", "/v2"])
@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_is_not_followed(
    client: Client, monkeypatch: pytest.MonkeyPatch, way: str, location: str
) -> None:
    head = f"HTTP/1.1 308 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    with saying(head.encode()) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        error = failed(client, way)
    assert error.error_type == "invalid_request"
    if location != "http://[":
        assert error.status == 308
        assert "/v2: where that is the API, set the base URL to it" in str(error)
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    ("url", "error_type"),
    [
        ("http://127.0.0.1:9/v1", "connection"),
        ("ftp://me:hush@127.0.0.1/v1", "invalid_request"),
        ("http://[::1/v1", "invalid_request"),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_where_nobody_is(
    client: Client, monkeypatch: pytest.MonkeyPatch, way: str, url: str, error_type: str
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    error = failed(client, way)
    assert error.error_type == error_type
    assert "hush" not in str(error)


def test_no_exception_of_httpx_is_left_as_it_is() -> None:
    """Also those that a later version may add."""
    exchange = Exchange(PROVIDERS["openai"], Wire("/chat/completions"), 1)
    kinds = [
        kind
        for _, kind in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(kind, Exception) and kind is not httpx.CookieConflict  # we keep no cookies
    ]
    assert len(kinds) > 20
    for kind in kinds:
        arguments = {"request": None, "response": None} if kind is httpx.HTTPStatusError else {}
        plain = issubclass(kind, httpx.StreamError) and kind is not httpx.StreamError
        error = kind(*() if plain else ("broke",), **arguments)
        with pytest.raises(CallFailed), network._translated(exchange):
            raise error
