"""A real HTTP server on loopback that answers as a test says, down to cutting the connection."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Say(NamedTuple):
    """What to answer."""

    body: bytes | Iterable[bytes] = b""
    """Bytes with their length, or pieces that are sent one by one."""
    status: int = 200
    headers: Mapping[str, str] = {"content-type": "application/json"}
    cut: bool = False
    """Close the connection in the middle."""


Answer = Callable[[Seen], Say]


def say(value: Any, status: int = 200, **headers: str) -> Say:
    """A JSON answer."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Say(json.dumps(value).encode(), status, {"content-type": "application/json", **named})


def say_events(*data: Any, cut: bool = False) -> Say:
    """A stream of server-sent events; strings go as they are."""
    lines = [each if isinstance(each, str) else json.dumps(each) for each in data]
    pieces = [f"data: {line}\n\n".encode() for line in lines]
    return Say(pieces, 200, {"content-type": "text/event-stream"}, cut)


class Server:
    """What has arrived, and what is answered next."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.url = ""


@contextlib.contextmanager
def serving(answer: Answer) -> Generator[Server]:
    """A server until the block ends; `server.answer` may be replaced at any time."""
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, self.rfile.read(length))
            server.seen.append(seen)
            with contextlib.suppress(ConnectionError):
                self._say(server.answer(seen))

        do_GET = do_POST

        def _say(self, what: Say) -> None:
            self.send_response(what.status)
            for name, value in what.headers.items():
                self.send_header(name, value)
            whole = isinstance(what.body, bytes)
            if isinstance(what.body, bytes):
                # More than is sent: the client sees that something is missing.
                self.send_header("content-length", str(len(what.body) + 10 * what.cut))
                self.end_headers()
                self.wfile.write(what.body)
            else:
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in what.body:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if what.cut:
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif not whole:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Listener(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
