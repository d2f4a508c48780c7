"""Rows of tables: CSV, TSV and Parquet, as columns and one by one."""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tracemill.corpus import fields
from tracemill.corpus.formats import (
    BLOCK_BYTES,
    MAX_ROW_BYTES,
    UNREADABLE,
    Line,
    Piece,
    Rows,
    cut,
    lines_of,
    opened,
    refused,
    unpacked,
)
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import BATCH_ROWS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

MAX_ROW_LINES = 10_000


class _Row(NamedTuple):
    number: int
    cells: list[str]
    problem: str = ""


def csv_rows(path: Path, recipe: Source, by_columns: bool) -> Iterator[Rows]:
    """One row a line, or more lines where a cell is quoted; the first one names the columns."""
    yield from _separated(path, recipe, by_columns, ",")


def tsv_rows(path: Path, recipe: Source, by_columns: bool) -> Iterator[Rows]:
    """As `csv_rows`, with tabs between the cells."""
    yield from _separated(path, recipe, by_columns, "\t")


def _separated(path: Path, recipe: Source, by_columns: bool, delimiter: str) -> Iterator[Rows]:
    csv.field_size_limit(MAX_ROW_BYTES)  # The default refuses texts over 128 KB.
    with opened(path) as file:
        rows = _split(lines_of(file), delimiter)
        head = next(rows, None)
        if head is None:
            return
        header = [_name(cell, recipe) for cell in head.cells]
        if problem := head.problem or _header_problem(header):
            yield refused(head.number, problem, delimiter.join(head.cells))
            return
        part: list[_Row] = []
        size = 0
        for row in rows:
            part.append(row)
            size += sum(map(len, row.cells))
            if len(part) == BATCH_ROWS or size > BLOCK_BYTES:
                yield _table(header, part, by_columns, delimiter)
                part, size = [], 0
        if part:
            yield _table(header, part, by_columns, delimiter)


def _name(cell: str, recipe: Source) -> str:
    return cell if cell in recipe.columns.values() else cell.strip().lower()


def _header_problem(header: list[str]) -> str:
    if not _is_valid(header):
        return "the header is not UTF-8"
    twice = {name for name in header if name and header.count(name) > 1}
    return f"the header names a column twice: {', '.join(sorted(twice))}" if twice else ""


def _split(lines: Iterator[str | Piece], delimiter: str) -> Iterator[_Row]:
    """Rows as cells. Where a row is none, its first line is refused and the next is read anew: a
    quote that never closes must not swallow the rows after it."""
    waiting: deque[str] = deque()
    taken: list[str] = []
    trouble: list[Piece] = []

    def feed() -> Iterator[str]:
        while len(taken) < MAX_ROW_LINES:
            line = waiting.popleft() if waiting else next(lines, None)
            if isinstance(line, Piece):
                trouble.append(line)
            if not isinstance(line, str):
                return
            taken.append(line)
            yield line

    number, width = 1, 0
    while True:
        taken.clear()
        problem, cells = "", []
        try:
            cells = next(csv.reader(feed(), delimiter=delimiter, strict=True))
        except StopIteration:
            if not trouble:
                return
        except csv.Error as error:
            problem = f"not CSV: {error}"
        width = width or len(cells)
        if not problem and cells and len(cells) != width:
            problem = f"{len(cells)} fields where the header has {width}"
        if problem:
            waiting.extendleft(reversed(taken[1:]))
            yield _Row(number, [taken[0].rstrip("\r\n")], problem)
            number += 1
        else:
            if cells:
                yield _Row(number, cells)
            number += len(taken)
        if trouble and not waiting:
            piece = trouble.pop()
            yield _Row(number, [piece.content.decode("utf-8", "replace")], piece.problem)
            number += 1


def _table(header: list[str], part: list[_Row], by_columns: bool, delimiter: str) -> Rows:
    def line(index: int) -> Line:
        row = part[index]
        text = delimiter.join(row.cells)[:1000]
        if row.problem:
            return Line(None, row.problem, text)
        return Line(
            {key: cell or None for key, cell in zip(header, row.cells, strict=True)}, "", text
        )

    numbers = [row.number for row in part]
    places = [index for index, row in enumerate(part) if not row.problem and _is_valid(row.cells)]
    if not by_columns or not places:
        return Rows(numbers, line)
    cells = zip(*(part[index].cells for index in places), strict=True)
    return Rows(numbers, line, _text_frame(header, cells), places)


def _is_valid(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_frame(header: list[str], columns: Iterator[tuple[str, ...]]) -> "pl.DataFrame":
    import polars as pl

    known = {name: values for name, values in zip(header, columns, strict=True) if name}
    frame = pl.DataFrame(known, schema=dict.fromkeys(known, pl.String))
    return frame.select(pl.when(pl.all() != "").then(pl.all()))


def parquet_rows(path: Path, recipe: Source, by_columns: bool) -> Iterator[Rows]:
    """The rows of a Parquet file; only the columns that matter are read."""
    from pyarrow import parquet

    number = 1
    with unpacked(path) as file:
        try:
            whole = parquet.ParquetFile(file)
            names = _wanted(whole.schema_arrow.names, recipe)
            batches = whole.iter_batches(_rows_a_batch(whole.metadata), columns=names)  # pyright: ignore[reportUnknownMemberType]
            for batch in batches:
                yield _batch(batch, number, recipe, by_columns)
                number += batch.num_rows
        except UNREADABLE as error:
            yield refused(number, cut(error))


def _wanted(names: list[str], recipe: Source) -> list[str] | None:
    """The columns to read; None for all, where a name has a dot in it and Arrow would see a path."""
    if any("." in name for name in names):
        return None
    paths = [path for found in fields.names(recipe).values() for path in found]
    known = {path.partition(".")[0] for path in [*paths, "instruction", "output"]}
    return [name for name in names if name in known or _name(name, recipe) in known]


def _rows_a_batch(metadata: Any) -> int:
    """As many rows as make some megabytes."""
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    each = size // max(1, metadata.num_rows) + 1
    return max(1, min(BATCH_ROWS, 4 * BLOCK_BYTES // each))


def _batch(batch: "pa.RecordBatch", number: int, recipe: Source, by_columns: bool) -> Rows:
    import polars as pl

    batch = batch.rename_columns([_name(name, recipe) for name in batch.schema.names])
    numbers = range(number, number + batch.num_rows)

    def alone(index: int) -> Line:
        try:
            return _parquet_line(batch.slice(index, 1).to_pylist()[0])
        except UNREADABLE as error:
            return Line(None, f"a value that cannot be read: {str(error)[:100]}")

    try:
        batch.validate(full=True)
    except ValueError:
        return Rows(numbers, alone)
    frame = cast("pl.DataFrame", pl.from_arrow(batch))  # pyright: ignore[reportUnknownMemberType]

    def line(index: int) -> Line:
        return _parquet_line(frame.row(index, named=True))

    return Rows(numbers, line, frame if by_columns else None)


def _parquet_line(row: dict[str, Any]) -> Line:
    return Line(cast("dict[str, Any]", _without_nulls(row)), "", repr(row)[:1000])


def _without_nulls(value: Any) -> Any:
    """Objects without the fields that only other rows have: Parquet gives all rows the same."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _without_nulls(each) for key, each in items if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in cast("list[Any]", value)]
    return value
