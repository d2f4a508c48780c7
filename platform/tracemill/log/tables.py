"""The journal's tables, and what is done to them within a transaction that someone else has opened.

`journal` holds rows until they are sealed (and kept streams for ever), `seen` every event id, `head`
the version of every stream, `segment` the manifest of sealed files, `pin` named positions, `erasing`
what is to be emptied until nothing of it is left. `user_version` counts how often that was done.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import apsw

from tracemill.errors import VersionConflict
from tracemill.log import derived, rows
from tracemill.log.rows import COLUMNS, Draft

_SQLITE_TYPES = {
    "BIGINT": "INTEGER",
    "INTEGER": "INTEGER",
    "VARCHAR": "TEXT",
    "TIMESTAMP": "INTEGER",  # microseconds
    "DECIMAL(18,9)": "INTEGER",  # nano-dollars
    "DOUBLE": "REAL",
    "BLOB": "BLOB",
    "BOOLEAN": "INTEGER",
}
_TYPED = {name: f"{name} {_SQLITE_TYPES[kind]}" for name, kind in COLUMNS.items()}
_COLUMNS = ", ".join(COLUMNS)

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS journal(
  {", ".join(_TYPED.values()).replace("position INTEGER", "position INTEGER PRIMARY KEY")},
  keep INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS journal_kept ON journal(stream, version) WHERE keep = 1;
CREATE TABLE IF NOT EXISTS seen(event_id BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS head(stream TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segment(
  file TEXT PRIMARY KEY, lo INTEGER NOT NULL, hi INTEGER NOT NULL, size_bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL, digest BLOB NOT NULL, recorded_at INTEGER NOT NULL, replaced_at INTEGER);
CREATE INDEX IF NOT EXISTS segment_hi ON segment(hi);
CREATE TABLE IF NOT EXISTS pin(name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS erasing(
  first INTEGER NOT NULL, last INTEGER NOT NULL, figures INTEGER NOT NULL, done INTEGER NOT NULL);
"""

# SQLite counts this in binding order: every column of a row, then whether it is kept.
_INSERT = f"INSERT INTO journal({_COLUMNS}, keep) VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"  # noqa: S608
_EMPTY = f"UPDATE journal SET ({_COLUMNS}) = ({', '.join('?' * len(COLUMNS))}) WHERE position = ?"  # noqa: S608
_MARK_SEEN = "INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING"
_NEXT_VERSION = "INSERT INTO head VALUES (?, 1) ON CONFLICT DO UPDATE SET version = version + 1 RETURNING version"
_BEFORE = "INSERT INTO erasing SELECT first, :lo - 1, figures, 0 FROM erasing WHERE done = 0 AND first < :lo AND last >= :lo"
_BEHIND = "INSERT INTO erasing SELECT :hi + 1, last, figures, 0 FROM erasing WHERE done = 0 AND first <= :hi AND last > :hi"
_DONE = "UPDATE erasing SET first = max(first, :lo), last = min(last, :hi), done = 1 WHERE done = 0 AND first <= :hi AND last >= :lo"
# Only columns that lie before the payload, which may fill pages of its own.
_ENDED = """SELECT
  kind, stream, occurred_at, key_id, user_id, metadata, attempts,
  coalesce(input_tokens, 0) + coalesce(output_tokens, 0), cost_usd
FROM journal WHERE position > ? AND position <= ?
  AND kind BETWEEN 'llm.call.aborted' AND 'llm.call.finished'
ORDER BY position"""
_BEHIND_IT = "SELECT count(*), max(position) FROM journal WHERE position > ? AND position <= ?"
_POSITION_OF = "SELECT position FROM seen WHERE event_id = ?"
_VERSION_OF = "SELECT version FROM head WHERE stream = ?"


class End(NamedTuple):
    """The last event of the log; zeros when there is none."""

    position: int = 0
    digest: bytes = b""
    recorded_us: int = 0


@dataclass
class Work:
    """One open transaction."""

    connection: apsw.Connection
    end: End
    """The end of the log, with what this transaction has appended."""
    sealed: int
    """The last position in a segment."""


class Segment(NamedTuple):
    """One sealed, immutable file of the log, as the manifest knows it."""

    file: str
    """Name within `segments/`."""
    lo: int
    """First position in it."""
    hi: int
    """Last position in it."""
    size_bytes: int
    """Of the file."""
    sha256: str
    """Of the file."""
    digest: bytes
    """The digest of the event at `hi`."""
    recorded_us: int
    """When the event at `hi` was recorded, in microseconds since 1970."""
    replaced_us: int | None = None
    """When a compaction replaced it; None while it is live."""


class Ended(NamedTuple):
    """The end of a call, as far as who counts calls needs it."""

    kind: str
    stream: str
    """`call:` and the call's id."""
    occurred_us: int
    """In microseconds since 1970."""
    key_id: str | None
    user_id: str | None
    metadata: str | None
    """Tags as JSON."""
    attempts: int | None
    tokens: int
    """Read and written."""
    nano_usd: int | None
    """What it cost, in billionths of a dollar; None where no price is known."""


