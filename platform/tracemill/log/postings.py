"""Texts by the pairs of neighbouring words in them: which are nearest to a text, exactly and fast.

Similarity is Jaccard's: pairs that two texts share over pairs that either has. For each pair there
is a list of the texts that have it, so that texts without anything in common cost nothing; and what
everybody has in common, such as the instructions of a template, is looked at last or not at all.
"""
# pyarrow's types are partial:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Rows = NDArray[np.int32]
Hashes = NDArray[np.uint32]
"""Of pairs of words, in order."""
Pairs = NDArray[np.uint64]
"""Hash of a pair of words in the upper half, the text's number in the lower; sorted, unique."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(0xFFFF_FFFF)
_HALF = np.uint64(32)
_START = np.uint64(1)  # stands before the first word
_ADDS_BETWEEN_LOOKS = 4  # times the number of texts: looking costs about as much
_ADDS_FOR_A_LOOKUP = 16


def pairs_of(words: "pa.Array[Any]") -> Pairs:
    """The pairs of texts that are words with one space between them; a text's number is its place."""
    import pyarrow.compute as pc

    split = pc.split_pattern(words.fill_null(""), " ")
    lengths = pc.list_value_length(split).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = split.flatten().dictionary_encode()
    vocabulary = [zlib.crc32(str(word).encode()) for word in flat.dictionary.to_pylist()]
    hashes = np.array(vocabulary, np.uint64)[flat.indices.to_numpy(zero_copy_only=False)]
    before = np.empty_like(hashes)
    before[1:] = hashes[:-1]
    before[np.cumsum(lengths) - lengths] = _START
    mixed = (before * _MULTIPLIER + hashes) * _MULTIPLIER
    numbers = np.repeat(np.arange(len(lengths), dtype=np.uint64), lengths)
    pairs = (mixed & ~_LOW) | numbers
    return _unique(pairs[hashes != 0])  # 0 is the hash of no word at all


def hashes_of(words: "pa.Array[Any]") -> Hashes:
    """The hashes of one text's pairs."""
    return (pairs_of(words) >> _HALF).astype(np.uint32)


def _unique(values: Pairs) -> Pairs:
    """Sorted, each once: several times as fast as NumPy's, which hashes."""
    values = np.sort(values)
    return values[_is_first(values)]


def _is_first(values: Pairs | Hashes) -> NDArray[np.bool_]:
    """Which of sorted values differ from the one before them."""
    first = np.ones(len(values), np.bool_)
    first[1:] = values[1:] != values[:-1]
    return first


@dataclass(frozen=True)
class Postings:
    """Some texts, by their pairs of words."""

    sizes: Rows
    """How many pairs each text has."""
    hashes: Hashes
    """Of the pairs that occur, in order."""
    starts: Rows
    """Where the texts of each hash begin in `rows`; one more at the end."""
    rows: Rows
    """Numbers of texts, by hash."""

    @classmethod
    def of(cls, pairs: Pairs, texts: int) -> "Postings":
        """Of so many texts."""
        rows = (pairs & _LOW).astype(np.int32)
        hashes = (pairs >> _HALF).astype(np.uint32)
        starts = np.flatnonzero(_is_first(hashes))
        return cls(
            np.bincount(rows, minlength=texts).astype(np.int32),
            hashes[starts],
            np.append(starts, len(rows)).astype(np.int32),
            rows,
        )

    def pairs(self) -> Pairs:
        """The inverse of `of`."""
        hashes = np.repeat(self.hashes.astype(np.uint64), np.diff(self.starts))
        return (hashes << _HALF) | self.rows.astype(np.uint64)

    def plus(self, other: "Postings") -> "Postings":
        """Both; the other's texts are numbered on."""
        pairs = np.concatenate([self.pairs(), other.pairs() + np.uint64(len(self.sizes))])
        pairs.sort()
        return Postings.of(pairs, len(self.sizes) + len(other.sizes))

    def hashes_in(self, text: int) -> Hashes:
        """The hashes of the pairs of one of the texts."""
        places = np.flatnonzero(self.rows == text)
        return self.hashes[np.searchsorted(self.starts, places, side="right") - 1]

    def lists(self, query: Hashes) -> list[Rows]:
        """The texts that have each of these pairs, rarest pair first."""
        places = np.searchsorted(self.hashes, query)
        inside = places < len(self.hashes)
        places, query = places[inside], query[inside]
        places = places[self.hashes[places] == query]
        found = [self.rows[self.starts[i] : self.starts[i + 1]] for i in places]
        return sorted(found, key=len)

    def similarities(self, query: Hashes) -> NDArray[np.float64]:
        """Of every text to the query."""
        shared = np.zeros(len(self.sizes), np.int32)
        for rows in self.lists(query):
            shared[rows] += 1
        return jaccard(shared, self.sizes, len(query))

    def nearest(
        self,
        query: Hashes,
        n: int,
        *,
        among: NDArray[np.bool_],
        always: NDArray[np.bool_],
        least: float = 0.0,
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Texts and their similarities: those of `always`, and all of the `n` nearest `among` that
        reach `least`. There may be more of these, none of them wrong.

        The lists are gone through from the rarest pair, until a text that was in none of them could
        not be among the nearest whatever the rest say (the prefix filter of Bayardo et al., WWW
        2007); the rest is looked up for the candidates alone.
        """
        shared = np.zeros(len(self.sizes), np.int32)
        lists, added = self.lists(query), 0
        left = len(lists)
        for rows in lists:
            shared[rows] += 1
            left, added = left - 1, added + len(rows)
            if added > _ADDS_BETWEEN_LOOKS * len(shared):
                least, added = max(least, self._nth(shared, among, n, len(query))), 0
                if left < least * len(query):
                    break
        least = max(least, self._nth(shared, among, n, len(query)))
        best = jaccard(np.minimum(shared + left, self.sizes), self.sizes, len(query))
        found = np.flatnonzero(always | (among & (best >= least)))
        looked_up = np.zeros(len(found), np.int32)
        for rows in lists[len(lists) - left :]:
            if len(rows) < _ADDS_FOR_A_LOOKUP * len(found):
                shared[rows] += 1
            else:
                looked_up += _are_in(found, rows)
        return found, jaccard(shared[found] + looked_up, self.sizes[found], len(query))

    def _nth(self, shared: Rows, among: NDArray[np.bool_], n: int, size: int) -> float:
        """What the n-th nearest has at least, as far as is known."""
        known = jaccard(shared, self.sizes, size)[among]
        return (
            float(np.partition(known, len(known) - n)[len(known) - n]) if len(known) >= n else 0.0
        )


def jaccard(shared: Rows, sizes: Rows, size: int) -> NDArray[np.float64]:
    """Shared pairs over all pairs of two texts; 0 where neither has any."""
    return shared / np.maximum(sizes + size - shared, 1)


def _are_in(wanted: NDArray[np.intp], rows: Rows) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(rows, wanted.astype(np.int32)), len(rows) - 1)
    return rows[places] == wanted
