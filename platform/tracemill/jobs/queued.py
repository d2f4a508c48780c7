"""The queue of jobs: which requests are next. It carries numbers only, and can be deleted.

huey keeps it, in SQLite or in Redis. What it is asked to do is small: put, take the first by
priority, put off until later. That something is taken once and done at least once is a matter of
leases and of the log, which rebuild a queue that was lost.
"""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tracemill.errors import LogNotWritable, QueueUnreachable, UsageError
from tracemill.events import new_id
from tracemill.files import write_text_atomically
from tracemill.log.turn import only_one
from tracemill.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

FILE = "queue.db"
LEAST_PRIORITY, MOST_PRIORITY = -100, 100
_SIDES = ("", "-wal", "-shm")


class Ticket(NamedTuple):
    """Requests of one job that stand behind each other, to be taken together."""

    job_id: str
    round: int
    first: int
    """Counted from 0."""
    size: int
    alone: bool = False
    """Nothing else is to be done meanwhile: a worker has died with it before."""

    @property
    def indices(self) -> range:
        """Which requests."""
        return range(self.first, self.first + self.size)

    def __str__(self) -> str:
        return f"{self.job_id}.{self.round}.{self.first}.{self.size}.{int(self.alone)}"

    @classmethod
    def read(cls, text: str) -> Self:
        """The inverse of `str`. Raises `ValueError`."""
        job_id, round_, first, size, alone = text.split(".")
        return cls(job_id, int(round_), int(first), int(size), alone == "1")


class Queue:
    """The queue of one warehouse. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        """Raises `UsageError`: `settings.queue` is no address of Redis."""
        self._address = settings.queue
        self._path = settings.jobs / FILE
        self._lock = settings.jobs / "queue.lock"
        self._inode = 0
        self._storage: Any = None
        settings.jobs.mkdir(parents=True, exist_ok=True)
        self._usable()

    @property
    def address(self) -> str | None:
        """Of Redis; None where the queue is a file."""
        return self._address

    def locked(self) -> "AbstractContextManager[bool]":
        """Be the only one who takes or mends: what is neither queued nor leased then is lost."""
        return only_one(self._lock, wait=True)

    def put(self, tickets: Iterable[Ticket], priority: int) -> None:
        """Behind everything of the same priority. Raises `QueueUnreachable`, as all here do."""
        for ticket in tickets:
            self._do("enqueue", str(ticket).encode(), priority)

    def pop(self) -> Ticket | None:
        """Take the first; None where there is none. Call it locked."""
        while data := self._do("dequeue"):
            with suppress(ValueError):
                return Ticket.read(bytes(data).decode())
        return None

    def later(self, ticket: Ticket, wait_s: float) -> None:
        """Put it off; `due` gives it back."""
        # Redis reads the local clock, SQLite any: huey wants a time without zone.
        moment = datetime.fromtimestamp(time.time() + wait_s)  # noqa: DTZ006
        self._do("add_to_schedule", str(ticket).encode(), moment)

    def due(self) -> list[Ticket]:
        """Take what was put off until now. Call it locked, and `put` it."""
        return _read(self._do("read_schedule", datetime.now()))  # noqa: DTZ005

    def waiting(self) -> bool:
        """Whether there is anything to take."""
        return bool(self._do("enqueued_items", 1))

    def ready(self) -> list[Ticket]:
        """All that can be taken, in their order."""
        return _read(self._do("enqueued_items"))

    def put_off(self) -> list[Ticket]:
        """All that were put off, also such as are `due`."""
        return _read(self._do("scheduled_items"))

    def tickets(self) -> list[Ticket]:
        """All."""
        return [*self.ready(), *self.put_off()]

    def close(self) -> None:
        """Let go of the file or the connection."""
        self._storage.close()

    def _do(self, name: str, *arguments: Any) -> Any:
        self._usable()
        try:
            return getattr(self._storage, name)(*arguments)
        except Exception as error:  # noqa: BLE001 (Redis and SQLite have their own)
            if self._address:
                raise _unreachable(error) from None
            import sqlite3

            if isinstance(error, sqlite3.OperationalError) or not isinstance(
                error, sqlite3.DatabaseError
            ):
                raise _not_writable(self._path, error) from None
            self._set_aside()
            return getattr(self._storage, name)(*arguments)

    def _usable(self) -> None:
        """Open it; anew where the file was deleted under us."""
        if self._address:
            if self._storage is None:
                self._storage = _redis(self._address, self.name)
            return
        with suppress(FileNotFoundError):
            if self._storage is not None and self._path.stat().st_ino == self._inode:
                return
        if self._storage is not None:
            self._storage.close()
        with only_one(self._lock.with_suffix(".opening"), wait=True):
            self._open()

    @property
    def name(self) -> str:
        """Of this warehouse, among others that use the same Redis."""
        path = self._path.with_name("queue.id")
        with only_one(self._lock.with_suffix(".opening"), wait=True):
            if not path.exists():
                write_text_atomically(path, new_id())
        return path.read_text(encoding="utf-8")

    def _open(self) -> None:
        import sqlite3

        try:
            self._storage = _file(self._path)
        except sqlite3.OperationalError as error:
            raise _not_writable(self._path, error) from None
        except sqlite3.DatabaseError:
            self._move()
            self._storage = _file(self._path)
        self._inode = self._path.stat().st_ino

    def _set_aside(self) -> None:
        """The file is damaged; an empty one takes its place, which is then mended from the log."""
        self._storage.close()
        with only_one(self._lock.with_suffix(".opening"), wait=True):
            if self._path.exists() and self._path.stat().st_ino == self._inode:
                self._move()
            self._open()

    def _move(self) -> None:
        for side in _SIDES:
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{side}", f"{self._path}.damaged{side}")


def _file(path: Path) -> Any:
    try:
        from huey.storage import SqliteStorage  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise UsageError("jobs need more: pip install 'tracemill[server]'") from None
    # Nothing waits for the disk: the log can make the queue anew.
    return SqliteStorage("jobs", filename=str(path), fsync=False, timeout=30, strict_fifo=True)


def _redis(address: str, name: str) -> Any:
    if not address.startswith(("redis://", "rediss://", "unix://")):
        raise UsageError(f"TRACEMILL_QUEUE is redis://host:port/number, not {address[:60]!r}")
    try:
        import redis  # noqa: F401  # pyright: ignore[reportUnusedImport]
        from huey.storage import (  # pyright: ignore[reportMissingTypeStubs]
            PriorityRedisStorage,
        )
    except ImportError:
        raise UsageError("a queue in Redis needs more: pip install 'tracemill[redis]'") from None
    try:
        return PriorityRedisStorage(f"tracemill{name}", url=address, blocking=False)
    except ValueError as error:
        raise UsageError(f"TRACEMILL_QUEUE: {error}") from None


def _read(found: Iterable[bytes]) -> list[Ticket]:
    tickets: list[Ticket] = []
    for data in found:
        with suppress(ValueError):
            tickets.append(Ticket.read(bytes(data).decode()))
    return tickets


def _unreachable(error: Exception) -> QueueUnreachable:
    why = str(error).split("\n")[0]
    return QueueUnreachable(f"the queue in Redis cannot be reached ({why}): see TRACEMILL_QUEUE")


def _not_writable(path: Path, error: Exception) -> LogNotWritable:
    return LogNotWritable(f"the queue {path} cannot be written: {error}")
