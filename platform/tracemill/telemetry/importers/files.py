"""Rows of files that other tools export: JSON lines, JSON arrays and pages of an API, CSV, Parquet;
packed with gzip too. One row after another: a file is never held whole.
"""

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from pydantic_core import from_json

from tracemill.errors import InputError

Json = dict[str, Any]

_PIECE = 2**20
MAX_ROW_CHARACTERS = 64 * 2**20
_SHOWN = 2_000
_BETWEEN = re.compile(r"[\s,]*")
_PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"


class Row(NamedTuple):
    """One row of a file."""

    number: int
    """1, 2 ...: of the line in JSON lines, else of the row."""
    fields: Json | None
    """None where it could not be read."""
    trouble: str = ""
    raw: str = ""
    """What was read, where that is no row."""


def rows(path: Path) -> Iterator[Row]:
    """The rows of one file. Raises `InputError`: it is not there, or cannot be read at all."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            if head == _PARQUET:
                yield from _parquet(path)
                return
            opened = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if head[:2] == _GZIP else file
            with io.TextIOWrapper(
                opened, encoding="utf-8-sig", errors="replace", newline=""
            ) as text:
                yield from _of_text(path, text)
    except (OSError, EOFError, UnicodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: {told}") from None


def _of_text(path: Path, text: IO[str]) -> Iterator[Row]:
    if ".csv" in path.suffixes or ".tsv" in path.suffixes:
        return _csv(text, "\t" if ".tsv" in path.suffixes else ",")
    first = text.readline(_PIECE)
    while first and not first.strip():
        first = text.readline(_PIECE)
    return _lines(first, text) if _is_row(first) else _values(path, first, text)


def _is_row(line: str) -> bool:
    """Whether a first line is a whole object, and not a page of an API."""
    try:
        told = from_json(line)
    except ValueError:
        return False
    return isinstance(told, dict) and not _is_page(cast(Json, told))


def _is_page(told: Json) -> bool:
    return isinstance(told.get("data"), list) and not told.keys() & {"id", "request_id"}


def _lines(first: str, text: IO[str]) -> Iterator[Row]:
    number = 1
    line = first
    while line:
        if len(line) >= MAX_ROW_CHARACTERS:
            yield Row(number, None, "the line is too long", line[:_SHOWN])
            while line and not line.endswith("\n"):
                line = text.readline(_PIECE)
        elif line.strip():
            yield _row(number, line)
        number += 1
        line = text.readline(MAX_ROW_CHARACTERS)


def _row(number: int, line: str) -> Row:
    try:
        told = from_json(line)
    except ValueError as error:
        return Row(number, None, f"not JSON: {error}", line[:_SHOWN])
    if not isinstance(told, dict):
        return Row(number, None, "not an object", line[:_SHOWN])
    return Row(number, cast(Json, told))


def _values(path: Path, first: str, text: IO[str]) -> Iterator[Row]:
    """Objects of an array, of pages (`{"data": [...]}`), or one behind the other."""
    decoder = json.JSONDecoder(parse_constant=lambda _: None)
    waiting = first.lstrip().removeprefix("[")
    number, asked = 0, _PIECE
    while True:
        start = cast("re.Match[str]", _BETWEEN.match(waiting)).end()
        if waiting[start : start + 1] == "]":
            start = cast("re.Match[str]", _BETWEEN.match(waiting, start + 1)).end()
        try:
            told, end = decoder.raw_decode(waiting, start)
        except (ValueError, RecursionError) as error:
            more = text.read(asked)
            if not more and start >= len(waiting.rstrip()):
                return
            if not more or len(waiting) > MAX_ROW_CHARACTERS:
                raise InputError(f"{path}: behind row {number} it is not JSON: {error}") from None
            # A row that is larger than what is here: reading twice as much each time keeps the
            # number of attempts small.
            waiting, asked = waiting[start:] + more, min(asked * 2, MAX_ROW_CHARACTERS)
            continue
        waiting, asked = waiting[end:], _PIECE
        for each in _items(told):
            number += 1
            shown = "" if isinstance(each, dict) else str(each)[:_SHOWN]
            yield Row(
                number, cast(Json, each) if not shown else None, shown and "not an object", shown
            )


def _items(told: Any) -> list[Any]:
    if isinstance(told, dict) and _is_page(cast(Json, told)):
        return cast(Json, told)["data"]
    return cast(list[Any], told) if isinstance(told, list) else [told]


def _csv(text: IO[str], delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, MAX_ROW_CHARACTERS))
    reader = csv.reader(text, delimiter=delimiter)
    names = next(reader, None)
    number = 0
    while names:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            number += 1
            yield Row(number, None, f"not CSV: {error}")
            continue
        if cells is None:
            return
        if not cells:
            continue
        number += 1
        if len(cells) != len(names):
            why = f"it has {len(cells)} fields, the header {len(names)}"
            yield Row(number, None, why, delimiter.join(cells)[:_SHOWN])
        else:
            yield Row(number, dict(zip(names, cells, strict=True)))


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened: Any = pq.ParquetFile(path)
        with opened as file:
            number = 0
            for batch in file.iter_batches(batch_size=500):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(number, fields)
    except pa.ArrowException as error:
        raise InputError(f"{path}: {error}") from None
