"""Which texts could depend on each other: those that meet in a band, and those that meet them.

The tags of new texts are entered in a table for each band, and the tags of all earlier texts are
held against it, a scan of 84 bytes a text; nothing else of them is read. Bands are shared out to
the threads, each with its own forest; the forests are joined at the end.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tracemill.corpus.near.block import Hashes, Indices, room
from tracemill.corpus.threads import pool

SLICE = 1 << 16
"""Texts entered at a time: a table for one band then fits the processor's cache."""
SCANS = 8
"""So many scans of earlier texts at most: of more texts a larger part is entered at a time."""


class _Slice(NamedTuple):
    start: int
    tags: Hashes


def components(tags: Sequence[Hashes], known: Indices, loops: Any, threads: int) -> Indices:
    """For each text the first of its component.

    Args:
        tags: (n, bands) in pieces, all texts in their order.
        known: the components of the first texts, as returned before.
        loops: `plain` or `kernels`.
        threads: how many to use; changes no result.
    """
    bands = tags[0].shape[1] if tags else 0
    total = sum(map(len, tags))
    size = max(SLICE, -(-(total - known.size) // SCANS))
    slices = list(_slices(tags, size))
    parent = np.concatenate([known, np.arange(known.size, total, dtype=np.int32)])
    cuts = np.linspace(0, bands, min(threads, bands or 1) + 1).astype(int).tolist()

    def forest(low: int, high: int) -> Indices:
        own = parent.copy()
        for piece in _after(slices, known.size, size):
            _link(piece, slices, own, low, high, loops)
        return own

    first, *rest = pool(threads).map(forest, cuts[:-1], cuts[1:])
    for other in rest:
        loops.join(first, other)
    return _flat(first)


def _link(
    new: _Slice, slices: Iterable[_Slice], parent: Indices, low: int, high: int, loops: Any
) -> None:
    tables = np.zeros((new.tags.shape[1], room(len(new.tags))), np.uint64)
    firsts = loops.enter(new.tags, low, high, tables)
    loops.link(firsts, low, high, parent, new.start)
    for start, tags in slices:
        before = tags[: max(new.start - start, 0)]
        if len(before):
            loops.probe(before, low, high, tables, parent, start, new.start)


def _after(slices: Iterable[_Slice], known: int, most: int) -> Iterator[_Slice]:
    """The slices without the texts that are known, many small ones put together."""
    waiting: list[Hashes] = []
    start, size = known, 0
    for first, tags in slices:
        new = tags[max(known - first, 0) :]
        if size and size + len(new) > most:
            yield _Slice(start, np.concatenate(waiting))
            waiting, start, size = [], start + size, 0
        waiting, size = [*waiting, new], size + len(new)
    if size:
        yield _Slice(start, np.concatenate(waiting))


def _slices(tags: Iterable[Hashes], most: int) -> Iterator[_Slice]:
    start = 0
    for each in tags:
        for at in range(0, len(each), most):
            yield _Slice(start + at, each[at : at + most])
        start += len(each)


def _flat(parent: Indices) -> Indices:
    while not np.array_equal(parent, parent[parent]):
        parent = parent[parent]
    return parent
