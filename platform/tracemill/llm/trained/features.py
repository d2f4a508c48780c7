"""What a classifier sees of a text: its words, pairs of words and runs of bytes, hashed to numbers.

All texts of a batch are one array of bytes, and every step is one operation on it. The hash of any
span comes from two prefixes of a polynomial, so that a word costs the same as a letter.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS = 22
"""Features are numbers below 2 ** BITS: 4 million, where a data set has perhaps half a million."""
RUNS = (4,)
"""How many bytes a run has."""
MOST_BYTES = 8_192
"""Of a longer text the first and the last half of so many are seen."""

_BASE = 0x9E3779B97F4A7C15 | 1
_END = 0x0A  # stands between texts, and in none of them


class Rows(NamedTuple):
    """The features of several texts, one after the other."""

    ids: "NDArray[np.uint32]"
    """Those of the first text, then those of the next; each once in a text, in rising order."""
    counts: "NDArray[np.int64]"
    """How many of them each text has."""


def hashed(texts: Sequence[str], field: int = 0) -> Rows:
    """The features of texts.

    Args:
        field: a small number; the same word has other features in another field.
    """
    import numpy as np

    data, owners = _bytes(texts)
    letters = _is_letter()[data]
    prefixes, powers = _prefixes(data)
    found = [_words(prefixes, powers, letters, owners), *_runs(data, owners)]
    keys = [
        (owner.astype(np.uint64) << np.uint64(BITS)) | _mixed(hashes, field * 16 + family)
        for family, (hashes, owner) in enumerate([*found[:1], _pairs(*found[0]), *found[1:]])
    ]
    # Sorted, for numpy's own `unique` hashes, which takes four times as long.
    every = np.sort(np.concatenate(keys))
    unique = every[np.concatenate(([True], every[1:] != every[:-1]))[: len(every)]]
    ids = (unique & np.uint64((1 << BITS) - 1)).astype(np.uint32)
    counts = np.bincount((unique >> np.uint64(BITS)).astype(np.int64), minlength=len(texts))
    return Rows(ids, counts.astype(np.int64))


def _bytes(texts: Sequence[str]) -> "tuple[NDArray[np.uint8], NDArray[np.int64]]":
    """Lower case, blanks as one, a blank on both sides; and to which text each byte belongs."""
    import numpy as np

    encoded = [
        _cut(f" {' '.join(text.lower().split())} \n".encode(errors="replace")) for text in texts
    ]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    data = np.frombuffer(b"".join(encoded), np.uint8)
    return data, np.repeat(np.arange(len(encoded)), lengths)


def _cut(text: bytes) -> bytes:
    if len(text) <= MOST_BYTES:
        return text
    return text[: MOST_BYTES // 2] + b" " + text[-MOST_BYTES // 2 :]


def _is_letter() -> "NDArray[np.bool_]":
    """ASCII letters, digits and `_`, and every byte of other characters."""
    import numpy as np

    table = np.zeros(256, np.bool_)
    table[list(b"abcdefghijklmnopqrstuvwxyz0123456789_")] = True
    table[0x80:] = True
    return table


def _prefixes(data: "NDArray[np.uint8]") -> "tuple[NDArray[np.uint64], NDArray[np.uint64]]":
    """Sums of byte * base**place up to each place, and 1 / base**place; all modulo 2**64."""
    import numpy as np

    forward = np.full(len(data) + 1, _BASE, np.uint64)
    backward = np.full(len(data) + 1, pow(_BASE, -1, 2**64), np.uint64)
    forward[0] = backward[0] = 1
    powers, inverse = np.cumprod(forward), np.cumprod(backward)
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum((data.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
    return sums, inverse


def _words(
    sums: "NDArray[np.uint64]",
    inverse: "NDArray[np.uint64]",
    letters: "NDArray[np.bool_]",
    owners: "NDArray[np.int64]",
) -> "tuple[NDArray[np.uint64], NDArray[np.int64]]":
    import numpy as np

    turns = np.flatnonzero(letters[1:] != letters[:-1]) + 1
    # A text begins and ends with a blank, so that its words begin and end within it.
    starts, ends = turns[::2], turns[1::2]
    return (sums[ends] - sums[starts]) * inverse[starts], owners[starts]


def _pairs(
    words: "NDArray[np.uint64]", owners: "NDArray[np.int64]"
) -> "tuple[NDArray[np.uint64], NDArray[np.int64]]":
    import numpy as np

    same = owners[1:] == owners[:-1]
    pairs = words[:-1] * np.uint64(0xD6E8FEB86659FD93) + words[1:]
    return pairs[same], owners[1:][same]


def _runs(
    data: "NDArray[np.uint8]", owners: "NDArray[np.int64]"
) -> "list[tuple[NDArray[np.uint64], NDArray[np.int64]]]":
    """Every window of so many bytes within a text; up to eight of them are a number as they stand."""
    import numpy as np

    wide = data.astype(np.uint64)
    found: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
    value, size = wide, 1
    for length in RUNS:
        while size < length:
            value = (value[:-1] << np.uint64(8)) | wide[size:]
            size += 1
        inside = (owners[: len(value)] == owners[size - 1 :]) & (data[size - 1 :] != _END)
        found.append((value[inside], owners[: len(value)][inside]))
    return found


def _mixed(hashes: "NDArray[np.uint64]", salt: int) -> "NDArray[np.uint64]":
    """The upper bits of splitmix64 (Steele, Lea and Flood, 2014)."""
    import numpy as np

    mixed = hashes + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) >> np.uint64(64 - BITS)
