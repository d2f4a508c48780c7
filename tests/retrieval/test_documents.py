"""Texts become documents with all columns; what cannot be used is dropped with its reason."""

import hashlib

import polars as pl
import pytest

from tracemill.errors import InputError
from tracemill.retrieval.documents import COLUMNS, from_frame
from tracemill.retrieval.frames import document_schema


def frame(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def test_texts_become_documents():
    said = "The log keeps what happened, and everything else follows from it. Café"
    kept, dropped = from_frame(frame(("d1", " ", "a 1.0", "html", f"\ufeff{said}\u0301\r\ntwo\r")))
    text = said + "\u0301\ntwo\n"
    assert kept.schema == document_schema()
    assert kept.drop("text").row(0, named=True) == {
        "document_id": "d1",
        "title": "d1",
        "source": "a 1.0",
        "format": "text",
        "syntax": "text",
        "language": "en",
        "created_at": None,
        "modified_at": None,
        "pages": None,
        "by_line": False,
        "metadata": "{}",
        "bytes": len(kept["text"][0].encode()),
        "sha256": hashlib.sha256(kept["text"][0].encode()).hexdigest(),
        "modified_ns": None,
    }
    assert kept["text"][0] == text
    assert dropped.height == 0


def test_what_cannot_be_used_is_dropped_with_its_reason():
    rows = (
        ("d1", "One", "a", "rst", "text"),
        ("d2", "Two", "b", "rst", "text\n"),
        ("d3", "Same", "c", "rst", "text"),
        ("d1", "Again", "d", "rst", "other"),
        ("d4", "Blank", "e", "rst", " \n"),
        ("d5", "None", "f", "rst", None),
        (None, "Nobody", "g", "rst", "more"),
    )
    kept, dropped = from_frame(frame(*rows))
    assert kept["title"].to_list() == ["One", "Two"]
    assert dropped.select("title", "reason").rows() == [
        ("Same", "same text as d1"),
        ("Again", "an earlier document has this document_id"),
        ("Blank", "empty"),
        ("None", "empty"),
        ("Nobody", "no document_id"),
    ]


def test_no_documents_are_an_empty_frame_of_the_same_columns():
    assert from_frame(frame()).kept.schema == document_schema()


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="documents lack the column source, text"):
        from_frame(pl.DataFrame({"document_id": ["d"], "title": ["t"], "format": ["rst"]}))
