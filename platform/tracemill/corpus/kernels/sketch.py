"""Shingles and MinHash signatures as `corpus/sketch.py` defines them, compiled by numba.

A document is cut into words 64 bytes at a time with bit masks; text that is not ASCII is first
folded to lower case with one blank at every border that the masks must see. All addresses are raw:
whatever is read lies in the document, in its memory page, or in scratch with `PAD` bytes to spare.
"""

from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir

from tracemill.corpus.kernels.jit import instruction, kernel, part
from tracemill.corpus.kernels.letters import ALONE, CASED, IGNORABLE, SIGMA, SPACE, SPECIAL

PERMUTATIONS = 128
BLOCK = 64
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
ALL = np.uint64((1 << 64) - 1)
HIGH = np.uint64(0x8080808080808080)
MURMUR = np.uint64(0xC6A4A7935BD1E995)
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
EMPTY = np.uint32(0xFFFFFFFF)

Bits: TypeAlias = Any
"""An unsigned number: an address, a hash, a mask."""
Values: TypeAlias = Any
"""An array of one row or more."""

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, BLOCK)


def _each(value: int) -> ir.Constant:
    return ir.Constant(_BYTES, [value] * BLOCK)


def _at(builder: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def _within(builder: ir.IRBuilder, text: Any, first: int, count: int) -> Any:
    return builder.icmp_unsigned("<", builder.sub(text, _each(first)), _each(count))


@instruction("uint64", "uint64")
def _load8(builder: ir.IRBuilder, address: Any) -> Any:
    return builder.zext(builder.load(_at(builder, address, _BYTE), align=1), _WORD)


@instruction("uint64", "uint64")
def _load64(builder: ir.IRBuilder, address: Any) -> Any:
    return builder.load(_at(builder, address, _WORD), align=1)


@instruction("void", "uint64", "uint64")
def _store8(builder: ir.IRBuilder, address: Any, byte: Any) -> None:
    builder.store(builder.trunc(byte, _BYTE), _at(builder, address, _BYTE), align=1)


@instruction("void", "uint64", "uint64")
def _store64(builder: ir.IRBuilder, address: Any, eight: Any) -> None:
    builder.store(eight, _at(builder, address, _WORD), align=1)


@instruction("uint64", "uint64", "uint64")
def _block(builder: ir.IRBuilder, source: Any, target: Any) -> Any:
    """Copy 64 bytes in lower case (ASCII); a bit for each that is no white space, first lowest."""
    text = builder.load(_at(builder, source, _BYTES), align=1)
    shift = builder.select(_within(builder, text, 65, 26), _each(32), _each(0))
    builder.store(builder.add(text, shift), _at(builder, target, _BYTES), align=1)
    blank = builder.icmp_unsigned("==", text, _each(32))
    for first, count in ((9, 5), (28, 4)):  # tab to return; the four separators
        blank = builder.or_(blank, _within(builder, text, first, count))
    return builder.bitcast(builder.not_(blank), _WORD)


@instruction("uint64", "uint64")
def _foreign(builder: ir.IRBuilder, source: Any) -> Any:
    """A bit for each of 64 bytes that is not ASCII."""
    text = builder.load(_at(builder, source, _BYTES), align=1)
    return builder.bitcast(builder.icmp_signed("<", text, _each(0)), _WORD)


@instruction("int64", "uint64")
def _lowest(builder: ir.IRBuilder, bits: Any) -> Any:
    """The index of the lowest bit that is set; 64 if none is."""
    return builder.cttz(bits, ir.Constant(ir.IntType(1), 0))


@instruction("int64", "uint64")
def _ones(builder: ir.IRBuilder, bits: Any) -> Any:
    """How many bits are set."""
    return builder.ctpop(bits)


@part
def _is_ascii(text: Bits, size: int) -> bool:
    found = np.uint64(0)
    whole = size & ~7
    if size >= BLOCK:
        for at in range(0, size - BLOCK + 1, BLOCK):
            found |= _foreign(text + np.uint64(at))
        return (found | _foreign(text + np.uint64(size - BLOCK))) == np.uint64(0)
    for at in range(0, whole, 8):
        found |= _load64(text + np.uint64(at)) & HIGH
    for at in range(whole, size):
        found |= _load8(text + np.uint64(at)) & HIGH
    return found == np.uint64(0)


@part
def _decode(text: Bits, at: int, size: int) -> tuple[int, int]:
    """The code point at a position and its bytes; what is no UTF-8 is taken byte by byte."""
    lead = _load8(text + np.uint64(at))
    width = 1 + (lead >= np.uint64(0xC0)) + (lead >= np.uint64(0xE0)) + (lead >= np.uint64(0xF0))
    if at + width > size:
        return np.int64(0), np.int64(1)
    code = np.int64(lead)
    if width > 1:
        code &= 0xFF >> (width + 1)
        for each in range(1, width):
            code = code << 6 | np.int64(_load8(text + np.uint64(at + each))) & 0x3F
    return min(code, 0x10FFFF), np.int64(width)


@part
def _encode(code: int, target: Bits) -> int:
    """Write a code point as UTF-8; the number of its bytes."""
    if code < 0x80:
        _store8(target, np.uint64(code))
        return 1
    width = 2 + (code >= 0x800) + (code >= 0x10000)
    for each in range(width - 1, 0, -1):
        _store8(target + np.uint64(each), np.uint64(0x80 | code & 0x3F))
        code >>= 6
    _store8(target, np.uint64(0xFF00 >> width & 0xFF | code))
    return width


@part
def _final_sigma(text: Bits, at: int, size: int, kinds: Values) -> bool:
    """Whether a capital sigma ends a word: cased before, not after, ignorable ones aside."""
    kind = IGNORABLE
    back = at
    while back > 0 and kind & IGNORABLE:
        back -= 1
        while back > 0 and _load8(text + np.uint64(back)) & np.uint64(0xC0) == np.uint64(0x80):
            back -= 1
        kind = kinds[_decode(text, back, size)[0]]
    if not kind & CASED:
        return False
    kind = IGNORABLE
    at += 2
    while at < size and kind & IGNORABLE:
        code, width = _decode(text, at, size)
        kind = kinds[code]
        at += width
    return not kind & CASED


@part
def _fold(text: Bits, size: int, folded: Values, kinds: Values, lower: Values) -> int:
    """Copy a text in lower case (ASCII as it is), every border of a word an ASCII blank."""
    at = 0
    start = np.uint64(folded.ctypes.data)
    to = start
    while at < size:
        if at + 8 <= size:
            eight = _load64(text + np.uint64(at))
            if eight & HIGH == np.uint64(0):
                _store64(to, eight)
                at += 8
                to += U8
                continue
        code, width = _decode(text, at, size)
        kind = kinds[code]
        if kind & SPACE:
            _store8(to, U32)
            to += ONE
        elif kind & ALONE:
            _store8(to, U32)
            to += ONE
            to += np.uint64(_encode(code, to))
            _store8(to, U32)
            to += ONE
        elif kind & SPECIAL:
            if code == SIGMA:
                code = 0x3C2 if _final_sigma(text, at, size, kinds) else 0x3C3
            else:
                _store8(to, np.uint64(0x69))
                to += ONE
                code = 0x307
            to += np.uint64(_encode(code, to))
        else:
            if 0x80 <= code < lower.size:
                code = np.int64(lower[code])
            to += np.uint64(_encode(code, to))
        at += width
    return np.int64(to - start)


@part
def _murmur_step(hashed: Bits, block: Bits) -> Bits:
    block *= MURMUR
    return (hashed ^ (block ^ block >> U47) * MURMUR) * MURMUR


@part
def _murmur_end(hashed: Bits) -> Bits:
    hashed = (hashed ^ hashed >> U47) * MURMUR
    return hashed ^ hashed >> U47


@part
def _word_hash(text: Bits, size: int) -> Bits:
    """MurmurHash64A, seed 0; seven bytes after the word can be read."""
    hashed = np.uint64(size) * MURMUR
    whole = size & ~7
    if size < 16:
        longer = _murmur_step(hashed, _load64(text))
        hashed = longer if size >= 8 else hashed
    else:
        for at in range(0, whole, 8):
            hashed = _murmur_step(hashed, _load64(text + np.uint64(at)))
    rest = np.uint64(size & 7)
    tail = _load64(text + np.uint64(whole)) & ((ONE << rest * U8) - ONE)
    hashed = (hashed ^ tail) * MURMUR if rest else hashed
    return _murmur_end(hashed)


@part
def _borders(text: Bits, at: int, size: int, target: Bits) -> Bits:
    """The bits of the next 64 bytes that belong to words, none behind the end."""
    source = text + np.uint64(at)
    to = target + np.uint64(at)
    left = size - at
    if left >= BLOCK:
        return _block(source, to)
    if source & np.uint64(PAGE - 1) > np.uint64(PAGE - BLOCK):
        for each in range(left):
            _store8(to + np.uint64(each), _load8(source + np.uint64(each)))
        source = to
    return _block(source, to) & ((ONE << np.uint64(left)) - ONE)


@part
def _hash_words(text: Bits, size: int, folded: Values, edges: Values, hashes: Values) -> int:
    """Hash the words of a text, of which `folded` gets a copy in lower case; how many there are."""
    target = np.uint64(folded.ctypes.data)
    count = found = 0
    carry = np.uint64(0)
    for window in range(0, size, WINDOW):
        for at in range(window, min(window + WINDOW, size), BLOCK):
            bits = _borders(text, at, size, target)
            edge = bits ^ (bits << ONE | carry)
            carry = bits >> np.uint64(63)
            end = found + _ones(edge)
            while found < end:
                for each in range(found, found + 8):
                    edges[each] = at + _lowest(edge)
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
def _digest(hashes: Values, count: int) -> Bits:
    hashed = np.uint64(8 * count) * MURMUR
    for at in range(count):
        hashed = _murmur_step(hashed, hashes[at])
    return _murmur_end(hashed)


@part
def _shingles(hashes: Values, count: int, values: Values) -> int:
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
def _spread(values: Values, count: int, spare: Values, shift: int, tally: Values) -> None:
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
def _sort(values: Values, count: int, spare: Values, tally: Values) -> None:
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
def _unique(values: Values, count: int, out: Values) -> int:
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
    addresses: Values,
    lengths: Values,
    kinds: Values,
    lower: Values,
    permutations: Values,
    signatures: Values,
    digests: Values,
    counts: Values,
) -> Values:
    """Sketch n documents; returns their shingle hashes, sorted and unique within each.

    Args:
        addresses, lengths: (n,) where the UTF-8 of each lies.
        kinds, lower: the tables of `letters`.
        permutations: (2, 128) factors and summands.
        signatures: (n, 128) to write to.
        digests, counts: (n,) to write to: digest and number of shingles.
    """
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
            size = _fold(text, size, folded, kinds, lower)
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
