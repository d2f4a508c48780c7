"""What of a text is compared as words: stems, identifiers with their parts, pairs of characters.

Accents and case go, words that carry no subject go, `asyncio.gather` and `HTTPServer` count whole
and in parts, and scripts without blanks become overlapping pairs of characters.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

VERSION = 1
"""Of this module: texts that were analysed by another one are analysed again."""

# Measured on questions, summaries and headings; a language's own list is bm25s's. Python's
# keywords are not among them: people ask what `with` and `not` do.
_STOP_WORDS = """
a an any are at be been but by can could did do does doing done had has have having he her hers him
his how i into it its many may me might much my no of on our ours shall she should so such than that
the their theirs them then there these they this those to used using was we were what when where
which who whom whose why will would you your yours
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# ISO 639-1 to the name that Snowball gives the language, which bm25s's list of its words carries.
_NAMES = """
ar arabic, ca catalan, da danish, de german, el greek, en english, es spanish, et estonian,
eu basque, fi finnish, fr french, ga irish, hi hindi, hu hungarian, hy armenian, id indonesian,
it italian, lt lithuanian, nb norwegian, ne nepali, nl dutch, no norwegian, pt portuguese,
ro romanian, ru russian, sr serbian, sv swedish, ta tamil, tr turkish
"""
STEMMERS = {code: name for code, name in map(str.split, _NAMES.split(","))}
ENGLISH = "en"

# Vowel signs that Python counts among the marks, not the letters: of Hebrew, Arabic and the
# scripts of India, Thailand, Laos, Myanmar and Cambodia.
_LETTER = (
    r"[\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0eff\u1000-\u109f"
    r"\u1780-\u17d3]"
)
_WORD = re.compile(rf"\d+(?:[.,]\d+)+(?!{_LETTER})|{_LETTER}+(?:[.'\u2019]{_LETTER}+)*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)+")
# Where words are not set apart by blanks: Thai to Khmer, kana, Han, Hangul.
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17d3\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    r"\uf900-\ufaff\U00020000-\U0003134f]+)"
)
# What an apostrophe sets off: Tesla's, don't, l'eau, qu'il.
_ELIDED = re.compile(r"'(?:s|t|d|m|ll|re|ve)(?![^\W_])|(?<![^\W_])(?:[a-z]|qu)'", re.IGNORECASE)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Word(NamedTuple):
    """A word as it was written, taken apart."""

    whole: str
    """An identifier of several parts; empty for any other word."""
    parts: tuple[str, ...]
    """Not yet stemmed; lower case."""


def words(text: str, language: str | None = ENGLISH) -> list[str]:
    """The words that count, as they are compared, in order; of identifiers also the whole."""
    return [form for raw in raw_words(text) for form in forms(raw, language)]


def identity() -> str:
    """Of what decides which words a text has."""
    return f"{VERSION} PyStemmer {_stemmers()}"


@cache
def _stemmers() -> str:
    from importlib.metadata import version

    return version("PyStemmer")


def raw_words(text: str) -> list[str]:
    """A text's words as they are written."""
    return _WORD.findall(text)


def forms(raw: str, language: str | None) -> Iterator[str]:
    """What a word is found by."""
    word = take_apart(raw)
    if word.whole:
        yield word.whole
    yield from filter(None, (stem(part, language) for part in word.parts))


def take_apart(raw: str) -> Word:
    """A word's parts; most words have one."""
    if raw.isascii() and raw.isalpha() and (raw.islower() or raw.istitle()):
        return Word("", (raw.lower(),))
    raw = unicodedata.normalize("NFKC", raw).replace("\u2019", "'")
    if _NUMBER.fullmatch(raw):
        return Word("", (re.sub(r",(?=\d{3}\b)", "", raw),))
    raw = _ELIDED.sub("", raw)
    dotted = [part for part in re.split(r"[._']", raw) if part]
    if len(dotted) > 1 and all(len(part) == 1 and part.isalpha() for part in dotted):
        return Word("", ("".join(dotted).lower(),))
    pieces = [hump for part in dotted for hump in _HUMP.split(part)]
    parts = tuple(part for piece in pieces for part in _pairs(piece.lower()))
    return Word(_fold(raw.lower()) if len(pieces) > 1 and "'" not in raw else "", parts)


def stem(part: str, language: str | None) -> str:
    """A part as it is compared; empty when it carries no subject."""
    stop_words, stemmed = _of(language)
    return "" if part in stop_words else _fold(stemmed(part))


def _pairs(part: str) -> Iterator[str]:
    """A run of characters without blanks as pairs that overlap, as Lucene's CJK analysis has it."""
    if part.isascii():
        yield part
        return
    for at, run in enumerate(_UNSPACED.split(part)):
        if at % 2 and len(run) > 1:
            yield from (run[first : first + 2] for first in range(len(run) - 1))
        elif run:
            yield run


def _fold(word: str) -> str:
    """Without accents. The Indic signs that Unicode counts among the marks are letters: they stay."""
    if word.isascii():
        return word
    plain = unicodedata.normalize("NFD", word)
    return unicodedata.normalize("NFC", re.sub(r"[\u0300-\u036f\u064b-\u065f]", "", plain))


@cache
def _of(language: str | None) -> tuple[frozenset[str], Callable[[str], str]]:
    """A language's words that carry no subject, and its stemmer; neither for an unknown one."""
    name = STEMMERS.get(language or "")
    if name is None:
        return frozenset(), str
    return _stop_words(name), _stemmer(name)


def _stop_words(name: str) -> frozenset[str]:
    if name == STEMMERS[ENGLISH]:
        return STOP_WORDS
    from bm25s import stopwords  # pyright: ignore[reportMissingTypeStubs]

    return frozenset(getattr(stopwords, f"STOPWORDS_{name.upper()}", ()))


def _stemmer(name: str) -> Callable[[str], str]:
    import Stemmer

    return Stemmer.Stemmer(name).stemWord  # pyright: ignore
