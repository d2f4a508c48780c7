"""A server on the loopback that answers 200 to everything and keeps each body it was sent.

sink.py FOLDER        prints its port, and serves until it is terminated
"""

import itertools
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
NUMBERS = itertools.count()


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        (FOLDER / f"{next(NUMBERS)}.body").write_bytes(body)
        self._accept()

    def do_GET(self) -> None:
        self._accept()

    def _accept(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Sink) as server:
        print(server.server_port, flush=True)
        server.serve_forever()
