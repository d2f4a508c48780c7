"""What an earlier reading of a folder left: its documents, its refusals, and whether they still hold.

Only names, sizes, times and digests are held in memory; texts are fetched by row group.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.files import write_text_atomically
from tracemill.retrieval import extract

if TYPE_CHECKING:
    import polars as pl

REFUSED = ("file", "line", "reason", "text", "bytes", "modified_ns", "sha256")
SETTLED_NS = 2_000_000_000
"""A file that changed this shortly before it was read may have changed again, unseen, in the same
tick of the file system's clock: its time proves nothing."""
SAME_TEXT = "same text as "

Row = dict[str, Any]


class Known(NamedTuple):
    """An earlier document."""

    row: int
    bytes: int
    sha256: str
    modified_ns: int


class Earlier:
    """The documents and refusals of an earlier reading; none where it read otherwise than now."""

    def __init__(self, documents: Path, refused: Path, limits: dict[str, Any]) -> None:
        self._documents, self._state = documents, documents.with_suffix(".json")
        self._now = {"extraction": extract.version(), "limits": limits}
        was = self._was()
        self.known: dict[str, Known] = {}
        self.refused: dict[str, Row] = {}
        self.is_whole = was.get("extraction") == self._now["extraction"] and documents.is_file()
        self._settled_ns = int(was.get("started_ns", 0)) - SETTLED_NS
        if self.is_whole:
            self._know()
        if self.is_whole and was.get("limits") == limits:
            self._know_refused(refused)
        self.by_content = {
            (known.sha256, PurePosixPath(name).suffix.lower()): name
            for name, known in reversed(self.known.items())
        }
        self.sizes = {known.bytes for known in self.known.values()}

    def is_settled(self, modified_ns: int) -> bool:
        """Whether the time of a file is proof that it did not change."""
        return modified_ns < self._settled_ns

    def rows(self, names: Iterable[str]) -> dict[str, Row]:
        """Documents by name, all their columns; only the row groups that hold them are read."""
        import polars as pl
        from pyarrow import parquet

        wanted = {self.known[name].row: name for name in names}
        if not wanted:
            return {}
        found: dict[str, Row] = {}
        with parquet.ParquetFile(self._documents, pre_buffer=False) as file:
            starts = _starts(file)
            groups: defaultdict[int, list[int]] = defaultdict(list)
            for row in sorted(wanted):
                groups[bisect_right(starts, row) - 1].append(row)
            for group, rows in groups.items():
                table: Any = file.read_row_group(group)  # pyright: ignore[reportUnknownMemberType]
                frame = pl.DataFrame(table)[[row - starts[group] for row in rows]]
                found |= {row["document_id"]: row for row in frame.iter_rows(named=True)}
        return found

    def forget(self) -> None:
        """Before the tables are replaced: a crash between the two must not leave a false state."""
        self._state.unlink(missing_ok=True)

    def remember(self, started_ns: int) -> None:
        """The tables are those of a reading that began then."""
        write_text_atomically(self._state, json.dumps(self._now | {"started_ns": started_ns}))

    def _was(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def _know(self) -> None:
        import polars as pl

        try:
            columns = ["document_id", "bytes", "sha256", "modified_ns"]
            keys = pl.read_parquet(self._documents, columns=columns, glob=False)
        except (OSError, pl.exceptions.PolarsError):
            self.is_whole = False
            return
        self.known = {row[0]: Known(at, *row[1:]) for at, row in enumerate(keys.iter_rows())}

    def _know_refused(self, path: Path) -> None:
        import polars as pl

        try:
            frame = pl.read_parquet(path, glob=False)
        except (OSError, pl.exceptions.PolarsError):
            return
        if set(REFUSED) <= set(frame.columns):
            rows = frame.select(REFUSED).iter_rows(named=True)
            self.refused = {row["file"]: row for row in rows}


def refused_frame(rows: "list[Row]") -> "pl.DataFrame":
    """Refusals as a frame: file, line, reason and text as of all quarantines, and what tells
    whether the file must be read again."""
    import polars as pl

    types = {name: pl.String for name in REFUSED}
    return pl.DataFrame(
        rows, {**types, **dict.fromkeys(("line", "bytes", "modified_ns"), pl.Int64)}
    )


def _starts(file: Any) -> list[int]:
    about = file.metadata
    sizes = (about.row_group(each).num_rows for each in range(about.num_row_groups))
    return list(accumulate(sizes, initial=0))[:-1]
