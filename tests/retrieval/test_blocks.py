"""Blocks lie end to end and cover the text; each syntax shows its structure in its own way."""

import time
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.retrieval.blocks import Block, blocks

SYNTAXES = ("markdown", "rst", "text", "csv", "python", "go")

MARKDOWN = """\
# Title with `code` and [a *link*](address)

A paragraph
of two lines.

Second *level*
--------------

- one

  more of it
- two

> quoted

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

======  =====
Name    Count
======  =====
one     1

two     2
======  =====

* an item

+-----+-------+
| who | when  |
+=====+=======+
| me  | today |
+-----+-------+

.. code-block:: python

   x = 1

>>> 1 + 1
2
"""

PYTHON = '''\
"""What it is for."""
import os

# Says hello.
@decorated
def hello(name):

    return name

class Greeter:
    """Greets."""
    loud = True

    def greet(self): ...

LAST = 1
'''

GO = """\
package main

// Add adds.
func Add(a, b int) int {

	return a + b
}

func (s *Store) Get(key string) string {
}

var x = 1
"""

pieces = st.lists(
    st.sampled_from(["# h", "## h", "=====", "-----", "    code", "```", "| a | b |", "|---|---|"])
    | st.sampled_from(["* item", "text", "é 😀", "\n", "\n\n", "\r\n", "\r", "\x0b", "\u2028"])
    | st.sampled_from(["::", "== ==", "+--+", "def f():", "class A:", "<h1>x</h1>", '"', "a,b"])
    | st.text(max_size=10),
    max_size=25,
)
texts = st.builds("".join, pieces) | st.builds("\n".join, pieces)


def headings(text: str, syntax: str) -> list[Block]:
    return [block for block in blocks(text, syntax) if block.kind == "heading"]


def parts(text: str, syntax: str) -> list[tuple[str, int, str]]:
    return [
        (block.kind, block.level, text[block.start : block.end].strip("\n"))
        for block in blocks(text, syntax)
    ]


@settings(deadline=None)
@given(texts, st.sampled_from(SYNTAXES))
def test_blocks_lie_end_to_end_and_cover_the_text(text: str, syntax: str):
    found = list(blocks(text, syntax))
    assert "".join(text[block.start : block.end] for block in found) == text
    assert all(block.start < block.end for block in found)
    assert all(block.level > 0 or block.heading == "" for block in found)


def test_markdown_keeps_lists_code_and_tables_whole():
    assert parts(MARKDOWN, "markdown") == [
        ("heading", 1, "# Title with `code` and [a *link*](address)"),
        ("text", 0, "A paragraph\nof two lines."),
        ("heading", 2, "Second *level*\n--------------"),
        ("list", 0, "- one\n\n  more of it\n- two"),
        ("quote", 0, "> quoted"),
        ("code", 0, "```python\n# not a heading\n\nx = 1\n```"),
        ("table", 0, "| a | b |\n|---|---|\n| 1 | 2 |"),
    ]
    said = [block.heading for block in headings(MARKDOWN, "markdown")]
    assert said == ["Title with code and a link", "Second level"]


def test_a_heading_in_html_is_one():
    text = '<h1 align="center"><img src="x"> The <b>log</b></h1>\n\ntext\n'
    assert [(each.level, each.heading) for each in headings(text, "markdown")] == [(1, "The log")]


def test_restructuredtext_keeps_tables_and_what_is_indented_whole():
    assert parts(RST, "rst") == [
        ("heading", 1, "=====\nTitle\n====="),
        ("code", 0, "A paragraph::\n\n    code, indented\n\n    and more of it"),
        ("heading", 2, "Section\n-------"),
        ("text", 0, "Text right below."),
        ("table", 0, RST[RST.index("======  ") : RST.index("\n\n* an")]),
        ("list", 0, "* an item"),
        ("table", 0, RST[RST.index("+--") : RST.index("\n\n.. code")]),
        ("code", 0, ".. code-block:: python\n\n   x = 1"),
        ("code", 0, ">>> 1 + 1\n2"),
    ]
    tables = [block.header for block in blocks(RST, "rst") if block.kind == "table"]
    assert tables == ["Name | Count", "who | when"]


