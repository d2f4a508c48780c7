"""Texts as sets of hashed word 5-grams: what two texts must share to be near-duplicates.

Words are lower-cased and split at white space. A text of fewer than five words is one shingle.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

Hashes = NDArray[np.uint64]

WORDS = 5
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that no step of the polynomial loses a bit."""


def normalised(text: "pl.Expr") -> "pl.Expr":
    """Lower case, one space between words: texts that agree here are exact duplicates."""
    return text.str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def shingle_sets(texts: "pl.Series") -> list[Hashes]:
    """For each normalised text its sorted, unique shingle hashes (64 bits)."""
    import polars as pl

    missing = (WORDS - 1 - pl.col("text").str.count_matches(" ").cast(pl.Int64)).clip(0)
    blanks = pl.lit(" " * (WORDS - 1)).str.head(missing)
    padded = texts.to_frame("text").select(pl.concat_str("text", blanks).str.split(" "))
    words = padded.to_series()
    counts = words.list.len().to_numpy().astype(np.int64)
    rolled = _rolling(_word_hashes(words.explode()))
    starts = np.cumsum(counts) - counts
    return [
        np.unique(rolled[start : start + count - WORDS + 1])
        for start, count in zip(starts, counts, strict=True)
    ]


def jaccard(left: Hashes, right: Hashes) -> float:
    """The exact Jaccard similarity of two sorted sets: shared over all, 0 to 1."""
    shared = np.intersect1d(left, right, assume_unique=True).size
    return float(shared / (left.size + right.size - shared))


def _word_hashes(words: "pl.Series") -> Hashes:
    """A 64-bit hash for each word, the same on every machine and version."""
    import polars as pl

    vocabulary = words.unique()
    hashes = [
        int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        for word in vocabulary
    ]
    table = pl.DataFrame({"word": vocabulary, "hash": pl.Series(hashes, dtype=pl.UInt64)})
    joined = words.to_frame("word").join(table, on="word", how="left", maintain_order="left")
    return joined["hash"].to_numpy()


def _rolling(hashes: Hashes) -> Hashes:
    """The polynomial hash of the words i to i+4, for each i that has four after it."""
    size = max(hashes.size - WORDS + 1, 0)
    rolled = np.zeros(size, np.uint64)
    for word in range(WORDS):
        rolled = rolled * MULTIPLIER + hashes[word : word + size]
    return rolled ^ (rolled >> np.uint64(32))
