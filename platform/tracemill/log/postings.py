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
_FEW = 20  # times the number that is wanted: so many are looked up one by one


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

        The lists are gone through from the rarest pair, until few texts are left that could be among
        the nearest whatever the rest say (the prefix filter of Bayardo et al., WWW 2007); the rest
        is looked up for these alone.
        """
        shared = np.zeros(len(self.sizes), np.int32)
        lists = self.lists(query)
        found = np.flatnonzero(always | among)
        added, next_look = 0, len(shared)
        while lists and len(found) > _FEW * n:
            shared[lists[0]] += 1
            added += len(lists.pop(0))
            if lists and added + len(lists[0]) > next_look:
                next_look = 2 * (added + len(lists[0]))
                least = max(least, self._reached(shared, lists, len(query), n, among))
                best = self._similar(np.minimum(shared + len(lists), self.sizes), len(query))
                found = np.flatnonzero(always | (among & (best >= least)))
        return found, self._exact(found, shared, lists, len(query))

    def _reached(
        self, shared: Rows, lists: list[Rows], size: int, n: int, among: NDArray[np.bool_]
    ) -> float:
        """What the n-th nearest has at least: n that look near now are measured."""
        known = np.where(among, self._similar(shared, size), -1.0)
        if len(known) <= n:
            return 0.0
        nearest = np.argpartition(known, len(known) - n)[len(known) - n :]
        exact = self._exact(nearest, shared, lists, size)
        return max(float(exact.min()), 0.0) if among[nearest].all() else 0.0

    def _exact(
        self, texts: NDArray[np.intp], shared: Rows, lists: list[Rows], size: int
    ) -> NDArray[np.float64]:
        """The similarities of these texts, whose counts lack these lists."""
        counts = shared[texts]
        for rows in lists:
            counts += _are_in(texts, rows)
        return jaccard(counts, self.sizes[texts], size)

    def _similar(self, shared: Rows, size: int) -> NDArray[np.float64]:
        return jaccard(shared, self.sizes, size)


def jaccard(shared: Rows, sizes: Rows, size: int) -> NDArray[np.float64]:
    """Shared pairs over all pairs of two texts; 0 where neither has any."""
    return shared / np.maximum(sizes + size - shared, 1)


def _are_in(wanted: NDArray[np.intp], rows: Rows) -> NDArray[np.bool_]:
    places = np.minimum(np.searchsorted(rows, wanted.astype(np.int32)), len(rows) - 1)
    return rows[places] == wanted
