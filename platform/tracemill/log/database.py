"""A SQLite file of derived data, such as a cache, for the threads and processes of one machine.

A file that is damaged is set aside, one that is gone is begun anew, and whatever else goes wrong is
a miss with a warning. As with the journal, only apsw opens it, and every process closes it
before it forks.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import apsw

_WAIT_MS = 2_000
_SHORT_WAITS = 40

_logger = logging.getLogger("tracemill.cache")
_T = TypeVar("_T")


class Database:
    """The file `path`, opened when it is first used. Threads may share it."""

    def __init__(self, path: Path, *, schema: str, version: int, name: str) -> None:
        """`schema` may be run again; a file of another `version` is begun anew; `name` is for
        people, such as `response cache`."""
        self._path, self._name = path, name
        self._schema, self._version = schema, version
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._inode, self._pid = -1, os.getpid()
        with _forking:
            _open.add(self)

    def do(self, work: Callable[[apsw.Connection], _T], otherwise: _T) -> _T:
        """What `work` makes of the open file; `otherwise` when the file cannot be used."""
        with self._lock:
            for _ in range(2):
                try:
                    return work(self._opened())
                except (apsw.CorruptError, apsw.NotADBError) as error:
                    self._set_aside(error)
                except (apsw.Error, OSError) as error:
                    self._close()
                    _logger.warning("the %s %s is not used: %s", self._name, self._path, error)
                    return otherwise
        return otherwise

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self._lock:
            self._close()

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
            # What was asked and answered is nobody else's business.
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(self._path))
        # Before the first look into it: so that a damaged file is known by its inode.
        self._inode = _inode(self._path)
        connection.set_busy_handler(_waits)
        try:
            if connection.pragma("user_version") not in (0, self._version):
                raise apsw.NotADBError("it is of another version of tracemill")
            connection.pragma("journal_mode", "wal")
            # Nothing waits for the disk: what a power failure tears is found out and set aside.
            connection.pragma("synchronous", "OFF")
            with writing(connection):
                run(connection, self._schema)
                connection.pragma("user_version", self._version)
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
            "the %s %s cannot be used (%s): set aside as %s, and begun anew",
            *(self._name, self._path, error, damaged.name),
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


def run(connection: apsw.Connection, query: str, *values: "apsw.SQLiteValue") -> None:
    """Run a query that gives nothing back."""
    connection.execute(query, values).fetchall()


def _waits(tries: int) -> bool:
    """Until it is our turn, for up to `_WAIT_MS`. SQLite's own waits begin at a millisecond, while
    most turns take some twenty microseconds."""
    if tries < _SHORT_WAITS:
        time.sleep(0.000_05)
    else:
        time.sleep(0.002)
    return tries < _SHORT_WAITS + _WAIT_MS // 2


@contextmanager
def writing(connection: apsw.Connection) -> Generator[None]:
    """A transaction that writes: all of it or, after an error, nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return -1


_open: WeakSet[Database] = WeakSet()
_paused: list[Database] = []
_forking = threading.Lock()  # one fork at a time, and no new file in the middle of one


def _before_fork() -> None:
    _forking.acquire()
    for database in sorted(_open, key=id):
        database.before_fork()
        _paused.append(database)


def _after_fork() -> None:
    while _paused:
        _paused.pop().after_fork()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
