"""A model that answers at once, in a process of its own: what remains is the caller's time.

    python -m benchmarks.model_server        prints its port, serves until it is killed

Speaks just enough HTTP/1.1 for POST with a length and connections that are kept. Where the body asks
for a stream, the answer comes as twelve pieces, written at once.
"""

import asyncio
import json

_BODY = json.dumps(
    {
        "id": "chatcmpl-benchmark",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-5.4-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The log seals its tail. " * 12},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 230,
            "completion_tokens": 84,
            "total_tokens": 314,
            "prompt_tokens_details": {"cached_tokens": 128},
        },
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_benchmark\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-reset-requests: 6ms\r\n"
    b"content-length: %d\r\n\r\n" % len(_BODY)
) + _BODY


def _streamed() -> bytes:
    head = {"id": "chatcmpl-benchmark", "object": "chat.completion.chunk", "created": 1_790_000_000}
    head["model"] = "gpt-5.4-mini"
    deltas = [{"role": "assistant", "content": ""}, *[{"content": "The log seals its tail. "}] * 12]
    chunks = [{**head, "choices": [{"index": 0, "delta": each}]} for each in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = {"prompt_tokens": 230, "completion_tokens": 84, "total_tokens": 314}
    chunks.append({**head, "choices": [], "usage": usage})
    texts = [*map(json.dumps, chunks), "[DONE]"]
    pieces = [f"data: {text}\n\n".encode() for text in texts]
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_benchmark\r\n"
        b"transfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    )


_STREAM = _streamed()
_ASKS_FOR_STREAM = (b'"stream":true', b'"stream": true')


class Model(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end].lower()
            _, found, after = head.partition(b"content-length:")
            length = int(after.split(b"\r\n", 1)[0]) if found else 0
            if len(self.rest) < end + 4 + length:
                return
            body = self.rest[end + 4 : end + 4 + length]
            self.rest = self.rest[end + 4 + length :]
            streams = any(asked in body for asked in _ASKS_FOR_STREAM)
            self.transport.write(_STREAM if streams else _ANSWER)


async def main() -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
