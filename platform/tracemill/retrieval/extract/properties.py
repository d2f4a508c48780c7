"""What a document says about itself: title, language and dates as columns, the rest as metadata.

It comes from outside, so that it is cut to a bounded size and to plain values.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeGuard, cast

MOST_ITEMS = 50
MOST_LETTERS = 1000
_FENCE = re.compile(r"^ {0,3}(```|~~~)")
_ATX = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*$")
_RULE = re.compile(r"^([=\-~`#*^\"'+])\1{2,}\s*$")
_INLINE = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*`]|\\(?=[!-/:-@\[-`{-~])")
_BY_PROGRAMS = re.compile(r"^Microsoft (Word|PowerPoint|Excel) - ", re.IGNORECASE)
_NO_TITLE = re.compile(
    r"(untitled|no ?title|document|title|(powerpoint )?presentation|slide|book|page)[ -]?\d*"
    r"|[\w.+-]+\.(docx?|pptx?|xlsx?|tex|dvi|indd|qxd|ps|pdf|html?|rtf|odt)",
    re.IGNORECASE,
)
HEAD_LINES = 200


def one_line(text: object) -> str:
    """A title: without line ends and markup of HTML's characters, at most 300 letters."""
    plain = " ".join(html.unescape(str(text or "")).split())
    shown = "".join(each for each in plain if each.isprintable())
    return unicodedata.normalize("NFC", shown)[:300].strip()


def title(said: object) -> str:
    """A title as a document's properties give it; nothing for what programs write there."""
    plain = _BY_PROGRAMS.sub("", one_line(said))
    return "" if _NO_TITLE.fullmatch(plain) else plain


def first_heading(text: str, syntax: str) -> str:
    """The first heading of Markdown or reStructuredText in the beginning of a text, or nothing."""
    before, fenced = "", False
    for line in text[:20_000].split("\n")[:HEAD_LINES]:
        if syntax == "markdown":
            fenced ^= bool(_FENCE.match(line))
            found = None if fenced else _ATX.match(line)
            if found:
                return one_line(_INLINE.sub(r"\1", found[1]))
        signs = "=-" if syntax == "markdown" else ""
        rule = _RULE.match(line)
        long = syntax == "markdown" or len(line.rstrip()) >= len(before)
        if rule and before and long and not fenced and (not signs or rule[1] in signs):
            return one_line(before)
        before = "" if rule else line.strip()
    return ""


def moment(said: object) -> str | None:
    """A date as documents write it (ISO 8601, or as in e-mail), in UTC; None where it is none."""
    if isinstance(said, date):
        said = said.isoformat()
    if not isinstance(said, str):
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(said.strip())
            found = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
            return found.isoformat() if 1900 <= found.year <= 2200 else None
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


def language(said: object) -> str | None:
    """`en` for `en-GB`; None for what is no such code."""
    found = re.match(r"([a-z]{2})(?:[-_].*)?$", said.strip().lower()) if _is_text(said) else None
    return found[1] if found else None


def plain(found: Mapping[Any, Any], depth: int = 3) -> dict[str, Any]:
    """The values that JSON can hold and that say something, cut to a bounded size."""
    kept = {
        "".join(each for each in str(key)[:100] if each.isprintable()): _plain(value, depth)
        for key, value in list(found.items())[:MOST_ITEMS]
        if value not in (None, "", [], {})
    }
    return {key: value for key, value in kept.items() if value not in (None, "", [], {})}


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, bool | int):
        return value if abs(value) < 1 << 53 else str(value)[:MOST_LETTERS]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, str):
        return "".join(each for each in value[:MOST_LETTERS] if each.isprintable() or each == "\n")
    if isinstance(value, date):
        return value.isoformat()
    if depth and isinstance(value, list | tuple):
        items = list(cast("Iterable[Any]", value))[:MOST_ITEMS]
        return [each for item in items if (each := _plain(item, depth - 1)) is not None]
    if depth and isinstance(value, Mapping):
        return plain(cast("Mapping[Any, Any]", value), depth - 1)
    return None


def is_plain(value: object) -> bool:
    """Whether it can stand for a title as it is."""
    return isinstance(value, str | int | float)


def _is_text(said: object) -> TypeGuard[str]:
    return isinstance(said, str)
