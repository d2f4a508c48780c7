"""Load for a server, from a process of its own: so many requests in flight for so many requests.

    python -m benchmarks.gateway_load URL KEY MODEL IN_FLIGHT REQUESTS plain|stream

Prints one line of JSON: seconds for all, and for each request its latency. Written on bare sockets, so
that two cores can serve and load.
"""

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

# About as long as a short question with its instructions.
PROMPT = "Answer from the passage alone: folding seals the tail of the journal into segments. " * 11


class Caller(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, request: bytes, take: "Counter") -> None:
        self.request, self.take = request, take
        self.rest = b""
        self.length = -1
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(ConnectionError("the server hung up"))

    def ask(self) -> None:
        if not self.take.more():
            self.ended.set_result(None)
            self.transport.close()
            return
        self.rest, self.length = b"", -1
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if self.length < 0:
            end = self.rest.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.rest[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self.ended.set_exception(RuntimeError(self.rest[:500].decode()))
                return
            _, found, after = head.partition(b"content-length:")
            self.length = end + 4 + int(after.split(b"\r\n", 1)[0]) if found else 0
        chunked = self.length == 0 and self.rest.endswith(b"0\r\n\r\n")
        if chunked or (self.length and len(self.rest) >= self.length):
            self.take.took.append(time.perf_counter() - self.began)
            self.ask()


class Counter:
    """How many requests are left."""

    def __init__(self, requests: int) -> None:
        self.left = requests
        self.took: list[float] = []

    def more(self) -> bool:
        self.left -= 1
        return self.left >= 0


async def main(url: str, key: str, model: str, in_flight: int, requests: int, way: str) -> None:
    """Load, then tell."""
    place = urlsplit(url)
    assert place.hostname is not None
    assert place.port is not None
    host, port = place.hostname, place.port
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": PROMPT}],
            "max_completion_tokens": 200,
            **(
                {"stream": True, "stream_options": {"include_usage": True}}
                if way == "stream"
                else {}
            ),
        }
    ).encode()
    head = (
        f"POST {place.path} HTTP/1.1\r\nhost: {place.netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    loop, counter = asyncio.get_running_loop(), Counter(requests)
    began = time.perf_counter()
    callers = [
        await loop.create_connection(lambda: Caller(head.encode() + body, counter), host, port)
        for _ in range(in_flight)
    ]
    await asyncio.gather(*(caller.ended for _, caller in callers))
    print(json.dumps({"seconds": time.perf_counter() - began, "took_s": counter.took}))


if __name__ == "__main__":
    _, url, key, model, in_flight, requests, way = sys.argv
    asyncio.run(main(url, key, model, int(in_flight), int(requests), way))
