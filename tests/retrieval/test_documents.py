"""Blocks lie end to end and cover the text; what cannot be used is dropped with its reason."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.errors import InputError
from tracemill.retrieval.documents import COLUMNS, FORMATS, Block, blocks, headings, normalise

MARKDOWN = """\
# Title with `code`

A paragraph
of two lines.

Second *level*
--------------

```python
# not a heading

x = 1
```

| a | b |
|---|---|
| 1 | 2 |
"""

RST = """\
=====
Title
=====

A paragraph::

    code, indented

    and more of it

Section
-------
Text right below.

Another
-------

* an item
"""

pieces = st.lists(
    st.sampled_from(["# h", "## h", "=====", "-----", "    code", "```", "| a | b |", "|---|---|"])
    | st.sampled_from(
        ["* item", "text", "é 😀", "\n", "\n\n", "\r\n", "\r", "\x0b", "\u2028", "::"]
    )
    | st.text(max_size=10),
    max_size=25,
)
texts = st.builds("".join, pieces) | st.builds("\n".join, pieces)


def parts(text: str, format: str) -> list[tuple[int, str]]:
    return [(block.level, text[block.start : block.end].strip()) for block in blocks(text, format)]


def test_markdown_keeps_code_and_tables_whole():
    assert parts(MARKDOWN, "markdown") == [
        (1, "# Title with `code`"),
        (0, "A paragraph\nof two lines."),
        (2, "Second *level*\n--------------"),
        (0, "```python\n# not a heading\n\nx = 1\n```"),
        (0, "| a | b |\n|---|---|\n| 1 | 2 |"),
    ]
    assert [block.heading for block in headings(MARKDOWN, "markdown")] == [
        "Title with code",
        "Second level",
    ]


def test_restructuredtext_keeps_indented_blocks_with_their_introduction():
    assert parts(RST, "rst") == [
        (1, "=====\nTitle\n====="),
        (0, "A paragraph::\n\n    code, indented\n\n    and more of it"),
        (2, "Section\n-------"),
        (0, "Text right below."),
        (2, "Another\n-------"),
        (0, "* an item"),
    ]
    assert [block.heading for block in headings(RST, "rst")] == ["Title", "Section", "Another"]


def test_a_rule_or_a_table_is_no_heading():
    assert headings("text\n\n-----\n\n=====  =====\na      b\n=====  =====\n", "rst") == []
    assert headings("a long title\n---\n", "rst") == []


def test_an_empty_text_has_no_blocks():
    assert [blocks("", format) for format in FORMATS] == [[], [], []]


@given(texts, st.sampled_from(FORMATS))
def test_blocks_lie_end_to_end_and_cover_the_text(text: str, format: str):
    found = blocks(text, format)
    assert "".join(text[block.start : block.end] for block in found) == text
    assert all(block.start < block.end for block in found)
    assert all((block.level > 0) or block.heading == "" for block in found)


def test_block_is_a_span_with_a_level():
    assert blocks("# A\nb", "markdown") == [Block(0, 4, 1, "A"), Block(4, 5, 0, "")]


def frame(*rows: tuple[str | None, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")


def test_documents_become_clean_text():
    given_rows = frame(("d1", " ", "a 1.0", "html", "\ufeffone\r\ntwo\rthree e\u0301"))
    kept, dropped = normalise(given_rows)
    assert kept.rows() == [("d1", "d1", "a 1.0", "text", "one\ntwo\nthree é")]
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
    kept, dropped = normalise(frame(*rows))
    assert kept["title"].to_list() == ["One", "Two"]
    assert dropped.select("title", "reason").rows() == [
        ("Same", "same text as d1"),
        ("Again", "an earlier document has this document_id"),
        ("Blank", "empty"),
        ("None", "empty"),
        ("Nobody", "no document_id"),
    ]


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="documents lack the column source, text"):
        normalise(pl.DataFrame({"document_id": ["d"], "title": ["t"], "format": ["rst"]}))
