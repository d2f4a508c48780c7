"""What a record, a document and a refused line are: the columns that every step here agrees on.

A record is a conversation that ends with an answer. Its id is the digest of the content as it was
read, so the same conversation has the same id wherever it came from, through every later step.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import ArrayLike, NDArray

BATCH_ROWS = 10_000

ROLES = ("system", "developer", "user", "assistant", "tool")
STANDING = ("system", "developer")
"""Roles whose messages stand above the conversation; many records share them word for word."""


class Message(NamedTuple):
    """One turn."""

    role: str
    """One of `ROLES`."""
    content: str | None
    """The text; None in a turn that only calls tools."""
    name: str | None = None
    """Of the speaker, or of the tool that answers."""
    tool_calls: str | None = None
    """JSON: a list of calls in OpenAI's form, `[{"id", "type", "function"}, ...]`."""
    tool_call_id: str | None = None
    """Which call a tool answers."""
    weight: int | None = None
    """0 for an answer that is shown but not learned, 1 or None for one that is."""


class Record(NamedTuple):
    """One conversation; the last message is an answer."""

    messages: Sequence[Message]
    origin: str
    """The name of the source as a whole: a file or folder in raw/records, `installed`, `calls`."""
    source: str
    """Where in it: file and line, module, call."""
    timestamp: datetime
    tools: str | None = None
    """JSON: the definitions of the tools that could be called, a list in OpenAI's form."""
    call_id: str | None = None
    """The call in the log that it was taken from."""
    conversation_id: str | None = None
    user_id: str | None = None
    label: str | None = None
    """What stratified splits keep in proportion."""
    rating: float | None = None
    """What people thought of the answer; higher is better."""
    licence: str | None = None


class Batch(NamedTuple):
    """Rows that could be read, and those that could not: none is lost between the two."""

    kept: "pl.DataFrame"
    quarantined: "pl.DataFrame"
    """One row for each refusal: file, line (from 1; null for a whole file), reason, text."""


class Judged(NamedTuple):
    """What a step made of a frame of records: rows in = rows kept + rows dropped."""

    kept: "pl.DataFrame"
    dropped: "pl.DataFrame"
    """The columns of the records, `reason`, and what else the step knows."""


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


def pair(query: str, response: str, context: str = "") -> tuple[Message, Message]:
    """A question and its answer as messages; the context stands before the question."""
    asked = f"{context}\n\n{query}" if context else query
    return Message("user", asked), Message("assistant", response)


def record_schema() -> "dict[str, pl.DataType]":
    """The columns of a frame of records; later steps add columns at the end."""
    import polars as pl

    text = pl.String()
    messages = pl.List(pl.Struct(_turn_schema()))
    schema: dict[str, pl.DataType] = {"record_id": text, "messages": messages}
    schema |= {name: text for name in Record._fields if name != "messages"}
    return schema | {"timestamp": pl.Datetime("us", "UTC"), "rating": pl.Float64()}


def _turn_schema() -> "dict[str, pl.DataType]":
    import polars as pl

    kinds: dict[str, pl.DataType] = dict.fromkeys(Message._fields, pl.String())
    kinds["weight"] = pl.Int8()
    return kinds


def record_frame(rows: Sequence[Record]) -> "pl.DataFrame":
    """Records as a frame with their ids; with no rows, an empty one that has all columns."""
    import polars as pl

    schema = record_schema()
    names = [name for name in Record._fields if name != "messages"]
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    turns = [turn for row in rows for turn in row.messages]
    counts = [len(row.messages) for row in rows]
    messages = listed(_frame(turns, _turn_schema()), counts)
    rest = {name: kind for name, kind in schema.items() if name in columns}
    return with_ids(pl.DataFrame(columns, schema=rest).insert_column(0, messages))


