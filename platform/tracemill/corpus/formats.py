"""Files of rows: JSONL, JSON, CSV, TSV and Parquet, packed by gzip or zstd or not at all.

Rows come in blocks of some megabytes, as columns where that is certain to give the same, and each
can be read by itself, with care. Nothing here raises for what is in a file: it becomes a `Line`
with a problem, and reading goes on after it where that is possible.
"""

import gzip
import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import polars as pl

BLOCK_BYTES = 4 << 20
PIECE_BYTES = 1 << 16
MAX_ROW_BYTES = 64 << 20
"""A longer row is refused: one row must not take all memory."""
UNREADABLE = (OSError, EOFError, zlib.error, ValueError, KeyError, NotImplementedError)
PACKED = (".gz", ".zst")


class Line(NamedTuple):
    """One row of a file, or why it is none."""

    row: dict[str, Any] | None
    """Field -> value; None when it could not be read."""
    problem: str = ""
    text: str = ""
    """What was read, for the quarantine."""


class Rows(NamedTuple):
    """Rows that lie side by side in a file; blank ones are left out."""

    numbers: Sequence[int]
    """The line where each begins, from 1; in Parquet the row."""
    line: Callable[[int], Line]
    """One of them, read with care."""
    frame: "pl.DataFrame | None" = None
    """Those of them that could be read as columns, one column a field."""
    places: Sequence[int] | None = None
    """Which rows `frame` holds; None: all of them."""


class Piece(NamedTuple):
    """Whole lines of a file, or a problem in its first one."""

    number: int
    content: bytes
    problem: str = ""


def refused(number: int, problem: str, text: bytes | str = "") -> Rows:
    """One row that could not be read."""
    shown = text[:1000] if isinstance(text, str) else text[:1000].decode("utf-8", "replace")
    line = Line(None, problem, shown)
    return Rows([number], [line].__getitem__)


def suffix(path: Path) -> str:
    """The suffix that says what is in it: `.jsonl` for `a.JSONL.gz`."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def opened(path: Path) -> IO[bytes]:
    """The bytes in a file, unpacked. Raises OSError where it is no regular file."""
    if not path.is_file():
        raise OSError("not a regular file")
    match path.suffix.lower():
        case ".gz":
            return cast(IO[bytes], gzip.open(path))
        case ".zst":
            import pyarrow as pa

            return cast(IO[bytes], pa.CompressedInputStream(pa.OSFile(str(path), "rb"), "zstd"))
        case _:
            return path.open("rb")


def unpacked(path: Path) -> IO[bytes]:
    """As `opened`, where the reader has to jump about in it: a packed file is unpacked to disk."""
    if path.suffix.lower() not in PACKED:
        return opened(path)
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        with opened(path) as packed:
            shutil.copyfileobj(packed, whole, PIECE_BYTES)
    except BaseException:
        whole.close()
        raise
    whole.seek(0)
    return cast(IO[bytes], whole)


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Some megabytes at a time; what came before an error is given before it is raised."""
    read = getattr(file, "read1", file.read)
    step = BLOCK_BYTES if isinstance(file, io.BufferedReader) else PIECE_BYTES
    first = True
    while True:
        parts: list[bytes] = []
        size, trouble = 0, None
        try:
            while size < BLOCK_BYTES and (piece := read(step)):
                parts.append(piece)
                size += len(piece)
        except UNREADABLE as error:
            trouble = error
        chunk = b"".join(parts)
        if chunk:
            yield chunk.removeprefix(b"\xef\xbb\xbf") if first else chunk
        first = False
        if trouble:
            raise trouble
        if size < BLOCK_BYTES:
            return


def pieces(file: IO[bytes]) -> Iterator[Piece]:
    """Whole lines, some megabytes at a time; lines that are too long, and the end of a damaged
    file, as problems."""
    number, rest, skipping = 1, bytearray(), False
    try:
        for chunk in chunks(file):
            end = chunk.rfind(b"\n") + 1
            if skipping and end:
                start = chunk.index(b"\n") + 1
                number, skipping, chunk = number + 1, False, chunk[start:]
                end -= start
            if skipping:
                continue
            if end:
                whole = bytes(rest) + chunk[:end] if rest else chunk[:end]
                if len(rest) > MAX_ROW_BYTES - BLOCK_BYTES:
                    first = whole.index(b"\n") + 1
                    if first > MAX_ROW_BYTES:
                        yield Piece(number, whole[:1000], _TOO_LONG)
                        number, whole = number + 1, whole[first:]
                if whole:
                    yield Piece(number, whole)
                number += _line_ends(whole)
                rest = bytearray(chunk[end:])
            else:
                rest += chunk
            if len(rest) > MAX_ROW_BYTES:
                yield Piece(number, bytes(rest[:1000]), _TOO_LONG)
                rest, skipping = bytearray(), True
    except UNREADABLE as error:
        yield Piece(number, bytes(rest), cut(error))
        return
    if rest:
        yield Piece(number, bytes(rest))


def _line_ends(content: bytes) -> int:
    """As `content.count`, which is slow where there are many."""
    import numpy as np

    codes = np.frombuffer(content, np.uint8)
    parts = range(0, codes.size, 1 << 18)  # What is compared stays in the processor's cache.
    return sum(int(np.count_nonzero(codes[each : each + (1 << 18)] == 10)) for each in parts)


_TOO_LONG = f"a row of more than {MAX_ROW_BYTES >> 20} MB"


def cut(error: Exception) -> str:
    """Why a file ends here."""
    return f"the file cannot be read from here on: {' '.join(str(error).split())[:200]}"


def lines_of(file: IO[bytes]) -> Iterator[str | Piece]:
    """The lines of a text with their ends, and pieces with a problem between them. Bytes that are
    not UTF-8 become surrogates, so that only their own row is refused."""
    for piece in pieces(file):
        if piece.problem:
            yield piece
            continue
        yield from io.StringIO(piece.content.decode("utf-8", "surrogateescape"), newline="")
