"""The response cache in one SQLite file, for the threads and processes of one machine.

It is derived data: a file that is damaged is set aside, a file that is gone is begun anew. As with
the log's journal, only apsw opens it, and every process closes it before it forks.
"""

import fcntl
import logging
import os
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import apsw

from tracemill.llm.cache.answers import read_back, written
from tracemill.messages import Response

MAX_BYTES = 256 * 2**20
_WAIT_MS = 2_000
_VERSION = 1
_CLOCK_STEP_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry(
  key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL, expires REAL NOT NULL,
  used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS entry_used ON entry(used);
CREATE INDEX IF NOT EXISTS entry_expires ON entry(expires);
CREATE TABLE IF NOT EXISTS lease(
  key TEXT PRIMARY KEY, token TEXT NOT NULL, begun REAL NOT NULL, expires REAL NOT NULL);
"""
_FIND = "SELECT value, crc FROM entry WHERE key = ? AND expires > ?"
_TOUCH = "UPDATE entry SET used = (SELECT max(used) + 1 FROM entry) WHERE key = ?"
_ADD = """INSERT INTO entry(key, value, crc, expires, used)
VALUES (?, ?, ?, ?, (SELECT coalesce(max(used), 0) + 1 FROM entry))"""
_MAKE_ROOM = """DELETE FROM entry WHERE key = (SELECT key FROM entry ORDER BY used LIMIT 1) AND (
  SELECT (page_count - freelist_count) * page_size
  FROM pragma_page_count, pragma_freelist_count, pragma_page_size) > ?"""
_LEAD = "INSERT INTO lease VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"

_logger = logging.getLogger("tracemill.cache")
_T = TypeVar("_T")


class FileCache:
    """The cache in the file `path`, opened when it is first used. Threads may share it.

    Its pages take up to `max_bytes` (and SQLite's journal of changes a few MB more); what was used
    longest ago makes room first.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds that all processes share."""
        self._path = path
        self._max_bytes, self._clock = max_bytes, clock
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._inode, self._pid = -1, os.getpid()
        with _forking:
            _open_caches.add(self)

    def get(self, key: str) -> Response | None:
        """As of `Cache`."""
        return self._do(lambda connection: self._get(connection, key), None)

    def put(self, key: str, response: Response, ttl_s: float) -> None:
        """As of `Cache`. An answer larger than half the cache is not kept."""
        value = written(response)
        if value is not None and ttl_s > 0 and len(value) <= self._max_bytes // 2:
            self._do(lambda connection: self._put(connection, key, value, ttl_s), None)

    def lead(self, key: str, lease_s: float) -> str | None:
        """As of `Cache`."""
        token = secrets.token_hex(8)
        return self._do(lambda connection: self._lead(connection, key, token, lease_s), token)

    def release(self, key: str, token: str) -> None:
        """As of `Cache`."""
        query = "DELETE FROM lease WHERE key = ? AND token = ?"
        self._do(lambda connection: _run(connection, query, key, token), None)

    def close(self) -> None:
        """As of `Cache`."""
        with self._lock:
            self._close()

    # Within the lock, on an open connection

    def _get(self, connection: apsw.Connection, key: str) -> Response | None:
        rows = connection.execute(_FIND, (key, self._clock())).fetchall()
        if not rows:
            return None
        value, crc = rows[0]
        response = None
        if isinstance(value, bytes) and zlib.crc32(value) == crc:
            response = read_back(value)
        if response is None:
            _run(connection, "DELETE FROM entry WHERE key = ? AND crc = ?", key, crc)
            return None
        with suppress(apsw.BusyError, apsw.FullError, apsw.ReadOnlyError):
            _run(connection, _TOUCH, key)
        return response

    def _put(self, connection: apsw.Connection, key: str, value: bytes, ttl_s: float) -> None:
        with _writing(connection):
            now = self._clock()
            _run(connection, "DELETE FROM entry WHERE key = ? OR expires <= ?", key, now)
            _run(connection, _ADD, key, value, zlib.crc32(value), now + ttl_s)
            while connection.changes():
                _run(connection, _MAKE_ROOM, self._max_bytes)

    def _lead(
        self, connection: apsw.Connection, key: str, token: str, lease_s: float
    ) -> str | None:
        with _writing(connection):
            # Read within the transaction: whoever comes later has a later time.
            now = self._clock()
            # Otherwise who looked before the answer came, and leads after, would call again.
            if connection.execute(_FIND, (key, now)).fetchall():
                return None
            # A lease from the future was given before the clock was set back.
            gone = "DELETE FROM lease WHERE expires <= ? OR begun > ?"
            _run(connection, gone, now, now + _CLOCK_STEP_S)
            _run(connection, _LEAD, key, token, now, now + lease_s)
            return token if connection.changes() else None

    # Opening, closing, beginning anew

    def _do(self, work: Callable[[apsw.Connection], _T], otherwise: _T) -> _T:
        with self._lock:
            for _ in range(2):
                try:
                    return work(self._opened())
                except (apsw.CorruptError, apsw.NotADBError) as error:
                    self._set_aside(error)
                except (apsw.Error, OSError) as error:
                    self._close()
                    _logger.warning("the response cache %s is not used: %s", self._path, error)
                    return otherwise
        return otherwise

    def _opened(self) -> apsw.Connection:
        if self._pid != os.getpid():
            raise OSError("it was opened before a fork that Python did not see")
        if self._connection is not None and _inode(self._path) != self._inode:
            self._close()
        if self._connection is None:
            with self._alone():
                self._connection = self._open()
        return self._connection

    def _open(self) -> apsw.Connection:
        with suppress(FileExistsError):
            # Answers are nobody else's business.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(self._path))
        # Before the first look into it: so that a damaged file is known by its inode.
        self._inode = _inode(self._path)
        connection.set_busy_timeout(_WAIT_MS)
        try:
            if connection.pragma("user_version") not in (0, _VERSION):
                raise apsw.NotADBError("it is of another version of tracemill")
            connection.pragma("journal_mode", "wal")
            # Nothing waits for the disk: what a power failure tears is found out and set aside.
            connection.pragma("synchronous", "OFF")
            with _writing(connection):
                _run(connection, _SCHEMA)
                connection.pragma("user_version", _VERSION)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, error: apsw.Error) -> None:
        """Begin anew, unless another process already has."""
        damaged, inode = self._path.with_suffix(f".damaged{self._path.suffix}"), self._inode
        self._close()
        try:
            with self._alone():
                if _inode(self._path) != inode:
                    return
                for suffix in ("-wal", "-shm", ""):
                    with suppress(FileNotFoundError):
                        os.replace(f"{self._path}{suffix}", f"{damaged}{suffix}")
        except OSError as problem:
            error.add_note(str(problem))
        _logger.warning(
            "the response cache %s cannot be used (%s): set aside as %s, and begun anew",
            *(self._path, error, damaged.name),
        )

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Be the only process that opens or replaces the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(
            self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            # Explicitly: a child that was forked meanwhile shares the descriptor.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def before_fork(self) -> None:
        """SQLite's locks do not survive a fork: close, and let nobody open until it is over."""
        self._lock.acquire()
        self._close()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child."""
        self._pid = os.getpid()
        self._lock.release()


def _run(connection: apsw.Connection, query: str, *values: "apsw.SQLiteValue") -> None:
    connection.execute(query, values).fetchall()


@contextmanager
def _writing(connection: apsw.Connection) -> Generator[None]:
    _run(connection, "BEGIN IMMEDIATE")
    try:
        yield
        _run(connection, "COMMIT")
    except BaseException:
        if connection.in_transaction:
            _run(connection, "ROLLBACK")
        raise


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return -1


_open_caches: WeakSet[FileCache] = WeakSet()
_paused: list[FileCache] = []
_forking = threading.Lock()  # one fork at a time, and no new cache in the middle of one


def _before_fork() -> None:
    _forking.acquire()
    for cache in sorted(_open_caches, key=id):
        cache.before_fork()
        _paused.append(cache)


def _after_fork() -> None:
    while _paused:
        _paused.pop().after_fork()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
