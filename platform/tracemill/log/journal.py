"""The append side of the log: one SQLite file in WAL mode. Nothing else ever opens it.

A second SQLite library, or even a plain `open()`, on that file inside one process would silently
drop our locks and lose acknowledged events; so the file's name is private to this module, and
every process closes it before it forks.
"""

import os
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet

import apsw

from tracemill.errors import (
    JournalReplaced,
    LogDamaged,
    LogError,
    UsageError,
    VersionConflict,
)
from tracemill.events import LogTailLost
from tracemill.log import rows, tables
from tracemill.log.checkpoints import Checkpoints
from tracemill.log.group import Append, Durability, Group, Request, Together
from tracemill.log.rows import Draft
from tracemill.log.tables import End, Erasing, Segment, Work
from tracemill.log.translate import WAIT_MS, translated
from tracemill.log.turn import Names, Turn, refuse_shared_file_system, this_boot

FILE = "journal.db"
"""The name of the file, for who copies a log that nobody has open."""
_SQLITE_NEEDED = 3_051_003  # below it, a WAL reset could corrupt the file
_SYNCHRONOUS: Mapping[Durability, str] = {
    "kill": "PRAGMA synchronous = NORMAL",
    "power": "PRAGMA synchronous = FULL",
}
T = TypeVar("T")


class Change(NamedTuple):
    """Which state of the journal was seen."""

    openings: int = 0
    """How often this process has opened it: each time it may be another one."""
    erasures: int = 0
    """How often events were emptied in it. The events behind both are what they were."""
    version: int = 0
    """SQLite's: differs after a commit of another connection."""


