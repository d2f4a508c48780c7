"""EventLog: the log as everybody else sees it. Append facts, read them back, ask questions.

SQLite takes the writes, DuckDB and Polars give the answers; who does what is a matter of the other
modules here, and nobody outside this package needs to know.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tracemill.errors import LogError, LogNotWritable, UsageError
from tracemill.events import KINDS, Happened, Recorded
from tracemill.log import crashed, erase, presence, rows, segments, sums, tables, views
from tracemill.log.backup import Backup, backup
from tracemill.log.erase import Erased, Older
from tracemill.log.journal import Change, Durability, Journal
from tracemill.log.persons import Held, of_person
from tracemill.log.reading import Parameters, Reader, refuse_polars_after_fork
from tracemill.log.verify import Verification, verify
from tracemill.prices import Table, load
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from tracemill.log.similar import Failures

MANY_SEGMENTS = 200
"""Beyond this many live segments questions get slower, so that a fold compacts as well."""


class EventLog:
    """An append-only log of events in one folder.

    Any number of processes and threads may append and read at the same time. One object may be
    shared by threads and survives a fork. Nothing that is left open blocks anybody.
    """

    def __init__(
        self, folder: Path | str, *, fold_after_events: int = 20_000, prices: Path | None = None
    ) -> None:
        """Open the log in `folder`, which is made if need be.

        An append that finds `fold_after_events` unsealed events starts a process that seals them.
        `prices` is a file that goes before the shipped prices, as `TRACEMILL_PRICES`.
        """
        self.folder = Path(folder).absolute()
        self.live = self.folder / "live"
        self._fold_after = fold_after_events
        try:
            (self.folder / "segments").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LogNotWritable(f"cannot make {self.folder}: {error.strerror}") from error
        self._journal = Journal(self.folder)
        self._prices = prices
        self._reader = Reader(self._journal, prices)
        self._failures: Failures | None = None
        self._folding: threading.Thread | None = None
        self._next_fold_s = 0.0
        with suppress(LogError):
            crashed.close_crashed(self)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """The log of a warehouse; without settings, of the nearest one."""
        settings = settings or Settings.find()
        return cls(
            settings.log, fold_after_events=settings.fold_after_events, prices=settings.prices
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EventLog({str(self.folder)!r})"

    def close(self) -> None:
        """Let go of every file. Using the log again opens it again."""
        self._journal.close()

    @property
    def process(self) -> str:
        """This process's name in its events: where it dies, its calls are closed as crashed."""
        return presence.announce(self.live, self.position)

    @property
    def prices(self) -> Table:
        """The prices that this log's views multiply with."""
        return load(self._prices)

    # Facts

    def append(
        self,
        events: Happened | Iterable[Happened],
        *,
        expected: Mapping[str, int] | None = None,
        durability: Durability = "kill",
    ) -> list[int]:
        """Record events, all or none, and return their positions.

        When it returns, they survive the death of this process (`durability="kill"`) or a loss of
        power (`"power"`, slower by a sync of the disk). An event whose id is already there is not
        recorded twice; its old position is returned, so a retry is always safe.

        `expected` maps a stream to the version it must have (0: must be new); `VersionConflict`
        says that another one was first, `LogError` and its kin that the log could not do it: then
        nothing was recorded.
        """
        drafts = [rows.draft(e) for e in ([events] if isinstance(events, Happened) else events)]
        if durability not in ("kill", "power"):
            raise UsageError(f"durability is 'kill' or 'power', not {durability!r}")
        if not drafts:
            return []
        return self._noted(self._journal.append(drafts, expected or {}, durability))

    async def aappend(
        self, event: Happened, *, expected: Mapping[str, int] | None = None
    ) -> list[int]:
        """`append` of one event for coroutines: those of one turn of their event loop share a commit.

        Who is cancelled meanwhile leaves the event recorded.
        """
        return self._noted(await self._journal.aappend([rows.draft(event)], expected or {}))

    def _noted(self, positions: list[int]) -> list[int]:
        if positions[-1] - self._journal.sealed >= self._fold_after:
            self._start_fold()
        return positions

    def read(
        self,
        after: int = 0,
        *,
        kinds: Collection[str] | None = None,
        stream: str | None = None,
        until: int | None = None,
    ) -> Iterator[Recorded]:
        """Events behind position `after`, up to `until`, in order, a page at a time in memory.

        Raises `UsageError` for a kind that does not exist.
        """
        _check_kinds(kinds)
        for row in self._rows(after) if stream is None else self._stream_rows(stream, after):
            if until is not None and row["position"] > until:
                return
            if kinds is None or row["kind"] in kinds:
                yield rows.recorded(row)

    def subscribe(
        self,
        after: int = 0,
        *,
        kinds: Collection[str] | None = None,
        stop: threading.Event | None = None,
        poll_s: float = 0.05,
    ) -> Iterator[Recorded]:
        """Events behind `after`, and then each new one as it comes, until `stop` is set.

        Every event is seen once and in order, whichever process appends it.
        """
        _check_kinds(kinds)
        stop = stop or threading.Event()
        seen_change = Change()
        while not stop.is_set():
            change = self._journal.changes()
            if change == seen_change:
                stop.wait(poll_s)
                continue
            for row in self._rows(after):
                after = row["position"]
                if kinds is None or row["kind"] in kinds:
                    yield rows.recorded(row)
            seen_change = change

    def position(self) -> int:
        """The last position; 0 when nothing has happened yet."""
        return self._journal.position()

    def version(self, stream: str) -> int:
        """The version that a stream has reached, 0 when there is none: whether it has moved, asked
        in microseconds."""
        return self._journal.version(stream)

    def versions(self, prefix: str) -> dict[str, int]:
        """The versions of the streams whose names begin so."""
        return self._journal.versions(prefix)

    @property
    def edition(self) -> str:
        """Differs when what was read before may be so no more: events were emptied, another log was
        put in the place of this one, or the machine has started anew."""
        return self._journal.edition()

    def ended(self, after: int, limit: int) -> tuple[int, list[tables.Ended]] | None:
        """Ends of calls among up to `limit` events behind `after`, and the position of the last one.

        For who follows the log closely: it takes microseconds an event. None where some of them have
        been sealed meanwhile: ask with `sql`.
        """
        return self._journal.ended(after, limit)

    def _rows(self, after: int) -> Iterator[rows.Row]:
        for page in segments.pages(self._journal, after):
            yield from map(rows.from_journal, page)

    def _stream_rows(self, stream: str, after: int) -> Iterator[rows.Row]:
        kept = self._journal.kept(stream)
        if kept is not None:
            yield from (row for row in map(rows.from_journal, kept) if row["position"] > after)
            return
        query = "SELECT * FROM events WHERE stream = ? AND position > ? ORDER BY position"
        yield from self.arrow(query, [stream, after]).to_pylist()

    # Questions

    def sql(
        self, query: str, parameters: Parameters | None = None, *, until: int | None = None
    ) -> "pl.DataFrame":
        """Ask in DuckDB's SQL, over `events` and the views; times come back in UTC.

        `until` shows the log as it was at that position. Raises `UsageError` with DuckDB's words
        when the query does not run.
        """
        return self._reader.sql(query, parameters, until)

    def arrow(
        self, query: str, parameters: Parameters | None = None, *, until: int | None = None
    ) -> "pa.Table":
        """`sql` with the answer as an Arrow table: also works in a forked child, where Polars hangs."""
        return self._reader.arrow(query, parameters, until)

    def frame(
        self, kinds: Collection[str] | None = None, *, after: int = 0, until: int | None = None
    ) -> "pl.LazyFrame":
        """The events as a lazy Polars frame with the columns of the view `events`."""
        _check_kinds(kinds)
        return self._reader.frame(None if kinds is None else list(kinds), after, until)

    def find_similar_failures(self, text_or_call_id: str, n: int = 10) -> "pl.DataFrame":
        """Past calls that failed, were refused or were filtered, nearest to a call or to a text.

        A call that failed itself is compared by its error first: failures of the same `signature`
        come before those of the same `error_type`, and these before all others (`same` says which).
        A text may be an error that somebody saw, or a prompt. Among equals the most similar prompts
        come first (`similarity`: Jaccard's, of pairs of neighbouring words, 0 to 1), and of those
        the latest. `next` is what was done next: `how` (`fallback`, `same prompt`, `same
        conversation`), the `call_id`, its `model` and its `status`; null when nothing was.

        The first question reads the log and keeps an index of the latest 200,000 failures in memory;
        later ones read what came since. Raises `UsageError` for a call that is not in the log.
        """
        refuse_polars_after_fork()
        import polars as pl

        from tracemill.log.similar import Failures

        if self._failures is None:
            self._failures = Failures(self)
        nearest = self._failures.nearest(text_or_call_id, n)
        answer = pl.from_arrow(nearest)  # pyright: ignore[reportUnknownMemberType]
        assert isinstance(answer, pl.DataFrame)
        return answer

    def pin(self, name: str, position: int | None = None) -> int:
        """Name a position (the current one by default), to ask about that past `until` later."""
        last = self.position()
        position = last if position is None else position
        if not 0 <= position <= last:
            raise UsageError(f"cannot pin {name!r} to position {position}: the log ends at {last}")
        with self._journal.writing() as work:
            tables.pin(work, name, position)
        return position

    def pins(self) -> dict[str, int]:
        """All named positions."""
        return self._journal.pins()

    # Removing

    def of_person(self, user_id: str) -> Held:
        """What the log holds of a person: events to be emptied, and the calls among them.

        All events of the calls that were made for `user_id` (with what guards, judges and questions
        to collections say of them, and where their answers were given again), and every other one
        whose `user_id` it is, or whose actor or free text holds it as a word of its own: `ann` is
        neither in `joanne` nor in `ann@example.org`. Emptied events are not found.
        """
        return of_person(self, user_id)

    def erase(
        self,
        which: Iterable[int] | Older,
        *,
        reason: erase.Reason,
        figures: bool,
        actor: str | None = None,
        progress: segments.Progress | None = None,
    ) -> Erased:
        """Empty events, those at these positions or those `Older` than a moment, for good.

        With `figures` they keep their class, times, tokens, costs, models and other figures, so that
        sums over the past stay what they were; texts and names go. Without, each becomes a
        `log.event_removed`. Its position, id, stream and version stay, and a `log.erased` says what
        was done. Streams are named after things (an id of ours, a model, a collection), never after
        what a user said. Events that state is made of (prompts, jobs, models) keep it, whatever
        `figures` says; `retention` refuses them.

        When it returns, no file of the log holds anything of what went; copies elsewhere may. What a
        killed process leaves is done by the next `erase` or `fold`. Appends wait while the journal
        is written anew, once; a lazy `frame` from before must be made again.

        Raises `UsageError` for a position that is not there or an event that must stay, `LogDamaged`
        where a file was altered, other `LogError`s when the disk refuses.
        """
        how = erase.How(reason, figures, actor)
        done = erase.erase(self, self._journal, which, how, progress)
        if done.events:
            self._write_derived()
        return done

    @property
    def erasures(self) -> int:
        """Differs after events were emptied: whoever remembers what they read must read anew."""
        return self._journal.changes().erasures

    # Copies

    def backup(
        self,
        folder: Path,
        *,
        quick: bool = False,
        actor: str | None = None,
        progress: segments.Progress | None = None,
    ) -> Backup:
        """Copy the log, as it is at one moment, into the new folder `folder`, and check the copy.

        Appends go on; folding waits. Sealed files that a copy beside it has are shared with that.
        Every law of the log is checked on the copy; with `quick` only that its bytes are the log's.
        A `backup.made` is recorded behind it. `tracemill.log.restore` is the way back.

        Raises `LogDamaged` where the log is not sound, `UsageError` where the folder is taken.
        """
        made = backup(self._journal, folder, quick=quick, progress=progress)
        self.append(made.event(actor), durability="power")
        return made

    # Housekeeping

    def fold(self, progress: segments.Progress | None = None, *, wait: bool = True) -> int:
        """Seal the unsealed events into a Parquet file; returns how many there were.

        While another process folds, waits for it, or (`wait=False`) leaves the work to it.
        """
        erase.complete(self._journal, progress)
        sealed = segments.fold(self._journal, progress, wait=wait)
        if len(self._journal.segments()) > MANY_SEGMENTS:
            segments.compact(self._journal, progress)
        self._write_derived()
        return sealed

    def compact(self, progress: segments.Progress | None = None) -> int:
        """Merge small neighbouring segments; returns how many files were replaced."""
        replaced = segments.compact(self._journal, progress)
        self._write_derived()
        return replaced

    def gc(self, *, grace_s: float = segments.GRACE_S) -> int:
        """Delete files that have been replaced for `grace_s` seconds; returns how many."""
        return segments.gc(self._journal, grace_s=grace_s)

    def verify(self, progress: segments.Progress | None = None) -> Verification:
        """Derive every hash anew, and check every law of the log; changes nothing."""
        return verify(self._journal, progress)

    def segments(self) -> Sequence[Path]:
        """The sealed files, in order of position."""
        return [segments.segment_path(self.folder, s) for s in self._journal.segments()]

    def _write_derived(self) -> None:
        sums.make(self._journal, self.prices)
        views.write_catalogue(self.folder.with_suffix(".duckdb"), self.segments(), self.prices)

    def _start_fold(self) -> None:
        """Seal in a process of its own: here it would take turns with the caller's work."""
        if time.monotonic() < self._next_fold_s:
            return
        if self._folding is None or not self._folding.is_alive():
            # Whatever keeps it from succeeding, such as a full disk, will not pass at once.
            self._next_fold_s = time.monotonic() + _BETWEEN_FOLDS_S
            self._folding = threading.Thread(
                target=_fold_apart,
                args=(self.folder, self._prices),
                name="tracemill fold",
                daemon=True,
            )
            self._folding.start()


_BETWEEN_FOLDS_S = 2.0


def _fold_apart(folder: Path, prices: Path | None) -> None:
    # What was appended is acknowledged, whether this can be started or not; the next append tries
    # again. -P: modules in the current folder must not stand in for those that it imports.
    with suppress(OSError):
        subprocess.run(
            [sys.executable, "-P", "-m", "tracemill.log", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
            env={**os.environ, "TRACEMILL_PRICES": str(prices)} if prices else None,
        )


def _check_kinds(kinds: Collection[str] | None) -> None:
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise UsageError(f"there is no event {unknown[0]!r}; there are: {', '.join(sorted(KINDS))}")
