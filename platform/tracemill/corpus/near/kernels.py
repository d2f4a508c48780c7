"""The loops of `plain`, compiled. Imported only for many texts: numba alone takes half a second.

All release the GIL and keep to the arrays they are given, so threads take a share of the bands or
a block each. `parallel=True` is not used: it takes four times as long to compile.
"""

# pyright: basic

import numpy as np

from tracemill.corpus.kernels.jit import kernel
from tracemill.corpus.near.block import (
    Block,
    Hashes,
    Indices,
    Similarities,
    Tables,
    frozen,
    room,
)
from tracemill.corpus.near.plain import LAST, MIX


def tags(signatures: Hashes, bands: int, rows: int) -> Hashes:
    found = np.empty((len(signatures), bands), np.uint32)
    _tags(signatures, rows, found)
    return found


def enter(tags: Hashes, low: int, high: int, tables: Tables) -> Indices:
    firsts = np.empty(tags.shape, np.int32)
    _enter(frozen(tags), low, high, tables, firsts)
    return firsts


def equal(block: Block) -> Indices:
    table = np.full(room(block.rows.size), -1, np.int32)
    same = np.empty(block.rows.size, np.int32)
    _equal(block.rows, block.shingles, block.offsets, block.digests, table, same)
    return same


def star(
    block: Block, firsts: Indices, threshold: float, slots: int, window: int
) -> tuple[Indices, Similarities]:
    kept, near = np.empty(len(firsts), np.int32), np.empty(len(firsts))
    how = (threshold, slots, window)
    _star(*_sets(block), firsts, *how, _work(block, firsts), kept, near)
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
    work = _work(block, firsts)
    found = _spread(*_sets(block), firsts, threshold, slots, window, work, parent, more)
    edges = np.concatenate([np.stack([dropped, kept[dropped]], axis=1), more[: found.size]])
    how = np.concatenate([near[dropped], found])
    table = _work(block, firsts)[-1]
    sets = block.rows, block.shingles, block.offsets
    _rooted(*sets, edges, how, parent, threshold, table, kept, near, via)
    return via


def _work(block: Block, firsts: Indices):
    """Arrays to work in: the newest text of each bucket, the one before each text in its buckets,
    the last text that each was compared with, and room for the shingles of any text, eight slots
    for each."""
    newest, seen = np.full(firsts.shape, -1, np.int32), np.full(len(firsts), -1, np.int32)
    sizes = block.offsets[block.rows + 1] - block.offsets[block.rows]
    table = np.zeros(room(8 * int(sizes.max(initial=1))), np.uint64)
    return newest, np.empty(firsts.shape, np.int32), seen, table


def _sets(block: Block):
    return block.rows, block.signatures, block.shingles, block.offsets


@kernel
def _tag(signature, band, rows):
    mixed = np.uint32(0)
    empty = True
    for row in range(band * rows, band * rows + rows):
        value = signature[row]
        empty &= value == np.uint32(0xFFFFFFFF)
        mixed = np.uint32((mixed ^ value) * np.uint32(MIX))
        mixed = np.uint32(mixed ^ (mixed >> np.uint32(15)))
    if empty:
        return np.uint32(0)
    return min(max(mixed, np.uint32(1)), np.uint32(LAST))


@kernel
def _tags(signatures, rows, found):
    for text in range(found.shape[0]):
        for band in range(found.shape[1]):
            found[text, band] = _tag(signatures[text], band, rows)


@kernel
def _find(parent, text):
    while parent[text] != text:
        parent[text] = parent[parent[text]]
        text = np.int64(parent[text])
    return text


@kernel
def _union(parent, one, other):
    one, other = _find(parent, one), _find(parent, other)
    if one < other:
        parent[other] = one
    else:
        parent[one] = other


