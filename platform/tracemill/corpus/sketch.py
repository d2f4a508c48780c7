"""Texts as sets of hashed word 5-grams, with MinHash signatures: what near-duplicates share.

One definition in two forms with the same result to the bit: plain Python and numpy, below, for a
few thousand texts, and compiled kernels (`corpus/kernels`) for millions.

- The *words* of a text are `text.lower().split()`; a character of a script written without spaces
  (`SPACELESS`: Chinese, Japanese, Thai, Lao, Khmer, Burmese) is a word of its own.
- A word is hashed by MurmurHash64A (Appleby, public domain) of its UTF-8, seed 0.
- A *shingle* is five consecutive words w0..w4; a text of fewer words is one shingle. Its hash is
  the high half of the polynomial w0 M^4 + w1 M^3 + w2 M^2 + w3 M + w4 modulo 2^64.
- The *digest* of a text is MurmurHash64A of its word hashes, eight bytes each, least first.
- A *signature* is that of `datasketch.MinHash(128, hashfunc=int, scheme="affine32")`, seed 1, of
  the shingle hashes: sketches of both kinds meet in one LSH index.

Equal on every machine; `lower` and `split` follow the Unicode version of Python.
"""

import os
import re
import sys
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracemill.corpus.kernels.texts import Places, Texts, parts, places
from tracemill.corpus.threads import pool

if TYPE_CHECKING:
    import datasketch  # pyright: ignore[reportMissingTypeStubs]

PERMUTATIONS = 128
WORDS = 5
MULTIPLIER = 0x9E3779B97F4A7C15
"""M of the polynomial: odd, so that no word loses a bit."""

SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x19E0, 0x19FF),  # Khmer symbols
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3038, 0x303B),  # Hangzhou numerals, vertical iteration mark
    (0x3041, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana for Ainu
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),  # Myanmar
    (0xF900, 0xFAFF),  # Han, compatibility
    (0xFF66, 0xFF9F),  # Katakana, half width
    (0x1AFF0, 0x1B16F),  # Kana, historic
    (0x20000, 0x3FFFF),  # Han, extensions B and up: planes 2 and 3
)
"""First and last code points of the scripts in which each character counts as a word."""

FEW_TEXTS, FEW_BYTES = 5_000, 5_000_000
"""Up to here plain Python is done before compiled kernels have been loaded."""

Hashes: TypeAlias = NDArray[np.uint32]

_ALONE = re.compile("[" + "".join(f"{chr(low)}-{chr(high)}" for low, high in SPACELESS) + "]")
_MURMUR = 0xC6A4A7935BD1E995
_MASK = (1 << 64) - 1


class Sketches(NamedTuple):
    """What is known of n texts, in their order."""

    signatures: Hashes
    """(n, 128) minima; all 2^32 - 1 for a text without words."""
    shingles: Hashes
    """The shingle hashes of all texts, one after the other; sorted and unique within each."""
    offsets: NDArray[np.int64]
    """(n + 1,): text i has `shingles[offsets[i]:offsets[i + 1]]`."""
    digests: NDArray[np.uint64]
    """(n,): equal for texts of the same words in the same order, 0 for one without words."""


def sketch(texts: Texts, *, threads: int | None = None, plain: bool | None = None) -> Sketches:
    """Shingles and MinHash signatures of a column of texts.

    Args:
        texts: strings of any Arrow layout, sliced or chunked; a null counts as an empty text.
        threads: how many to use; as many as there are cores by default. Changes no result.
        plain: whether to do without compiled kernels; decided by the number of texts by default.
    """
    read = places(texts)
    if plain is None:
        few = len(read.lengths) <= FEW_TEXTS and read.lengths.sum() <= FEW_BYTES
        plain = few and not compiled()
    if plain or sys.byteorder != "little":
        return _plain([text or "" for chunk in read.owners for text in chunk.to_pylist()])
    return _compiled(read, threads or os.cpu_count() or 1)


def compiled() -> bool:
    """Whether the kernels are loaded in this process: the next `sketch` pays no start."""
    loaded = sys.modules.get("tracemill.corpus.kernels.sketch")
    return loaded is not None and bool(loaded.sketch_documents.signatures)


def warm() -> None:
    """Load the kernels, compiling them if this machine has not yet: 1 s, the first time 5 s."""
    _compiled(Places(np.zeros(0, np.uint64), np.zeros(0, np.int64), ()), 1)


