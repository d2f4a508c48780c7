"""Decisions: within each component of texts that meet, by exact Jaccard similarity, in rank order.

One routine for everything: what came in one pass, what a batch adds to an index, what a split asks.
Components that no new text has joined keep their decisions.
"""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.near import link
from tracemill.corpus.near.bands import WINDOW, Rule
from tracemill.corpus.near.block import (
    Block,
    Hashes,
    Indices,
    Sets,
    Similarities,
    frozen,
    room,
)
from tracemill.corpus.threads import pool

if TYPE_CHECKING:
    import polars as pl

PLAIN_TEXTS = 5_000
"""Up to so many new texts nothing waits for the compiler."""
BLOCK = 1 << 16
"""Texts that are decided together; a component is never cut."""


class Part(NamedTuple):
    """Some consecutive texts: their sketches, and the columns that rank them."""

    documents: "pl.DataFrame"
    """`record_id`, `length`, `quality`."""
    signatures: Hashes
    shingles: Hashes
    offsets: NDArray[np.int64]
    digests: NDArray[np.uint64]
    tags: Hashes


class Decisions(NamedTuple):
    """For each text, by its number: its component and what became of it."""

    component: Indices
    """The first text of those it depends on."""
    kept: Indices
    """The text that stays for it; its own number where it stays itself."""
    jaccard: Similarities
    """To that text, or to `via` where there is one; 1 where it stays itself."""
    via: Indices
    """The neighbour through which it belongs to the one that stays; -1 where directly."""
    exact: NDArray[np.bool_]
    """Whether the words of the text that stays are the same."""


class Settled(NamedTuple):
    """The texts of a block, and their decisions in numbers of the block."""

    texts: NDArray[np.int64]
    kept: NDArray[np.int64]
    jaccard: Similarities
    via: NDArray[np.int64]
    exact: NDArray[np.bool_]


def undecided() -> Decisions:
    """The decisions on no texts."""
    none = np.empty(0, np.int32)
    return Decisions(none, none, np.empty(0), none, np.empty(0, np.bool_))


def tags(signatures: Hashes, rule: Rule, *, plain: bool | None = None) -> Hashes:
    """(n, bands): the hash of each band; texts with an equal one meet."""
    return loops(len(signatures), plain).tags(frozen(signatures), rule.bands, rule.rows)


