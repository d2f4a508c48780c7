"""The blocks that a text is made of: headings, paragraphs, lists, code, tables, quotes.

They lie end to end and cover the text, so that whatever is cut from them still knows its exact
place. They are read as they are asked for: of a large text only a part is held at a time.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tracemill.retrieval.blocks.definitions import code, python
from tracemill.retrieval.blocks.markdown import markdown
from tracemill.retrieval.blocks.marks import Begin, Kind
from tracemill.retrieval.blocks.separated import separated
from tracemill.retrieval.blocks.underlined import underlined

__all__ = ["Block", "Kind", "blocks"]


class Block(NamedTuple):
    """A stretch of text that should stay whole: `text[start:end]`."""

    start: int
    end: int
    kind: Kind = "text"
    level: int = 0
    """1 to 6 where a section begins, 0 elsewhere."""
    heading: str = ""
    """Of that section: what a heading says, what a piece of code defines; empty where it only ends
    the one before."""
    header: str = ""
    """The names of a table's columns."""
    goes_on: bool = False
    """Whether its table began in a block before, and shows the names there."""


def blocks(text: str, syntax: str) -> Iterator[Block]:
    """The blocks of a text, end to end: the first begins at 0, the last ends with the text.

    Args:
        syntax: markdown, rst, text, csv, or a language of code.
    """
    if not text:
        return
    read = _SYNTAXES.get(syntax, code)
    before = Begin(0)
    for begin in read(text):
        if begin.start > before.start:
            yield Block(before.start, begin.start, *before[1:])
        before = begin
    yield Block(before.start, len(text), *before[1:])


_SYNTAXES: dict[str, Callable[[str], Iterator[Begin]]] = {
    "markdown": markdown,
    "rst": partial(underlined, indented=True),
    "text": partial(underlined, indented=False),
    "csv": separated,
    "python": python,
}