def to_minhash(signature: Hashes) -> "datasketch.MinHash":
    """One signature as datasketch's own object, for its LSH tables and their storages."""
    import datasketch  # pyright: ignore[reportMissingTypeStubs]

    untyped = cast(Any, datasketch)
    return untyped.MinHash(
        hashvalues=signature, permutations=permutations(), hashfunc=int, scheme="affine32"
    )


@cache
def permutations() -> Hashes:
    """(2, 128): factors (odd) and summands of datasketch's affine32 permutations, seed 1."""
    random = np.random.RandomState(1)
    factors = random.randint(0, 1 << 31, PERMUTATIONS, dtype=np.uint32) * np.uint32(2)
    return np.array(
        [factors + np.uint32(1), random.randint(0, 1 << 32, PERMUTATIONS, dtype=np.uint32)]
    )


def words(text: str) -> list[str]:
    """Lower case, split at white space; characters of `SPACELESS` scripts one by one."""
    lower = text.lower()
    return (lower if lower.isascii() else _ALONE.sub(r" \g<0> ", lower)).split()


def murmur64a(data: bytes, seed: int = 0) -> int:
    """MurmurHash64A, 64 bits (A. Appleby, SMHasher: MurmurHash2.cpp)."""
    hashed = seed ^ (len(data) * _MURMUR & _MASK)
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        block = int.from_bytes(data[at : at + 8], "little") * _MURMUR & _MASK
        block = (block ^ block >> 47) * _MURMUR & _MASK
        hashed = (hashed ^ block) * _MURMUR & _MASK
    if whole < len(data):
        hashed = (hashed ^ int.from_bytes(data[whole:], "little")) * _MURMUR & _MASK
    hashed = (hashed ^ hashed >> 47) * _MURMUR & _MASK
    return hashed ^ hashed >> 47


@lru_cache(1 << 16)
def _word_hash(word: str) -> int:
    return murmur64a(word.encode())


def _compiled(texts: Places, threads: int) -> Sketches:
    from tracemill.corpus.kernels.letters import letters
    from tracemill.corpus.kernels.sketch import sketch_documents

    count = texts.lengths.size
    signatures = np.empty((count, PERMUTATIONS), np.uint32)
    digests, counts = np.empty(count, np.uint64), np.empty(count, np.int64)
    known = letters(SPACELESS)
    tables = (known.kinds, known.lower)

    def run(part: slice) -> Hashes:
        found = (texts.addresses[part], texts.lengths[part])
        results = (signatures[part], digests[part], counts[part])
        return sketch_documents(found, tables, permutations(), results)

    shingles = np.concatenate(list(pool(threads).map(run, parts(texts.lengths))))
    return Sketches(signatures, shingles, _offsets(counts), digests)


def _plain(texts: Sequence[str]) -> Sketches:
    signatures = np.full((len(texts), PERMUTATIONS), 0xFFFFFFFF, np.uint32)
    digests = np.zeros(len(texts), np.uint64)
    sets: list[Hashes] = []
    for at, text in enumerate(texts):
        found = words(text)
        hashes = np.fromiter(map(_word_hash, found), np.uint64, len(found))
        digests[at] = murmur64a(hashes.astype("<u8").tobytes())
        sets.append(np.unique(_shingles(hashes)))
        signatures[at] = _minima(sets[-1])
    offsets = _offsets([each.size for each in sets])
    return Sketches(signatures, np.concatenate([*sets, np.empty(0, np.uint32)]), offsets, digests)


def _offsets(counts: ArrayLike) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _shingles(hashes: NDArray[np.uint64]) -> Hashes:
    """The hashes of a text's shingles in the order of the text."""
    size = min(WORDS, hashes.size)
    rolled = np.zeros(hashes.size - size + 1 if size else 0, np.uint64)
    for word in range(size):
        rolled = rolled * np.uint64(MULTIPLIER) + hashes[word : word + rolled.size]
    return (rolled >> np.uint64(32)).astype(np.uint32)


def _minima(shingles: Hashes) -> Hashes:
    """(128,): the least value of each permutation, in steps that keep the matrix small."""
    factors, summands = permutations()
    least = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
    for start in range(0, shingles.size, 4096):
        mixed = _fmix32(shingles[start : start + 4096])
        np.minimum(least, (mixed[:, None] * factors + summands).min(axis=0), out=least)
    return least


def _fmix32(hashes: Hashes) -> Hashes:
    """MurmurHash3's finaliser, with which datasketch mixes every hash first."""
    mixed = (hashes ^ hashes >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ mixed >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return mixed ^ mixed >> np.uint32(16)
