"""Tables on disk: Parquet files that are whole or absent, written batch by batch.

Several tables can be filled from one stream, so that a step that keeps some rows and drops others
reads its input once and never holds more than a batch. Every table is read many times, so they are
packed by LZ4: half as large again as by zstd, and read in half the time.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.corpus.records import BATCH_ROWS
from tracemill.errors import InputError
from tracemill.files import sha256_of, write_atomically

if TYPE_CHECKING:
    import polars as pl


class Table(NamedTuple):
    """One Parquet file."""

    path: Path
    rows: int
    digest: str
    """SHA-256 of the file, as 64 hex digits."""


def write_table(table: "pl.DataFrame | Iterable[pl.DataFrame]", path: Path) -> Table:
    """Write a frame, or batches with the same columns, to one Parquet file.

    Raises InputError when there is no batch, since a table without columns is no table.
    """
    import polars as pl

    batches = [table] if isinstance(table, pl.DataFrame) else table
    return write_tables(({"table": batch} for batch in batches), {"table": path})["table"]


def write_tables(
    parts: "Iterable[Mapping[str, pl.DataFrame]]", paths: Mapping[str, Path]
) -> dict[str, Table]:
    """Write several Parquet files from one stream; all of them are renamed at its end.

    Args:
        parts: each gives, by the names of `paths`, the next rows of some of the tables. The batches
            of one table have the same columns.
        paths: name -> file.

    Raises InputError when a table never got a batch, not even an empty one.
    """
    rows = dict.fromkeys(paths, 0)
    _fill(parts, dict(paths), {}, rows)
    return {name: Table(path, rows[name], sha256_of(path)) for name, path in paths.items()}


def read_batches(paths: Iterable[Path], size: int = BATCH_ROWS) -> "Iterator[pl.DataFrame]":
    """The rows of Parquet files in their order, at most `size` at a time; after an empty frame.

    The empty frame has the columns of the first file, so that a step has them where no row is.
    """
    import polars as pl
    from pyarrow import parquet

    for at, path in enumerate(paths):
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            if at == 0:
                yield pl.DataFrame(file.schema_arrow.empty_table())
            for batch in file.iter_batches(batch_size=size):  # pyright: ignore[reportUnknownMemberType]
                yield pl.DataFrame(batch)


def _fill(
    parts: "Iterable[Mapping[str, pl.DataFrame]]",
    left: dict[str, Path],
    asides: dict[str, Path],
    rows: dict[str, int],
) -> None:
    """Open one table after the other, the stream inside them all: a failure leaves none of them."""
    if left:
        name = next(iter(left))
        rest = {other: path for other, path in left.items() if other != name}
        write_atomically(left[name], lambda aside: _fill(parts, rest, asides | {name: aside}, rows))
        return
    writers: dict[str, Any] = {}
    # While rows are encoded and compressed, in one thread, the next ones are made.
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        before: Future[None] | None = None
        for part in parts:
            for name, frame in part.items():
                if name not in writers:
                    writers[name] = stack.enter_context(_writer(asides[name], frame))
                rows[name] += frame.height
            if before is not None:
                before.result()
            before = pool.submit(_write, writers, part)
        if before is not None:
            before.result()
    for name in asides.keys() - writers.keys():
        raise InputError(f"nothing to write to {name}: not even an empty batch with columns")


def _write(writers: Mapping[str, Any], part: "Mapping[str, pl.DataFrame]") -> None:
    for name, frame in part.items():
        if frame.height:
            writers[name].write_table(frame.to_arrow())


def _writer(path: Path, frame: "pl.DataFrame") -> Any:
    from pyarrow import parquet

    return parquet.ParquetWriter(path, frame.to_arrow().schema, compression="lz4")