def decide(
    parts: Sequence[Part],
    rule: Rule,
    before: Decisions | None = None,
    changed: Sequence[int] = (),
    *,
    threads: int | None = None,
    plain: bool | None = None,
) -> Decisions:
    """Decisions on all texts of the parts, which are numbered on from 0.

    Args:
        parts: all texts, those that are decided already in front.
        rule: how near is near, and who stays.
        before: the decisions on the first texts, made by the same rule.
        changed: texts among these whose rank is another now.
        threads: as many as there are cores by default.
        plain: whether to do without compiled kernels; by default decided by the number of texts.
    """
    before, threads = before or undecided(), threads or os.cpu_count() or 1
    known = before.kept.size
    total = sum(len(part.tags) for part in parts)
    own = np.arange(known, total, dtype=np.int32)
    linking = loops(total - known + total // 100, plain)
    tags = [frozen(part.tags) for part in parts]
    roots = link.components(tags, before.component, linking, threads)
    after = Decisions(
        roots,
        np.concatenate([before.kept, own]),
        np.concatenate([before.jaccard, np.ones(own.size)]),
        np.concatenate([before.via, np.full(own.size, -1, np.int32)]),
        np.concatenate([before.exact, np.ones(own.size, np.bool_)]),
    )
    texts = _ranked(parts, roots, _touched(roots, known, changed))
    settling = loops(texts.size, plain)
    blocks = _blocks(texts, roots, threads)
    for settled in pool(threads).map(partial(_settle, parts, rule, settling), blocks):
        _write(settled, after)
    return after


def loops(texts: int, plain: bool | None = None) -> Any:
    """The module of loops for so many texts."""
    if texts <= PLAIN_TEXTS if plain is None else plain:
        from tracemill.corpus.near import plain as chosen
    else:
        from tracemill.corpus.near import kernels as chosen
    return chosen


def _touched(roots: Indices, known: int, changed: Sequence[int]) -> NDArray[np.int64]:
    """The texts of components of two or more that a new or changed text is in."""
    touched = np.zeros(roots.size, np.bool_)
    touched[roots[known:]] = True
    touched[roots[np.asarray(changed, np.int64)]] = True
    touched &= np.bincount(roots, minlength=roots.size) > 1
    return np.flatnonzero(touched[roots])


def _ranked(parts: Sequence[Part], roots: Indices, texts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The texts component by component, in each the one that would stay first."""
    import polars as pl

    frame = _documents(parts, texts).select(
        "record_id",
        root=pl.Series(roots[texts]),
        length=-pl.col("length").cast(pl.Int64),
        quality=-pl.col("quality").fill_nan(None).fill_null(float("-inf")),
    )
    return texts[frame.select(pl.arg_sort_by("root", "length", "quality", "record_id"))
                 .to_series().to_numpy()]  # fmt: skip


def _blocks(texts: NDArray[np.int64], roots: Indices, threads: int) -> Iterator[NDArray[np.int64]]:
    """Cut between components, for the threads to share and for memory to stay small."""
    size = max(min(BLOCK, texts.size // (4 * threads)), 2_000)
    ends = np.append(np.flatnonzero(np.diff(roots[texts])) + 1, texts.size)
    start = 0
    while start < texts.size:
        end = int(ends[min(np.searchsorted(ends, start + size), ends.size - 1)])
        yield texts[start:end]
        start = end


def _settle(parts: Sequence[Part], rule: Rule, loops: Any, texts: NDArray[np.int64]) -> Settled:
    block = _gathered(parts, texts)
    same: Indices = loops.equal(block)
    heads = np.flatnonzero(same == np.arange(same.size))
    kept, near, via = _policy(block.of(heads), rule, loops)
    at = np.searchsorted(heads, same)
    kept = heads[kept][at]
    return Settled(texts, kept, near[at], np.where(via < 0, -1, heads[via])[at], kept == same)


def _policy(block: Block, rule: Rule, loops: Any) -> tuple[Indices, Similarities, Indices]:
    bands = block.tags.shape[1]
    scratch = np.zeros((bands, room(len(block.tags))), np.uint64)
    firsts = loops.enter(block.tags, 0, bands, scratch)
    how = (rule.threshold, rule.slots, WINDOW)
    kept, near = cast("tuple[Indices, Similarities]", loops.star(block, firsts, *how))
    via = np.full(kept.size, -1, np.int32)
    if rule.policy == "component":
        via = loops.spread(block, firsts, *how, kept, near)
    return kept, near, via


def _write(settled: Settled, after: Decisions) -> None:
    texts = settled.texts
    after.kept[texts] = texts[settled.kept]
    after.jaccard[texts] = settled.jaccard
    after.via[texts] = np.where(settled.via < 0, -1, texts[settled.via])
    after.exact[texts] = settled.exact


def _gathered(parts: Sequence[Part], texts: NDArray[np.int64]) -> Block:
    """These texts as a block, which names the rows of the parts where they lie."""
    order = np.argsort(texts)
    shares = list(_shares(parts, texts[order]))
    part, rows = np.empty(texts.size, np.int64), np.empty(texts.size, np.int64)
    digests = np.empty(texts.size, np.uint64)
    tags = np.empty((texts.size, parts[0].tags.shape[1]), np.uint32)
    for number, (own, start, low, high) in enumerate(shares):
        these = order[low:high]
        at = texts[these] - start
        part[these], rows[these] = number, at
        digests[these], tags[these] = own.digests[at], own.tags[at]
    return Block(tuple(_sets(own) for own, *_ in shares), part, rows, digests, tags)


def _sets(part: Part) -> Sets:
    whole = np.ascontiguousarray
    return Sets(whole(part.signatures), whole(part.shingles), whole(part.offsets))


def _documents(parts: Sequence[Part], texts: NDArray[np.int64]) -> "pl.DataFrame":
    """Their rows, in ascending order of the texts."""
    import polars as pl

    if len(parts) == 1:
        return parts[0].documents[texts]
    own = [
        part.documents[texts[low:high] - start] for part, start, low, high in _shares(parts, texts)
    ]
    return pl.concat(own) if own else parts[0].documents.clear()


def _shares(
    parts: Sequence[Part], texts: NDArray[np.int64]
) -> Iterator[tuple[Part, int, int, int]]:
    """Each part that has some of the texts (ascending), where it starts, and which they are."""
    starts = np.cumsum([0, *(len(part.tags) for part in parts)])
    cuts = np.searchsorted(texts, starts)
    for part, start, low, high in zip(parts, starts[:-1], cuts[:-1], cuts[1:], strict=True):
        if low < high:
            yield part, int(start), int(low), int(high)
