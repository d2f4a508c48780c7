"""Files of rows, read one row at a time: JSONL, JSON, CSV, TSV and Parquet.

A row that cannot be read is a `Line` with a problem, and reading goes on after it.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple, cast

from tracemill.corpus.records import BATCH_ROWS


class Line(NamedTuple):
    """One row of a file, or why it is none."""

    number: int
    """The line where it begins, from 1; in Parquet the row."""
    row: dict[str, Any] | None
    """Field -> value; None when it could not be read."""
    problem: str = ""
    text: str = ""
    """What was read, for the quarantine."""


def _text_of(file: IO[bytes], newline: str | None = None) -> io.TextIOWrapper:
    """Bytes that are not UTF-8 become surrogates, so that only their own row is refused."""
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=newline)


def _jsonl(file: IO[bytes]) -> Iterator[Line]:
    with _text_of(file) as lines:
        for number, text in enumerate(lines, start=1):
            if text.strip():
                yield _json_line(number, text.rstrip("\n"))


def _json_line(number: int, text: str) -> Line:
    try:
        return _json_row(number, json.loads(text), text)
    except (ValueError, RecursionError) as error:
        return Line(number, None, f"not JSON: {error}", text)


def _json_row(number: int, value: Any, text: str) -> Line:
    if isinstance(value, dict):
        return Line(number, cast("dict[str, Any]", value), text=text)
    return Line(number, None, "not an object with named fields", text)


def _json(file: IO[bytes]) -> Iterator[Line]:
    """An array of rows, or rows one after the other; after a row that is not JSON comes nothing."""
    with _text_of(file) as whole:
        text = whole.read()
    decoder, at, number = json.JSONDecoder(), 0, 1
    while True:
        start = _skip(text, at)
        number, at = number + text.count("\n", at, start), start
        if at == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield Line(number, None, f"not JSON from here on: {error}", text[start : start + 300])
            return
        yield _json_row(number, value, text[start:at])
        number += text.count("\n", start, at)


def _skip(text: str, at: int) -> int:
    """The position of the next row: past blanks, and past an array's brackets and commas."""
    while at < len(text) and text[at] in " \t\r\n,[]":
        at += 1
    return at


def _csv(file: IO[bytes], delimiter: str = ",") -> Iterator[Line]:
    csv.field_size_limit(2**31 - 1)  # The default refuses texts over 128 KB.
    with _text_of(file, newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        for number, row in _csv_rows(reader):
            if isinstance(row, csv.Error):
                yield Line(number, None, f"not CSV: {row}")
            elif header is None:
                header = row
            elif row:
                yield _csv_line(number, header, row, delimiter)


def _csv_rows(reader: Any) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Each row, or why it is none, with the line where it begins."""
    while True:
        number: int = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, error


def _csv_line(number: int, header: list[str], row: list[str], delimiter: str) -> Line:
    text = delimiter.join(row)
    if len(row) != len(header):
        problem = f"{len(row)} fields where the header has {len(header)}"
        return Line(number, None, problem, text)
    return Line(
        number, {key: field or None for key, field in zip(header, row, strict=True)}, "", text
    )


def _tsv(file: IO[bytes]) -> Iterator[Line]:
    return _csv(file, "\t")


def _parquet(file: IO[bytes]) -> Iterator[Line]:
    import polars as pl
    from pyarrow import parquet

    number = 0
    for batch in parquet.ParquetFile(file).iter_batches(BATCH_ROWS):  # pyright: ignore[reportUnknownMemberType]
        for row in pl.DataFrame(batch).iter_rows(named=True):
            number += 1
            yield Line(number, row)


READERS: dict[str, Callable[[IO[bytes]], Iterator[Line]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
"""Suffix -> how to read such a file."""
