"""Another process that has a log open and does as it is told, one order at a time."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from tests.log.made import many
from tracemill.errors import TracemillError
from tracemill.log import EventLog


class Other:
    """`Other(folder).do("append", 3)` answers with what the method gave, or with the error."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def do(self, what: str, count: int = 0) -> Any:
        self._connection.send((what, count))
        if not self._connection.poll(60):
            raise TimeoutError(what)
        return self._connection.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join(30)
        self._process.close()


def _serve(folder: Path, connection: Connection) -> None:
    log = EventLog(folder)
    while True:
        try:
            what, count = connection.recv()
        except EOFError:
            return
        try:
            connection.send(_obey(log, what, count))
        except TracemillError as error:
            connection.send(error)


def _obey(log: EventLog, what: str, count: int) -> Any:
    if what == "append":
        return [log.append(event)[0] for event in many(count)][-1]
    if what == "verify":
        return log.verify().problems
    return getattr(log, what)()
