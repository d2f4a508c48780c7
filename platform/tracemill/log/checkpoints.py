"""Checkpoints of the journal, by a thread of their own: who appends waits for the disk only at their end.

A checkpoint copies the WAL into the database, and syncs both: tens of milliseconds. Most of it is
done while others append; the rest, and what came meanwhile, when it is nobody's turn.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import apsw

from tracemill.errors import TracemillError

_PAGES = 4_096
"""16 MB of WAL."""
_MOST_PAGES = 32_768
"""Where the thread does not come to its end, who appends does it."""


class Checkpoints:
    """Those of one journal in this process."""

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        turn: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """`connect` opens the journal once more; while `turn()` is held nobody appends."""
        self.idle = threading.Lock()
        """Held while one is made. Taken before the turn."""
        self._connect, self._turn = connect, turn
        self._running = False
        self._pages = 0

    def watch(self, writer: apsw.Connection) -> None:
        """Hear of its commits; SQLite makes no checkpoints by itself then."""
        self._pages = 0
        writer.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    def make(self, writer: apsw.Connection) -> None:
        """Make one, if it is time. Call it after a commit, holding the turn."""
        if self._pages >= _MOST_PAGES:
            writer.wal_checkpoint()
        elif self._pages >= _PAGES and not self._running:
            self._running = True
            try:
                threading.Thread(target=self._run, name="tracemill checkpoint", daemon=True).start()
            except RuntimeError:  # no threads any more: the process ends
                self._running = False

    def after_fork(self) -> None:
        """The child has no thread that makes one."""
        self._running = False

    def _run(self) -> None:
        try:
            # It is only put off: the WAL holds everything, and the next commit asks again.
            with self.idle, suppress(apsw.Error, TracemillError, OSError):
                connection = self._connect()
                try:
                    connection.pragma("checkpoint_fullfsync", True)
                    connection.wal_checkpoint()
                    connection.wal_checkpoint()
                    with self._turn():
                        connection.wal_checkpoint()
                finally:
                    connection.close()
        finally:
            self._running = False