class Erasing(NamedTuple):
    """Neighbouring positions that are being emptied."""

    first: int
    last: int
    figures: bool
    """True where their figures stay."""
    done: bool
    """True when they are emptied and only their traces are left to be removed."""


def exist(connection: apsw.Connection) -> bool:
    """Have the tables been made?"""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'journal'").get is not None


def create(connection: apsw.Connection) -> None:
    """Create what is missing; a journal of an older version gets the columns that were added since,
    filled from the payloads."""
    connection.execute(_SCHEMA)
    present = {row[1] for row in connection.execute("PRAGMA table_info(journal)")}
    added = [name for name in _TYPED if name not in present]
    for name in added:
        connection.execute(f"ALTER TABLE journal ADD COLUMN {_TYPED[name]}")
    if added:
        values = ", ".join(f"{name} = {derived.in_sqlite(name)}" for name in added)
        connection.execute(f"UPDATE journal SET {values} WHERE json_valid(payload)")  # noqa: S608


def ends(connection: apsw.Connection) -> tuple[End, int]:
    """The last event, and the last position in a segment."""
    journal = connection.execute(
        "SELECT position, digest, recorded_at FROM journal ORDER BY position DESC LIMIT 1"
    ).fetchone()
    segment = connection.execute(
        "SELECT hi, digest, recorded_at FROM segment ORDER BY hi DESC LIMIT 1"
    ).fetchone()
    last, sealed = End(*journal or ()), End(*segment or ())
    return max(last, sealed), sealed.position


