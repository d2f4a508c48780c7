"""A text cut into what an answer can quote: sentences, items, rows of tables, whole blocks of code.

Each is a span of the text, so that a quotation can be found again where it came from.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

Kind = Literal["prose", "code", "heading"]

# Code without an empty line, or a paragraph without a full stop, is one sentence up to this length.
LONGEST = 600


class Sentence(NamedTuple):
    """text[start:end], without white space around it."""

    start: int
    end: int
    kind: Kind = "prose"


_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"#{1,6}[ \t]+\S")
_UNDERLINE = re.compile(r"([^\w\s])\1{2,}[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022] |\d{1,3}[.)] |\||:\w[^:]*:)")
_INDENTED = re.compile(r"(?: {3}|\t)\s*\S")
_DOCTEST = re.compile(r"\s*(?:>>> |\.\.\. |\$ )")
# What says that code follows, and nothing else.
_DIRECTIVE = re.compile(r"\.\. (?:code|code-block|sourcecode|highlight)::[ \t]*[\w+-]*$")
_BOLD = re.compile(r"\*\*[^*]*[^*.!?]\*\*$")
_GAP = re.compile(r"\n[ \t]*\n")
_PLAIN = re.compile(
    r"[\"'(\u201c*]{0,2}[^\W\d_]+(?:[-'\u2019][^\W\d_]+)*[\"')\u201d*]{0,2}[.,;:!?]?"
)
_STOP = re.compile(r"[.!?\u3002\uff01\uff1f]+[\"')\]\u201d\u2019]*(?=\s|[\u3002\uff01\uff1f]|$)")
# No sentence ends here: a letter with a full stop, as in U.S. or J. Smith, abbreviations, and the
# number of an item.
_GOES_ON = re.compile(
    r"(?:(?m:^)[ \t]*\d{1,3}|\b[A-Za-z]"
    r"|\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Gen|Col|Lt|Sgt|Rev|Hon|vs|etc|cf|al|ca|approx"
    r"|Fig|Figs|Eq|Eqs|Sec|Ch|Vol|No|Nos|pp|Inc|Ltd|Co|Corp|Jan|Feb|Mar|Apr|Aug|Sept?|Oct|Nov|Dec"
    r"|[Ee]\.g|[Ii]\.e))\.$"
)


def sentences(text: str) -> list[Sentence]:
    """The sentences of Markdown, reStructuredText or plain text, in order.

    Nothing but white space and lines of marks (fences, underlines, `.. code::`) lies between them.
    """
    return [
        part
        for block in _blocks(text)
        for read in _read(text, block)
        for part in _parts(text, read)
    ]


def _read(text: str, block: Sentence) -> Iterator[Sentence]:
    """Notes and definitions are indented as code is, and written as prose."""
    above = text.rfind("\n", 0, max(block.start - 1, 0)) + 1
    fenced = above < block.start and _FENCE.match(text, above)
    if block.kind != "code" or fenced or not text[block.start].isspace():
        yield block
        return
    held = None
    gaps = [gap.end() for gap in _GAP.finditer(text, block.start, block.end)]
    for start, end in zip([block.start, *gaps], [*gaps, block.end], strict=True):
        kind = "prose" if _is_prose(text[start:end]) else "code"
        if held and held.kind == kind == "code":
            held = held._replace(end=end)
            continue
        if held:
            yield held
        held = Sentence(start, end, kind)
    if held:
        yield held


def _is_prose(lines: str) -> bool:
    words = lines.split() or [" "]
    plain = sum(_PLAIN.fullmatch(word) is not None for word in words)
    begins = words[0].strip("\"'(*\u201c")[:1].isupper() or words[-1][-1] in ".!?:)"
    return begins and plain >= max(0.75 * len(words), 5) and not _DOCTEST.match(lines)


def _blocks(text: str) -> Iterator[Sentence]:
    """Paragraphs, items, headings and code, by their lines."""
    held: Sentence | None = None
    fence, blank = "", True
    for line in re.finditer(r"[^\n]*\n|[^\n]+$", text):
        start, end, shown = line.start(), line.end(), line[0].strip()
        mark = None if _is_underline(text, shown, held) else _FENCE.match(line[0])
        if mark and (not fence or (shown.startswith(fence) and not shown.strip(fence[0]))):
            if held:
                yield held
            held, fence = None, "" if fence else mark[1]
        elif not shown and not fence:
            if held and held.kind != "code":
                yield held
                held = None
        elif _UNDERLINE.match(shown) and not fence:
            if held:
                yield from [held] if blank else _titled(text, held)
            held = None
        elif _DIRECTIVE.match(shown) and not fence:
            if held:
                yield held
            held, shown = None, ""
        else:
            kind = _kind(line[0], held, fence=bool(fence), blank=blank)
            if held and held.kind == kind and not (kind == "prose" and _ITEM.match(line[0])):
                held = held._replace(end=end)
            else:
                if held:
                    yield held
                held = Sentence(start, end, kind)
            if kind == "heading":
                yield held
                held = None
        blank = not shown
    if held:
        yield held


def _is_underline(text: str, shown: str, held: Sentence | None) -> bool:
    """Whether a line of ~ is as long as the line above it: else it opens a fence."""
    if held is None or held.kind != "prose" or not shown or shown.strip("~"):
        return False
    return len(shown) >= len(text[held.start : held.end].rstrip().rpartition("\n")[2])


def _titled(text: str, held: Sentence) -> Iterator[Sentence]:
    """What stands above a line of marks: its last line is a heading."""
    last = text.rfind("\n", held.start, held.end - 1) + 1
    if last > held.start:
        yield held._replace(end=last)
    yield Sentence(max(last, held.start), held.end, "heading")


def _kind(line: str, held: Sentence | None, *, fence: bool, blank: bool) -> Kind:
    if fence or _DOCTEST.match(line):
        return "code"
    if _HEADING.match(line) or (blank and _BOLD.match(line.strip())):
        return "heading"
    # Lines that are indented go on with an item; on their own, or after code, they are code.
    goes_on = held is not None and held.kind == "code"
    if _INDENTED.match(line) and (goes_on or (blank and not _ITEM.match(line))):
        return "code"
    if goes_on and not blank:
        return "code"  # what an example prints
    return "prose"


def _parts(text: str, block: Sentence) -> Iterator[Sentence]:
    """A block's sentences; what is longer than `LONGEST` is cut at a line or a blank."""
    begin = block.start
    ends = [] if block.kind == "code" else list(_ends(text, block))
    for end in (*ends, block.end):
        while end - begin > LONGEST:
            at = _cut(text, begin, block.kind)
            yield from _trimmed(text, begin, at, block.kind)
            begin = at
        yield from _trimmed(text, begin, end, block.kind)
        begin = end


