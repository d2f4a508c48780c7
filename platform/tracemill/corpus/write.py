"""Tables and data sets on disk: whole or absent, named by what they hold.

A table is one Parquet file. A data set is a folder named by its digest, with a manifest; the file
`current` beside it says which version is in force.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    """Write a frame, or batches with the same columns, to one Parquet file (zstd).

    Batches are written as they come; only one is held. Raises InputError when there is none, since
    a table without columns is no table.
    """
    import polars as pl

    batches = [table] if isinstance(table, pl.DataFrame) else table
    rows = 0

    def write(aside: Path) -> None:
        nonlocal rows
        rows = _write_parquet(batches, aside, path)

    write_atomically(path, write)
    return Table(path, rows, sha256_of(path))


def _write_parquet(batches: "Iterable[pl.DataFrame]", aside: Path, path: Path) -> int:
    from pyarrow import parquet

    rows, writer = 0, None
    try:
        for batch in batches:
            arrow = batch.to_arrow()
            writer = writer or parquet.ParquetWriter(aside, arrow.schema, compression="zstd")
            writer.write_table(arrow)
            rows += batch.height
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise InputError(f"nothing to write to {path}: not even an empty batch with columns")
    return rows
