"""How often each n-gram of bytes occurs, and after how many different bytes: exact, by sorting.

Eight bytes are one number, and numbers sort fast; their ranks with the next four bytes give n-grams
of up to twelve. A text is cut by what its n-grams begin with, so that memory holds one part.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tracemill.errors import InputError
from tracemill.llm.trained.conversation import BREAK, Conversation, Rendered, rendered
from tracemill.llm.trained.trie import Level, coded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Places = NDArray[np.int64]
    Numbers = NDArray[np.uint64]
    Flags = NDArray[np.bool_]

LONGEST = 12
PADDING = bytes([BREAK]) * LONGEST
"""What a text has to end with; it has to begin with one of it."""
_PART = 4_000_000
_SCAN = 1 << 24
# N-grams shorter than this are never pruned: they are few.
_SHORTEST_PRUNED = 6
_MOST_DEMANDED = 1_000


class Grams(NamedTuple):
    """N-grams of one length, ordered."""

    parents: "Places"
    """The n-gram without its last byte, by its place in the level before."""
    labels: "Bytes"
    raw: "Places"
    """How often it occurs."""
    after: "Places"
    """After how many different bytes it occurs."""
    pruned: "Places"
    """For each of its parents, what is missing: raw counts and `after`, two columns."""


class Counted(NamedTuple):
    """The n-grams of a text."""

    levels: list[Grams]
    """For each length."""
    seldom: "NDArray[np.int64]"
    """How many n-grams occur once, twice, three and four times, before any was left out: shape
    (order, 2, 4), by `raw` and by `after`."""
    least: list[int]
    """How often an n-gram of each length had to occur; from length 0 on."""


def count(text: "Bytes", order: int, most: int, at_once: int = _PART) -> Counted:
    """Count the n-grams of a text.

    Args:
        text: begins with `BREAK` and ends with `PADDING`; may be a memory map.
        order: the longest n-gram, 1 to 12.
        most: keep at most about so many n-grams: what occurs once goes first, the longest first.
        at_once: so many n-grams are sorted at a time; takes about 50 bytes each.
    """
    heads = _heads(text)
    first, least = _single(heads), [1] * (order + 1)
    seldom = np.zeros((order, 2, 4), np.int64)
    seldom[0] = _seldom(first)
    places = np.zeros(256, np.int64)
    places[first.labels] = np.arange(len(first.labels))
    parts: list[list[Grams]] = []
    for low, high in _ranges(heads, at_once) if order > 1 else ():
        part = _part(text, low, high, order, places)
        seldom[1:] += np.stack([_seldom(level) for level in part])
        parts.append(_kept(part, least))
        while sum(len(level.labels) for part in parts for level in part) > most and _raise(least):
            parts = [_kept(part, least) for part in parts]
    return Counted([first, *_joined(parts, len(first.labels))], seldom, least)


def discounts(seldom: "NDArray[np.int64]") -> "NDArray[np.float64]":
    """What Kneser-Ney takes from a count of 1, of 2, and of more (Chen and Goodman 1998, eq. 26).

    Args:
        seldom: how many n-grams have a count of 1, 2, 3, 4.
    """
    once, twice, thrice, four = (float(number) for number in seldom)
    if not (once and twice and thrice and four):
        return np.array([0.5, 0.75, 0.9])
    share = once / (once + 2 * twice)
    taken = [
        1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * four / thrice,
    ]  # fmt: skip
    return np.clip(taken, 0.05, [0.98, 1.95, 2.95])


def levels(counted: Counted, order: int) -> tuple[Level, ...]:
    """The levels of a model whose longest n-grams have `order` bytes."""
    return tuple(level(counted, n, top=n == order) for n in range(1, order + 1))


def level(counted: Counted, n: int, *, top: bool) -> Level:
    """The n-grams of one length.

    Args:
        top: whether these are the longest: only the longest are weighed by how often they occur,
            the others by after how many different bytes they do.
    """
    grams, column = counted.levels[n - 1], 0 if top else 1
    contexts = 1 if n == 1 else len(counted.levels[n - 2].labels)
    first = np.zeros(contexts + 1, np.uint32)
    np.cumsum(np.bincount(grams.parents, minlength=contexts), out=first[1:])
    codes = coded(grams.raw if top else grams.after)
    missing = coded(grams.pruned[:, column])
    return Level(grams.labels, codes, first, missing, discounts(counted.seldom[n - 1, column]))


def text_of(conversations: Iterable[Conversation]) -> "Bytes":
    """Conversations as a text to count: what the assistant said, each with what was just before."""
    data = bytearray([BREAK])
    for conversation in conversations:
        for turn in turns(rendered(conversation)):
            data += turn
    return np.frombuffer(bytes(data + PADDING), np.uint8)


def turns(conversation: Rendered) -> Iterator[bytes]:
    """Each of the assistant's turns, with as much before it as an n-gram sees, and a break."""
    for start, end in conversation.spans:
        yield conversation.data[max(0, start - LONGEST + 1) : end] + bytes([BREAK])


