"""The loops of `plain`, compiled. Imported only for many texts: numba alone takes half a second.

All release the GIL and keep to the arrays they are given, so threads take a share of the bands or
a block each. `parallel=True` is not used: it takes four times as long to compile.
"""

# pyright: basic

import numpy as np

from tracemill.corpus.kernels.jit import kernel
from tracemill.corpus.near.block import Block, Hashes, Indices, Similarities, Tables, room
from tracemill.corpus.near.plain import LAST, MIX


def tags(signatures: Hashes, bands: int, rows: int) -> Hashes:
    found = np.empty((len(signatures), bands), np.uint32)
    _tags(signatures, rows, found)
    return found


def enter(tags: Hashes, low: int, high: int, tables: Tables) -> Indices:
    firsts = np.empty(tags.shape, np.int32)
    _enter(tags, low, high, tables, firsts)
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
    _star(*_sets(block), firsts, threshold, slots, window, kept, near)
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
    found = _spread(*_sets(block), firsts, threshold, slots, window, parent, more)
    edges = np.concatenate([np.stack([dropped, kept[dropped]], axis=1), more[: found.size]])
    how = np.concatenate([near[dropped], found])
    _rooted(*_sets(block), edges, how, parent, threshold, kept, near, via)
    return via


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
        text = parent[text]
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
                _union(parent, start + text, start + firsts[text, band])


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
            _union(parent, text, other[text])


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
def _similarity(signatures, shingles, offsets, one, other, slots, threshold):
    at, end = offsets[one], offsets[one + 1]
    to, last = offsets[other], offsets[other + 1]
    left, right = end - at, last - to
    if min(left, right) / max(left, right) < threshold:
        return 0.0
    if slots > 0:
        alike = np.int32(0)
        for slot in range(signatures.shape[1]):
            alike += np.int32(signatures[one, slot] == signatures[other, slot])
        if alike < slots:
            return 0.0
    shared = 0
    while at < end and to < last:
        # Without branches: which list goes on is as good as random to the processor.
        here, there = shingles[at], shingles[to]
        shared += here == there
        at += here <= there
        to += there <= here
    return shared / (left + right - shared)


@kernel
def _star(rows, signatures, shingles, offsets, firsts, threshold, slots, window, kept, near):
    newest = np.full(firsts.shape, -1, np.int32)
    older = np.empty(firsts.shape, np.int32)
    seen = np.full(rows.size, -1, np.int32)
    for text in range(rows.size):
        best, nearest = 0.0, -1
        for band in range(firsts.shape[1]):
            star, left = newest[firsts[text, band], band], window
            while star >= 0 and left > 0:
                if seen[star] != text:
                    seen[star] = text
                    found = _similarity(
                        signatures, shingles, offsets, rows[star], rows[text], slots, threshold
                    )
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
def _spread(rows, signatures, shingles, offsets, firsts, threshold, slots, window, parent, edges):
    """Verified pairs between components, in `edges` (one, other) and the array that is returned."""
    size = rows.size
    starts, members = np.empty(size + 1, np.int64), np.empty(size, np.int32)
    near, count = np.empty(size), 0
    for band in range(firsts.shape[1]):
        starts[:] = 0
        for text in range(size):
            starts[firsts[text, band] + 1] += 1
        for text in range(size):
            starts[text + 1] += starts[text]
        for text in range(size):
            members[starts[firsts[text, band]]] = text
            starts[firsts[text, band]] += 1
        begin = 0
        for bucket in range(size):
            end, mixed = starts[bucket], False
            for at in range(begin + 1, end):
                mixed |= _find(parent, members[at]) != _find(parent, members[begin])
            for at in range(begin + 1, end if mixed else begin):
                text = members[at]
                for to in range(at - 1, max(begin, at - window) - 1, -1):
                    other = members[to]
                    if _find(parent, text) == _find(parent, other):
                        continue
                    found = _similarity(
                        signatures, shingles, offsets, rows[other], rows[text], slots, threshold
                    )
                    if found >= threshold:
                        _union(parent, text, other)
                        edges[count, 0], edges[count, 1], near[count] = text, other, found
                        count += 1
            begin = end
    return near[:count]


@kernel
def _rooted(rows, signatures, shingles, offsets, edges, how, parent, threshold, kept, near, via):
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
        queue[0], before[0], edge_of[0], done, end = root, root, -1, 0, 1
        while done < end:
            text = queue[done]
            for at in range(starts[text], starts[text + 1]):
                if to[at] != before[done]:
                    queue[end], before[end], edge_of[end] = to[at], text, by[at]
                    end += 1
            direct = _similarity(
                signatures, shingles, offsets, rows[root], rows[text], 0, threshold
            )
            far = direct < threshold
            kept[text], near[text] = root, how[edge_of[done]] if far else direct
            via[text] = before[done] if far else -1
            done += 1