def listed(turns: "pl.DataFrame", counts: "ArrayLike") -> "pl.Series":
    """A column `messages` of turns, so many a row; fields of a message that are no columns are
    null. Arrow makes lists of offsets, where Polars would copy."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    kinds: dict[Any, Any] = dict(_turn_schema())
    given: dict[str, Any] = {name: pl.lit(None) for name in kinds}
    said = turns.select(**given | {each.name: each for each in turns}).cast(kinds)
    offsets: Any = pa.array(np.append(0, np.cumsum(counts, dtype=np.int64)))
    inner = cast(Any, said.to_struct()).to_arrow(compat_level=pl.CompatLevel.newest())
    lists = pl.from_arrow(pa.LargeListArray.from_arrays(offsets, inner))  # pyright: ignore[reportUnknownMemberType]
    return cast("pl.Series", lists).alias("messages")


def with_ids(frame: "pl.DataFrame") -> "pl.DataFrame":
    """A frame of records that has every column but the ids, with `record_id` in front.

    An id is `b2:` and the 128-bit BLAKE2b digest, in hex, of messages and tools. What is hashed
    gives the length of each text before the text, so that no two contents look the same.
    """
    import polars as pl

    ids = pl.Series("record_id", _digests(*_contents(frame)), dtype=pl.String)
    named = frame.with_columns(ids)
    return named.select(*record_schema(), *(set(frame.columns) - set(record_schema())))


def _contents(frame: "pl.DataFrame") -> "tuple[pl.Series, NDArray[np.int64]]":
    """What each turn says, before a record's first one its tools, and the first turn of each
    record, with the end of the last one: nothing is put together twice."""
    import numpy as np
    import polars as pl

    counts = frame["messages"].list.len().to_numpy()
    starts = np.append(0, np.cumsum(np.maximum(counts, 1), dtype=np.int64))
    turns = frame["messages"].explode().struct.unnest()
    parts = [part for name in Message._fields for part in _counted(turns[name])]
    tools = frame.with_columns(pl.concat_str(_counted(frame["tools"])).alias("tools"))["tools"]
    above = pl.Series([""]).new_from_index(0, turns.height).scatter(starts[:-1], tools)
    said = turns.select(pl.concat_str(pl.lit(above), *parts))
    return said.to_series(), starts


def _counted(values: "pl.Series") -> "list[pl.Expr]":
    """The length of each text, the text; `-` for none."""
    import polars as pl

    if values.null_count() == len(values):
        return [pl.lit("-")]
    text = pl.lit(values).cast(pl.String)
    length = pl.concat_str(text.str.len_bytes(), pl.lit(":"))
    if not values.null_count():
        return [length, text]
    return [length.fill_null("-"), text.fill_null("")]


def _digests(texts: "pl.Series", starts: "NDArray[np.int64]") -> list[str]:
    """Of each record, from the bytes in place: no Python string is made."""
    import numpy as np
    import polars as pl

    buffers: list[Any] = texts.cast(pl.Binary).to_arrow().buffers()
    ends: list[int] = np.frombuffer(buffers[1], np.int64)[starts].tolist() if len(texts) else []
    said, blake2b = memoryview(buffers[2] or b""), hashlib.blake2b
    return [
        "b2:" + blake2b(said[start:end], digest_size=16).hexdigest()
        for start, end in pairwise(ends)
    ]


def whole() -> "pl.Expr":
    """The texts of a record, one a line; not those of system messages, which many share."""
    import polars as pl

    return _texts(pl.col("messages")).alias("whole")


def prompt() -> "pl.Expr":
    """All that was said before the answer; not the system messages."""
    import polars as pl

    messages = pl.col("messages")
    before = messages.list.head(messages.list.len().cast(pl.Int64) - 1)
    return _texts(before).alias("prompt")


def question() -> "pl.Expr":
    """The text of the last message of a user; empty where there is none."""
    import polars as pl

    asked = pl.col("messages").list.eval(
        pl.element().filter(pl.element().struct.field("role") == "user").struct.field("content")
    )
    return asked.list.last().fill_null("").alias("question")


def answer() -> "pl.Expr":
    """What the last message says, or the tools that it calls."""
    import polars as pl

    last = pl.col("messages").list.last().struct
    said = pl.coalesce(last.field("content"), last.field("tool_calls"), pl.lit(""))
    return said.alias("answer")


def _texts(messages: "pl.Expr") -> "pl.Expr":
    import polars as pl

    turn = pl.element().struct
    said = pl.coalesce(turn.field("content"), turn.field("tool_calls"))
    shared = turn.field("role").is_in(STANDING)
    return messages.list.eval(said.filter(~shared)).list.join("\n")


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