@kernel
def _enter(tags, low, high, tables, firsts):
    mask = np.uint32(tables.shape[1] - 1)
    for band in range(low, high):
        tables[band] = np.uint64(0)
        for text in range(tags.shape[0]):
            tag = tags[text, band]
            firsts[text, band] = text
            if tag == 0:
                continue
            slot = tag & mask
            while True:
                entry = tables[band, slot]
                if entry == 0:
                    tables[band, slot] = np.uint64(tag) << np.uint64(32) | np.uint64(text)
                    break
                if entry >> np.uint64(32) == tag:
                    firsts[text, band] = np.int32(entry & np.uint64(0xFFFFFFFF))
                    break
                slot = (slot + np.uint32(1)) & mask


@kernel
def link(firsts, low, high, parent, start):
    for text in range(firsts.shape[0]):
        for band in range(low, high):
            if firsts[text, band] != text:
                _union(parent, start + text, start + np.int64(firsts[text, band]))


@kernel
def probe(tags, low, high, tables, parent, start, other):
    mask = np.uint32(tables.shape[1] - 1)
    for band in range(low, high):
        for text in range(tags.shape[0]):
            tag = tags[text, band]
            slot = tag & mask
            while tag != 0:
                entry = tables[band, slot]
                if entry == 0:
                    break
                if entry >> np.uint64(32) == tag:
                    found = np.int64(entry & np.uint64(0xFFFFFFFF))
                    _union(parent, start + text, other + found)
                    break
                slot = (slot + np.uint32(1)) & mask


@kernel
def join(parent, other):
    for text in range(parent.size):
        if other[text] != text:
            _union(parent, text, np.int64(other[text]))


@kernel
def _equal(rows, shingles, offsets, digests, table, same):
    mask = np.uint64(table.size - 1)
    for text in range(rows.size):
        row = rows[text]
        same[text] = text
        slot = digests[row] & mask
        while table[slot] >= 0 and digests[rows[table[slot]]] != digests[row]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = text
            continue
        first = rows[table[slot]]
        size = offsets[row + 1] - offsets[row]
        alike = offsets[first + 1] - offsets[first] == size
        for at in range(size if alike else 0):
            alike &= shingles[offsets[row] + at] == shingles[offsets[first] + at]
        if alike:
            same[text] = table[slot]


@kernel
def _promising(signatures, offsets, one, other, slots, threshold):
    """Whether sizes and signatures leave it possible that the pair reaches the threshold."""
    left, right = offsets[one + 1] - offsets[one], offsets[other + 1] - offsets[other]
    if min(left, right) / max(left, right) < threshold:
        return False
    alike = np.int32(0)
    for slot in range(signatures.shape[1]):
        alike += np.int32(signatures[one, slot] == signatures[other, slot])
    return alike >= slots


@kernel
def _slots(size):
    slots = 8
    while slots < 8 * size:
        slots *= 2
    return slots


@kernel
def _hold(table, shingles, offsets, row, stamp):
    """Enter a text's shingles, each beside the stamp; entries with another stamp are void."""
    mask = np.uint64(_slots(offsets[row + 1] - offsets[row]) - 1)
    for at in range(offsets[row], offsets[row + 1]):
        slot = shingles[at] & mask
        while table[slot] >> np.uint64(32) == stamp:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = np.uint64(stamp) << np.uint64(32) | np.uint64(shingles[at])


@kernel
def _jaccard(table, stamp, shingles, offsets, row, other, threshold):
    """Of the text that is held and another; 0 once it cannot reach the threshold any more."""
    left, right = offsets[row + 1] - offsets[row], offsets[other + 1] - offsets[other]
    mask = np.uint64(_slots(left) - 1)
    may_miss = right - np.int64(threshold * (left + right) / (1.0 + threshold)) + 1
    missed = 0
    for at in range(offsets[other], offsets[other + 1]):
        wanted = np.uint64(stamp) << np.uint64(32) | np.uint64(shingles[at])
        slot = shingles[at] & mask
        while table[slot] != wanted and table[slot] >> np.uint64(32) == stamp:
            slot = (slot + np.uint64(1)) & mask
        missed += table[slot] != wanted
        if missed > may_miss:
            return 0.0
    shared = right - missed
    return shared / (left + right - shared)


