"""The loops of `plain`, compiled. Imported only for many texts: numba alone takes half a second.

All release the GIL and keep to the arrays they are given, so threads take a share of the bands or
a block each. `parallel=True` is not used: it takes four times as long to compile.
"""

# pyright: basic

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.kernels.instructions import load32, ones
from tracemill.corpus.kernels.jit import kernel, part
from tracemill.corpus.near.block import (
    Block,
    Indices,
    Similarities,
    Tables,
    room,
)
from tracemill.corpus.near.forest import enter, find, join, link, probe, tags, union
from tracemill.corpus.sketch import PERMUTATIONS

__all__ = ["enter", "equal", "join", "link", "probe", "spread", "star", "tags"]


def equal(block: Block) -> Indices:
    table = np.full(room(block.rows.size), -1, np.int32)
    same = np.empty(block.rows.size, np.int32)
    _equal(_places(block), block.digests, table, same)
    return same


def star(
    block: Block, firsts: Indices, threshold: float, slots: int, window: int
) -> tuple[Indices, Similarities]:
    kept, near = np.empty(len(firsts), np.int32), np.empty(len(firsts))
    places = _places(block)
    work = _work(places, firsts)
    _star(places, _marks(places), firsts, threshold, slots, window, work, kept, near)
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
    parent, via = kept.copy(), np.full(kept.size, -1, np.int32)
    dropped = np.flatnonzero(kept != np.arange(kept.size)).astype(np.int32)
    more = np.empty((kept.size, 2), np.int32)
    places = _places(block)
    work = _work(places, firsts)
    marks = _marks(places)
    found = _spread(places, marks, firsts, threshold, slots, window, work, parent, more)
    edges = np.concatenate([np.stack([dropped, kept[dropped]], axis=1), more[: found.size]])
    how = np.concatenate([near[dropped], found])
    _rooted(places, edges, how, parent, threshold, _table(places), kept, near, via)
    return via


class Places(NamedTuple):
    """Where in memory the sketch of each text lies; the block must be kept as long as they are."""

    signatures: NDArray[np.uint64]
    """(m,) addresses of 128 hashes each."""
    shingles: NDArray[np.uint64]
    """(m,) addresses of as many as `sizes` says."""
    sizes: NDArray[np.int64]


def _places(block: Block) -> Places:
    size = block.rows.size
    places = Places(np.empty(size, np.uint64), np.empty(size, np.uint64), np.empty(size, np.int64))
    for number, sets in enumerate(block.parts):
        own = np.flatnonzero(block.part == number)
        rows = block.rows[own]
        start = sets.offsets[rows]
        places.signatures[own] = sets.signatures.ctypes.data + rows * sets.signatures.strides[0]
        places.shingles[own] = sets.shingles.ctypes.data + start * sets.shingles.itemsize
        places.sizes[own] = sets.offsets[rows + 1] - start
    return places


def _marks(places: Places) -> Tables:
    """(m, 8): 512 bits a text, of which each shingle has set one."""
    marks = np.zeros((places.sizes.size, 8), np.uint64)
    _mark(places, marks)
    return marks


def _work(places: Places, firsts: Indices):
    """Arrays to work in: the newest text of each bucket, the one before each text in its buckets,
    the last text that each was compared with, and a table."""
    newest, seen = np.full(firsts.shape, -1, np.int32), np.full(len(firsts), -1, np.int32)
    return newest, np.empty(firsts.shape, np.int32), seen, _table(places)


def _table(places: Places) -> Tables:
    """Room for the shingles of any text, eight slots for each."""
    return np.zeros(room(8 * int(places.sizes.max(initial=1))), np.uint64)


@part
def _hash(array, at):
    return load32(array + np.uint64(4 * at))


@kernel
def _equal(places, digests, table, same):
    _, shingles, sizes = places
    mask = np.uint64(table.size - 1)
    for text in range(digests.size):
        same[text] = text
        slot = digests[text] & mask
        while table[slot] >= 0 and digests[table[slot]] != digests[text]:
            slot = (slot + np.uint64(1)) & mask
        first = table[slot]
        if first < 0:
            table[slot] = text
            continue
        alike = sizes[first] == sizes[text]
        for at in range(sizes[text] if alike else 0):
            alike &= _hash(shingles[text], at) == _hash(shingles[first], at)
        if alike:
            same[text] = first


@kernel
def _mark(places, marks):
    _, shingles, sizes = places
    for text in range(marks.shape[0]):
        for at in range(sizes[text]):
            shingle = _hash(shingles[text], at)
            bit = np.uint64(1) << np.uint64(shingle & np.uint32(63))
            marks[text, shingle >> np.uint32(6) & np.uint32(7)] |= bit


@part
def _promising(places, marks, one, other, slots, threshold):
    """Whether sizes, marks and signatures leave it possible that the pair reaches the threshold.

    A shingle of one text alone makes at most one bit differ, so the bits that differ bound how many
    are shared (Sandes, Teodoro, Melo: Bitmap filter, 2020): seldom, in texts from one template.
    """
    signatures, _, sizes = places
    left, right = sizes[one], sizes[other]
    if min(left, right) / max(left, right) < threshold:
        return False
    differ = 0
    for word in range(marks.shape[1]):
        differ += ones(marks[one, word] ^ marks[other, word])
    if left + right - differ < 2.0 * threshold / (1.0 + threshold) * (left + right) - 0.001:
        return False
    alike = np.int32(0)
    for slot in range(PERMUTATIONS):
        alike += np.int32(_hash(signatures[one], slot) == _hash(signatures[other], slot))
    return alike >= slots