def _heads(text: "Bytes") -> "NDArray[np.int64]":
    """How often each two bytes follow each other, by 256 * the first + the second."""
    heads = np.zeros(65_536, np.int64)
    for start in range(0, len(text) - 1, _SCAN):
        heads += np.bincount(_pairs(text, start), minlength=65_536)
    return heads


def _pairs(text: "Bytes", start: int) -> "NDArray[np.uint16]":
    end = min(start + _SCAN, len(text) - 1)
    return (text[start:end].astype(np.uint16) << np.uint16(8)) | text[start + 1 : end + 1]


def _single(heads: "NDArray[np.int64]") -> Grams:
    """The level of single bytes."""
    table = heads.reshape(256, 256)
    raw, after = table.sum(axis=1), (table > 0).sum(axis=0)
    raw[BREAK] = 0
    labels = np.flatnonzero(raw)
    zeros = np.zeros(len(labels), np.int64)
    return Grams(
        zeros, labels.astype(np.uint8), raw[labels], after[labels], np.zeros((1, 2), np.int64)
    )


def _ranges(heads: "NDArray[np.int64]", at_once: int) -> Iterator[tuple[int, int]]:
    """Cut what n-grams begin with into ranges with about so many each."""
    low, inside = 0, 0
    for head, number in enumerate(heads.tolist()):
        if head >> 8 == BREAK:
            continue
        if inside and inside + number > at_once:
            yield low, head
            low, inside = head, 0
        inside += number
    if inside:
        yield low, 65_536


def _part(text: "Bytes", low: int, high: int, order: int, places: "Places") -> list[Grams]:
    """The levels from 2 on of n-grams that begin with two bytes from `low` up to `high`."""
    eight, ordered = _sorted(text, _beginnings(text, low, high))
    cuts = [_cut(eight, ordered, n) for n in range(2, order + 1)]
    parents = [places[(eight[_ranks(ordered[cuts[0].starts])] >> np.uint64(56)).astype(np.int64)]]
    parents += [
        np.searchsorted(before.starts, cut.starts, side="right") - 1
        for before, cut in pairwise(cuts)
    ]
    after = _after(cuts[-1].starts, ordered, parents)
    levels: list[Grams] = []
    for cut, above, different in zip(cuts, parents, after, strict=True):
        raw = np.diff(np.append(cut.starts, len(ordered)))
        contexts = len(levels[-1].labels) if levels else 0
        levels.append(Grams(above, cut.labels, raw, different, np.zeros((contexts, 2), np.int64)))
    return _without_breaks(levels)


def _beginnings(text: "Bytes", low: int, high: int) -> "Places":
    """Where the n-grams begin whose first two bytes are in a range."""
    found: list[Places] = []
    for start in range(0, len(text) - 1, _SCAN):
        pairs = _pairs(text, start)
        inside = (pairs >= low) & (pairs < high) & (pairs >> 8 != BREAK)
        found.append(start + np.flatnonzero(inside))
    return np.concatenate(found)


def _sorted(text: "Bytes", at: "Places") -> "tuple[Numbers, Numbers]":
    """The different n-grams of eight bytes; and all n-grams, ordered: rank, four bytes, the byte before."""
    numbers = np.ndarray((len(text) - 7,), ">u8", text, strides=(1,))[at].astype(np.uint64)
    places = np.argsort(numbers)
    numbers = numbers[places]
    new = _changes(numbers)
    ordered = np.empty(len(at), np.uint64)
    ordered[places] = np.cumsum(new) - 1
    eight = numbers[new]
    if len(eight) >= 1 << 24:
        raise InputError(
            "the examples hold too much different text to be counted: train on fewer of them"
        )
    ordered <<= np.uint64(32)
    ordered |= np.ndarray((len(text) - 3,), ">u4", text, strides=(1,))[at + 8]
    ordered <<= np.uint64(8)
    ordered |= text[at - 1]
    ordered.sort()
    return eight, ordered


class _Cut(NamedTuple):
    """Where the n-grams of one length begin among all, and what they end with."""

    starts: "Places"
    labels: "Bytes"