def _cut(text: str, begin: int, kind: Kind) -> int:
    """Where what is too long is cut: code at an empty line if there is one, prose at a blank."""
    last = begin + LONGEST
    found = [text.rfind(mark, begin + 1, last) for mark in ("\n\n", "\n", " ")]
    places = [at for at in found if at > begin]
    if not places:
        return last
    return places[0] if kind == "code" else max(places)


def _ends(text: str, block: Sentence) -> Iterator[int]:
    for stop in _STOP.finditer(text, block.start, block.end):
        after = text[stop.end() : stop.end() + 20].lstrip()
        # "e.g. this" goes on in small letters; an abbreviation may stand before a capital.
        if after[:1].islower() or _GOES_ON.search(
            text, max(block.start, stop.start() - 12), stop.end()
        ):
            continue
        yield stop.end()


def _trimmed(text: str, start: int, end: int, kind: Kind) -> Iterator[Sentence]:
    piece = text[start:end]
    if kind == "code":
        # The first line keeps its indent.
        piece = piece.strip("\n")
        start += text[start:end].find(piece) if piece else 0
        piece = piece.rstrip()
        if piece.strip():
            yield Sentence(start, start + len(piece), kind)
    elif piece.strip():
        start += len(piece) - len(piece.lstrip())
        yield Sentence(start, start + len(piece.strip()), kind)
