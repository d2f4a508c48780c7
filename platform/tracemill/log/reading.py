"""The answering side: DuckDB and Polars over the sealed files and the journal's tail.

Nothing here holds a lock. What was read of the tail is kept and shared by all threads; each thread
has a DuckDB connection of its own, and views are renewed only when something was appended.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import ctypes
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from tracemill.errors import LogError, TracemillError, UsageError
from tracemill.log import rows, segments, sums, views
from tracemill.log.journal import Change, Journal
from tracemill.log.tables import Segment
from tracemill.prices.table import load

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    import pyarrow as pa

_QUESTIONS = {"SELECT", "MULTI"}  # MULTI: a PIVOT, which DuckDB takes apart

_TRIES = 20

Parameters = Sequence[Any] | Mapping[str, Any]


class Snapshot(NamedTuple):
    """The log at one moment."""

    live: tuple[Segment, ...]
    tail: "pa.Table"
    """Rows behind the last segment."""


@dataclass
class _Session:
    """One thread's DuckDB connection, and what its views show."""

    connection: "duckdb.DuckDBPyConnection | None" = None
    snapshot: Snapshot | None = None
    until: int | None = None
    knows_prices: bool = False
    sums: "sums.Split | None" = None
    known: set[str] = field(default_factory=set[str])
    """Its views."""
    macros: set[str] = field(default_factory=set[str])


class Reader:
    """Answers questions about one log; shared by threads."""

    def __init__(self, journal: Journal, prices: Path | None = None) -> None:
        self._journal = journal
        self._prices = prices
        self._lock = threading.Lock()
        self._seen_change = Change()
        self._snapshot: Snapshot | None = None
        self._sessions: dict[int, _Session] = {}
        _readers.add(self)

    def arrow(self, query: str, parameters: Parameters | None, until: int | None) -> "pa.Table":
        """See `EventLog.arrow`."""
        import duckdb

        for _ in range(_TRIES):
            seen = self.snapshot().live
            try:
                connection = self._connection(until, query)
                _refuse_all_but_questions(connection, query)
                table = connection.sql(query, params=parameters).to_arrow_table()
                return table.cast(_in_utc(table.schema))
            except duckdb.Error as error:
                # A file that was there is not: another has taken its place, or it is missing.
                if not isinstance(error, duckdb.IOException) or not (
                    self._sums_are_gone() or seen != self.snapshot().live
                ):
                    raise self._explained(error) from error
        raise LogError("segments come and go faster than a question can be asked: ask again")

    def _sums_are_gone(self) -> bool:
        """Whether sums that were asked have been swept up; then the next question does without."""
        session = self._sessions[threading.get_ident()]
        gone = session.sums is not None and not all(path.exists() for path in session.sums.of)
        if gone:
            session.sums = None
        return gone

    def _explained(self, error: Exception) -> TracemillError:
        """DuckDB's words in one line, unless the log itself lacks something."""
        for segment in self._snapshot.live if self._snapshot else ():
            if not segments.segment_path(self._journal.folder, segment).exists():
                return segments.missing(self._journal.folder, segment)
        first = str(error).split("\n\n")[0].replace("\n", "; ")
        return UsageError(f"this query does not run: {first}")

    def sql(self, query: str, parameters: Parameters | None, until: int | None) -> "pl.DataFrame":
        """See `EventLog.sql`."""
        refuse_polars_after_fork()
        import polars as pl

        table = self.arrow(query, parameters, until)
        names: list[str] = table.column_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"this query gives two columns named {twice!r}: rename one with AS")
        answer = pl.from_arrow(table)
        assert isinstance(answer, pl.DataFrame)
        return answer

    def frame(self, kinds: Sequence[str] | None, after: int, until: int | None) -> "pl.LazyFrame":
        """See `EventLog.frame`."""
        refuse_polars_after_fork()
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
            parts.insert(
                0, pl.scan_parquet(paths, missing_columns="insert", schema=tail.schema, glob=False)
            )
        frame = pl.concat(parts).drop("digest").filter(pl.col("position") > after)
        if until is not None:
            frame = frame.filter(pl.col("position") <= until)
        if kinds is not None:
            frame = frame.filter(pl.col("kind").is_in(list(kinds)))
        return frame.with_columns(cs.datetime(time_zone=None).dt.replace_time_zone("UTC"))

    def snapshot(self) -> Snapshot:
        """The log as of now; read anew only when something was committed since."""
        import pyarrow as pa

        with self._lock:
            change = self._journal.changes()
            if self._snapshot is None or change != self._seen_change:
                # A journal that was opened anew may be another one, and events may have been
                # emptied: then what is known is not what is there.
                known = rows.to_arrow([])
                if self._snapshot and change[:2] == self._seen_change[:2]:
                    known = self._snapshot.tail
                read_to: int = known["position"][-1].as_py() if len(known) else 0
                live, new = self._journal.snapshot(read_to)
                sealed = live[-1].hi if live else 0
                first: int = known["position"][0].as_py() if len(known) else 0
                known = known.slice(min(len(known), max(0, sealed + 1 - first)))
                tail = pa.concat_tables([known, rows.to_arrow(new)]) if new else known
                self._snapshot = Snapshot(tuple(live), tail)
                self._seen_change = change
            return self._snapshot

    def _connection(self, until: int | None, query: str) -> "duckdb.DuckDBPyConnection":
        """This thread's connection, with the views that the query may name, as of now."""
        snapshot = self.snapshot()
        # By thread: a new thread may take over the connection of one that has ended.
        session = self._sessions.setdefault(threading.get_ident(), _Session())
        if session.connection is None:
            session.connection = self._connect()
        if session.snapshot is not snapshot or session.until != until:
            session.connection.register("tail", snapshot.tail)
            paths = [segments.segment_path(self._journal.folder, s) for s in snapshot.live]
            views.show(session.connection, paths, tail="tail", until=until)
            session.snapshot, session.until, session.sums = snapshot, until, None
        if views.ask_for_sums(query) and session.sums is None:
            paths = [segments.segment_path(self._journal.folder, s) for s in snapshot.live]
            session.sums = sums.split(paths, load(self._prices), until)
            views.show_sums(session.connection, *session.sums, tail="tail", until=until)
        if uncalled := views.called_for(query) - session.macros:
            views.create_macros(session.connection, uncalled)
            session.macros |= uncalled
        if missing := views.asked_for(query) - session.known:
            views.create_questions(session.connection, missing)
            session.known |= missing
        if views.ask_for_prices(query) and not session.knows_prices:
            views.show_prices(session.connection, load(self._prices))
            session.knows_prices = True
        return session.connection

    def after_fork_in_child(self) -> None:
        """Threads are gone, and with them whoever held the lock and what worked for DuckDB."""
        self._lock = threading.Lock()
        for session in self._sessions.values():
            if session.connection is not None:
                # Never destroyed: that would wait for the threads of the parent for ever.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(session.connection))
        self._sessions = {}

    def _connect(self) -> "duckdb.DuckDBPyConnection":
        """An in-memory DuckDB that can read the warehouse, but neither the journal nor the network."""
        import duckdb

        folder = self._journal.folder.absolute()
        readable = [folder / "segments", folder / sums.FOLDER, *_derived_folders(folder.parent)]
        connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
        )
        # Segments never change, so what was read of their footers stays true.
        connection.execute("SET parquet_metadata_cache = true")
        if duckdb.__version__.startswith("1."):
            # It pushes filters of joins into the tail that its Arrow scan then refuses.
            connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
        views.show_prices(connection, None)
        connection.execute("SET allowed_directories = ?", [[f"{path}/" for path in readable]])
        # From here on, opening journal.db (which would drop our locks on it) is refused.
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return connection


