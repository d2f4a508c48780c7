"""Shingles and MinHash signatures as `corpus/sketch.py` defines them, compiled by numba.

A document is cut into words 64 bytes at a time with bit masks; text that is not ASCII is first
folded to lower case with one blank at every border that the masks must see. All addresses are raw:
whatever is read lies in the document, in its memory page, or in scratch with `PAD` bytes to spare.
"""

import numpy as np

from tracemill.corpus.kernels.fold import fold
from tracemill.corpus.kernels.instructions import (
    BLOCK,
    block,
    foreign,
    load8,
    load64,
    lowest,
    ones,
    store8,
)
from tracemill.corpus.kernels.jit import Bits, Number, Values, kernel, part

PERMUTATIONS = 128
PAD = 2 * BLOCK
PAGE = 4096
"""The smallest page of memory: a read that stays inside one cannot fail."""
WINDOW = 32 * BLOCK
"""Bytes cut into words before they are hashed, while they are in the nearest cache."""
FEW, MANY = 24, 1 << 15
"""Hashes up to which insertion sorts best, and beyond which the upper half is often the same."""

U8, U32, U47 = np.uint64(8), np.uint64(32), np.uint64(47)
U255 = np.uint32(255)
ONE = np.uint64(1)
HIGH = np.uint64(0x8080808080808080)
MURMUR = np.uint64(0xC6A4A7935BD1E995)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
EMPTY = np.uint32(0xFFFFFFFF)


@part
def _is_ascii(text: Bits, size: Number) -> bool:
    found = np.uint64(0)
    if size >= BLOCK:
        for at in range(0, size - BLOCK + 1, BLOCK):
            found |= foreign(text + np.uint64(at))
        return (found | foreign(text + np.uint64(size - BLOCK))) == np.uint64(0)
    for at in range(size):
        found |= load8(text + np.uint64(at)) & HIGH
    return found == np.uint64(0)


@part
def _murmur_step(hashed: Bits, block: Bits) -> Bits:
    block *= MURMUR
    return (hashed ^ (block ^ block >> U47) * MURMUR) * MURMUR


@part
def _murmur_end(hashed: Bits) -> Bits:
    hashed = (hashed ^ hashed >> U47) * MURMUR
    return hashed ^ hashed >> U47


@part
def _word_hash(text: Bits, size: Number) -> Bits:
    """MurmurHash64A, seed 0; seven bytes after the word can be read."""
    hashed = np.uint64(size) * MURMUR
    whole = size & ~7
    if size < 16:
        longer = _murmur_step(hashed, load64(text))
        hashed = longer if size >= 8 else hashed
    else:
        for at in range(0, whole, 8):
            hashed = _murmur_step(hashed, load64(text + np.uint64(at)))
    rest = np.uint64(size & 7)
    tail = load64(text + np.uint64(whole)) & ((ONE << rest * U8) - ONE)
    hashed = (hashed ^ tail) * MURMUR if rest else hashed
    return _murmur_end(hashed)


@part
def _borders(text: Bits, at: Number, size: Number, target: Bits) -> Bits:
    """The bits of the next 64 bytes that belong to words, none behind the end."""
    source = text + np.uint64(at)
    to = target + np.uint64(at)
    left = size - at
    if left >= BLOCK:
        return block(source, to)
    if source & np.uint64(PAGE - 1) > np.uint64(PAGE - BLOCK):
        for each in range(left):
            store8(to + np.uint64(each), load8(source + np.uint64(each)))
        source = to
    return block(source, to) & ((ONE << np.uint64(left)) - ONE)


@part
def _hash_words(text: Bits, size: Number, folded: Values, edges: Values, hashes: Values) -> Number:
    """Hash the words of a text, of which `folded` gets a copy in lower case; how many there are."""
    target = np.uint64(folded.ctypes.data)
    count = found = 0
    carry = np.uint64(0)
    for window in range(0, size, WINDOW):
        for at in range(window, min(window + WINDOW, size), BLOCK):
            bits = _borders(text, at, size, target)
            edge = bits ^ (bits << ONE | carry)
            carry = bits >> np.uint64(63)
            end = found + ones(edge)
            while found < end:
                for each in range(found, found + 8):
                    edges[each] = at + lowest(edge)
                    edge &= edge - ONE
                found += 8
            found = end
        for pair in range(found >> 1):
            start = edges[2 * pair]
            hashes[count] = _word_hash(target + np.uint64(start), edges[2 * pair + 1] - start)
            count += 1
        edges[0] = edges[max(found - 1, 0)]
        found &= 1
    if found:
        hashes[count] = _word_hash(target + np.uint64(edges[0]), size - edges[0])
        count += 1
    return count


@part
def _digest(hashes: Values, count: Number) -> Bits:
    hashed = np.uint64(8 * count) * MURMUR
    for at in range(count):
        hashed = _murmur_step(hashed, hashes[at])
    return _murmur_end(hashed)


