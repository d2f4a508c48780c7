"""Lower case of any UTF-8 as Python's `str.lower` has it, with borders of words as ASCII blanks."""

import numpy as np

from tracemill.corpus.kernels.instructions import load8, load64, store8, store64
from tracemill.corpus.kernels.jit import Bits, Number, Values, part
from tracemill.corpus.kernels.letters import ALONE, CASED, DOTTED_I, IGNORABLE, SIGMA, SPACE

ONE, EIGHT, BLANK = np.uint64(1), np.uint64(8), np.uint64(32)
HIGH = np.uint64(0x8080808080808080)
"""Set in eight bytes that are not all ASCII."""


@part
def decode(text: Bits, at: Number, size: Number) -> tuple[Number, Number]:
    """The code point at a position and its bytes; what is no UTF-8 is taken byte by byte."""
    lead = load8(text + np.uint64(at))
    width = 1 + (lead >= np.uint64(0xC0)) + (lead >= np.uint64(0xE0)) + (lead >= np.uint64(0xF0))
    if at + width > size:
        return np.int64(0), np.int64(1)
    code = np.int64(lead)
    if width > 1:
        code &= 0xFF >> (width + 1)
        for each in range(1, width):
            code = code << 6 | np.int64(load8(text + np.uint64(at + each))) & 0x3F
    return min(code, 0x10FFFF), np.int64(width)


@part
def encode(code: Number, target: Bits) -> Number:
    """Write a code point as UTF-8; the number of its bytes."""
    if code < 0x80:
        store8(target, np.uint64(code))
        return 1
    width = 2 + (code >= 0x800) + (code >= 0x10000)
    for each in range(width - 1, 0, -1):
        store8(target + np.uint64(each), np.uint64(0x80 | code & 0x3F))
        code >>= 6
    store8(target, np.uint64(0xFF00 >> width & 0xFF | code))
    return width


@part
def _final_sigma(text: Bits, at: Number, size: Number, kinds: Values) -> bool:
    """Whether a capital sigma ends a word: cased before, not after, ignorable ones aside."""
    kind = IGNORABLE
    back = at
    while back > 0 and kind & IGNORABLE:
        back -= 1
        while back > 0 and load8(text + np.uint64(back)) & np.uint64(0xC0) == np.uint64(0x80):
            back -= 1
        kind = kinds[decode(text, back, size)[0]]
    if not kind & CASED:
        return False
    kind = IGNORABLE
    at += 2
    while at < size and kind & IGNORABLE:
        code, width = decode(text, at, size)
        kind = kinds[code]
        at += width
    return not kind & CASED


@part
def fold(text: Bits, size: Number, folded: Values, kinds: Values, lower: Values) -> Number:
    """Copy a text in lower case (ASCII as it is), every border of a word an ASCII blank."""
    at = 0
    start = np.uint64(folded.ctypes.data)
    to = start
    while at < size:
        if at + 8 <= size:
            eight = load64(text + np.uint64(at))
            if eight & HIGH == np.uint64(0):
                store64(to, eight)
                at += 8
                to += EIGHT
                continue
        code, width = decode(text, at, size)
        kind = kinds[code]
        if kind & (SPACE | ALONE):
            store8(to, BLANK)
            to += ONE
        if not kind & SPACE:
            small = np.int64(lower[code]) if code < lower.size else code
            if code == SIGMA:
                small -= _final_sigma(text, at, size, kinds)
            elif code == DOTTED_I:
                to += np.uint64(encode(np.int64(0x69), to))
            to += np.uint64(encode(small, to))
        if kind & ALONE:
            store8(to, BLANK)
            to += ONE
        at += width
    return np.int64(to - start)