def _cut(eight: "Numbers", ordered: "Numbers", n: int) -> _Cut:
    if n > 8:
        prefixes = ordered >> np.uint64(8 * (LONGEST - n) + 8)
        starts = np.flatnonzero(_changes(prefixes))
        return _Cut(starts, prefixes[starts].astype(np.uint8))
    prefixes = eight >> np.uint64(64 - 8 * n)
    new = _changes(prefixes)
    starts = np.flatnonzero(_changes(ordered >> np.uint64(40)))
    return _Cut(starts[new], prefixes[new].astype(np.uint8))


def _after(starts: "Places", ordered: "Numbers", parents: "list[Places]") -> "list[Places]":
    """After how many different bytes each n-gram occurs, level by level."""
    sizes = np.diff(np.append(starts, len(ordered)))
    grams = np.repeat(np.arange(len(starts)), sizes)
    before = (ordered & np.uint64(255)).astype(np.int64)
    after: list[Places] = []
    for level, above in enumerate(reversed(parents)):
        pairs = np.sort((grams << 8) | before)
        pairs = pairs[_changes(pairs)]
        grams, before = pairs >> 8, pairs & 255
        after.append(np.bincount(grams, minlength=len(above)))
        if level + 1 < len(parents):
            grams = above[grams]
    return after[::-1]


def _without_breaks(levels: list[Grams]) -> list[Grams]:
    """Levels without n-grams that go on after the end of a text."""
    whole: list[Grams] = []
    alive = None
    for grams in levels:
        keep = grams.labels != BREAK
        if alive is not None:
            keep &= alive[grams.parents]
        whole.append(_chosen(grams, keep, alive))
        alive = keep
    return whole


def _kept(levels: list[Grams], least: list[int]) -> list[Grams]:
    """Levels without n-grams that occur too seldom; what they had is summed for their contexts."""
    rest: list[Grams] = []
    alive = None
    for n, grams in enumerate(levels, start=2):
        keep = grams.raw >= least[n]
        if not keep.all():
            gone, size = grams.parents[~keep], len(grams.pruned)
            for column, counts in enumerate((grams.raw, grams.after)):
                lost = np.bincount(gone, weights=counts[~keep], minlength=size)
                grams.pruned[:, column] += lost.astype(np.int64)
        rest.append(_chosen(grams, keep, alive))
        alive = keep
    return rest


def _chosen(grams: Grams, keep: "Flags", alive: "Flags | None") -> Grams:
    """Some n-grams of a level; `alive` says which of the level before are still there."""
    parents, pruned = grams.parents, grams.pruned
    if alive is not None:
        parents, pruned = (np.cumsum(alive) - 1)[parents], pruned[alive]
    elif keep.all():
        return grams
    return Grams(parents[keep], grams.labels[keep], grams.raw[keep], grams.after[keep], pruned)


def _raise(least: list[int]) -> bool:
    """Demand more occurrences, of the longest n-grams first; False where that ends."""
    lengths = range(_SHORTEST_PRUNED, len(least))
    lowest = min((least[n] for n in lengths), default=_MOST_DEMANDED)
    if lowest >= _MOST_DEMANDED:
        return False
    least[max(n for n in lengths if least[n] == lowest)] = max(lowest + 1, lowest * 3 // 2)
    return True


def _joined(parts: list[list[Grams]], singles: int) -> list[Grams]:
    """The levels of all parts, one after another."""
    joined: list[Grams] = []
    offsets = [0] * len(parts)
    for level in zip(*parts, strict=True):
        parents = [grams.parents + offset for grams, offset in zip(level, offsets, strict=True)]
        _, labels, raw, after, pruned = map(np.concatenate, zip(*level, strict=True))
        if not joined:
            pruned = np.zeros((singles, 2), np.int64)
        joined.append(Grams(np.concatenate(parents), labels, raw, after, pruned))
        offsets = [0, *np.cumsum([len(grams.labels) for grams in level])[:-1].tolist()]
    return joined


def _seldom(grams: Grams) -> "NDArray[np.int64]":
    return np.stack(
        [
            np.bincount(np.minimum(counts, 5), minlength=6)[1:5]
            for counts in (grams.raw, grams.after)
        ]
    )


def _changes(ordered: "Numbers | Places") -> "Flags":
    """Where an ordered array has a value for the first time."""
    new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return new


def _ranks(ordered: "Numbers") -> "Places":
    return (ordered >> np.uint64(40)).astype(np.int64)
