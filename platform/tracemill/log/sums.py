"""Sums over a sealed file, kept beside it, so that questions about all calls read a few rows of each.

A sum is what a query in `sums/` says of one segment. Its file is named after the segment, these queries
and the prices: one that is not there is made by the next fold, and until then its rows are read.
"""

import hashlib
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import LogNotWritable
from tracemill.files import write_atomically
from tracemill.log import segments, views
from tracemill.log.journal import Journal
from tracemill.log.turn import only_one
from tracemill.prices.table import Table

LEAST_ROWS = 10_000
"""Smaller segments are read as fast without."""
FOLDER = "sums"


class Split(NamedTuple):
    """Segments with sums and segments without."""

    of: list[Path]
    rest: list[Path]


def split(files: Sequence[Path], prices: Table, until: int | None = None) -> Split:
    """For which of these segments there are sums, of rows up to `until` alone."""
    mark, found = _mark(prices), Split([], [])
    for file in files:
        path = _path(file, mark)
        whole = until is None or _last(file) <= until
        if whole and path.exists():
            found.of.append(path)
        else:
            found.rest.append(file)
    return found


def make(journal: Journal, prices: Table) -> int:
    """Make the sums that are missing and sweep up those of files that are gone; returns how many
    were made. While another process seals, there is nothing to do here: it will."""
    made = 0
    with only_one(journal.folder / "fold.lock", wait=False) as alone:
        if not alone:
            return 0
        sweep(journal)
        _sweep_outdated(journal, prices)
        large = [s for s in journal.segments() if s.hi - s.lo + 1 >= LEAST_ROWS]
        for file in split([segments.segment_path(journal.folder, s) for s in large], prices).rest:
            _make(file, prices)
            made += 1
    return made


def sweep(journal: Journal) -> None:
    """Delete sums of files that are no more, and what a killed process left; under the lock of folds."""
    live = {Path(segment.file).stem for segment in journal.segments()}
    for path in (journal.folder / FOLDER).glob("*"):
        if path.name.split(".")[0] not in live:
            path.unlink(missing_ok=True)


def _sweep_outdated(journal: Journal, prices: Table) -> None:
    """Delete sums by prices of the past, a day after: another process may still ask by them."""
    for path in (journal.folder / FOLDER).glob("*.parquet"):
        old = time.time() - path.stat().st_mtime > segments.GRACE_S
        if old and path.name.split(".")[1] != _mark(prices):
            path.unlink(missing_ok=True)


def _make(file: Path, prices: Table) -> None:
    import duckdb

    def write(aside: Path) -> None:
        with duckdb.connect() as connection:
            views.show_prices(connection, prices)
            views.show_sums(connection, [], [file])
            views.create_macros(connection)
            parts = [
                f"SELECT '{name}' AS part, * FROM ({query})"  # noqa: S608 (ours)
                for name, query in views.sums().items()
            ]
            query = " UNION ALL BY NAME ".join(["FROM summed", *parts])
            name = views.quoted([aside])
            connection.execute(f"COPY ({query}) TO {name} (FORMAT parquet, COMPRESSION zstd)")

    try:
        write_atomically(_path(file, _mark(prices)), write)
    except (OSError, duckdb.Error) as error:
        raise LogNotWritable(
            f"cannot write sums of {file.name}: {error}; the log itself is complete"
        ) from error


def _path(file: Path, mark: str) -> Path:
    return file.parent.parent / FOLDER / f"{file.stem}.{mark}.parquet"


def _last(file: Path) -> int:
    return int(file.name.split("-")[1])


@cache
def _mark(prices: Table) -> str:
    """Differs when the same file would give other sums."""
    texts = [*views.macros().values(), *views.sums().values(), *views.SUMMED, prices.snapshot]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
