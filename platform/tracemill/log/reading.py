"""The answering side: DuckDB and Polars over the sealed files and the journal's tail.

Nothing here holds a lock. What was read of the tail is kept and shared by all threads; each thread
has a DuckDB connection of its own, and views are renewed only when something was appended.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import UsageError
from tracemill.log import rows, segments, views
from tracemill.log.journal import Journal
from tracemill.log.tables import Segment

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any]


class Snapshot(NamedTuple):
    """The log at one moment."""

    live: tuple[Segment, ...]
    tail: "pa.Table"
    """Rows behind the last segment."""


class Reader:
    """Answers questions about one log; shared by threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._seen_change = (0, 0)
        self._snapshot: Snapshot | None = None
        self._local = threading.local()
        self._pid = os.getpid()

    def sql(self, query: str, parameters: Parameters | None, until: int | None) -> "pl.DataFrame":
        """See `EventLog.sql`."""
        import duckdb
        import polars as pl
        import polars.selectors as cs

        connection = self._connection(until)
        try:
            relation = connection.sql(query, params=parameters)
        except duckdb.Error as error:
            raise UsageError(f"this query does not run: {error}") from error
        # None: a statement without a result, such as SET.
        answer = pl.DataFrame() if relation is None else relation.pl()  # pyright: ignore[reportUnnecessaryComparison]
        return answer.with_columns(cs.datetime(time_zone=None).dt.replace_time_zone("UTC"))

    def frame(self, kinds: Sequence[str] | None, after: int, until: int | None) -> "pl.LazyFrame":
        """See `EventLog.frame`."""
        import polars as pl
        import polars.selectors as cs

        snapshot = self.snapshot()
        tail = pl.from_arrow(snapshot.tail)
        assert isinstance(tail, pl.DataFrame)
        paths = [
            segments.segment_path(self._journal.folder, s) for s in snapshot.live if s.hi > after
        ]
        parts = [tail.lazy()]
        if paths:
            parts.insert(0, pl.scan_parquet(paths, missing_columns="insert", schema=tail.schema))
        frame = pl.concat(parts).drop("digest").filter(pl.col("position") > after)
        if until is not None:
            frame = frame.filter(pl.col("position") <= until)
        if kinds is not None:
            frame = frame.filter(pl.col("kind").is_in(list(kinds)))
        return frame.with_columns(cs.datetime(time_zone=None).dt.replace_time_zone("UTC"))

    def snapshot(self) -> Snapshot:
        """The log as of now; read anew only when something was committed since."""
        import pyarrow as pa

        if self._pid != os.getpid():
            # Some thread that this child does not have may have held the lock.
            self._lock, self._pid = threading.Lock(), os.getpid()
        with self._lock:
            change = self._journal.changes()
            if self._snapshot is None or change != self._seen_change:
                known = self._snapshot.tail if self._snapshot else rows.to_arrow([])
                read_to: int = known["position"][-1].as_py() if len(known) else 0
                live, new = self._journal.snapshot(read_to)
                sealed = live[-1].hi if live else 0
                first: int = known["position"][0].as_py() if len(known) else 0
                known = known.slice(min(len(known), max(0, sealed + 1 - first)))
                tail = pa.concat_tables([known, rows.to_arrow(new)]) if new else known
                self._snapshot = Snapshot(tuple(live), tail)
                self._seen_change = change
            return self._snapshot

    def _connection(self, until: int | None) -> "duckdb.DuckDBPyConnection":
        """This thread's connection, with views as of now."""
        snapshot, local = self.snapshot(), self._local
        if getattr(local, "pid", None) != os.getpid():
            # A connection from before a fork has lost its threads: leave it alone, make a new one.
            local.pid, local.connection, local.shown = os.getpid(), self._connect(), None
        connection: duckdb.DuckDBPyConnection = local.connection
        shown = local.shown
        if shown is None or shown[0] is not snapshot or shown[1] != until:
            connection.register("tail", snapshot.tail)
            paths = [segments.segment_path(self._journal.folder, s) for s in snapshot.live]
            views.create(connection, paths, tail="tail", until=until)
            local.shown = (snapshot, until)
        return connection

    def _connect(self) -> "duckdb.DuckDBPyConnection":
        """An in-memory DuckDB that can read the warehouse, but neither the journal nor the network."""
        import duckdb

        folder = self._journal.folder.absolute()
        readable = [folder / "segments", *_derived_folders(folder.parent)]
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        connection.execute("SET allowed_directories = ?", [[f"{path}/" for path in readable]])
        # From here on, opening journal.db (which would drop our locks on it) is refused.
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection


def _derived_folders(warehouse: Path) -> list[Path]:
    return [path for path in warehouse.glob("*") if path.is_dir() and path.name != "log"]
