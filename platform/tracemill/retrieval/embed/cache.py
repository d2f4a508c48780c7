"""Vectors by what was embedded: one SQLite file for all processes, bounded, what is old goes first.

A key is the hash of model, input kind and text, so that nothing can be taken for another's. Vectors
are kept in half precision: half the room, and no search can tell the difference.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import apsw

from tracemill.llm.embedding import InputKind
from tracemill.log.database import Database, run, writing
from tracemill.retrieval.embed.models import Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask: TypeAlias = NDArray[np.bool_]
    Rows: TypeAlias = NDArray[np.int64]
    Vectors: TypeAlias = NDArray[np.float32]
    Halves: TypeAlias = NDArray[np.float16]

_Rows: TypeAlias = list[tuple[int, bytes, bytes, int, int]]

FILE = "embeddings.db"
MAX_BYTES = 2 * 2**30
"""Three million vectors of 256 numbers, or 300,000 of 3,072."""
_VERSION = 1
_AT_ONCE = 2_000  # rows in a transaction; others write between
# What is used again within it is not written down again.
_HOUR_S = 3_600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS vector(
  id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, vector BLOB NOT NULL, crc INTEGER NOT NULL,
  used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS vector_used ON vector(used, id);
"""
_FIND = "SELECT id, key, vector, crc, used FROM vector WHERE key = ?"
_ADD = "INSERT INTO vector(key, vector, crc, used) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_BYTES = """SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count, pragma_freelist_count, pragma_page_size"""
_DROP = "DELETE FROM vector WHERE id IN (SELECT id FROM vector ORDER BY used, id LIMIT ?)"


def halves(vectors: "Vectors") -> "Halves":
    """Vectors as they are kept."""
    import numpy as np

    return vectors.astype(np.float16)


def whole(halves: "Halves") -> "Vectors":
    """Vectors out of what is kept: float32, of length 1 (zeros stay zeros)."""
    import numpy as np

    vectors = halves.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=vectors, where=lengths > 0)


class Kept:
    """The vectors of one model and kind of input that the file in `folder` keeps."""

    def __init__(
        self,
        folder: Path,
        model: Model,
        kind: InputKind,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes` bounds the file, whoever wrote into it, to a few MB more."""
        self._database = _opened(folder / FILE)
        self._who = blake2b(
            f"{kind} {model.dimensions} {model.identity}".encode(), digest_size=32
        ).digest()
        self._bytes = 2 * model.dimensions
        self._max_bytes, self._clock = max_bytes, clock

    def read(self, texts: Sequence[str]) -> "tuple[Mask, Halves]":
        """Which texts are there, and their vectors, in the order of the texts."""
        import numpy as np

        rows = {self._key(text): row for row, text in enumerate(texts)}
        found: dict[int, bytes] = {}
        keys = list(rows)
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            there = self._database.do(lambda db, some=some: self._read(db, some), {})
            found |= {rows[key]: vector for key, vector in there.items()}
        known = np.zeros(len(texts), dtype=np.bool_)
        known[list(found)] = True
        content = b"".join(found[row] for row in sorted(found))
        return known, np.frombuffer(content, np.float16).reshape(len(found), self._bytes // 2)

    def write(self, texts: Sequence[str], vectors: "Halves") -> None:
        """Keep the vectors of texts; those that others kept meanwhile stay."""
        for first in range(0, len(texts), _AT_ONCE):
            last = first + _AT_ONCE
            pairs = zip(texts[first:last], vectors[first:last], strict=True)
            entries = [(self._key(text), vector.tobytes()) for text, vector in pairs]
            self._database.do(lambda db, entries=entries: self._write(db, entries), None)

    # Within the database's lock

    def _read(self, connection: apsw.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
        rows = cast(_Rows, connection.executemany(_FIND, ((key,) for key in keys)).fetchall())
        sound = [row for row in rows if len(row[2]) == self._bytes and zlib.crc32(row[2]) == row[3]]
        now = int(self._clock())
        old = [(now, row[0]) for row in sound if abs(now - row[4]) >= _HOUR_S]
        odd = [(row[0],) for row in set(rows).difference(sound)] if len(sound) < len(rows) else []
        if old or odd:
            # A reader does not wait for those who write, and may read what it cannot write to.
            with suppress(apsw.BusyError, apsw.FullError, apsw.ReadOnlyError), writing(connection):
                connection.executemany("UPDATE vector SET used = ? WHERE id = ?", old).fetchall()
                connection.executemany("DELETE FROM vector WHERE id = ?", odd).fetchall()
        return {row[1]: row[2] for row in sound}

    def _write(self, connection: apsw.Connection, entries: list[tuple[bytes, bytes]]) -> None:
        now = int(self._clock())
        with writing(connection):
            rows = ((key, vector, zlib.crc32(vector), now) for key, vector in entries)
            connection.executemany(_ADD, rows).fetchall()
            while (over := self._size(connection) - self._max_bytes) > 0:
                # A row takes more than its vector: each round frees a part of what is over.
                run(connection, _DROP, over // (self._bytes + 100) + 1)
                if not connection.changes():
                    break

    def _size(self, connection: apsw.Connection) -> int:
        return cast(int, connection.execute(_BYTES).fetchall()[0][0])

    def _key(self, text: str) -> bytes:
        content = text.encode("utf-8", "surrogatepass")
        return blake2b(content, digest_size=16, key=self._who).digest()


@lru_cache(maxsize=8)
def _opened(path: Path) -> Database:
    return Database(path, schema=_SCHEMA, version=_VERSION, name="embedding cache")


def prune(folder: Path, before: float, *, dry_run: bool = False) -> int:
    """Delete the vectors in `folder` that were last used before a moment (seconds since 1970).

    Returns how many; `dry_run` only counts.
    """
    if not (folder / FILE).exists():
        return 0

    def work(connection: apsw.Connection) -> int:
        with writing(connection):
            counted = connection.execute("SELECT count(*) FROM vector WHERE used < ?", (before,))
            ((old,),) = counted.fetchall()
            if not dry_run:
                run(connection, "DELETE FROM vector WHERE used < ?", before)
            return cast(int, old)

    return _opened(folder / FILE).do(work, 0)