def insert(work: Work, drafts: Sequence[Draft], expected: Mapping[str, int]) -> list[int]:
    """Append drafts; returns their positions, old ones for events that are here already.

    Raises `VersionConflict` before anything is written.
    """
    connection = work.connection
    if expected and (known := _check_versions(connection, drafts, expected)):
        return known
    position, digest, recorded_us = work.end
    recorded_us = max(recorded_us, time.time_ns() // 1000)
    positions: list[int] = []
    for draft in drafts:
        connection.execute(_MARK_SEEN, (draft.event_id, position + 1))
        if not connection.changes():
            positions.append(connection.execute(_POSITION_OF, (draft.event_id,)).get)
            continue
        position += 1
        positions.append(position)
        row = (
            position,
            draft.event_id,
            draft.kind,
            draft.schema_version,
            draft.stream,
            connection.execute(_NEXT_VERSION, (draft.stream,)).get,
            recorded_us,
            draft.occurred_us,
            *draft.rest,
        )
        digest = rows.digest(digest, row)
        connection.execute(_INSERT, (*row, digest, draft.keep))
    if position > work.end.position:
        work.end = End(position, digest, recorded_us)
    return positions


def _check_versions(
    connection: apsw.Connection, drafts: Sequence[Draft], expected: Mapping[str, int]
) -> list[int]:
    """Raise on a conflict, unless this is the retry of an append that we did acknowledge."""
    for stream, version in expected.items():
        actual = connection.execute(_VERSION_OF, (stream,)).get or 0
        if actual != version:
            known = [connection.execute(_POSITION_OF, (d.event_id,)).get for d in drafts]
            if None in known:
                raise VersionConflict(stream, version, actual)
            return known
    return []


def rows_after(connection: apsw.Connection, after: int, limit: int = -1) -> list[tuple[Any, ...]]:
    """Rows behind `after`, in order; kept rows of long ago may leave gaps between them."""
    query = f"SELECT {_COLUMNS} FROM journal WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608
    return connection.execute(query, (after, limit)).fetchall()


def kept_rows(connection: apsw.Connection, stream: str) -> list[tuple[Any, ...]] | None:
    """All rows of a stream that is kept; None if it is not kept as a whole."""
    query = f"SELECT {_COLUMNS} FROM journal WHERE stream = ? AND keep = 1 ORDER BY version"  # noqa: S608
    found = connection.execute(query, (stream,)).fetchall()
    version = connection.execute(_VERSION_OF, (stream,)).get or 0
    return found if len(found) == version else None


def trim(connection: apsw.Connection, sealed: int, limit: int) -> int:
    """Delete up to `limit` sealed rows that need not be kept; returns how many there were."""
    doomed = "SELECT position FROM journal WHERE keep = 0 AND position <= ? LIMIT ?"
    connection.execute(f"DELETE FROM journal WHERE position IN ({doomed})", (sealed, limit))  # noqa: S608
    return connection.changes()


def segments(connection: apsw.Connection, *, replaced: bool = False) -> list[Segment]:
    """The manifest: live segments in order of position, or those that were replaced."""
    state = "IS NOT NULL" if replaced else "IS NULL"
    query = f"SELECT * FROM segment WHERE replaced_at {state} ORDER BY lo"  # noqa: S608
    return [Segment(*row) for row in connection.execute(query)]


def add_segment(work: Work, segment: Segment) -> None:
    """Put a segment into the manifest."""
    work.sealed = max(work.sealed, segment.hi)
    work.connection.execute("INSERT INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)", segment)


def replace_segments(work: Work, old: Sequence[Segment], new: Segment, when_us: int) -> bool:
    """Let `new` take the place of `old`; returns False when someone else replaced them first."""
    live = {segment.file for segment in segments(work.connection)}
    if not live.issuperset(segment.file for segment in old):
        return False
    work.connection.executemany(
        "UPDATE segment SET replaced_at = ? WHERE file = ?",
        [(when_us, segment.file) for segment in old],
    )
    add_segment(work, new)
    return True


def forget(work: Work, segment: Segment) -> None:
    """Drop a replaced segment from the manifest, after its file is gone."""
    work.connection.execute(
        "DELETE FROM segment WHERE file = ? AND replaced_at IS NOT NULL", (segment.file,)
    )


def erasing(connection: apsw.Connection) -> list[Erasing]:
    """What is being emptied, in order of position; empty when nothing is."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'erasing'").get:
        return []  # a log of an older version that cannot be written to
    query = "SELECT * FROM erasing ORDER BY first"
    return [Erasing(a, b, bool(c), bool(d)) for a, b, c, d in connection.execute(query)]


def begin_erasing(work: Work, spans: Sequence[tuple[int, int]], *, figures: bool) -> None:
    """Remember that these positions are to be emptied."""
    work.connection.executemany(
        "INSERT INTO erasing VALUES (?, ?, ?, 0)", [(a, b, int(figures)) for a, b in spans]
    )


def empty(work: Work, emptied: Sequence[tuple[Any, ...]], lo: int, hi: int) -> None:
    """Put emptied rows in the place of what stood there, and note that `lo` to `hi` is done."""
    connection = work.connection
    connection.executemany(_EMPTY, [(*row, row[0]) for row in emptied])
    within = {"lo": lo, "hi": hi}
    connection.execute(_BEFORE, within)
    connection.execute(_BEHIND, within)
    connection.execute(_DONE, within)
    connection.pragma("user_version", erasures(connection) + 1)


def end_erasing(work: Work) -> None:
    """Nothing of what was emptied is left anywhere."""
    work.connection.execute("DELETE FROM erasing WHERE done = 1")


def erasures(connection: apsw.Connection) -> int:
    """How often events were emptied: what was read before the last time may be there no more."""
    return connection.pragma("user_version")


def version(connection: apsw.Connection, stream: str) -> int:
    """The version that a stream has reached; 0 when there is none."""
    return connection.execute(_VERSION_OF, (stream,)).get or 0


def versions(connection: apsw.Connection, prefix: str) -> dict[str, int]:
    """The versions of the streams whose names begin so."""
    query = "SELECT stream, version FROM head WHERE stream >= ? AND stream < ?"
    found: Any = connection.execute(query, (prefix, f"{prefix}\U0010ffff"))
    return dict(found)


def ended(connection: apsw.Connection, after: int, limit: int) -> tuple[int, list[Ended]] | None:
    """The ends of calls among up to `limit` rows behind `after`, and the position of the last of these
    rows; None where some are here no more, because they were sealed. Needs a transaction."""
    bounds = (after, after + limit)
    count, last = cast("tuple[int, int]", connection.execute(_BEHIND_IT, bounds).fetchone())
    if not count:
        return (after, []) if ends(connection)[0].position == after else None
    if last - after != count:
        return None
    found: Any = connection.execute(_ENDED, bounds)
    return last, [Ended(*row) for row in found]


def rows_between(connection: apsw.Connection, lo: int, hi: int) -> list[tuple[Any, ...]]:
    """Rows of the journal from `lo` to `hi`, in order."""
    query = f"SELECT {_COLUMNS} FROM journal WHERE position BETWEEN ? AND ? ORDER BY position"  # noqa: S608
    return connection.execute(query, (lo, hi)).fetchall()


def pin(work: Work, name: str, position: int) -> None:
    """Give a position a name; the same name moves."""
    work.connection.execute("INSERT OR REPLACE INTO pin VALUES (?, ?)", (name, position))


def heads(connection: apsw.Connection) -> dict[str, int]:
    """The version that each stream has reached."""
    found: Any = connection.execute("SELECT stream, version FROM head")
    return dict(found)


def pins(connection: apsw.Connection) -> dict[str, int]:
    """Named positions."""
    found: Any = connection.execute("SELECT name, position FROM pin ORDER BY name")
    return dict(found)


def problems(connection: apsw.Connection) -> list[str]:
    """What is wrong within the database itself; empty when all is well."""
    lines = [str(line[0]) for line in connection.execute("PRAGMA integrity_check")]
    found = [f"journal.db: {line}" for line in lines if line != "ok"]
    ids = connection.execute("SELECT count(*) FROM seen").get
    last = ends(connection)[0].position
    if ids != last:
        found.append(f"journal.db: {ids} event ids for {last} positions")
    return found


def unknown(connection: apsw.Connection, page: Sequence[tuple[Any, ...]]) -> list[int]:
    """Positions of rows whose event id is not known to stand there."""
    found = [connection.execute(_POSITION_OF, (row[1],)).get for row in page]
    return [row[0] for row, position in zip(page, found, strict=True) if row[0] != position]