@kernel
def _star(rows, signatures, shingles, offsets, firsts, threshold, slots, window, work, kept, near):
    newest, older, seen, table = work
    for text in range(rows.size):
        stamp, held = np.uint64(text + 1), False
        best, nearest = 0.0, -1
        for band in range(firsts.shape[1]):
            star, left = newest[firsts[text, band], band], window
            while star >= 0 and left > 0:
                if seen[star] != text:
                    seen[star] = text
                    row, other = rows[text], rows[star]
                    if _promising(signatures, offsets, row, other, slots, threshold):
                        if not held:
                            _hold(table, shingles, offsets, row, stamp)
                            held = True
                        found = _jaccard(table, stamp, shingles, offsets, row, other, threshold)
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


@kernel
def _mixed(firsts, parent):
    """For each bucket, by its first text, whether it holds texts of several components."""
    mixed = np.zeros(firsts.shape, np.bool_)
    for text in range(firsts.shape[0]):
        for band in range(firsts.shape[1]):
            first = firsts[text, band]
            mixed[first, band] |= parent[text] != parent[first]
    return mixed


@kernel
def _spread(
    rows, signatures, shingles, offsets, firsts, threshold, slots, window, work, parent, edges
):
    """Verified pairs between components, in `edges` (one, other) and the array that is returned."""
    mixed = _mixed(firsts, parent)
    newest, older, seen, table = work
    near, count = np.empty(rows.size), 0
    for text in range(rows.size):
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
                    row, to = rows[text], rows[other]
                    if _find(parent, text) != _find(parent, np.int64(other)) and _promising(
                        signatures, offsets, row, to, slots, threshold
                    ):
                        if not held:
                            _hold(table, shingles, offsets, row, stamp)
                            held = True
                        found = _jaccard(table, stamp, shingles, offsets, row, to, threshold)
                        if found >= threshold:
                            _union(parent, text, np.int64(other))
                            edges[count, 0], edges[count, 1], near[count] = text, other, found
                            count += 1
                other, left = older[other, band], left - 1
    return near[:count]


@kernel
def _rooted(rows, shingles, offsets, edges, how, parent, threshold, table, kept, near, via):
    """Walk each component's tree of edges from the text that stays; name the way where too far."""
    starts = np.zeros(rows.size + 2, np.int64)
    for edge in range(how.size):
        for side in range(2):
            starts[edges[edge, side] + 2] += 1
    for text in range(rows.size + 1):
        starts[text + 1] += starts[text]
    to, by = np.empty(2 * how.size, np.int32), np.empty(2 * how.size, np.int32)
    for edge in range(how.size):
        for side in range(2):
            at = starts[edges[edge, side] + 1]
            to[at], by[at] = edges[edge, 1 - side], edge
            starts[edges[edge, side] + 1] += 1
    queue, before, edge_of = to.copy(), to.copy(), to.copy()
    for root in range(rows.size):
        if parent[root] != root or starts[root] == starts[root + 1]:
            continue
        stamp = np.uint64(root + 1)
        _hold(table, shingles, offsets, rows[root], stamp)
        queue[0], before[0], edge_of[0], done, end = root, root, -1, 0, 1
        while done < end:
            text = queue[done]
            for at in range(starts[text], starts[text + 1]):
                if to[at] != before[done]:
                    queue[end], before[end], edge_of[end] = to[at], text, by[at]
                    end += 1
            direct = _jaccard(table, stamp, shingles, offsets, rows[root], rows[text], threshold)
            far = direct < threshold
            kept[text], near[text] = root, how[edge_of[done]] if far else direct
            via[text] = before[done] if far else -1
            done += 1
