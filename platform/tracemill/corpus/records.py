"""What a record, a document and a refused line are: the columns that every step here agrees on.

An id is the digest of the content as it was read, so the same text has the same id wherever it
came from; it stays with the record through every later step.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS = 2_000


class Batch(NamedTuple):
    """Rows that could be read, and those that could not: none is lost between the two."""

    kept: "pl.DataFrame"
    quarantined: "pl.DataFrame"
    """One row for each refusal: file, line (from 1; null for a whole file), reason, text."""


class Record(NamedTuple):
    """One question with its answer."""

    record_id: str
    user_query: str
    assistant_response: str
    context: str
    source: str
    timestamp: datetime


class Document(NamedTuple):
    """One text to search in; `format` is markdown, rst or text."""

    document_id: str
    title: str
    source: str
    format: str
    text: str


class Refusal(NamedTuple):
    """A line or file that was not taken, and why."""

    file: str
    line: int | None
    reason: str
    text: str


def record(query: str, response: str, context: str, source: str, timestamp: datetime) -> Record:
    """A record with its id: the digest of question, answer and context, not of where or when."""
    return Record(
        content_id((query, response, context)), query, response, context, source, timestamp
    )


def document(title: str, source: str, format: str, text: str) -> Document:
    """A document with its id: the digest of title and text."""
    return Document(content_id((title, text)), title, source, format, text)


def refusal(file: str, line: int | None, reason: str, text: str = "") -> Refusal:
    """A refusal with its text shortened to 200 characters and made valid Unicode."""
    short = text if len(text) <= 200 else text[:199] + "…"
    return Refusal(file, line, reason, short.encode("utf-8", "replace").decode("utf-8"))


def content_id(texts: Sequence[str]) -> str:
    """`b2:` and the 128-bit BLAKE2b digest of the texts, in hex."""
    plain = json.dumps(texts, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return "b2:" + hashlib.blake2b(plain, digest_size=16).hexdigest()


def record_frame(rows: Sequence[Record]) -> "pl.DataFrame":
    """Records as a frame; with no rows, an empty one that has all columns."""
    import polars as pl

    return _frame(
        rows,
        {
            "record_id": pl.String,
            "user_query": pl.String,
            "assistant_response": pl.String,
            "context": pl.String,
            "source": pl.String,
            "timestamp": pl.Datetime("us", "UTC"),
        },
    )


def document_frame(rows: Sequence[Document]) -> "pl.DataFrame":
    """Documents as a frame; with no rows, an empty one that has all columns."""
    import polars as pl

    return _frame(rows, dict.fromkeys(Document._fields, pl.String))


def refusal_frame(rows: Sequence[Refusal]) -> "pl.DataFrame":
    """Refusals as a frame; with no rows, an empty one that has all columns."""
    import polars as pl

    return _frame(
        rows, {"file": pl.String, "line": pl.Int64, "reason": pl.String, "text": pl.String}
    )


def _frame(rows: Sequence[tuple[Any, ...]], schema: dict[str, Any]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(rows, schema=schema, orient="row")
