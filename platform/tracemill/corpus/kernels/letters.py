"""What Python knows of each code point, as tables: white space, lower case, final sigma."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CODES = 0x110000
CASES = 0x20000
"""Code points from here on are their own lower case, as of Unicode 17; a test tells if not."""
TAGS = (0xE0000, 0xE1000)
"""The only ones from there on that matter to a sigma: tags and variation selectors."""

SPACE, ALONE, CASED, IGNORABLE = 1, 2, 4, 8
"""Bits: white space; a word of its own; cased or ignorable where Python looks for the end of a
word around a capital sigma."""

SIGMA, DOTTED_I = 0x3A3, 0x130
"""Capital letters without one fixed lower case: that of sigma is one less at the end of a word;
I with a dot becomes two code points."""


class Letters(NamedTuple):
    """One entry for each code point."""

    kinds: NDArray[np.uint8]
    """(0x110000,) bits."""
    lower: NDArray[np.uint32]
    """(0x20000,) the lower case; of `SIGMA` that within a word, of `DOTTED_I` the second."""


@cache
def letters(spaceless: Iterable[tuple[int, int]]) -> Letters:
    """The tables, from this Python's own `isspace` and `lower`.

    Args:
        spaceless: first and last code points of the scripts in which each character is a word.
    """
    kinds = np.zeros(CODES, np.uint8)
    kinds[[code for code in range(CASES) if chr(code).isspace()]] = SPACE
    for first, last in spaceless:
        kinds[first : last + 1] |= ALONE
    codes = np.arange(CASES, dtype=np.uint32)
    codes[[DOTTED_I, *range(0xD800, 0xE000)]] = 0  # two letters; halves of pairs: not in UTF-8
    _mark_cased(kinds, codes)
    _mark_cased(kinds, np.arange(*TAGS, dtype=np.uint32))
    kinds[DOTTED_I] |= CASED
    lower = _lower(codes)
    lower[DOTTED_I] = ord("\N{COMBINING DOT ABOVE}")
    return Letters(kinds, lower)


def _mark_cased(kinds: NDArray[np.uint8], codes: NDArray[np.uint32]) -> None:
    cased = _final(codes, "")
    kinds[codes[cased]] |= CASED
    kinds[codes[_final(codes, "A") & ~cased]] |= IGNORABLE


def _final(codes: NDArray[np.uint32], before: str) -> NDArray[np.bool_]:
    """After which code points a capital sigma ends a word, if `before` stands in front of them.

    A sigma is final where a cased letter stands before it, ignorable ones aside (Unicode, table
    3-17, Final_Sigma): nothing before finds the cased, a letter before also the ignorable.
    """
    row = [np.full_like(codes, ord(letter)) for letter in f"{before}Σ\n"]
    row.insert(len(before), codes)
    text = np.stack(row, axis=1).astype("<u4").tobytes().decode("utf-32-le").lower()
    lower = np.frombuffer(text.encode("utf-32-le"), "<u4").reshape(-1, len(row))
    return lower[:, -2] == ord("ς")


def _lower(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    spaced = np.stack([codes, np.full_like(codes, ord("\n"))], axis=1)
    text = spaced.astype("<u4").tobytes().decode("utf-32-le").lower()
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint32)[::2].copy()
