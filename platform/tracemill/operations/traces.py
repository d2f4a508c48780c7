"""Looking for a person in files: which of these texts stand anywhere in a file, however it is packed.

Parquet is read column by column, SQLite row by row and byte by byte, gzip and zstd are unpacked,
everything else is read as text. Many texts are looked for at once (Aho-Corasick, in Polars).
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import gzip
import json
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TELLING_BYTES = 24
"""A piece of text that is this long, and that nobody else's calls hold, tells of a person."""
MOST_CHARACTERS = 200
"""So much of a piece is looked for."""
MOST_PIECES = 50
"""So many pieces of a text are looked for, the longest ones."""
_CHUNK = 1 << 20
_BATCH_ROWS = 8_192
# Marks end a piece: texts are cut there, and JSON, CSV, SQL or Markdown write them otherwise.
_PLAIN = re.compile(r"[\w ()/+=%$@-]+")
_SQLITE = b"SQLite format 3\x00"


def pieces(text: str) -> list[str]:
    """The longest pieces of a text between marks, as they are and as JSON may write them; none where
    all are short."""
    found = {piece.strip()[:MOST_CHARACTERS] for piece in _PLAIN.findall(text)}
    telling = [piece for piece in found if len(piece.encode("utf-8", "ignore")) >= TELLING_BYTES]
    longest = sorted(telling, key=lambda piece: (-len(piece), piece))[:MOST_PIECES]
    return sorted({form for piece in longest for form in (piece, json.dumps(piece)[1:-1])})


class Traces:
    """What is looked for: names, found as whole words, and telling texts, found anywhere."""

    def __init__(self, names: Collection[str], texts: Collection[str]) -> None:
        self.names, self.texts = sorted(set(names)), sorted(set(texts))
        words = "|".join(re.escape(name) for name in self.names)
        self._word = re.compile(rf"(?<![\w.@+-])(?:{words})(?![\w@+-]|\.\w)") if words else None

    def __bool__(self) -> bool:
        return bool(self.names or self.texts)

    def are_in(self, text: str) -> bool:
        """Whether one text holds any of them."""
        return bool(self._word and self._word.search(text)) or any(t in text for t in self.texts)

    def which(self, texts: "pl.Series") -> "pl.Series":
        """For each of many texts whether it holds any of them."""
        import polars as pl

        needles = [*self.names, *self.texts]
        hit = (
            texts.str.contains_any(needles).fill_null(False)
            if needles
            else pl.repeat(False, len(texts), eager=True)
        )
        if self._word and hit.any():
            # A name within a longer word is somebody else's: the few candidates are looked at again.
            sure = [self.are_in(text) for text in texts.filter(hit)]
            hit = hit.scatter(hit.arg_true(), sure)
        return hit

    def in_file(self, path: Path) -> int:
        """How many values, lines or stretches of a file hold any of them.

        Raises `InputError` for a file that cannot be read.
        """
        try:
            return sum(int(self.which(texts).sum()) for texts in texts_of(path))
        except FileNotFoundError:
            return 0
        except Exception as error:
            raise InputError(f"{path} cannot be searched: {error}") from error


def texts_of(path: Path) -> "Iterator[pl.Series]":
    """All text of a file, a batch at a time."""
    import polars as pl

    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PAR1":
        yield from _of_parquet(path)
    elif head == _SQLITE:
        for _, _, values in cells(path):
            yield pl.Series(values, dtype=pl.String)
        yield from _of_bytes(path)
    else:
        yield from _of_bytes(path)


def _of_parquet(path: Path) -> "Iterator[pl.Series]":
    import polars as pl
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS):
            for column in batch.columns:
                for texts in _strings(column):
                    yield cast("pl.Series", pl.from_arrow(texts)).cast(pl.String)


def _strings(array: "pa.Array[Any]") -> "Iterator[pa.Array[Any]]":
    """The texts within a column, however deep they lie."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _strings(cast(Any, array).dictionary)
    elif (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    ):
        yield array
    elif pa.types.is_struct(kind):
        for part in cast(Any, array).flatten():
            yield from _strings(part)
    elif pa.types.is_map(kind):
        yield from _strings(cast(Any, array).keys)
        yield from _strings(cast(Any, array).items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _strings(cast(Any, array).flatten())


def cells(path: Path) -> Iterator[tuple[str, list[int], list[str]]]:
    """The texts of an SQLite file that is not the log's: table, row ids, each row's texts joined."""
    import apsw

    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.set_busy_timeout(10_000)
        for table in _tables(connection):
            cursor = connection.execute(f"SELECT rowid, * FROM {table}")  # noqa: S608
            while rows := cast("list[tuple[Any, ...]]", list(islice(cursor, _BATCH_ROWS))):
                joined = ["\n".join(map(_text, row[1:])) for row in rows]
                yield table, [cast(int, row[0]) for row in rows], joined
    finally:
        connection.close()


def _tables(connection: Any) -> list[str]:
    """Names of the tables with row ids, quoted."""
    query = "SELECT name FROM pragma_table_list WHERE type = 'table' AND wr = 0 AND schema = 'main'"
    names = [str(row[0]) for row in connection.execute(query)]
    return ['"' + name.replace('"', '""') + '"' for name in names if not name.startswith("sqlite_")]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "ignore")
    return value if isinstance(value, str) else ""


def _of_bytes(path: Path) -> "Iterator[pl.Series]":
    """A file as overlapping stretches of text; what is packed is unpacked."""
    import polars as pl

    overlap, before = 2 * MOST_CHARACTERS, ""
    for chunk in _unpacked(path):
        text = before + chunk.decode("utf-8", "ignore")
        yield pl.Series([text], dtype=pl.String)
        before = text[-overlap:]


def _unpacked(path: Path) -> Iterator[bytes]:
    with path.open("rb") as plain:
        magic = plain.read(4)
        plain.seek(0)
        if magic[:2] == b"\x1f\x8b":
            with gzip.open(plain) as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        elif magic == b"\x28\xb5\x2f\xfd":
            import pyarrow as pa

            with pa.CompressedInputStream(plain, "zstd") as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        else:
            while chunk := plain.read(_CHUNK):
                yield chunk
