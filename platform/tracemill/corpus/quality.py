"""What texts look like, in numbers: what the rules of Gopher, C4 and FineWeb are about.

One definition in two forms with the same result to the last bit: plain Python, below, for a few
thousand texts, and a compiled kernel (`corpus/kernels/quality.py`) for millions.

- *Words* are what `str.split` gives; those without a letter or digit are symbols, and not counted.
- *Lines* end at a line feed; a *filled* one has more than white space. *Paragraphs* are runs of
  filled lines.
- A *duplicate* is a word n-gram, line or paragraph that occurred before; the first is none.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.threads import pool

if TYPE_CHECKING:
    import polars as pl

COLUMNS = (
    *("characters", "words", "mean_word_length", "hashes_per_word", "ellipses_per_word"),
    *("bullet_lines", "ellipsis_lines", "alphabetic_words", "stop_words"),
    *("duplicate_lines", "duplicate_line_characters"),
    *("duplicate_paragraphs", "duplicate_paragraph_characters"),
    *(f"top_{n}_gram_characters" for n in (2, 3, 4)),
    *(f"duplicate_{n}_gram_characters" for n in range(5, 11)),
    *("sentences", "terminal_lines", "short_lines", "duplicate_line_share", "newlines_per_word"),
)
"""characters, words, stop_words (how many different ones) and sentences are counts, the others
shares of all lines, filled lines, words or characters, 0 to 1, or ratios as their names say."""

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's (Rae et al. 2021, A.1.1), lower case."""

SHORT_LINE = 30
"""Characters (FineWeb)."""

C4_LINE_WORDS, C4_LONGEST_WORD = 5, 1_000
"""A line counts for C4's sentences if it has so many words and none longer (characters)."""

C4_ENDS = ".?!\"'"
"""What such a line ends in, but never an ellipsis."""

CLOSERS = "\"')]}*_`”’»›」』）"  # noqa: RUF001
"""May stand between the end of a sentence and the white space after it."""

TERMINALS = (
    *((0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4)),
    *((0x700, 0x702), (0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E)),
    *((0x964, 0x965), (0x104A, 0x104B), (0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E)),
    *((0x1735, 0x1736), (0x17D4, 0x17D5), (0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945)),
    *((0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F), (0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C)),
    *((0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E), (0x2E3C, 0x2E3C)),
    *((0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3)),
    *((0xA6F7, 0xA6F7), (0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9)),
    *((0xAA5D, 0xAA5F), (0xAAF0, 0xAAF1), (0xABEB, 0xABEB), (0xFE52, 0xFE52), (0xFE56, 0xFE57)),
    *((0xFF01, 0xFF01), (0xFF0E, 0xFF0E), (0xFF1F, 0xFF1F), (0xFF61, 0xFF61)),
)
"""First and last code points that end a sentence: Sentence_Terminal of Unicode, plane 0."""

PLAIN = 5_000
"""Texts; for fewer, numba is not loaded: its start costs more than it saves."""

_CHUNK = 4_096
_UNICODE = 0x110000
LETTERS_END = 0x40000
"""No letter or white space from here on, as of Unicode 17; a test tells if not."""

_compiled = False


def statistics(texts: "pl.Series", *, plain: bool | None = None) -> "pl.DataFrame":
    """The numbers of each text, in its order: one row a text, `COLUMNS` as float64.

    Args:
        texts: strings; a null counts as an empty text, whose numbers are all 0.
        plain: whether to do without the compiled kernel; by default, for fewer than 5,000 texts
            unless it is loaded already. Changes no number.
    """
    import polars as pl

    few = len(texts) < PLAIN and not _compiled
    filled = texts.cast(pl.String).fill_null("")
    rows = _plain(filled.to_list()) if (few if plain is None else plain) else _kernel(filled)
    return pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.Float64), orient="row")


def _kernel(texts: "pl.Series") -> NDArray[np.float64]:
    """All cores, each on its own range of texts."""
    global _compiled
    from tracemill.corpus.kernels import quality

    data, offsets = _buffers(texts)
    rows = np.zeros((len(texts), len(COLUMNS)))
    limits = np.array([SHORT_LINE, C4_LINE_WORDS, C4_LONGEST_WORD], np.int64)
    stops = np.array([int.from_bytes(word.encode()) for word in STOP_WORDS], np.uint64)

    def work(start: int) -> None:
        stop = min(start + _CHUNK, len(texts))
        quality.measure(data, offsets, start, stop, classes(), stops, limits, rows)

    list(pool(os.cpu_count() or 1).map(work, range(0, len(texts), _CHUNK)))
    _compiled = True
    return rows


