"""Bytes as text: by what they say of themselves, as UTF-8, else by a careful guess; and clean text.

A wrong guess would put gibberish into every answer, so that a doubtful one is refused.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator

from tracemill.errors import InputError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(
    rb"""(?:charset|coding|encoding)\s*[=:]\s*["']?\s*([\w.-]{3,20})""", re.IGNORECASE
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PIECE = 1 << 18
MOST_LOOKED_AT = 1_000_000
ENCODINGS = {
    "cp932": "ja",
    "euc_kr": "ko",
    "gb18030": "zh",
    "cp1251": "ru uk bg sr mk be",
    "koi8_r": "ru uk",
    "cp1253": "el",
    "cp1254": "tr",
    "cp1250": "cs sk pl hu ro hr sl sq",
    "cp1252": "en de fr es it pt nl sv da no nb nn fi is ca gl eu ga",
}
"""What text was written in before UTF-8 -> the languages; those that fit by chance come last."""
MOST_UNREADABLE = 0.1
"""Of the characters: with more signs of damage it is no text."""


def decode(content: bytes) -> str:
    """The text. Raises `InputError` when its encoding cannot be told."""
    for mark, name in _BOMS:
        if content.startswith(mark):
            return _strictly(content[len(mark) :], name)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3 and error.reason == "unexpected end of data":
            raise InputError("cut short: it ends in the middle of a character") from error
    declared = _DECLARED.search(content[:1024])
    if declared and (name := _known(declared[1])):
        return _strictly(content, name)
    return _strictly(content, _guess(content))


def clean(text: str) -> str:
    """The text with one newline character, composed Unicode, and no control characters.

    Raises `InputError` when much of it is control characters or what could not be decoded.
    """
    pieces: list[str] = []
    damaged = 0
    for raw in _pieces(text):
        piece = raw.replace("\r\n", "\n").replace("\r", "\n")
        plain = _CONTROL.sub("", piece)
        damaged += len(piece) - len(plain) - piece.count("\x0c") + plain.count("\ufffd")
        pieces.append(plain if plain.isascii() else unicodedata.normalize("NFC", plain))
    if damaged > max(4, MOST_UNREADABLE * len(text)):
        raise InputError("no readable text: control characters and signs without meaning")
    return "".join(pieces)


def _pieces(text: str) -> Iterator[str]:
    """Some lines at a time, in characters that UTF-8 can hold: what a text takes on its way through
    is a few times its size otherwise. Nothing is composed across a newline."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        piece = text[start:end]
        if not piece.isascii() and _SURROGATE.search(piece):
            piece = piece.encode("utf-8", "replace").decode("utf-8")
        yield piece
        start = end


def _strictly(content: bytes, name: str) -> str:
    try:
        return content.decode(name)
    except (UnicodeDecodeError, LookupError) as error:
        raise InputError(f"not the {name} that it says it is: save it as UTF-8") from error


def _known(name: bytes) -> str:
    try:
        found = codecs.lookup(name.decode("ascii")).name
        b"a".decode(found)  # There are codecs of bytes to bytes.
        return "" if found == "utf-8" else found
    except (LookupError, UnicodeError):
        return ""


def _guess(content: bytes) -> str:
    """The first encoding under which the lines with odd bytes are in a language written in it."""
    import polars as pl

    from tracemill.corpus import languages

    odd = b"\n".join(line for line in content[:MOST_LOOKED_AT].splitlines() if not line.isascii())
    for name, written in ENCODINGS.items():
        try:
            sample = odd.decode(name)
        except UnicodeDecodeError:
            continue
        if languages.identify(pl.Series([sample])).item() in written.split():
            return name
    raise InputError("not UTF-8, and its encoding cannot be told: save it as UTF-8")