class Journal:
    """The journal in `folder`, opened by this process when it is first used.

    Threads may share it. Before a fork it closes itself; parent and child each open it anew.
    """

    def __init__(self, folder: Path) -> None:
        if apsw.SQLITE_VERSION_NUMBER < _SQLITE_NEEDED:
            raise UsageError(
                f"apsw brings SQLite {apsw.sqlitelibversion()}, which can corrupt a journal: "
                "upgrade apsw to 3.51.3 or later"
            )
        self.folder = folder
        self._path = folder / FILE
        self._wal = folder / "journal.db-wal"
        names = ("journal.db", "journal.db-wal", "journal.db-shm")
        self._writer_files, self._reader_files = Names(folder, *names), Names(folder, *names)
        self._turn = Turn(folder / "journal.lock")
        self._commits = Group(self._commit)
        self._together = Together(lambda all_: self._commits.submit(Request(all_, "kill")))
        self._checkpoints = Checkpoints(self._connect_again, self._nobodys_turn)
        self._reads = threading.RLock()  # taken after _commits by whoever needs both
        self._writer: apsw.Connection | None = None
        self._writer_work: tuple[int, Work] | None = None
        self._writer_durability: Durability | None = None
        self._reader: apsw.Connection | None = None
        self._glance_files = Names(folder, *names)
        self._glances = threading.Lock()  # taken after both of them
        self._glancer: apsw.Connection | None = None
        self._openings = 0
        self._pid = os.getpid()
        self._sealed = 0
        with _forking:
            _open_journals.add(self)

    # Appending

    def append(
        self, drafts: Sequence[Draft], expected: Mapping[str, int], durability: Durability
    ) -> list[int]:
        """Commit these events as one, and return their positions once they are safe.

        Raises `VersionConflict`, and `LogError` in all its forms; then nothing was stored.
        """
        append = Append(drafts, expected)
        self._commits.submit(Request((append,), durability))
        return append.stored

    async def aappend(self, drafts: Sequence[Draft], expected: Mapping[str, int]) -> list[int]:
        """As `append` with `kill`, for coroutines."""
        append = Append(drafts, expected)
        await self._together.submit(append)
        return append.stored

    @contextmanager
    def writing(self, durability: Durability = "power") -> Generator[Work]:
        """A transaction for something else than an append: the manifest, a pin."""
        with self._commits, self._transaction(durability) as work:
            yield work

    @property
    def sealed(self) -> int:
        """The last position in a segment, as of this process's latest append or read."""
        return self._sealed

    def _commit(self, group: Sequence[Request]) -> None:
        try:
            self._insert(group)
        except JournalReplaced:
            # Every event has an id, so a second try can store nothing twice.
            self._insert(group)

    def _insert(self, group: Sequence[Request]) -> None:
        durability = "power" if any(r.durability == "power" for r in group) else "kill"
        with self._transaction(durability) as work:
            for append in chain.from_iterable(request.appends for request in group):
                append.error = None
                try:
                    append.positions = tables.insert(work, append.drafts, append.expected)
                except VersionConflict as conflict:
                    append.error = conflict

    # The transaction that every write goes through

    @contextmanager
    def _transaction(self, durability: Durability = "kill") -> Generator[Work]:
        """Our turn, and one immediate transaction that knows the end of the log.

        The commit is acknowledged only if the files are still the ones that were opened.
        """
        with translated(self._path), self._turn.taken():
            connection = self._usable_writer(durability)
            connection.execute("BEGIN IMMEDIATE")
            try:
                work = self._begun(connection)
                self._sealed = work.sealed
                self._check_mark(work)
                yield work
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, LogDamaged):
                    # What this connection has cached may be as wrong as the file.
                    self._close_connections()
                raise
            if not self._writer_files.same():
                self._rescue()
                raise JournalReplaced(
                    f"{self._path} or its side files were replaced during an append, which is "
                    "therefore not acknowledged: append the same events again"
                )
            self._writer_work = connection.data_version(), work
            self._turn.set_mark(work.end.position)
            self._checkpoints.make(connection)

    def scrub(self) -> None:
        """Leave nothing in the files of rows that were changed or deleted.

        SQLite overwrites neither its free pages nor what it cuts from a page. Both files stay the
        same files; whoever wants to append waits meanwhile. Raises `LogError` in all its forms.
        """
        with self._commits, translated(self._path), self._turn.taken():
            connection = self._usable_writer("power")
            connection.execute("VACUUM")
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    @contextmanager
    def _nobodys_turn(self) -> Generator[None]:
        with self._commits, self._turn.taken():
            yield

    def _begun(self, connection: apsw.Connection) -> Work:
        """Where the log ends, looked up only when another connection has committed since ours."""
        if self._writer_work is not None and self._writer_work[0] == connection.data_version():
            known = self._writer_work[1]
            return Work(connection, known.end, known.sealed)
        return Work(connection, *tables.ends(connection))

    def _check_mark(self, work: Work) -> None:
        """Compare with the high-water mark: are acknowledged events missing?"""
        mark = self._turn.mark()
        if mark.position <= work.end.position:
            return
        if mark.boot == this_boot():
            raise self._missing(work.end.position, mark.position)
        # The machine went down: what `kill` durability does not promise to keep is gone. Say so.
        lost = LogTailLost(after_position=work.end.position, through_position=mark.position)
        tables.insert(work, [rows.draft(lost)], {})

    def _missing(self, present: int, acknowledged: int) -> LogDamaged:
        return LogDamaged(
            f"{self.folder} has lost events {present + 1} to {acknowledged}, which were acknowledged: "
            "journal.db or its -wal file was deleted, or this is a copy made while someone wrote; "
            f"restore the folder, or delete {self._turn.path.name} to go on without them"
        )

    def _usable_writer(self, durability: Durability = "kill") -> apsw.Connection:
        """The writing connection, opened if need be. Call it holding the turn."""
        self._refuse_foreign_process()
        if self._writer is not None and not self._writer_files.same():
            self._rescue()
        if self._writer is None:
            self._writer = self._open_writer()
            self._writer_durability = None
        if self._writer_durability != durability:
            self._writer.execute(_SYNCHRONOUS[durability])
            self._writer_durability = durability
        return self._writer

    def _rescue(self) -> None:
        """Somebody deleted or replaced our files: save what only this connection still sees, close.

        Call it holding the turn.
        """
        now, then = self._writer_files.now(), self._writer_files.inodes
        try:
            deleted = now[0] == then[0] and now[1] != then[1]
            if self._writer is not None and deleted and not _holds_anything(self._wal):
                # The deleted WAL lives on as long as it is open: move its pages into the database.
                # But once the new WAL holds anything, another process has done so and gone on, and
                # our pages would overwrite its work.
                self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_FULL)
        finally:
            self._close_connections()

    def _leave(self) -> None:
        """Close the connections; whatever has been deleted under them is saved first."""
        ours = self._writer is not None and self._pid == os.getpid()
        if ours and not self._writer_files.same():
            with suppress(LogError, apsw.Error), self._turn.taken():
                self._rescue()
        self._close_connections()

    # Opening

    def _open_writer(self) -> apsw.Connection:
        refuse_shared_file_system(self.folder)
        if not self._path.exists():
            self._refuse_to_start_over()
        connection = self._connect(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        mark = self._turn.mark()
        if mark.position and mark.boot == this_boot() and not tables.exist(connection):
            # Before anything is written: another process may still hold the rest, and save it.
            connection.close()
            raise self._missing(0, mark.position)
        connection.pragma("page_size", 4096)
        connection.pragma("journal_mode", "wal")
        connection.pragma("journal_size_limit", 64 << 20)
        connection.pragma("fullfsync", True)  # macOS: a sync that reaches the disk
        connection.pragma("checkpoint_fullfsync", True)
        tables.create(connection)
        self._checkpoints.watch(connection)
        # Now the side files exist; from here on they must stay the same.
        self._writer_files.set(self._writer_files.now())
        return connection

    def _refuse_to_start_over(self) -> None:
        if mark := self._turn.mark().position:
            raise self._missing(0, mark)
        if any(self.folder.glob("segments/*.parquet")):
            raise LogDamaged(
                f"{self.folder} has segments but no journal.db, which says what is in them: "
                "restore journal.db, or move segments/ away to begin a new log"
            )

    def _open_reader(self, files: Names) -> apsw.Connection:
        # The mark first: appends between the two reads only make the end larger.
        mark = self._turn.mark()
        try:
            reader = self._connect(apsw.SQLITE_OPEN_READWRITE)
            end, _ = tables.ends(reader)
        except apsw.CantOpenError:
            if os.access(self.folder, os.W_OK):
                raise
            # A read-only file system without side files: nobody can be writing.
            uri = f"{self._path.absolute().as_uri()}?immutable=1"
            reader = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
            end, _ = tables.ends(reader)
        if end.position < mark.position and mark.boot == this_boot():
            reader.close()
            raise self._missing(end.position, mark.position)
        files.set(files.now())
        return reader

    def _connect_again(self) -> apsw.Connection:
        return self._connect(apsw.SQLITE_OPEN_READWRITE)

    def _connect(self, flags: int) -> apsw.Connection:
        connection = apsw.Connection(str(self._path), flags=flags)
        connection.set_busy_timeout(WAIT_MS)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        _keep_wal(connection)
        connection.pragma("cache_size", -16_384)
        return connection

    # Reading

    @contextmanager
    def _reading(self) -> Generator[apsw.Connection]:
        """A short read transaction; it is never held, because the WAL could not be reset."""
        self._refuse_foreign_process()
        if self._reader is None or not self._reader_files.same():
            self._make_ready()
        with translated(self._path), self._reads:
            if self._reader is not None and not self._reader_files.same():
                self._reader.close()
                self._reader = None
            if self._reader is None:
                self._reader = self._open_reader(self._reader_files)
                self._openings += 1
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def _make_ready(self) -> None:
        """See to it that the journal exists and has its tables, wherever we may write."""
        if os.access(self.folder, os.W_OK) or not self._path.exists():
            with translated(self._path), self._commits, self._turn.taken():
                self._usable_writer()

    def _glance(self, work: Callable[[apsw.Connection], T]) -> T:
        """One query of microseconds, by a connection of its own: what is asked before each call must
        not wait for somebody who reads thousands of rows."""
        self._refuse_foreign_process()
        with self._glances:
            if self._glancer is not None and self._glance_files.same():
                try:
                    return work(self._glancer)
                except apsw.Error:
                    with translated(self._path):
                        raise
        self._make_ready()
        with translated(self._path), self._glances:
            if self._glancer is not None:
                self._glancer.close()
            self._glancer = None
            self._glancer = self._open_reader(self._glance_files)
            return work(self._glancer)

    def version(self, stream: str) -> int:
        """The version that a stream has reached; 0 when there is none."""
        return self._glance(lambda connection: tables.version(connection, stream))

    def versions(self, prefix: str) -> dict[str, int]:
        """The versions of the streams whose names begin so."""
        return self._glance(lambda connection: tables.versions(connection, prefix))

    def edition(self) -> str:
        """See `EventLog.edition`."""
        erasures = self._glance(tables.erasures)
        return f"{this_boot().hex()}-{self._glance_files.inodes[0]}-{erasures}"

    def ended(self, after: int, limit: int) -> tuple[int, list[tables.Ended]] | None:
        """See `tables.ended`."""

        def work(connection: apsw.Connection) -> tuple[int, list[tables.Ended]] | None:
            connection.execute("BEGIN")
            try:
                return tables.ended(connection, after, limit)
            finally:
                connection.execute("COMMIT")

        return self._glance(work)

    def changes(self) -> Change:
        """A value that differs after anyone has committed something."""
        with self._reading() as connection:
            version = connection.pragma("data_version")
            return Change(self._openings, tables.erasures(connection), version)

    def copy_to(self, path: Path) -> None:
        """Write the journal as it is at one moment to `path`, a new file; appends go on meanwhile."""
        with self._reading() as connection:
            copy = apsw.Connection(str(path))
            try:
                with copy.backup("main", connection, "main") as work:
                    work.step(-1)
            finally:
                copy.close()

    def erasing(self) -> list[Erasing]:
        """What is being emptied, by a process that is at it or was killed at it."""
        with self._reading() as connection:
            return tables.erasing(connection)

    def state(self) -> tuple[End, list[Segment], dict[str, int]]:
        """The end of the log, its live segments and the version of every stream, at one moment."""
        with self._reading() as connection:
            end, _ = tables.ends(connection)
            return end, tables.segments(connection), tables.heads(connection)

    def position(self) -> int:
        """The last position in the log; 0 when it is empty."""
        with self._reading() as connection:
            return tables.ends(connection)[0].position

    def snapshot(self, after: int) -> tuple[list[Segment], list[tuple[Any, ...]]]:
        """The live segments, and the unsealed rows behind `after`, as of one moment."""
        with self._reading() as connection:
            live = tables.segments(connection)
            self._sealed = live[-1].hi if live else 0
            return live, tables.rows_after(connection, max(after, self._sealed))

    def following(self, after: int, limit: int) -> list[tuple[Any, ...]]:
        """Up to `limit` rows right behind `after`; empty when the next one is sealed or absent."""
        with self._reading() as connection:
            found = tables.rows_after(connection, after, limit)
        return [row for expected, row in enumerate(found, start=after + 1) if row[0] == expected]

    def kept(self, stream: str) -> list[tuple[Any, ...]] | None:
        """All rows of a stream that is kept here; None if it is not kept as a whole."""
        with self._reading() as connection:
            return tables.kept_rows(connection, stream)

    def segments(self, *, replaced: bool = False) -> list[Segment]:
        """The manifest: live segments in order of position, or those that were replaced."""
        with self._reading() as connection:
            return tables.segments(connection, replaced=replaced)

    def pins(self) -> dict[str, int]:
        """Named positions."""
        with self._reading() as connection:
            return tables.pins(connection)

    def problems(self) -> list[str]:
        """What is wrong within the database itself; empty when all is well."""
        with self._reading() as connection:
            return tables.problems(connection)

    def unknown(self, page: Sequence[tuple[Any, ...]]) -> list[int]:
        """Positions of rows whose event id would not be recognised if it came again."""
        with self._reading() as connection:
            return tables.unknown(connection, page)

    # Closing and forking

    def close(self) -> None:
        """Move the WAL into the database and let go of every file. The next use opens it again."""
        with self._checkpoints.idle, self._commits, self._reads:
            if self._writer is not None and self._pid == os.getpid() and self._writer_files.same():
                # Then the database is complete without its side files. If it cannot be done, the
                # WAL still holds everything, so a failure here loses nothing.
                with suppress(apsw.Error):
                    self._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._leave()
            self._turn.close()

    def _close_connections(self) -> None:
        with self._reads, self._glances:
            for connection in (self._writer, self._reader, self._glancer):
                if connection is not None:
                    connection.close()
            self._writer = self._reader = self._glancer = self._writer_work = None

    def _refuse_foreign_process(self) -> None:
        if self._pid != os.getpid():
            raise LogError(
                "this log was opened before a fork that Python did not see (native code made it): "
                "open the EventLog anew in the child"
            )

    def before_fork(self) -> None:
        """SQLite's locks do not survive a fork: wait for work in progress, then close everything."""
        self._checkpoints.idle.acquire()
        self._commits.__enter__()
        self._reads.acquire()
        self._leave()
        self._glances.acquire()
        self._turn.close()

    def after_fork(self, *, in_child: bool) -> None:
        """Go on; the child without the appends of threads that it does not have."""
        if in_child:
            self._pid = os.getpid()
            self._commits.forget()
            self._checkpoints.after_fork()
        self._glances.release()
        self._reads.release()
        self._commits.__exit__()
        self._checkpoints.idle.release()


def _holds_anything(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def _keep_wal(connection: apsw.Connection) -> None:
    """Never delete the WAL on close: its inode is how a foreign hand is noticed."""
    import ctypes

    on = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(on))


_open_journals: WeakSet[Journal] = WeakSet()
_paused: list[Journal] = []
_forking = threading.Lock()  # one fork at a time, and no new journal in the middle of one


def _before_fork() -> None:
    _forking.acquire()
    for journal in sorted(_open_journals, key=id):
        journal.before_fork()
        _paused.append(journal)


def _after_fork(*, in_child: bool) -> Callable[[], None]:
    def resume() -> None:
        while _paused:
            _paused.pop().after_fork(in_child=in_child)
        _forking.release()

    return resume


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork(in_child=False),
    after_in_child=_after_fork(in_child=True),
)