@part
def _shingles(hashes: Values, count: Number, values: Values) -> Number:
    """The hashes of five words each, in the order of the text; how many there are."""
    if count >= 5:
        for at in range(count - 4):
            rolled = hashes[at]
            for word in range(at + 1, at + 5):
                rolled = rolled * MULTIPLIER + hashes[word]
            values[at] = rolled >> U32
        return count - 4
    rolled = np.uint64(0)
    for at in range(count):
        rolled = rolled * MULTIPLIER + hashes[at]
    values[0] = rolled >> U32
    return min(count, 1)


@part
def _spread(values: Values, count: Number, spare: Values, shift: Number, tally: Values) -> None:
    """One pass of a radix sort, by the eight bits from `shift` on."""
    for bucket in range(256):
        tally[bucket] = 0
    for at in range(count):
        tally[(values[at] >> np.uint32(shift)) & U255] += 1
    start = 0
    for bucket in range(256):
        size = tally[bucket]
        tally[bucket] = start
        start += size
    for at in range(count):
        bucket = (values[at] >> np.uint32(shift)) & U255
        spare[tally[bucket]] = values[at]
        tally[bucket] += 1


@part
def _sort(values: Values, count: Number, spare: Values, tally: Values) -> None:
    """Sort hashes, which are spread evenly: by the upper half, then few are left to move."""
    if count > FEW:
        for shift in range(0 if count > MANY else 16, 32, 16):
            _spread(values, count, spare, shift, tally)
            _spread(spare, count, values, shift + 8, tally)
    for at in range(1, count):
        value = values[at]
        to = at
        while to > 0 and values[to - 1] > value:
            values[to] = values[to - 1]
            to -= 1
        values[to] = value


@part
def _unique(values: Values, count: Number, out: Values) -> Number:
    """Copy sorted values, each once; how many there are."""
    found = 0
    for at in range(count):
        out[found] = values[at]
        found += at + 1 == count or values[at] != values[at + 1]
    return found


@part
def _mix(value: Bits) -> Bits:
    """MurmurHash3's finaliser; numba widens what is not told to stay in 32 bits."""
    value = np.uint32((value ^ value >> np.uint32(16)) * np.uint32(0x85EBCA6B))
    value = np.uint32((value ^ value >> np.uint32(13)) * np.uint32(0xC2B2AE35))
    return np.uint32(value ^ value >> np.uint32(16))


@part
def _least(a: Bits, b: Bits, factor: Bits, summand: Bits) -> Bits:
    return min(np.uint32(a * factor + summand), np.uint32(b * factor + summand))


@part
def _minima(
    shingles: Values, spare: Values, factors: Values, summands: Values, least: Values
) -> None:
    """The least value of each permutation; eight shingles a round, the last one repeated."""
    count = shingles.size
    least[:] = EMPTY
    for at in range(count):
        spare[at] = _mix(shingles[at])
    for at in range(count, count + 7):
        spare[at] = spare[count - 1]
    for at in range(0, count, 8):
        a, b, c, d = spare[at], spare[at + 1], spare[at + 2], spare[at + 3]
        e, f, g, h = spare[at + 4], spare[at + 5], spare[at + 6], spare[at + 7]
        for each in range(PERMUTATIONS):
            x, y = factors[each], summands[each]
            low = min(_least(a, b, x, y), _least(c, d, x, y))
            high = min(_least(e, f, x, y), _least(g, h, x, y))
            least[each] = min(least[each], min(low, high))


@kernel
def sketch_documents(
    texts: tuple[Values, Values],
    letters: tuple[Values, Values],
    permutations: Values,
    results: tuple[Values, Values, Values],
) -> Values:
    """Sketch n documents; returns their shingle hashes, sorted and unique within each.

    Args:
        texts: addresses and lengths (n,) of the UTF-8 of each.
        letters: the tables of `letters`.
        permutations: (2, 128) factors and summands.
        results: to be written: signatures (n, 128), digests (n,), numbers of shingles (n,).
    """
    addresses, lengths = texts
    kinds, lower = letters
    signatures, digests, counts = results
    longest, total = 0, 0
    for size in lengths:
        longest = max(longest, size)
        total += size // 2 + 1
    folded = np.empty(2 * longest + PAD, np.uint8)
    edges = np.empty(WINDOW + PAD, np.int64)
    hashes = np.empty(longest // 2 + PAD, np.uint64)
    values = np.empty(longest // 2 + PAD, np.uint32)
    spare = np.empty(longest // 2 + PAD, np.uint32)
    tally = np.empty(256, np.int64)
    out = np.empty(total, np.uint32)
    end = 0  # scratch lives as long as an array of it is named: addresses alone do not hold it
    for document in range(addresses.size):
        text, size = addresses[document], lengths[document]
        if not _is_ascii(text, size):
            size = fold(text, size, folded, kinds, lower)
            text = np.uint64(folded.ctypes.data)
        count = _hash_words(text, size, folded, edges, hashes)
        digests[document] = _digest(hashes, count)
        count = _shingles(hashes, count, values)
        _sort(values, count, spare, tally)
        count = _unique(values, count, out[end:])
        found = out[end : end + count]
        _minima(found, spare, permutations[0], permutations[1], signatures[document])
        counts[document] = count
        end += count
    return out[:end].copy()