def _refuse_all_but_questions(connection: "duckdb.DuckDBPyConnection", query: str) -> None:
    """A COPY could write over a segment; even an EXPLAIN ANALYZE would do what it explains."""
    kinds = [statement.type.name for statement in connection.extract_statements(query)]
    if len(kinds) != 1 or kinds[0] not in _QUESTIONS:
        raise UsageError(
            f"the log answers one question at a time, not {' and '.join(kinds) or 'nothing'}: "
            "begin with SELECT, FROM, WITH, PIVOT, DESCRIBE or SUMMARIZE"
        )


def _derived_folders(warehouse: Path) -> list[Path]:
    """Folders that a question may read as well; never one that holds a journal."""
    folders = [path for path in warehouse.glob("*") if path.is_dir()]
    return [path for path in folders if not (path / "journal.db").exists()]


def _in_utc(schema: "pa.Schema") -> "pa.Schema":
    """The log's times are UTC; DuckDB's plain timestamps do not say so."""
    import pyarrow as pa

    aware = pa.timestamp("us", tz="UTC")
    return pa.schema([f.with_type(aware) if f.type == pa.timestamp("us") else f for f in schema])


_readers: WeakSet[Reader] = WeakSet()
_polars_was_forked = False


def _after_fork_in_child() -> None:
    global _polars_was_forked
    _polars_was_forked = "polars" in sys.modules
    for reader in _readers:
        reader.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def refuse_polars_after_fork() -> None:
    """Polars hangs in a child whose parent has used it: its threads are not there."""
    if _polars_was_forked:
        raise UsageError(
            "Polars, which the parent process has loaded, hangs after a fork: use log.arrow() or "
            "log.read() here, or start the process with the method 'spawn' or 'forkserver'"
        )
