"""Blocks of reStructuredText and plain text: titles are underlined, an empty line ends a block."""

import re
from collections.abc import Iterator

from tracemill.retrieval.blocks.marks import AFTER_GAP, Begin, cells, shown

_TITLE = re.compile(
    r"(?:(?P<over>(?P<a>[!-/:-@\[-`{-~])(?P=a){2,})[ \t]*\n[ \t]*(?P<centred>\S[^\n]*)\n"
    r"(?P=over)[ \t]*(?:\n|\Z)"
    r"|(?P<words>\S[^\n]*)\n(?P<under>(?P<b>[!-/:-@\[-`{-~])(?P=b){2,})[ \t]*(?:\n|\Z))"
)
_SIMPLE_TABLE = re.compile(r"={2,}(?: +=+)+[ \t]*\n")
_BORDER = re.compile(r"^={2,}(?: +=+)+[ \t]*(?:\n(?=[ \t]*(?:\n|\Z))|\Z)", re.MULTILINE)
_EMPTY_LINES = re.compile(r"(?:[ \t]*\n)*+")
_GRID = re.compile(r"\+[-=+]+\+[ \t]*\n")
_RST_CODE = re.compile(r">>> |\.\. (?:code|code-block|sourcecode|parsed-literal|math)::")
_RST_TABLE = re.compile(r"\.\. (?:table|list-table|csv-table)::")
_LITERAL = re.compile(r"::[ \t]*\n(?:[ \t]*\n)?[ \t]+\S")
_ITEM = re.compile(r"(?:[-*+\u2022]|\(?(?:\d{1,3}|#|[A-Za-z])[.)])[ \t]+\S")
_ANY_GAP = re.compile(r"\n[ \t]*\n(?=[ \t]*\S)")


def underlined(text: str, *, indented: bool) -> Iterator[Begin]:
    """A title has a line of one character below it, maybe above; an empty line ends a block.

    Args:
        indented: whether what is indented belongs to the block before, as in reStructuredText.

    Which character means which level follows from the order in which they appear, as in docutils.
    """
    styles: list[str] = []
    at, gap = 0, AFTER_GAP if indented else _ANY_GAP
    tables = True
    while at < len(text):
        title = _title(text, at)
        if title:
            style = (title["a"] or "") + (title["b"] or "") + ("=" if title["over"] else "")
            if style not in styles:
                styles.append(style)
            said = shown(title["centred"] or title["words"])
            yield Begin(at, "heading", min(styles.index(style) + 1, 6), said)
            at = _EMPTY_LINES.match(text, title.end()).end()  # pyright: ignore[reportOptionalMemberAccess]
            continue
        top = _SIMPLE_TABLE.match(text, at) if tables else None
        bottom = _BORDER.search(text, top.end()) if top else None
        tables = tables and (top is None or bottom is not None)
        found = gap.search(text, bottom.end() - 1 if bottom else at)
        end = found.end() if found else len(text)
        if top and bottom:
            yield Begin(at, "table", header=_columns(text, top.end()))
        else:
            yield _paragraph(text, at, end) if indented else _plain(text, at, end)
        at = end


def _title(text: str, at: int) -> re.Match[str] | None:
    title = _TITLE.match(text, at)
    if title is None:
        return None
    if title["over"]:
        return title if len(title["over"]) >= len(title["centred"].rstrip()) else None
    long = len(title["under"]) >= len(title["words"].rstrip())
    return title if long and not _TITLE_LINE.fullmatch(title["words"]) else None


_TITLE_LINE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*")


def _paragraph(text: str, start: int, end: int) -> Begin:
    if _GRID.match(text, start, end):
        return Begin(start, "table", header=_columns(text, text.find("\n", start) + 1))
    if _RST_TABLE.match(text, start, end):
        return Begin(start, "table")
    if _RST_CODE.match(text, start, end) or _LITERAL.search(text, start, end):
        return Begin(start, "code")
    return _plain(text, start, end)


def _plain(text: str, start: int, end: int) -> Begin:
    return Begin(start, "list" if _ITEM.match(text, start, end) else "text")


def _columns(text: str, at: int) -> str:
    line = text[at : text.find("\n", at)]
    return cells(line) if "|" in line else cells(re.sub(r"\s{2,}", "|", line))
