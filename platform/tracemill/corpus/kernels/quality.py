"""The numbers of `tracemill.corpus.quality`, for a range of texts, in one pass over their bytes.

`measure` reads each text once, noting a hash for every word, line and paragraph; what repeats is
then found among the hashes (64 bits: two of a text agree by chance once in some 10^14 texts).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.kernels.jit import kernel

Bytes: TypeAlias = NDArray[np.uint8]
Counts: TypeAlias = NDArray[np.int64]
Hashes: TypeAlias = NDArray[np.uint64]
Numbers: TypeAlias = NDArray[np.float64]

SPACE, ALPHABETIC, ALPHANUMERIC, TERMINAL, C4_END, CLOSER = 1, 2, 4, 8, 16, 32
"""Bits of a code point's class."""
LETTER, LETTER_A = ALPHABETIC | ALPHANUMERIC, 65

M = np.uint64(0x9E3779B97F4A7C15)
BYTE = np.uint64(0x100000001B3)
SEED = np.uint64(0xCBF29CE484222325)
MIX = np.uint64(32)

BULLET, ELLIPSIS, DOT, DASH, HASH, NEWLINE = 0x2022, 0x2026, 46, 45, 35, 10


@kernel
def measure(
    data: Bytes,
    offsets: Counts,
    start: int,
    stop: int,
    classes: Bytes,
    stops: Hashes,
    limits: Counts,
    out: Numbers,
) -> None:
    """Fill `out[start:stop]` with the columns of `quality.COLUMNS`.

    Args:
        data: (bytes,) uint8, valid UTF-8.
        offsets: (n + 1,) int64: text i is `data[offsets[i]:offsets[i + 1]]`.
        classes: (0x110000,) uint8: bits of each code point.
        stops: (8,) uint64: the stop words, letters packed in bytes, last letter lowest.
        limits: (3,) int64: characters of a short line; words and longest word of a C4 line.
        out: (n, columns) float64.
    """
    room = 0
    for text in range(start, stop):
        room = max(room, _gaps(data, offsets[text], offsets[text + 1]) + 2)
    words, word_chars = np.empty(room, np.uint64), np.empty(room, np.int64)
    lines, line_chars = np.empty(room, np.uint64), np.empty(room, np.int64)
    paragraphs, paragraph_chars = np.empty(room, np.uint64), np.empty(room, np.int64)
    size = 16
    while size < 2 * room:
        size *= 2
    keys, counts = np.empty(size, np.uint64), np.empty(size, np.int32)
    stamps, grams = np.zeros(size, np.int64), np.empty(room, np.uint64)
    ends = np.empty(room + 1, np.int64)
    stamp = 0
    for text in range(start, stop):
        row = out[text]
        found = _read(
            data, offsets[text], offsets[text + 1], classes, stops, limits, row,
            words, word_chars, lines, line_chars, paragraphs, paragraph_chars,
        )  # fmt: skip
        n_words, n_lines, n_paragraphs, newlines = found
        chars = row[0]
        number, repeated = _repeats(lines, line_chars, n_lines, keys, stamps, stamp + 1)
        row[9] = number / n_lines if n_lines else 0.0
        row[10] = repeated / chars if chars else 0.0
        row[25] = repeated / (chars - newlines) if chars > newlines else 0.0
        number, repeated = _repeats(
            paragraphs, paragraph_chars, n_paragraphs, keys, stamps, stamp + 2
        )
        row[11] = number / n_paragraphs if n_paragraphs else 0.0
        row[12] = repeated / chars if chars else 0.0
        stamp += 2
        ends[0] = 0
        for word in range(n_words):
            ends[word + 1] = ends[word] + word_chars[word]
            grams[word] = words[word]
        for n in range(2, 11):
            for first in range(n_words - n + 1):
                grams[first] = grams[first] * M + words[first + n - 1]
            stamp += 1
            if n < 5:
                said = _top(grams, ends, n_words, n, keys, counts, stamps, stamp)
                row[11 + n] = said / chars if chars else 0.0
            else:
                said = _duplicated(grams, ends, n_words, n, keys, stamps, stamp)
                row[11 + n] = said / chars if chars else 0.0
            if said == 0:  # where no n-gram recurs, no longer one does
                break


@kernel
def _gaps(data: Bytes, at: int, end: int) -> int:
    """At least as many as there is white space: control, space, or first byte of a wide blank."""
    gaps = 0
    for each in range(at, end):
        byte = data[each]
        gaps += (byte <= 32) | (byte == 0xC2) | ((byte >= 0xE1) & (byte <= 0xE3))
    return gaps


