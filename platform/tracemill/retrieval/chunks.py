"""Documents to chunks: by structure first, then by tokens, each with its exact place in the source.

Blocks are packed into a chunk until it is full or a new section begins. Only a block that is too
large alone is cut, and only within one section do neighbours share a few tokens.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from tracemill import tokenizer
from tracemill.errors import UsageError
from tracemill.retrieval.documents import Block, blocks

if TYPE_CHECKING:
    import polars as pl

TOKENS, OVERLAP = 512, 50
# A section shorter than this shares its chunk with the next: a lone heading answers nothing.
SMALL = 128
_DOCUMENTS_AT_ONCE = 500

# Where to cut, best first: between paragraphs, lines, sentences, words.
_CUTS = tuple(re.compile(cut) for cut in (r"\n[ \t]*\n+", r"\n", r"[.!?][\"')\]]*\s+", r"\s+"))


class Span(NamedTuple):
    """A chunk before it is written down: `text[start:end]`."""

    start: int
    end: int
    tokens: int
    headings: tuple[str, ...]


def chunk(
    documents: "pl.DataFrame", *, tokens: int = TOKENS, overlap: int = OVERLAP
) -> "pl.DataFrame":
    """The chunks of documents, in order.

    Args:
        documents: columns document_id, title, source, format, text, as `normalise` keeps them.
        tokens: the most tokens in a chunk, counted in its document; at least 16.
        overlap: tokens that a chunk repeats from the one before it in the same section.

    Returns a frame with chunk_id, document_id, title, headings (from the outermost), source,
    start and end (characters: the document's text[start:end] is the chunk), tokens, text.
    """
    import polars as pl

    if tokens < 16 or not 0 <= overlap <= tokens // 2:
        raise UsageError(
            f"chunks of {tokens} tokens with an overlap of {overlap}: "
            "at least 16 tokens are needed, and an overlap of at most half of them"
        )
    needed = documents.select("document_id", "title", "source", "format", "text")
    batches = [
        pl.DataFrame(
            (
                _written(row, span)
                for row in batch.iter_rows(named=True)
                for span in spans(row["text"], row["format"], tokens=tokens, overlap=overlap)
            ),
            schema=_schema(),
            orient="row",
        )
        for batch in needed.iter_slices(_DOCUMENTS_AT_ONCE)
    ]
    return pl.concat([pl.DataFrame(schema=_schema()), *batches])


def spans(
    text: str, format: str, *, tokens: int = TOKENS, overlap: int = OVERLAP
) -> Iterator[Span]:
    """The places of the chunks of one text; together they cover it. A blank text has none."""
    if not text.strip():
        return
    marks = tokenizer.starts(text).tolist()
    path: list[tuple[int, str]] = []
    start, headings = 0, ()
    head, head_path = 0, ()  # the headings right before a piece: they go where it goes
    for piece in _pieces(text, blocks(text, format), marks, tokens, overlap):
        full = _count(marks, start, piece.end) > tokens
        section = piece.level > 0 and _count(marks, start, piece.start) >= SMALL
        if piece.start > start and (full or section):
            fits = _count(marks, head, piece.end) <= tokens
            before, cut = start, (head if start < head and fits else piece.start)
            yield Span(before, cut, _count(marks, before, cut), headings)
            start, headings = cut, (head_path if cut < piece.start else _names(path))
            if cut == piece.start and not piece.level:
                start = _back(text, marks, before, piece, overlap, tokens)
        if piece.level:
            path = [above for above in path if above[0] < piece.level]
            path.append((piece.level, piece.heading))
        if start == piece.start:
            headings = _names(path)
        if not piece.level:
            head, head_path = piece.end, ()
        elif head == piece.start:
            head_path = _names(path)
    yield Span(start, len(text), _count(marks, start, len(text)), headings)


def join(chunks: Iterable[tuple[int, str]]) -> str:
    """The text whose chunks these are: each (start, text), in order; what is shared counts once."""
    text = ""
    for start, part in chunks:
        text += part[len(text) - start :]
    return text


def searchable(chunks: "pl.DataFrame") -> "pl.Series":
    """What is embedded and indexed for each chunk: its title and headings, then its text."""
    import polars as pl

    headings = pl.col("headings").list.join(" > ")
    return chunks.select(pl.concat_str("title", headings, "text", separator="\n")).to_series()


def _names(path: list[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(heading for _, heading in path)


def _pieces(
    text: str, whole: list[Block], marks: list[int], limit: int, overlap: int
) -> Iterator[Block]:
    """The blocks; those of too many tokens in several parts that leave room for the overlap."""
    for block in whole:
        start, level = block.start, block.level
        while _count(marks, start, block.end) > limit:
            last = marks[bisect_left(marks, start) + limit - overlap]
            cut = _cut(text, start, max(last, start + 1))
            yield Block(start, cut, level, block.heading)
            start, level = cut, 0
        yield Block(start, block.end, level, block.heading)


def _cut(text: str, start: int, last: int) -> int:
    """The best place to cut in the second half of text[start:last], else its end."""
    half = start + (last - start) // 2
    for pattern in _CUTS:
        ends = [match.end() for match in pattern.finditer(text, half, last)]
        if ends and start < ends[-1]:
            return ends[-1]
    return last


def _back(text: str, marks: list[int], before: int, piece: Block, overlap: int, limit: int) -> int:
    """Where a chunk that continues with `piece` begins: up to `overlap` tokens earlier."""
    at, end = bisect_left(marks, piece.start), bisect_left(marks, piece.end)
    first = max(at - overlap, end - limit)
    if first >= at or first <= bisect_left(marks, before):
        return piece.start
    for pattern in _CUTS[1:]:
        found = pattern.search(text, marks[first], piece.start)
        if found and found.end() < piece.start:
            return found.end()
    return piece.start


def _count(marks: list[int], start: int, end: int) -> int:
    return bisect_left(marks, end) - bisect_left(marks, start)


def _written(document: dict[str, Any], span: Span) -> tuple[Any, ...]:
    text = document["text"][span.start : span.end]
    place = f"{document['document_id']}\0{span.start}\0{text}"
    return (
        "c:" + blake2b(place.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest(),
        document["document_id"],
        document["title"],
        list(span.headings),
        document["source"],
        span.start,
        span.end,
        span.tokens,
        text,
    )


def _schema() -> dict[str, Any]:
    import polars as pl

    return {
        "chunk_id": pl.String,
        "document_id": pl.String,
        "title": pl.String,
        "headings": pl.List(pl.String),
        "source": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "tokens": pl.Int64,
        "text": pl.String,
    }
