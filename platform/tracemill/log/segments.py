"""Sealed files: fold the journal's tail into them, merge the small ones, delete the replaced.

A segment is written aside, synced and renamed before one transaction of the journal says that it
exists. So a crash anywhere leaves the old state or the new one, and perhaps a file to sweep up.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import errno
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import LogDamaged, LogFull, LogNotWritable
from tracemill.files import sha256_of, write_atomically
from tracemill.log import derived, rows, tables
from tracemill.log.journal import Journal
from tracemill.log.tables import Segment
from tracemill.log.turn import only_one

if TYPE_CHECKING:
    import pyarrow as pa

FOLD_ROWS = 200_000
"""Rows of a freshly folded segment, at most."""
FULL_ROWS = 1_000_000
"""Compaction merges neighbours up to this many rows."""
GRACE_S = 24 * 3600
"""A replaced file lives on for this long, for readers that still hold its name."""

BATCH_ROWS = 8_192
"""Rows that are Python objects at one time, at most."""
_PAGE_ROWS = 1_024  # of the tail
_TRIES = 10
_TRIM_ROWS = 500  # deleted in one step, so that appenders hardly wait
_ROW_GROUP_ROWS = 61_440
_ONCE = {
    *("position", "event_id", "stream", "recorded_at", "occurred_at", "conversation_id"),
    *("call_id", "latency_ms", "time_to_first_chunk_ms", "payload", "digest"),
}
_REPEATING = [name for name in rows.COLUMNS if name not in _ONCE]

Progress = Callable[[int], object]
"""Called with the number of events that were just dealt with."""


def segment_path(folder: Path, segment: Segment) -> Path:
    """Where a segment's file is, in the log's folder."""
    return folder / "segments" / segment.file


def fold(journal: Journal, progress: Progress | None = None, *, wait: bool = True) -> int:
    """Seal the journal's tail as it is now, and delete from the journal what need not stay there.

    Returns how many events were sealed. While another process folds, waits or returns 0.
    """
    sealed = 0
    with only_one(journal.folder / "fold.lock", wait=wait) as alone:
        if not alone:
            return 0
        remove_aborted(journal.folder)
        # What comes meanwhile is for the next fold: to run after it makes tiny files, and trims rows
        # from under whoever follows the log closely.
        end = journal.position()
        while segment := _fold_one(journal, end, progress):
            sealed += segment.hi - segment.lo + 1
        trim(journal)
    return sealed


def _fold_one(journal: Journal, end: int, progress: Progress | None) -> Segment | None:
    lo = max((s.hi for s in journal.segments()), default=0) + 1
    if lo > end:
        return None
    hi = min(end, lo + FOLD_ROWS - 1)
    segment = write(journal.folder, lo, hi, _tail(journal, lo, hi), progress)
    return segment if _seal(journal, segment) else None


def _seal(journal: Journal, segment: Segment) -> bool:
    """The commit point of a fold; False when someone else sealed these rows first."""
    with journal.writing() as work:
        if work.sealed != segment.lo - 1:
            return False
        tables.add_segment(work, segment)
        return True


def trim(journal: Journal) -> None:
    """Delete sealed rows that need not be kept, in small steps; finishes what a crash left."""
    trimmed = _TRIM_ROWS
    while trimmed == _TRIM_ROWS:
        with journal.writing("kill") as work:
            trimmed = tables.trim(work.connection, work.sealed, _TRIM_ROWS)


def _tail(journal: Journal, lo: int, hi: int) -> Iterator["pa.Table"]:
    after = lo - 1
    while after < hi:
        raws = journal.following(after, min(BATCH_ROWS, hi - after))
        after += len(raws)
        yield rows.to_arrow(raws)


def compact(journal: Journal, progress: Progress | None = None) -> int:
    """Merge runs of small neighbours into one file each; returns how many files were replaced."""
    replaced = 0
    with only_one(journal.folder / "fold.lock", wait=True):
        remove_aborted(journal.folder)
        for run in _mergeable(journal.segments()):
            for segment in run:
                refuse_altered(journal.folder, segment)
            parts = (table for segment in run for table in read(journal.folder, segment))
            merged = write(journal.folder, run[0].lo, run[-1].hi, parts, progress)
            with journal.writing() as work:  # the commit point of a compaction
                if tables.replace_segments(work, run, merged, time.time_ns() // 1000):
                    replaced += len(run)
    return replaced


def refuse_altered(folder: Path, segment: Segment) -> None:
    """A merged file vouches anew for its rows, so it may only take them from an unaltered one."""
    path = segment_path(folder, segment)
    if not path.exists() or sha256_of(path) != segment.sha256:
        raise LogDamaged(f"{path} is missing or altered: restore it from a copy, then compact")


def _mergeable(live: Sequence[Segment]) -> list[list[Segment]]:
    runs: list[list[Segment]] = [[]]
    for segment in live:
        if runs[-1] and segment.hi - runs[-1][0].lo + 1 > FULL_ROWS:
            runs.append([])
        runs[-1].append(segment)
    return [run for run in runs if len(run) > 1]


def gc(journal: Journal, *, grace_s: float = GRACE_S) -> int:
    """Delete files that were replaced, or never made it into the manifest, over `grace_s` ago.

    Returns how many files were deleted.
    """
    deleted = 0
    folder, now = journal.folder, time.time()
    with only_one(folder / "fold.lock", wait=True):
        remove_aborted(folder)
        replaced = journal.segments(replaced=True)
        for segment in replaced:
            if now - (segment.replaced_us or 0) / 1e6 >= grace_s:
                segment_path(folder, segment).unlink(missing_ok=True)
                with journal.writing() as work:
                    tables.forget(work, segment)
                deleted += 1
        known = {s.file for s in (*journal.segments(), *replaced)}
        for path in (folder / "segments").glob("*.parquet"):
            if path.name not in known and now - path.stat().st_mtime >= grace_s:
                path.unlink()
                deleted += 1
    return deleted


def pages(journal: Journal, after: int = 0) -> Iterator[list[tuple[Any, ...]]]:
    """All rows behind `after`, in order and without a gap, a page at a time.

    Wherever they are: rows that are sealed, merged or trimmed meanwhile are found where they went.
    """
    after, tries = max(after, 0), 0
    while tries < _TRIES:
        start = after
        if raws := journal.following(after, _PAGE_ROWS):
            yield raws
            after += len(raws)
        elif segment := _holding(journal, after + 1):
            try:
                for table in read(journal.folder, segment, after):
                    yield rows.to_journal(table)
                    after += len(table)
            except FileNotFoundError:
                if segment in journal.segments():
                    raise missing(journal.folder, segment) from None
        elif after >= journal.position():
            return
        # Rows may move from the journal to a segment between two looks, but not again and again.
        tries = tries + 1 if after == start else 0
    raise LogDamaged(
        f"{journal.folder} lacks position {after + 1}, in the journal as in every segment: "
        "restore the folder from a copy"
    )


def _holding(journal: Journal, position: int) -> Segment | None:
    return next((s for s in journal.segments() if s.lo <= position <= s.hi), None)


def missing(folder: Path, segment: Segment) -> LogDamaged:
    """What to say when a segment's file is not there."""
    return LogDamaged(
        f"{segment_path(folder, segment)} is missing: it holds the events "
        f"{segment.lo} to {segment.hi}; restore it from a copy"
    )