@kernel
def _slot(key: np.uint64, keys: Hashes, stamps: Counts, stamp: int, mask: np.uint64) -> np.int64:
    """Where `key` is, or would go: `stamps[slot] == stamp` tells which."""
    place = np.int64((key ^ (key >> MIX)) & mask)
    while stamps[place] == stamp and keys[place] != key:
        place = np.int64((np.uint64(place) + np.uint64(1)) & mask)
    return place


@kernel
def _mask(entries: int) -> np.uint64:
    size = np.uint64(16)
    while size < np.uint64(2 * entries):
        size *= np.uint64(2)
    return size - np.uint64(1)


@kernel
def _repeats(
    hashes: Hashes, chars: Counts, n: int, keys: Hashes, stamps: Counts, stamp: int
) -> tuple[int, int]:
    """How many of the n were there before, and their characters."""
    mask, number, repeated = _mask(n), 0, 0
    for each in range(n):
        slot = _slot(hashes[each], keys, stamps, stamp, mask)
        if stamps[slot] == stamp:
            number += 1
            repeated += chars[each]
        else:
            stamps[slot], keys[slot] = stamp, hashes[each]
    return number, repeated


@kernel
def _top(
    grams: Hashes,
    ends: Counts,
    n_words: int,
    n: int,
    keys: Hashes,
    counts: NDArray[np.int32],
    stamps: Counts,
    stamp: int,
) -> int:
    """Characters in the n-gram that occurs most often, the first of those; 0 if none recurs."""
    mask, most = _mask(n_words), np.int32(1)
    total = n_words - n + 1
    for first in range(total):
        slot = _slot(grams[first], keys, stamps, stamp, mask)
        if stamps[slot] == stamp:
            counts[slot] += np.int32(1)
            most = max(most, counts[slot])
        else:
            stamps[slot], keys[slot], counts[slot] = stamp, grams[first], np.int32(1)
    if most > 1:
        for first in range(total):
            if counts[_slot(grams[first], keys, stamps, stamp, mask)] == most:
                return (ends[first + n] - ends[first] + n - 1) * most
    return 0


@kernel
def _duplicated(
    grams: Hashes, ends: Counts, n_words: int, n: int, keys: Hashes, stamps: Counts, stamp: int
) -> int:
    """Characters of the n-grams that occurred before; those found do not overlap."""
    mask, first, repeated = _mask(n_words), 0, 0
    while first < n_words - n + 1:
        slot = _slot(grams[first], keys, stamps, stamp, mask)
        if stamps[slot] == stamp:
            repeated += ends[first + n] - ends[first]
            first += n
        else:
            stamps[slot], keys[slot] = stamp, grams[first]
            first += 1
    return repeated


@kernel
def _decode(data: Bytes, at: int) -> tuple[np.int64, int]:
    """The code point at a byte of valid UTF-8, and where the next one begins."""
    code = np.int64(data[at])
    if code < 0x80:
        return code, at + 1
    if code < 0xE0:
        return (code & 31) << 6 | np.int64(data[at + 1]) & 63, at + 2
    if code < 0xF0:
        code = (code & 15) << 12 | (np.int64(data[at + 1]) & 63) << 6
        return code | np.int64(data[at + 2]) & 63, at + 3
    code = (code & 7) << 18 | (np.int64(data[at + 1]) & 63) << 12
    return code | (np.int64(data[at + 2]) & 63) << 6 | np.int64(data[at + 3]) & 63, at + 4


@kernel
def _stop(data: Bytes, start: int, end: int, stops: Hashes) -> int:
    """The bit of a stop word of 2 to 4 bytes, or 0."""
    packed = np.uint64(0)
    for each in range(start, end):
        packed = packed << np.uint64(8) | np.uint64(data[each])
    for each in range(stops.size):
        if stops[each] == packed:
            return 1 << each
    return 0


