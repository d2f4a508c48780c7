"""Documents as clean text, and the blocks that each is made of: headings, paragraphs, code, tables.

The blocks of a text lie end to end and cover it, so that whatever is cut from them still knows
its exact place in the source.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

COLUMNS = ("document_id", "title", "source", "format", "text")
FORMATS = ("markdown", "rst", "text")

_LINE_END = re.compile(r"\r\n?|\n")
_ADORNMENT = re.compile(r"([!-/:-@\[-`{-~])\1{2,}")


class Normalised(NamedTuple):
    """Documents that can be used, and those that cannot, with the reason."""

    kept: "pl.DataFrame"
    dropped: "pl.DataFrame"


class Block(NamedTuple):
    """A stretch of text that should stay whole: `text[start:end]`."""

    start: int
    end: int
    level: int
    """1 to 6 for a heading, 0 for everything else."""
    heading: str
    """What the heading says; empty for everything else."""


class _Begin(NamedTuple):
    start: int
    level: int = 0
    heading: str = ""


def normalise(documents: "pl.DataFrame") -> Normalised:
    """Documents with one newline character, composed Unicode, a title and a known format.

    Args:
        documents: columns document_id, title, source, format (markdown, rst or text), text.

    An empty text, a text seen before and an id seen before are dropped, with a `reason`.
    Raises `InputError` when a column is missing.
    """
    import polars as pl

    missing = [name for name in COLUMNS if name not in documents.columns]
    if missing:
        raise InputError(f"documents lack the column {', '.join(missing)}: has {documents.columns}")
    text = pl.col("text").str.strip_prefix("\ufeff").str.replace_all("\r\n?", "\n")
    title = pl.col("title").str.strip_chars()
    cleaned = documents.select(
        "document_id",
        pl.when(title != "").then(title).otherwise("document_id").alias("title"),
        "source",
        pl.when(pl.col("format").is_in(FORMATS)).then("format").otherwise(pl.lit("text")),
        text.str.normalize("NFC"),
    )
    reasoned = cleaned.with_columns(_reason().alias("reason"))
    refused = pl.col("reason").is_not_null()
    return Normalised(reasoned.filter(~refused).drop("reason"), reasoned.filter(refused))


def blocks(text: str, format: str) -> list[Block]:
    """The blocks of a text, end to end: the first begins at 0, the last ends with the text."""
    if not text:
        return []
    begins = _markdown(text) if format == "markdown" else _underlined(text)
    starts = {0: _Begin(0)} | {begin.start: begin for begin in begins}
    ordered = [starts[start] for start in sorted(starts)]
    ends = [begin.start for begin in ordered[1:]] + [len(text)]
    return [Block(b.start, end, b.level, b.heading) for b, end in zip(ordered, ends, strict=True)]


def headings(text: str, format: str) -> list[Block]:
    """The headings of a text, in order."""
    return [block for block in blocks(text, format) if block.level]


def _reason() -> "pl.Expr":
    import polars as pl

    empty = pl.col("text").is_null() | (pl.col("text").str.strip_chars() == "")
    same_text = pl.col("document_id").first().over("text")
    return (
        pl.when(pl.col("document_id").is_null())
        .then(pl.lit("no document_id"))
        .when(empty)
        .then(pl.lit("empty"))
        .when(~pl.col("document_id").is_first_distinct())
        .then(pl.lit("an earlier document has this document_id"))
        .when(~pl.col("text").is_first_distinct())
        .then(pl.lit("same text as ") + same_text)
    )


def _lines(text: str) -> list[int]:
    """Where each line begins, with the end of the text as one more."""
    return [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)]


def _markdown(text: str) -> Iterator[_Begin]:
    """CommonMark with tables, read by markdown-it; its tokens know their lines."""
    lines = _lines(text)
    tokens: list[Any] = _parser().parse(text)
    for number, token in enumerate(tokens):
        if token.level or token.map is None or token.nesting < 0:
            continue
        start = lines[int(token.map[0])]
        if token.type == "heading_open":
            yield _Begin(start, int(token.tag[1]), _plain(tokens[number + 1]))
        else:
            yield _Begin(start)


def _plain(inline: Any) -> str:
    return "".join(part.content for part in inline.children or ()).strip()


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _underlined(text: str) -> Iterator[_Begin]:
    """reStructuredText and plain text: a title has a line of one character below it, maybe above.

    A block begins after an empty line, unless it is indented and so belongs to the one before.
    Which character means which level follows from the order in which they appear, as in docutils.
    """
    begins = _lines(text)
    lines = [text[a:b].rstrip() for a, b in pairwise(begins)]
    styles: list[tuple[str, bool]] = []
    number, after_gap = 0, True
    while number < len(lines):
        title = _title(lines, number) if after_gap else None
        if title:
            style, heading, length = title
            if style not in styles:
                styles.append(style)
            yield _Begin(begins[number], min(styles.index(style) + 1, 6), heading)
            number, after_gap = number + length, True
            continue
        if after_gap and lines[number] and not lines[number][0].isspace():
            yield _Begin(begins[number])
        after_gap = not lines[number]
        number += 1


def _title(lines: list[str], number: int) -> tuple[tuple[str, bool], str, int] | None:
    """The style, the words and the number of lines of a title that begins on this line."""
    first, second, third = (*lines[number : number + 3], "", "", "")[:3]
    over = _ADORNMENT.fullmatch(first)
    if over and second.strip() and first == third and len(first) >= len(second.strip()):
        return (first[0], True), second.strip(), 3
    under = _ADORNMENT.fullmatch(second)
    if under and first and not over and not first[0].isspace() and len(second) >= len(first):
        return (second[0], False), first.strip(), 2
    return None
