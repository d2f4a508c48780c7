"""Blocks with the headings above them, cut where one is larger than a chunk may be.

A large text is taken in stretches, so that only the tokens of one are held at a time.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tracemill.retrieval.blocks import Block, Kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Starts = Callable[[str], NDArray[np.int64]]

STRETCH = 1_000_000
"""Characters that are read as one; a chunk never reaches from one into the next."""
_WIDEST = 64
"""Characters; what one token reaches further than that counts as more of them."""

PROSE: tuple[Kind, ...] = ("text", "list", "quote")


class Piece(NamedTuple):
    """A block, or a part of one that is too large: `text[start:end]`."""

    start: int
    end: int
    kind: Kind
    begins: bool
    """Whether it begins a section."""
    path: tuple[str, ...]
    """The headings that it stands under, from the outermost; its own is one of them."""
    header: str = ""
    """The names of a table's columns."""
    goes_on: bool = False
    """Whether it continues the block of the piece before."""


class Marks:
    """Where the tokens of a stretch begin."""

    def __init__(self, text: str, start: int, end: int, starts: "Starts") -> None:
        import numpy as np

        found = starts(text[start:end])
        gaps = np.diff(np.append(found, end - start))
        more = gaps // _WIDEST
        if more.any():
            steps = np.arange(int((more + 1).sum())) - np.repeat(
                np.cumsum(more + 1) - more - 1, more + 1
            )
            found = np.repeat(found, more + 1) + steps * _WIDEST
        self._starts: list[int] = (found + start).tolist()
        self._end = end

    def count(self, start: int, end: int) -> int:
        """How many tokens begin in text[start:end]."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def after(self, start: int, tokens: int) -> int:
        """Where so many tokens from `start` on, which may be less than none, end."""
        at = max(bisect_left(self._starts, start) + tokens, 0)
        return self._starts[at] if at < len(self._starts) else self._end


def placed(blocks: Iterable[Block]) -> Iterator[Piece]:
    """Each block with the headings above it."""
    path: list[tuple[int, str]] = []
    for block in blocks:
        if block.level:
            path = [above for above in path if above[0] < block.level]
            if block.heading:
                path.append((block.level, block.heading))
        names = tuple(heading for _, heading in path)
        begins = block.level > 0
        yield Piece(block.start, block.end, block.kind, begins, names, block.header, block.goes_on)


def stretches(text: str, pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces, as many together as there is room for; a block that is larger is parted."""
    held: list[Piece] = []
    for piece in pieces:
        if held and piece.end - held[0].start > STRETCH:
            yield held
            held = []
        while piece.end - piece.start > STRETCH:
            line = text.rfind("\n", piece.start, piece.start + STRETCH) + 1
            cut = line or whole_before(text, piece.start + STRETCH, piece.start)
            yield [piece._replace(end=cut)]
            piece = piece._replace(start=cut, begins=False, goes_on=True)
        held.append(piece)
    if held:
        yield held


def fitting(text: str, piece: Piece, marks: Marks, most: int, room: int) -> Iterator[Piece]:
    """The piece; of one that has more than `most` tokens, parts with at most `room`."""
    while marks.count(piece.start, piece.end) > most:
        cut = best_cut(text, piece.start, marks.after(piece.start, room), piece.kind)
        if not text[cut : piece.end].strip() and marks.count(piece.start, cut) <= room:
            break
        yield piece._replace(end=cut)
        piece = piece._replace(start=cut, begins=False, goes_on=True)
    yield piece


SENTENCE_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\b[A-Z])[.!?\u061f\u06d4\u0964][\"')\]\u00bb\u201d\u2019]*\s+"
    r"|[\u3002\uff01\uff1f][\u300d\u300f\u201d\u2019\uff09]*\s*"
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n")
_LIST_ITEM = re.compile(r"\n(?=[ \t]*(?:[-*+\u2022]|\d{1,3}[.)])[ \t])")
_CLAUSE = re.compile(r"[,;:\u2013\u2014]\s+|[\uff0c\u3001\uff1b\uff1a]")
_WORD = re.compile(r"\s+")
_CELL = re.compile(r"[|,;\t]")

# Where to cut, best first, and the share of the room that the first part must fill at least.
_PROSE_CUTS = (
    (_PARAGRAPH, 0.5),
    (SENTENCE_END, 0.3),
    (_LINE, 0.3),
    (_CLAUSE, 0.7),
    (_WORD, 0.5),
)
_CUTS: dict[Kind, tuple[tuple[re.Pattern[str], float], ...]] = {
    "text": _PROSE_CUTS,
    "quote": _PROSE_CUTS,
    "heading": _PROSE_CUTS,
    "list": ((_LIST_ITEM, 0.3), *_PROSE_CUTS),
    "code": ((_LINE, 0.0), (_WORD, 0.5)),
    "table": ((_LINE, 0.0), (_CELL, 0.5), (_WORD, 0.5)),
}


def best_cut(text: str, start: int, last: int, kind: Kind) -> int:
    """Where to cut text[start:last] so that the first part is not small; else near its end."""
    if kind == "code" and (cut := _outermost(text, start + (last - start) // 2, last)):
        return cut
    for pattern, share in _CUTS[kind]:
        least = start + int((last - start) * share)
        ends = [found.end() for found in pattern.finditer(text, least, last)]
        if ends and ends[-1] > start and text[start : ends[-1]].strip():
            return ends[-1]
    return whole_before(text, last, start)


def _outermost(text: str, start: int, last: int) -> int:
    """The last of those empty lines after which the code is indented least; 0: there is none."""
    ends = [found.end() for found in re.finditer(r"\n[ \t]*\n+", text[start:last])]
    if not ends:
        return 0

    def indent(end: int) -> int:
        line = text[start + end : start + end + 200]
        return len(line) - len(line.lstrip(" \t"))

    return start + min(reversed(ends), key=indent)


def overlapping(text: str, first: int, end: int) -> int:
    """Where a chunk that would begin with text[end:] begins instead, at or after `first`."""
    for pattern in (SENTENCE_END, _LINE, _WORD):
        found = pattern.search(text, max(first - 1, 0), end)
        if found and first <= found.end() < end:
            return found.end()
    return whole_before(text, first, 0) if not _WORD.search(text, first, end) else end


def whole_before(text: str, at: int, start: int) -> int:
    """The last place up to `at` that is inside no character as people see it."""
    found = at
    while found > start + 1 and found < len(text) and at - found < 32 and _joins(text, found):
        found -= 1
    return found if found > start + 1 and not _joins(text, found) else max(at, start + 1)


def _joins(text: str, at: int) -> bool:
    """Whether what begins here belongs to the character before: a mark, a part of an emoji."""
    if at >= len(text) or (text[at].isascii() and text[at - 1] != "\u200d"):
        return False
    return (
        unicodedata.category(text[at]) in ("Mn", "Me", "Mc")
        or text[at] in "\u200d\ufe0e\ufe0f"
        or text[at - 1] == "\u200d"
        or "\U0001f3fb" <= text[at] <= "\U0001f3ff"
    )
