"""Byte n-grams with their counts, and the probabilities that interpolated Kneser-Ney gives them.

A level for each length; the children of a context are its neighbours, so that three bytes hold an
n-gram: its last byte, its count, how many follow it. What was pruned is kept as a sum for each
context, so that its probability still goes to the shorter contexts.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Floats = NDArray[np.float64]
    Places = NDArray[np.int64]

_EXACT = 127
_MOST = 1e9
# A byte for each count: exact up to 127, then in steps of 13 %.
COUNTS: "Floats" = np.concatenate(
    [np.arange(_EXACT + 1.0), _EXACT * (_MOST / _EXACT) ** (np.arange(1, 129) / 128)]
)
UNKNOWN = 1 / 256
_AT_ONCE = 1 << 20


def coded(counts: "NDArray[np.integer[Any]]") -> "Bytes":
    """Counts as bytes: the nearest in `COUNTS` that is not above."""
    codes = counts.astype(np.uint8)
    large = np.flatnonzero(counts > _EXACT)
    codes[large] = np.searchsorted(COUNTS, counts[large], side="right") - 1
    return codes


class Plain(NamedTuple):
    """A level in Python's own types."""

    labels: bytes
    codes: bytes
    first: "memoryview[int]"
    pruned: bytes
    kept: list[float]
    made: "dict[int, Floats]"
    """The distributions after contexts that many bytes follow, those that were wanted."""


class Level:
    """All n-grams of one length, ordered; those of one context lie together."""

    def __init__(
        self, labels: "Bytes", codes: "Bytes", first: "NDArray[np.uint32]", pruned: "Bytes",
        discounts: "Floats",
    ) -> None:  # fmt: skip
        """
        Args:
            labels: the last byte of each n-gram.
            codes: its count, as `coded` has it.
            first: for each context where its n-grams begin, and the end.
            pruned: for each context the count of what is not here any more, coded; may be empty.
            discounts: what is taken from a count of 1, of 2, and of more.
        """
        self.labels, self.codes, self.first, self.pruned = labels, codes, first, pruned
        self.kept: Floats = COUNTS - discounts[np.minimum(np.arange(256), 3) - 1]
        self.kept[0] = 0.0

    @cached_property
    def plain(self) -> "Plain":
        """The same for one byte at a time, where Python's own types are ten times faster."""
        first = memoryview(np.ascontiguousarray(self.first))
        codes, pruned = self.codes.tobytes(), self.pruned.tobytes()
        return Plain(self.labels.tobytes(), codes, first, pruned, self.kept.tolist(), {})

    @cached_property
    def keys(self) -> "Places":
        """Context and last byte of each n-gram in one number, rising."""
        contexts = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first.astype(np.int64)))
        return (contexts << 8) | self.labels

    @cached_property
    def sums(self) -> tuple["Floats", "Floats"]:
        """For each context the sum of its counts, and the share that shorter contexts get."""
        first = self.first.astype(np.int64)
        total, kept = (
            np.diff(np.concatenate([[0.0], np.cumsum(table[self.codes])])[first])
            for table in (COUNTS, self.kept)
        )
        if len(self.pruned):
            total = total + COUNTS[self.pruned]
        with np.errstate(invalid="ignore"):
            return total, np.where(total > 0, 1 - kept / total, 1.0)

    def find(self, contexts: "Places", following: "Bytes") -> "Places":
        """The n-grams of contexts and the bytes after them; -1 where there is none."""
        if not len(self.labels):
            return np.full(len(contexts), -1)
        wanted = (contexts << 8) | following
        at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((contexts >= 0) & (self.keys[at] == wanted), at, -1)

    def probability(self, contexts: "Places", found: "Places", shorter: "Floats") -> "Floats":
        """Of the bytes after contexts, given what shorter contexts say of them."""
        total, share = self.sums
        if not len(total):
            return shorter
        here = np.maximum(contexts, 0)
        own = np.where(found >= 0, self.kept[self.codes[found]], 0.0) if len(self.codes) else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            mixed = own / total[here] + share[here] * shorter
        return np.where((contexts >= 0) & (total[here] > 0), mixed, shorter)


