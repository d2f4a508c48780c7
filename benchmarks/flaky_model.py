"""An upstream that takes its time and fails one time in ten, in a process of its own.

    python -m benchmarks.flaky_model SEED        prints its port, serves until it is killed

Streams thirty pieces over about a second. Of ten requests one fails: with an error status, with an
error within the stream, or by a connection that is cut.
"""

import asyncio
import json
import random
import sys

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_REFUSED = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n"
    b'x-should-retry: false\r\ncontent-length: 38\r\n\r\n{"error": {"message": "it fell over."}}'
)
_PIECES = 30


def _chunk(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    said = {"id": "chatcmpl-1", "model": "gpt-5.4-mini", "choices": [choice], **more}
    return _framed(json.dumps(said))


def _framed(text: str) -> bytes:
    piece = f"data: {text}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(piece), piece)


async def _answer(writer: asyncio.StreamWriter, chance: random.Random) -> bool:
    """Whether the connection can be used again."""
    fails = chance.random() < 0.1
    how = chance.choice(("status", "within", "cut"))
    if fails and how == "status":
        writer.write(_REFUSED)
        return True
    writer.write(_HEAD)
    for number in range(_PIECES):
        if fails and number == _PIECES // 2:
            if how == "cut":
                return False
            writer.write(_framed(json.dumps({"error": {"message": "it broke", "code": 500}})))
            writer.write(b"0\r\n\r\n")
            return True
        writer.write(_chunk({"content": f"piece {number} "}))
        await writer.drain()
        await asyncio.sleep(chance.uniform(0.005, 0.06))
    usage = {"prompt_tokens": 40, "completion_tokens": 90, "total_tokens": 130}
    writer.write(_chunk({}, "stop") + _chunk({}, None, usage=usage) + _framed("[DONE]"))
    writer.write(b"0\r\n\r\n")
    return True


async def main(seed: int) -> None:
    """Serve for ever."""
    chance = random.Random(seed)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
                await reader.readexactly(length)
                if not await _answer(writer, chance):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
