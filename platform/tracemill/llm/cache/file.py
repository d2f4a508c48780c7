"""The response cache in one SQLite file, for the threads and processes of one machine.

What was used longest ago makes room. How the file is opened, shared and begun anew: `database`.
"""

import secrets
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import apsw

from tracemill.llm.cache.answers import read_back, written
from tracemill.log.database import Database, run, writing
from tracemill.messages import Response

FILE = "responses.db"
MAX_BYTES = 256 * 2**20
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
        self._max_bytes, self._clock = max_bytes, clock
        self._database = Database(path, schema=_SCHEMA, version=_VERSION, name="response cache")

    def get(self, key: str) -> Response | None:
        """As of `Cache`."""
        return self._database.do(lambda connection: self._get(connection, key), None)

    def put(self, key: str, response: Response, ttl_s: float) -> None:
        """As of `Cache`. An answer larger than half the cache is not kept."""
        value = written(response)
        if value is not None and ttl_s > 0 and len(value) <= self._max_bytes // 2:
            self._database.do(lambda connection: self._put(connection, key, value, ttl_s), None)

    def lead(self, key: str, lease_s: float) -> str | None:
        """As of `Cache`."""
        token = secrets.token_hex(8)
        return self._database.do(
            lambda connection: self._lead(connection, key, token, lease_s), token
        )

    def release(self, key: str, token: str) -> None:
        """As of `Cache`."""
        query = "DELETE FROM lease WHERE key = ? AND token = ?"
        self._database.do(lambda connection: run(connection, query, key, token), None)

    def close(self) -> None:
        """As of `Cache`."""
        self._database.close()

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
            run(connection, "DELETE FROM entry WHERE key = ? AND crc = ?", key, crc)
            return None
        with suppress(apsw.BusyError, apsw.FullError, apsw.ReadOnlyError):
            run(connection, _TOUCH, key)
        return response

    def _put(self, connection: apsw.Connection, key: str, value: bytes, ttl_s: float) -> None:
        with writing(connection):
            now = self._clock()
            run(connection, "DELETE FROM entry WHERE key = ? OR expires <= ?", key, now)
            run(connection, _ADD, key, value, zlib.crc32(value), now + ttl_s)
            while connection.changes():
                run(connection, _MAKE_ROOM, self._max_bytes)

    def _lead(
        self, connection: apsw.Connection, key: str, token: str, lease_s: float
    ) -> str | None:
        with writing(connection):
            # Read within the transaction: whoever comes later has a later time.
            now = self._clock()
            # Otherwise who looked before the answer came, and leads after, would call again.
            if connection.execute(_FIND, (key, now)).fetchall():
                return None
            # A lease from the future was given before the clock was set back.
            gone = "DELETE FROM lease WHERE expires <= ? OR begun > ?"
            run(connection, gone, now, now + _CLOCK_STEP_S)
            run(connection, _LEAD, key, token, now, now + lease_s)
            return token if connection.changes() else None


def prune(folder: Path, now: float, *, dry_run: bool = False) -> int:
    """Delete the answers in `folder` whose time is over at `now` (seconds since 1970); how many.

    `dry_run` only counts. Whoever asks for an expired answer gets none in any case.
    """
    path = folder / FILE
    if not path.exists():
        return 0
    database = Database(path, schema=_SCHEMA, version=_VERSION, name="response cache")

    def work(connection: apsw.Connection) -> int:
        with writing(connection):
            counted = connection.execute("SELECT count(*) FROM entry WHERE expires <= ?", (now,))
            ((expired,),) = counted.fetchall()
            if not dry_run:
                run(connection, "DELETE FROM entry WHERE expires <= ?", now)
            return cast(int, expired)

    try:
        return database.do(work, 0)
    finally:
        database.close()
