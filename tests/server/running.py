"""The whole server on a free port of this machine, in a thread: what an SDK talks to in tests."""

import contextlib
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import uvicorn

from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.server.app import create
from tracemill.server.gateway import Gateway
from tracemill.server.protocol import Limited
from tracemill.settings import Settings


class Running(NamedTuple):
    """A server that runs."""

    url: str
    """`http://127.0.0.1:PORT`, without a path."""
    gateway: Gateway

    @property
    def log(self) -> EventLog:
        return self.gateway.log


@contextlib.contextmanager
def running(warehouse: Path) -> Generator[Running]:
    """Serves this warehouse until the block ends."""
    settings = Settings(warehouse=warehouse).create()
    log = EventLog.open(settings)
    gateway = Gateway(settings, log, Client(log, settings))
    began = threading.Event()
    config = uvicorn.Config(
        create(gateway, began.set),
        http=Limited,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        assert began.wait(30)
        try:
            yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", gateway)
        finally:
            server.should_exit = True
            thread.join(30)
            log.close()