@kernel
def _read(
    data: Bytes,
    at: int,
    end: int,
    classes: Bytes,
    stops: Hashes,
    limits: Counts,
    row: Numbers,
    words: Hashes,
    word_chars: Counts,
    lines: Hashes,
    line_chars: Counts,
    paragraphs: Hashes,
    paragraph_chars: Counts,
) -> tuple[int, int, int, int]:
    """Read one text; returns how many words, filled lines, paragraphs and newlines it has."""
    chars = n_words = n_lines = n_paragraphs = newlines = all_lines = 0
    hashes = ellipses = dots = alphabetic = plain_words = plain_chars = 0
    bulleted = trailing_off = terminals = short = sentences = stopped = 0
    word, word_start, kinds, closed = SEED, 0, 0, False
    core_start = core_end = -1
    line, line_start, opening, closing, trail, spaced = SEED, 0, -1, 0, 0, False
    line_words, line_longest, line_ends, line_closed = 0, 0, 0, False
    paragraph, paragraph_size = SEED, 0
    while at <= end:
        begin = at
        if at < end:
            code, at = _decode(data, at)
            kind = classes[code]
            chars += 1
        else:
            code, at, kind = -1, at + 1, SPACE
        if not kind & SPACE:
            word = (word ^ np.uint64(code)) * BYTE
            kinds |= kind
            if opening == -1:
                opening = code
            if kind == LETTER:  # most of any text
                core_start = begin if core_start == -1 else core_start
                first = at
                while at < end and data[at] < 128 and classes[data[at]] == LETTER:
                    word = (word ^ np.uint64(data[at])) * BYTE
                    at += 1
                chars += at - first
                core_end, closed, trail, dots, closing = at, False, 0, 0, LETTER_A
                spaced = False
                continue
            if kind & ALPHANUMERIC:
                core_start = begin if core_start == -1 else core_start
                core_end = at
            closed = (kind & TERMINAL) != 0 or (closed and (kind & CLOSER) != 0)
            dots = dots + 1 if code == DOT else 0
            ellipses += code == ELLIPSIS or dots == 3
            dots = 0 if dots == 3 else dots
            hashes += code == HASH
            trail = (0 if spaced else trail) + 1 if code == DOT else 0
            spaced, closing = False, code
            continue
        dots, spaced = 0, True
        size = chars - (code != -1) - word_start
        word_start = chars
        if size:
            words[n_words], word_chars[n_words] = word ^ (word >> MIX), size
            line = line * M + words[n_words]
            n_words += 1
            alphabetic += (kinds & ALPHABETIC) != 0
            if kinds & ALPHANUMERIC:
                plain_words += 1
                plain_chars += size
            if 1 < core_end - core_start < 5:
                stopped |= _stop(data, core_start, core_end, stops)
            line_words += 1
            line_longest = max(line_longest, size)
            line_ends += closed
            word, kinds, line_closed, closed = SEED, 0, closed, False
            core_start = core_end = -1
        if code != NEWLINE and code != -1:
            line = (line ^ np.uint64(code)) * BYTE
            continue
        newlines += code == NEWLINE
        line_size = chars - (code == NEWLINE) - line_start
        line_start = chars
        all_lines += code == NEWLINE or line_size > 0
        if opening != -1:
            final = classes[closing]
            terminals += (final & TERMINAL) != 0
            short += line_size <= limits[0]
            bulleted += (opening == BULLET) | (opening == DASH)
            trailing_off += trail >= 3 or closing == ELLIPSIS
            kept = (final & C4_END) != 0 and trail < 3
            if kept and line_words >= limits[1] and line_longest <= limits[2]:
                sentences += line_ends + (0 if line_closed else 1)
            lines[n_lines] = line ^ (line >> MIX)
            line_chars[n_lines] = line_size
            paragraph = paragraph * M + lines[n_lines]
            paragraph_size += line_size + (paragraph_size > 0)
            n_lines += 1
        if paragraph_size and (opening == -1 or code == -1):
            paragraphs[n_paragraphs], paragraph_chars[n_paragraphs] = paragraph, paragraph_size
            n_paragraphs += 1
            paragraph, paragraph_size = SEED, 0
        line, opening, closing, trail, spaced = SEED, -1, 0, 0, False
        line_words, line_longest, line_ends = 0, 0, 0
    row[0] = chars
    row[1] = plain_words
    row[2] = plain_chars / plain_words if plain_words else 0.0
    row[3] = hashes / n_words if n_words else 0.0
    row[4] = ellipses / n_words if n_words else 0.0
    row[5] = bulleted / all_lines if all_lines else 0.0
    row[6] = trailing_off / all_lines if all_lines else 0.0
    row[7] = alphabetic / n_words if n_words else 0.0
    row[8] = 0
    for each in range(stops.size):
        row[8] += (stopped >> each) & 1
    row[22] = sentences
    row[23] = terminals / n_lines if n_lines else 0.0
    row[24] = short / n_lines if n_lines else 0.0
    row[26] = newlines / n_words if n_words else 0.0
    return n_words, n_lines, n_paragraphs, newlines
