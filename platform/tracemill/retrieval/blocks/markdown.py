"""Blocks of Markdown: CommonMark with tables, read by markdown-it, whose tokens know their lines."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from tracemill.retrieval.blocks.marks import AFTER_GAP, Begin, Kind, cells, shown

# So many characters are parsed at once.
_WINDOW = 500_000
_SOON = 100_000
_MOST_HTML = 2_000  # characters of a block of HTML, in which a heading is looked for
_LINE_END = re.compile(r"\r\n?|\n")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n]*$", re.MULTILINE)
_HTML_HEADING = re.compile(r"<h([1-6])\b[^>]*>(.*?)</h\1\s*>", re.DOTALL | re.IGNORECASE)
_MARKUP = re.compile(r"<[^>]*>")
_MARKDOWN_KINDS: dict[str, Kind] = {
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "blockquote_open": "quote",
}


def markdown(text: str) -> Iterator[Begin]:
    start = 0
    while start < len(text):
        end = _window(text, start)
        part = text[start:end]
        lines = [start, *(start + line.end() for line in _LINE_END.finditer(part)), end]
        tokens: list[Any] = _parser().parse(part)
        for number, token in enumerate(tokens):
            if token.level == 0 and token.map is not None and token.nesting >= 0:
                yield _marked(part, lines, tokens, number)
        start = end


def _window(text: str, start: int) -> int:
    """A place to part Markdown at: behind an empty line, or any line, that lies in no fence."""
    least, fence, at = start + _WINDOW, "", start
    while least < len(text):
        end = _border(text, max(least, at) - 1)
        for mark in _FENCE.finditer(text, at, end):
            if not fence:
                fence = mark[1]
            elif mark[0].strip().startswith(fence) and not mark[0].strip().strip(fence[0]):
                fence = ""
        if not fence or end - start > 4 * _WINDOW:
            return end
        at = least = end
    return len(text)


def _border(text: str, at: int) -> int:
    """Behind the next empty line; where none comes soon, as in a long table, behind a line: parsed
    as one, 10 MB of them take 5 GB."""
    soon = at + _SOON
    gap = AFTER_GAP.search(text, at, soon)
    return gap.end() if gap else text.find("\n", soon) + 1 or len(text)


def _marked(part: str, lines: list[int], tokens: list[Any], number: int) -> Begin:
    token = tokens[number]
    start = lines[int(token.map[0])]
    if token.type == "heading_open":
        said = _plain(tokens[number + 1].content)
        return Begin(start, "heading", int(token.tag[1]), said)
    if token.type == "html_block":
        heading = _HTML_HEADING.search(token.content[:_MOST_HTML])
        said = shown(_MARKUP.sub(" ", heading[2])) if heading else ""
        if heading and said:
            return Begin(start, "heading", int(heading[1]), said)
    if token.type == "table_open":
        shift = lines[0]
        row = part[start - shift : lines[int(token.map[0]) + 1] - shift]
        return Begin(start, "table", header=cells(row))
    return Begin(start, _MARKDOWN_KINDS.get(token.type, "text"))


def _plain(written: str) -> str:
    """What is left of Markdown within a line when it is shown."""
    if not re.search(r"[`*_\[\]<>\\&!]", written):
        return shown(written)
    (inline,) = _inline_parser().parseInline(written)
    return shown("".join(part.content for part in inline.children or () if _isshown(part)))


def _isshown(part: Any) -> bool:
    return part.type in ("text", "code_inline", "image", "softbreak", "text_special")


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])


@cache
def _inline_parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark")
