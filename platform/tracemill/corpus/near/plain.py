"""The loops of linking and settling in numpy and Python: exact, without a compiler, to some
thousand texts. `kernels` has the same functions; each gives the same result in both.

Texts of a block are in rank order, so of two indices the smaller is the one that would stay.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import numpy as np

from tracemill.corpus.near.block import Block, Hashes, Indices, Similarities, Tables

MIX = 0x9E3779B1
"""Odd: multiplication by it loses no bit."""
LAST = 0xFFFFFFFE
"""The greatest tag: above it is what is no tag."""


def tags(signatures: Hashes, bands: int, rows: int) -> Hashes:
    """(n, bands): 32-bit hash of each band; 0, which never meets, for a text without shingles."""
    by_band = signatures[:, : bands * rows].reshape(-1, bands, rows)
    mixed = np.zeros(by_band.shape[:2], np.uint32)
    for row in range(rows):
        mixed = (mixed ^ by_band[:, :, row]) * np.uint32(MIX)
        mixed ^= mixed >> np.uint32(15)
    empty = (by_band == 0xFFFFFFFF).all(axis=2)
    return np.where(empty, np.uint32(0), np.clip(mixed, np.uint32(1), np.uint32(LAST)))


def enter(tags: Hashes, low: int, high: int, tables: Tables) -> Indices:
    """(n, bands): for each text and band from `low` to `high` the first text with its tag.

    `tables`, to be asked by `probe`, is filled on the way; where nobody asks it may be reused.
    """
    firsts = np.empty(tags.shape, np.int32)
    for band in range(low, high):
        column = tags[:, band]
        _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
        own = np.arange(column.size)
        firsts[:, band] = np.where(column == 0, own, first[inverse])
        at = np.flatnonzero((firsts[:, band] == own) & (column != 0))
        at = at[np.argsort(column[at])]
        tables[band, : at.size] = column[at].astype(np.uint64) << np.uint64(32) | at.astype(
            np.uint64
        )
        tables[band, at.size :] = np.uint64(0xFFFFFFFFFFFFFFFF)
    return firsts


def link(firsts: Indices, low: int, high: int, parent: Indices, start: int) -> None:
    """Union each text with the first that it meets; both are at `start` + index in `parent`."""
    found = np.argwhere(firsts[:, low:high] != np.arange(len(firsts))[:, None])
    for at, band in found.tolist():
        _union(parent, start + at, start + int(firsts[at, low + band]))


def probe(
    tags: Hashes, low: int, high: int, tables: Tables, parent: Indices, start: int, other: int
) -> None:
    """Union texts (from `start` on) with those entered in `tables` (from `other` on) they meet."""
    for band in range(low, high):
        keys = (tables[band] >> np.uint64(32)).astype(np.uint32)
        column = np.ascontiguousarray(tags[:, band])
        at = np.searchsorted(keys, column)
        hits = np.flatnonzero((column != 0) & (keys[np.minimum(at, keys.size - 1)] == column))
        for text, slot in zip(hits.tolist(), at[hits].tolist(), strict=True):
            _union(parent, start + text, other + int(tables[band, slot] & np.uint64(0xFFFFFFFF)))


def join(parent: Indices, other: Indices) -> None:
    """Union in `parent` what is one in `other`."""
    for at in np.flatnonzero(other != np.arange(other.size)).tolist():
        _union(parent, at, int(other[at]))


def equal(block: Block) -> Indices:
    """(m,): for each text the first with the same digest and the same shingles."""
    first: dict[int, int] = {}
    same = np.arange(block.rows.size, dtype=np.int32)
    for text, digest in enumerate(block.digests.tolist()):
        at = first.setdefault(digest, text)
        if np.array_equal(block.shingles(at), block.shingles(text)):
            same[text] = at
    return same


def star(
    block: Block, firsts: Indices, threshold: float, slots: int, window: int
) -> tuple[Indices, Similarities]:
    """(m,): the text that stays for each, greedily in rank order, and their similarity.

    A text is compared with those that stay and share a bucket, in each bucket with the last
    `window` of them; the nearest stands for it, of two as near the first.
    """
    kept, near = np.arange(len(firsts), dtype=np.int32), np.ones(len(firsts))
    stars: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for text, buckets in enumerate(cast("list[list[int]]", firsts.tolist())):
        keys = list(enumerate(buckets))
        candidates = {at for key in keys for at in stars[key][-window:]}
        found = [(similarity(block, at, text, slots, threshold), -at) for at in candidates]
        best, at = max(found, default=(0.0, 0))
        if best >= threshold:
            kept[text], near[text] = -at, best
        else:
            for key in keys:
                stars[key].append(text)
    return kept, near


def spread(
    block: Block,
    firsts: Indices,
    threshold: float,
    slots: int,
    window: int,
    kept: Indices,
    near: Similarities,
) -> Indices:
    """From stars to components, in place; (m,): through which neighbour, or -1 where directly.

    A text is compared with those before it that share a bucket and are not of its component yet,
    in each bucket with the last `window` of them. The first in rank stays for its component.
    """
    parent = kept.copy()
    edges = [(text, int(kept[text]), float(near[text])) for text in np.flatnonzero(
        kept != np.arange(kept.size)).tolist()]  # fmt: skip
    for one, other in _pairs(firsts, parent, window):
        if _find(parent, one) != _find(parent, other):
            found = similarity(block, other, one, slots, threshold)
            if found >= threshold:
                _union(parent, one, other)
                edges.append((one, other, found))
    return _rooted(block, edges, parent, threshold, kept, near)


def similarity(block: Block, one: int, other: int, slots: int, threshold: float) -> float:
    """The exact Jaccard similarity; 0 where sizes or signatures show that it is too small.

    Two texts of one shingle each are the same words, which `equal` has found, or not near: of a
    million such texts a hundred pairs share a hash of 32 bits by chance.
    """
    left, right = block.shingles(one), block.shingles(other)
    if left.size + right.size == 2:
        return 0.0
    if min(left.size, right.size) / max(left.size, right.size) < threshold:
        return 0.0
    if np.count_nonzero(block.signature(one) == block.signature(other)) < slots:
        return 0.0
    shared = np.intersect1d(left, right, assume_unique=True).size
    return shared / (left.size + right.size - shared)


def _pairs(firsts: Indices, parent: Indices, window: int) -> Iterator[tuple[int, int]]:
    """Pairs that share a bucket which holds texts of several components, each pair once."""
    mixed = np.zeros(firsts.shape, np.bool_)
    for band, column in enumerate(firsts.T):
        np.logical_or.at(mixed[:, band], column, parent != parent[column])
    before: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for text, buckets in enumerate(firsts.tolist()):
        keys = [(band, first) for band, first in enumerate(buckets) if mixed[first, band]]
        others = [other for key in keys for other in reversed(before[key][-window:])]
        for other in dict.fromkeys(others):
            yield text, other
        for key in keys:
            before[key].append(text)


def _rooted(
    block: Block,
    edges: list[tuple[int, int, float]],
    parent: Indices,
    threshold: float,
    kept: Indices,
    near: Similarities,
) -> Indices:
    """Walk each component's tree of edges from the text that stays; name the way where too far."""
    neighbours: defaultdict[int, list[tuple[int, float]]] = defaultdict(list)
    for one, other, found in edges:
        neighbours[one].append((other, found))
        neighbours[other].append((one, found))
    via = np.full(kept.size, -1, np.int32)
    for root in [text for text in neighbours if _find(parent, text) == text]:
        ways = [(root, root, 1.0)]
        for text, before, found in ways:
            direct = similarity(block, root, text, 0, threshold)
            kept[text] = root
            near[text] = direct if direct >= threshold else found
            via[text] = -1 if direct >= threshold else before
            ways += [(to, text, how) for to, how in neighbours[text] if to != before]
    return via


def _find(parent: Indices, text: int) -> int:
    while parent[text] != text:
        parent[text] = parent[parent[text]]
        text = int(parent[text])
    return text


def _union(parent: Indices, one: int, other: int) -> None:
    one, other = _find(parent, one), _find(parent, other)
    parent[max(one, other)] = min(one, other)