class Walk(NamedTuple):
    """What one level says of each byte of a text."""

    contexts: "Places"
    """The context before each byte; -1 where it was never seen."""
    found: "Places"
    """Context and byte together."""


def walk(levels: tuple[Level, ...], data: "Bytes") -> Iterator[Walk]:
    """Go through a text, from single bytes to the longest n-grams."""
    contexts = np.zeros(len(data), np.int64)
    for level in levels:
        found = level.find(contexts, data)
        yield Walk(contexts, found)
        contexts = np.concatenate([[-1], found[:-1]])


class Scored(NamedTuple):
    """What a trie says of each byte of a text."""

    probability: "Floats"
    matched: "Places"
    """How many levels knew the context."""


def scored(levels: tuple[Level, ...], data: "Bytes") -> Scored:
    """The probability of each byte of a text after those before it."""
    probability, matched = np.empty(len(data)), np.empty(len(data), np.int64)
    for start in range(0, len(data), _AT_ONCE):
        before = max(0, start - len(levels))
        part = _scored(levels, data[before : start + _AT_ONCE])
        probability[start : start + _AT_ONCE] = part.probability[start - before :]
        matched[start : start + _AT_ONCE] = part.matched[start - before :]
    return Scored(probability, matched)


def _scored(levels: tuple[Level, ...], data: "Bytes") -> Scored:
    probability, matched = np.full(len(data), UNKNOWN), np.zeros(len(data), np.int64)
    for level, (contexts, found) in zip(levels, walk(levels, data), strict=True):
        probability = level.probability(contexts, found, probability)
        matched += known(level, contexts)
    return Scored(probability, matched)


def known(level: Level, contexts: "Places") -> "NDArray[np.bool_]":
    """Whether something is known to follow."""
    follow = np.diff(level.first.astype(np.int64)) > 0
    if not len(follow):
        return np.zeros(len(contexts), bool)
    return (contexts >= 0) & follow[np.maximum(contexts, 0)]


def packed(levels: tuple[Level, ...], name: str) -> dict[str, "NDArray[Any]"]:
    """Levels as arrays for an artefact."""
    parts = {
        "sizes": [np.array([len(level.labels) for level in levels], np.uint32)],
        "labels": [level.labels for level in levels],
        "codes": [level.codes for level in levels],
        "children": [np.diff(level.first.astype(np.int64)).astype(np.uint8) for level in levels],
        "pruned": [level.pruned for level in levels],
        "discounts": [level_discounts(level) for level in levels],
    }
    arrays = {f"{name}.{part}": np.concatenate(arrays) for part, arrays in parts.items()}
    if not arrays[f"{name}.pruned"].any():
        arrays[f"{name}.pruned"] = np.zeros(0, np.uint8)
    return arrays


def level_discounts(level: Level) -> "Floats":
    """What a level takes from counts of 1, 2 and more."""
    return (COUNTS - level.kept)[1:4]


def unpacked(weights: Mapping[str, "NDArray[Any]"], name: str) -> tuple[Level, ...]:
    """The levels in an artefact."""
    sizes = [int(size) for size in weights[f"{name}.sizes"]]
    contexts = [1, *sizes[:-1]]
    labels, codes = (_cut(weights[f"{name}.{part}"], sizes) for part in ("labels", "codes"))
    children = _cut(weights[f"{name}.children"], contexts)
    summed = weights[f"{name}.pruned"]
    pruned = _cut(summed, contexts) if len(summed) else [summed] * len(sizes)
    discounts = weights[f"{name}.discounts"].reshape(-1, 3)
    return tuple(
        Level(last, code, first, missing, own)
        for last, code, first, missing, own in zip(
            labels, codes, map(_first, children), pruned, discounts, strict=True
        )
    )


def _first(children: "Bytes") -> "NDArray[np.uint32]":
    first = np.zeros(len(children) + 1, np.uint32)
    np.cumsum(children, out=first[1:])
    return first


def _cut(array: "NDArray[Any]", sizes: list[int]) -> "list[NDArray[Any]]":
    return np.split(array, np.cumsum(sizes)[:-1])