def test_plain_text_has_a_block_for_each_paragraph_indented_or_not():
    text = "  First line.\nSecond.\n\n  Another.\n\nTitle\n=====\nLast."
    assert parts(text, "text") == [
        ("text", 0, "  First line.\nSecond."),
        ("text", 0, "  Another."),
        ("heading", 1, "Title\n====="),
        ("text", 0, "Last."),
    ]


def test_a_rule_or_a_table_is_no_heading():
    assert not headings("text\n\n-----\n\n=====  =====\na      b\n=====  =====\n", "rst")
    assert not headings("a long title\n---\n", "rst")


def test_definitions_of_python_are_sections_with_their_comments_and_methods():
    found = [
        (each.level, each.heading, PYTHON[each.start : each.end].split("\n")[0])
        for each in blocks(PYTHON, "python")
    ]
    assert found == [
        (0, "", '"""What it is for."""'),
        (1, "hello", "# Says hello."),
        (1, "Greeter", "class Greeter:"),
        (2, "greet", "    def greet(self): ..."),
        (1, "", "LAST = 1"),
    ]


def test_what_python_cannot_parse_is_read_as_other_code():
    text = "def old():\n    print 'x'\n\nclass New:\n    pass\n"
    assert [each.heading for each in blocks(text, "python")] == ["old", "New"]


def test_other_code_is_parted_where_something_is_defined_at_the_top():
    found = [(each.level, each.heading) for each in blocks(GO, "go")]
    assert found == [(0, ""), (1, "Add"), (1, "Get"), (1, "")]


def test_a_record_of_a_table_is_whole_even_with_a_newline_in_quotes():
    text = 'name;says\nAda;"one\ntwo"\nBob;three\n'
    assert list(blocks(text, "csv")) == [
        Block(0, 10, "table", header="name | says"),
        Block(10, 24, "table", header="name | says", goes_on=True),
        Block(24, 34, "table", header="name | says", goes_on=True),
    ]


def test_an_empty_text_has_no_blocks():
    assert [list(blocks("", syntax)) for syntax in SYNTAXES] == [[]] * len(SYNTAXES)


def test_a_large_markdown_text_is_parted_outside_its_fences(monkeypatch: pytest.MonkeyPatch):
    module = import_module("tracemill.retrieval.blocks.markdown")
    monkeypatch.setattr(module, "_WINDOW", 10_000)
    code = "```\n" + "# x = 1\n\n" * 1_400 + "```\n\n"
    text = "# One\n\n" + code + "# Two\n\nwords\n\n" * 1_200
    found = list(blocks(text, "markdown"))
    assert text[found[1].start : found[1].end] == code
    assert len(found) == 2 + 2 * 1_200


@pytest.mark.parametrize("line", ["- a\n", "| 1 | 2 |\n", "> a\n"])
def test_markdown_without_an_empty_line_is_parsed_in_parts(
    monkeypatch: pytest.MonkeyPatch, line: str
):
    markdown = import_module("tracemill.retrieval.blocks.markdown")
    monkeypatch.setattr(markdown, "_WINDOW", 500)
    monkeypatch.setattr(markdown, "_SOON", 100)
    text = line * 1000
    found = list(blocks(text, "markdown"))
    assert max(block.end - block.start for block in found) < 800
    assert "".join(text[block.start : block.end] for block in found) == text


def test_a_table_of_data_in_python_is_not_parsed():
    text = "x = 1\n" * 200_000
    assert [(each.kind, each.level) for each in blocks(text, "python")] == [("code", 0)]
    assert [each.heading for each in blocks(f"def f(): ...\n\n\n{text}", "python")] == ["f", ""]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "text",
    [
        *("\n" * 100_000, "<h1>\n" * 20_000, "== ==\nfoo\n\n" * 10_000, "\n \n" * 30_000 + " x"),
        *("```\n" * 20_000, "> " * 30_000, '"\n' * 50_000, "(" * 50_000, "= =\n" * 20_000),
    ],
    ids=lambda text: repr(text[:8]),
)
def test_no_text_takes_time_that_grows_with_its_square(text: str, syntax: str):
    started = time.process_time()
    assert sum(block.end - block.start for block in blocks(text, syntax)) == len(text)
    assert time.process_time() - started < 5
