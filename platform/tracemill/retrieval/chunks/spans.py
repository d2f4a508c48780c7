"""Where a text is cut: by its structure, where its meaning changes, or every so many tokens.

Pieces are packed into a chunk until it is full or a section begins, and only within a section do
neighbours share a few tokens.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tracemill.retrieval.blocks import blocks
from tracemill.retrieval.chunks.pieces import (
    PROSE,
    Marks,
    Piece,
    best_cut,
    fitting,
    overlapping,
    placed,
    stretches,
    whole_before,
)

if TYPE_CHECKING:
    from tracemill.retrieval.chunks.pieces import Starts
    from tracemill.retrieval.recipe import Strategy

SMALL = 128
"""Tokens; a shorter section shares its chunk with the next: a lone heading answers nothing."""
_TINY = 32
"""Tokens; what is left at the end of a text and shorter goes to the chunk before."""
# A chunk alone counts a little more than in its text: the word at its beginning gets a mark.
_ALONE = 2


class Span(NamedTuple):
    """A chunk before it is written down: `text[start:end]`."""

    start: int
    end: int
    tokens: int
    """Of the chunk alone."""
    headings: tuple[str, ...]


class _Cut(NamedTuple):
    start: int
    end: int
    headings: tuple[str, ...]


def spans(
    text: str, syntax: str, strategy: "Strategy", tokens: int, overlap: int, starts: "Starts"
) -> Iterator[Span]:
    """The places of the chunks of one text; together they cover it. A blank text has none."""
    if not text.strip():
        return
    limit = tokens - _ALONE
    before: Span | None = None
    for each in stretches(text, placed(blocks(text, syntax))):
        marks = Marks(text, each[0].start, each[-1].end, starts)
        if strategy == "fixed":
            cuts = _fixed(text, each, marks, limit, overlap)
        else:
            cuts = _packed(
                text, _pieces(text, each, marks, strategy, limit, overlap), marks, limit, overlap
            )
        for cut in cuts:
            if before and cut.start <= before.start:
                # The chunk that it shares words with had to be cut again.
                cut = cut._replace(start=before.end)
            for span in _within(text, cut, tokens, starts):
                if before and span.end <= before.end:
                    continue
                merged = _merged(text, before, span, tokens, starts) if before else None
                if before and not merged:
                    yield before
                before = merged or span
    if before:
        yield before


def _pieces(
    text: str, stretch: list[Piece], marks: Marks, strategy: "Strategy", limit: int, overlap: int
) -> Iterable[Piece]:
    room = limit - overlap
    if strategy == "semantic":
        from tracemill.retrieval.chunks.semantic import by_meaning

        return by_meaning(text, stretch, marks, limit, room)
    return (part for piece in stretch for part in fitting(text, piece, marks, limit, room))


def _packed(
    text: str, pieces: Iterable[Piece], marks: Marks, limit: int, overlap: int
) -> Iterator[_Cut]:
    run: list[Piece] = []
    start = 0
    for piece in pieces:
        full = run and marks.count(start, piece.end) > limit
        if full or (run and piece.begins and marks.count(start, piece.start) >= SMALL):
            kept, moved = _parted(run, piece, marks, limit)
            yield _Cut(start, kept[-1].end, _headings(kept))
            run, before = moved, start
            start = moved[0].start if moved else piece.start
            if not moved and not piece.begins:
                start = _back(text, marks, kept, piece, before, overlap, limit)
        elif not run:
            start = piece.start
        run.append(piece)
    if run:
        yield _Cut(start, run[-1].end, _headings(run))


def _parted(
    run: list[Piece], piece: Piece, marks: Marks, limit: int
) -> tuple[list[Piece], list[Piece]]:
    """What stays, and the headings right before a piece: they go where it goes, if there is room."""
    at = len(run)
    while at and run[at - 1].kind == "heading":
        at -= 1
    if 0 < at < len(run) and marks.count(run[at].start, piece.end) <= limit:
        return run[:at], run[at:]
    return run, []


def _headings(run: list[Piece]) -> tuple[str, ...]:
    """Those above the first piece that is none; with the columns of a table that began before."""
    first = next((piece for piece in run if piece.kind != "heading"), run[-1])
    return (*first.path, first.header) if first.goes_on and first.header else first.path


def _back(
    text: str, marks: Marks, kept: list[Piece], piece: Piece, before: int, overlap: int, limit: int
) -> int:
    """Where a chunk that continues with `piece` begins: up to `overlap` tokens earlier.

    Rows of a table are not repeated, nor are parts of a block that lies whole in the chunk before.
    """
    if not overlap or piece.kind == "table":
        return piece.start
    floor = piece.start
    for each in reversed(kept):
        if each.kind not in PROSE and not (piece.goes_on and each.end == piece.start):
            break
        floor = each.start
    room = min(overlap, limit - marks.count(piece.start, piece.end))
    first = max(marks.after(piece.start, -room), floor, before + 1)
    return overlapping(text, first, piece.start) if first < piece.start else piece.start


def _fixed(
    text: str, stretch: list[Piece], marks: Marks, limit: int, overlap: int
) -> Iterator[_Cut]:
    start, stop, at, done = stretch[0].start, stretch[-1].end, 0, 0
    while done < stop:
        end = marks.after(start, limit)
        end = stop if end >= stop else whole_before(text, end, start)
        if end <= done:
            # What would be repeated fills the whole chunk.
            start = done
            continue
        while stretch[at].end <= start:
            at += 1
        yield _Cut(start, end, stretch[at].path)
        start, done = max(whole_before(text, marks.after(end, -overlap), start), start + 1), end


def _within(text: str, cut: _Cut, tokens: int, starts: "Starts") -> Iterator[Span]:
    """The chunk; two, or more, where alone it counts more tokens than it may."""
    count = len(starts(text[cut.start : cut.end]))
    if count <= tokens or cut.end - cut.start == 1:
        yield Span(cut.start, cut.end, count, cut.headings)
        return
    middle = best_cut(text, cut.start, (cut.start + cut.end + 1) // 2, "text")
    yield from _within(text, cut._replace(end=middle), tokens, starts)
    yield from _within(text, cut._replace(start=middle), tokens, starts)


def _merged(text: str, before: Span, span: Span, tokens: int, starts: "Starts") -> Span | None:
    """Both as one, where one is blank, or where the last of a text is tiny, and they fit."""
    last = span.end == len(text) and span.tokens < _TINY
    blank = not text[before.start : before.end].strip() or not text[span.start : span.end].strip()
    if not (last or blank):
        return None
    count = len(starts(text[before.start : span.end]))
    headings = before.headings if text[before.start : before.end].strip() else span.headings
    return Span(before.start, span.end, count, headings) if count <= tokens else None