def read(folder: Path, segment: Segment, after: int = 0) -> Iterator["pa.Table"]:
    """The rows of a segment behind position `after`, in batches, in today's columns.

    Raises `FileNotFoundError` when the file was replaced by a compaction and has been deleted.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(segment_path(folder, segment)) as file:
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        starts = [segment.lo + sum(groups[:i]) for i in range(len(groups) + 1)]
        wanted = [i for i, (_, end) in enumerate(pairwise(starts)) if end > after + 1]
        for batch in file.iter_batches(BATCH_ROWS, row_groups=wanted):
            table = derived.todays_columns(pa.Table.from_batches([batch]))
            first: int = table["position"][0].as_py()
            yield table.slice(max(0, after + 1 - first))


def write(
    folder: Path, lo: int, hi: int, tables: Iterator["pa.Table"], progress: Progress | None
) -> Segment:
    """Write the rows `lo` to `hi` as one synced file, ready for the manifest."""
    last: dict[str, object] = {}

    def write(aside: Path) -> None:
        nonlocal last
        last = _write_parquet(aside, tables, progress)

    path = folder / "segments" / f"{lo:012d}-{hi:012d}-{secrets.token_hex(3)}.parquet"
    try:
        write_atomically(path, write)
    except OSError as error:
        kind = LogFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else LogNotWritable
        raise kind(
            f"cannot write {path}: {error.strerror or error}; the events stay where they were"
        ) from error
    if last["position"] != hi:
        path.unlink()
        raise AssertionError(f"{path.name} ends at {last['position']}, not at {hi}")
    return Segment(
        file=path.name,
        lo=lo,
        hi=hi,
        size_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        digest=last["digest"],  # pyright: ignore[reportArgumentType]
        recorded_us=last["recorded_at"],  # pyright: ignore[reportArgumentType]
    )


def _write_parquet(
    path: Path, tables: Iterator["pa.Table"], progress: Progress | None
) -> dict[str, object]:
    """Stream the tables into a file; returns the last row's position, digest and time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    last: dict[str, object] = {}
    held: list[pa.Table] = []
    with pq.ParquetWriter(
        path,
        rows.arrow_schema(),
        compression="zstd",
        compression_level=3,
        store_decimal_as_integer=True,
        use_dictionary=_REPEATING,  # pyright: ignore[reportArgumentType]
    ) as writer:
        for table in tables:
            held.append(table)
            if sum(map(len, held)) >= _ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(held))
                held = []
            tail = table.slice(len(table) - 1)
            last = {
                "position": tail["position"][0].as_py(),
                "digest": tail["digest"][0].as_py(),
                "recorded_at": tail["recorded_at"].cast(pa.int64())[0].as_py(),
            }
            if progress:
                progress(len(table))
        if held:
            writer.write_table(pa.concat_tables(held))
    return last


def remove_aborted(folder: Path) -> None:
    """Sweep up what a killed process left half written; nobody else writes while we hold the lock."""
    for path in (folder / "segments").glob(".*.tmp"):
        path.unlink()