@part
def _slots(size):
    slots = 8
    while slots < 8 * size:
        slots *= 2
    return slots


@part
def _hold(table, places, text, stamp):
    """Enter a text's shingles, each beside the stamp; entries with another stamp are void."""
    _, shingles, sizes = places
    mask = np.uint64(_slots(sizes[text]) - 1)
    for at in range(sizes[text]):
        shingle = _hash(shingles[text], at)
        slot = shingle & mask
        while table[slot] >> np.uint64(32) == stamp:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = np.uint64(stamp) << np.uint64(32) | np.uint64(shingle)


@part
def _jaccard(table, stamp, places, text, other, threshold):
    """Of the text that is held and another; 0 once it cannot reach the threshold any more."""
    _, shingles, sizes = places
    left, right = sizes[text], sizes[other]
    if left + right == 2:
        return 0.0
    mask = np.uint64(_slots(left) - 1)
    may_miss = right - np.int64(threshold * (left + right) / (1.0 + threshold)) + 1
    missed = 0
    for at in range(right):
        shingle = _hash(shingles[other], at)
        wanted = np.uint64(stamp) << np.uint64(32) | np.uint64(shingle)
        slot = shingle & mask
        while table[slot] != wanted and table[slot] >> np.uint64(32) == stamp:
            slot = (slot + np.uint64(1)) & mask
        missed += table[slot] != wanted
        if missed > may_miss:
            return 0.0
    shared = right - missed
    return shared / (left + right - shared)


@kernel
def _star(places, marks, firsts, threshold, slots, window, work, kept, near):
    newest, older, seen, table = work
    for text in range(firsts.shape[0]):
        stamp, held = np.uint64(text + 1), False
        best, nearest = 0.0, -1
        for band in range(firsts.shape[1]):
            star, left = newest[firsts[text, band], band], window
            while star >= 0 and left > 0:
                if seen[star] != text:
                    seen[star] = text
                    if _promising(places, marks, text, star, slots, threshold):
                        if not held:
                            _hold(table, places, text, stamp)
                            held = True
                        found = _jaccard(table, stamp, places, text, star, threshold)
                        if found > best or (found == best and star < nearest):
                            best, nearest = found, star
                star, left = older[star, band], left - 1
        if best >= threshold:
            kept[text], near[text] = nearest, best
            continue
        kept[text], near[text] = text, 1.0
        for band in range(firsts.shape[1]):
            older[text, band] = newest[firsts[text, band], band]
            newest[firsts[text, band], band] = text


@part
def _mixed(firsts, parent):
    """For each bucket, by its first text, whether it holds texts of several components."""
    mixed = np.zeros(firsts.shape, np.bool_)
    for text in range(firsts.shape[0]):
        for band in range(firsts.shape[1]):
            first = firsts[text, band]
            mixed[first, band] |= parent[text] != parent[first]
    return mixed


@kernel
def _spread(places, marks, firsts, threshold, slots, window, work, parent, edges):
    """Verified pairs between components, in `edges` (one, other) and the array that is returned."""
    mixed = _mixed(firsts, parent)
    newest, older, seen, table = work
    near, count = np.empty(firsts.shape[0]), 0
    for text in range(firsts.shape[0]):
        stamp, held = np.uint64(text + 1), False
        for band in range(firsts.shape[1]):
            first = firsts[text, band]
            if not mixed[first, band]:
                continue
            other, left = newest[first, band], window
            older[text, band], newest[first, band] = other, text
            while other >= 0 and left > 0:
                if seen[other] != text:
                    seen[other] = text
                    if find(parent, text) != find(parent, np.int64(other)) and _promising(
                        places, marks, text, other, slots, threshold
                    ):
                        if not held:
                            _hold(table, places, text, stamp)
                            held = True
                        found = _jaccard(table, stamp, places, text, other, threshold)
                        if found >= threshold:
                            union(parent, text, np.int64(other))
                            edges[count, 0], edges[count, 1], near[count] = text, other, found
                            count += 1
                other, left = older[other, band], left - 1
    return near[:count]


@kernel
def _rooted(places, edges, how, parent, threshold, table, kept, near, via):
    """Walk each component's tree of edges from the text that stays; name the way where too far."""
    starts = np.zeros(parent.size + 2, np.int64)
    for edge in range(how.size):
        for side in range(2):
            starts[edges[edge, side] + 2] += 1
    for text in range(parent.size + 1):
        starts[text + 1] += starts[text]
    to, by = np.empty(2 * how.size, np.int32), np.empty(2 * how.size, np.int32)
    for edge in range(how.size):
        for side in range(2):
            at = starts[edges[edge, side] + 1]
            to[at], by[at] = edges[edge, 1 - side], edge
            starts[edges[edge, side] + 1] += 1
    queue, before, edge_of = to.copy(), to.copy(), to.copy()
    for root in range(parent.size):
        if parent[root] != root or starts[root] == starts[root + 1]:
            continue
        stamp = np.uint64(root + 1)
        _hold(table, places, root, stamp)
        queue[0], before[0], edge_of[0], done, end = root, root, -1, 0, 1
        while done < end:
            text = queue[done]
            for at in range(starts[text], starts[text + 1]):
                if to[at] != before[done]:
                    queue[end], before[end], edge_of[end] = to[at], text, by[at]
                    end += 1
            direct = _jaccard(table, stamp, places, root, text, threshold)
            far = direct < threshold
            kept[text], near[text] = root, how[edge_of[done]] if far else direct
            via[text] = before[done] if far else -1
            done += 1