def _buffers(texts: "pl.Series") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The UTF-8 of all texts in one piece, and where each begins: (bytes,), (n + 1,)."""
    import polars as pl
    import pyarrow as pa

    packed = cast(Any, texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()))
    packed = packed.cast(pa.large_string())
    _, ends, data = packed.buffers()
    offsets = np.frombuffer(ends, np.int64, len(texts) + 1, packed.offset * 8)
    return np.frombuffer(data or b"\0", np.uint8), offsets


@cache
def classes() -> NDArray[np.uint8]:
    """(0x110000,): the class of each code point, from this Python's own tables."""
    from tracemill.corpus.kernels import quality as kinds

    table = np.zeros(_UNICODE, np.uint8)
    for code in range(LETTERS_END):
        letter = chr(code)
        table[code] = (
            kinds.SPACE * letter.isspace()
            + kinds.ALPHABETIC * letter.isalpha()
            + kinds.ALPHANUMERIC * letter.isalnum()
        )
    for first, last in TERMINALS:
        table[first : last + 1] |= kinds.TERMINAL
    table[[ord(each) for each in C4_ENDS]] |= kinds.C4_END
    table[[ord(each) for each in CLOSERS]] |= kinds.CLOSER
    return table


def _plain(texts: Sequence[str]) -> NDArray[np.float64]:
    rows = np.zeros((len(texts), len(COLUMNS)))
    for row, text in zip(rows, texts, strict=True):
        row[:] = [*_of_words(text), *_of_lines(text), *_of_repeats(text), *_of_web_lines(text)]
    return rows


def _of_words(text: str) -> tuple[float, ...]:
    words = text.split()
    said = [word for word in words if any(map(str.isalnum, word))]
    ellipses = text.count("...") + text.count("…")
    return (
        len(text),
        len(said),
        _share(sum(map(len, said)), len(said)),
        _share(text.count("#"), len(words)),
        _share(ellipses, len(words)),
    )


def _of_lines(text: str) -> tuple[float, ...]:
    words = text.split()
    lines = [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []
    return (
        _share(sum(line.startswith(("•", "-")) for line in lines), len(lines)),
        _share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        _share(sum(any(map(str.isalpha, word)) for word in words), len(words)),
        len({_core(word) for word in words}.intersection(STOP_WORDS)),
    )


def _of_repeats(text: str) -> tuple[float, ...]:
    words, size = text.split(), len(text)
    lines, paragraphs = _filled(text), _paragraphs(text)
    repeated, line_characters = _repeated(lines)
    again, paragraph_characters = _repeated(paragraphs)
    return (
        _share(repeated, len(lines)),
        _share(line_characters, size),
        _share(again, len(paragraphs)),
        _share(paragraph_characters, size),
        *(_share(_top(words, n), size) for n in (2, 3, 4)),
        *(_share(_duplicated(words, n), size) for n in range(5, 11)),
    )


def _of_web_lines(text: str) -> tuple[float, ...]:
    lines = _filled(text)
    return (
        sum(map(_sentences, lines)),
        _share(sum(_terminal(line.rstrip()[-1]) for line in lines), len(lines)),
        _share(sum(len(line) <= SHORT_LINE for line in lines), len(lines)),
        _share(_repeated(lines)[1], len(text) - text.count("\n")),
        _share(text.count("\n"), len(text.split())),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _filled(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _paragraphs(text: str) -> list[str]:
    lines = ["" if not line.strip() else line for line in text.split("\n")]
    return [part.strip("\n") for part in "\n".join(lines).split("\n\n") if part.strip("\n")]


def _core(word: str) -> str:
    """Without what stands around its first and last letter or digit."""
    inside = [at for at, letter in enumerate(word) if letter.isalnum()]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def _repeated(parts: Sequence[str]) -> tuple[int, int]:
    """How many occurred before, and their characters."""
    seen: set[str] = set()
    again = [part for part in parts if part in seen or seen.add(part)]
    return len(again), sum(map(len, again))


def _top(words: Sequence[str], n: int) -> int:
    """Characters, spaces too, in the n-gram that occurs most often; 0 if none recurs."""
    grams = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
    gram, times = max(grams.items(), key=lambda each: each[1], default=("", 0))
    return len(gram) * times if times > 1 else 0


def _duplicated(words: Sequence[str], n: int) -> int:
    """Characters of n-grams that occurred before; those found do not overlap (as in datatrove)."""
    seen: set[tuple[str, ...]] = set()
    at = repeated = 0
    while at < len(words) - n + 1:
        gram = tuple(words[at : at + n])
        known = gram in seen
        seen.add(gram)
        repeated += sum(map(len, gram)) if known else 0
        at += n if known else 1
    return repeated


def _sentences(line: str) -> int:
    """Of a line that C4 would keep; 0 for another."""
    words, said = line.split(), line.strip()
    kept = said.endswith(tuple(C4_ENDS)) and not said.endswith("...")
    if not kept or len(words) < C4_LINE_WORDS or max(map(len, words)) > C4_LONGEST_WORD:
        return 0
    ends = [_terminal(word.rstrip(CLOSERS)[-1:]) for word in words]
    return sum(ends) + (not ends[-1])


@cache
def _terminal(letter: str) -> bool:
    return bool(letter) and any(first <= ord(letter) <= last for first, last in TERMINALS)
