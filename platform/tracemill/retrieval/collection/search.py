"""The best rows of open contents: every vector compared, or those that the graph finds.

Scores of both sides are measured against the whole collection, never against the candidates alone.
So a filter only leaves rows out: it moves no score, and what remains is in the same order. (Of a
hybrid search the best 50 that it leaves are looked at once more: do they hold the words together?)
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tracemill.retrieval import lexical as saying
from tracemill.retrieval.collection import graph
from tracemill.retrieval.collection.contents import Contents
from tracemill.retrieval.collection.vectors import best
from tracemill.retrieval.fusion import SPREAD, fuse
from tracemill.retrieval.rerank import CANDIDATES, by_closeness

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["hybrid", "dense", "lexical"]

NARROW = 0.5
"""A filter that leaves a smaller share of the rows is answered by comparing with all of these."""
_QUERIES_AT_ONCE = 64
_ENOUGH = 100
"""Chunks from which on the mean and deviation of a question's cosines say how a model spreads them."""
_SLACK = 1e-4  # Between scores in float32 and in float64, generously.


@dataclass(frozen=True)
class Found:
    """Rows, best first, and how each was scored; None where a side was not asked."""

    rows: "NDArray[np.int64]"
    score: "NDArray[np.float64]"
    lexical: "NDArray[np.float64] | None"
    dense: "NDArray[np.float64] | None"


@dataclass(frozen=True)
class Query:
    """What is looked for: words, a vector, or both."""

    words: str | None
    vector: "NDArray[np.float32] | None"


def search(
    contents: Contents,
    queries: Sequence[Query],
    k: int,
    *,
    share: float,
    rows: "NDArray[np.int64] | None" = None,
) -> list[Found]:
    """The k best rows for each query.

    Args:
        queries: all with words, all with a vector, or all with both (hybrid).
        share: the weight of the words where there are both.
        rows: only these, rising; None for all.
    """
    found: list[Found] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        found += _block(contents, queries[start : start + _QUERIES_AT_ONCE], k, share, rows)
    return found


def _block(
    contents: Contents,
    queries: Sequence[Query],
    k: int,
    share: float,
    rows: "NDArray[np.int64] | None",
) -> list[Found]:
    import numpy as np

    if not len(contents) or (rows is not None and not len(rows)):
        return [_nothing(query) for query in queries]
    vectors = [query.vector for query in queries if query.vector is not None]
    near: Sequence[NDArray[np.int64] | None] = [None] * len(queries)
    products: Sequence[NDArray[np.float32] | None] = [None] * len(queries)
    if vectors:
        asked = np.ascontiguousarray(vectors, dtype=np.float32)
        pool = k if queries[0].words is None else max(10 * k, 100)
        found = _by_graph(contents, asked, pool, rows)
        if found is None:
            products = list(contents.vectors.products(asked, rows))
        else:
            near = found

    def one(at: int) -> Found:
        return _one(contents, queries[at], k, share, rows, near[at], products[at])

    if len(queries) == 1:
        return [one(0)]
    with ThreadPoolExecutor(os.cpu_count()) as pool_of_threads:
        return list(pool_of_threads.map(one, range(len(queries))))


def _by_graph(
    contents: Contents,
    asked: "NDArray[np.float32]",
    pool: int,
    rows: "NDArray[np.int64] | None",
) -> "list[NDArray[np.int64]] | None":
    """For each query its nearest rows; None where all vectors must be compared.

    With a filter the graph is searched as much wider as rows are left out, so that those that pass
    are found as surely as without.
    """
    import numpy as np

    count = len(contents)
    wanted = min(pool, count if rows is None else len(rows))
    share = 1.0 if rows is None else len(rows) / count
    if contents.graph is None or share < NARROW:
        return None
    reach = wanted if rows is None else math.ceil(max(wanted, contents.graph.ef) / share)
    if reach > count // 10:
        return None
    threads = 1 if len(asked) == 1 else None
    labels = graph.search(contents.graph, asked, reach, threads)
    if labels is None:
        return None
    found = list(np.searchsorted(contents.labels, labels))
    if rows is not None:
        passes = np.zeros(count, dtype=bool)
        passes[rows] = True
        found = [each[passes[each]] for each in found]
    return found if all(len(each) >= wanted for each in found) else None


def _one(
    contents: Contents,
    query: Query,
    k: int,
    share: float,
    rows: "NDArray[np.int64] | None",
    near: "NDArray[np.int64] | None",
    products: "NDArray[np.float32] | None",
) -> Found:
    """Candidates by what is cheap, then exact scores for these alone."""
    import numpy as np

    words = None if query.words is None else saying.scores(contents.words, query.words)
    vector = query.vector
    if vector is None:
        assert words is not None
        rows = np.flatnonzero(words) if rows is None else rows[words[rows] > 0]
        kept = rows[best(words[rows], k, contents.order[rows])]
        scores = words[kept].astype(np.float64)
        return Found(kept, scores, scores, None)
    rows = np.arange(len(contents)) if rows is None else rows
    pool = k if words is None else max(k, CANDIDATES)
    scale = None if words is None else _Scale(contents, vector, share)
    if products is not None:
        rough = products if scale is None or words is None else scale(words[rows], products)
        kept = rows[best(rough, pool, contents.order[rows], slack=_SLACK)]
    elif words is None:
        assert near is not None
        kept = near
    else:
        assert near is not None
        said = best(words[rows], max(10 * k, 100), contents.order[rows])
        kept = np.union1d(near, rows[said[words[rows[said]] > 0]])
    dense = contents.vectors.exactly(vector, kept)
    lexical = None if words is None else words[kept].astype(np.float64)
    scores = dense
    if scale is not None and lexical is not None and query.words is not None:
        fused = scale(lexical, dense)
        # Which of those that tie are looked at must not depend on where their rows lie.
        first = best(fused, len(fused), contents.order[kept])
        kept, dense, lexical, fused = kept[first], dense[first], lexical[first], fused[first]
        scores = by_closeness(contents.words, query.words, kept, fused)
    order = best(scores, k, contents.order[kept])
    return Found(
        kept[order], scores[order], None if lexical is None else lexical[order], dense[order]
    )


class _Scale:
    """One question's scores of both sides to one."""

    def __init__(self, contents: Contents, vector: "NDArray[np.float32]", share: float) -> None:
        self._share, self._mean, self._deviation = share, 0.0, SPREAD
        if len(contents) >= _ENOUGH:
            asked = vector.astype("float64")
            self._mean = float(contents.moments[0] @ asked)
            spread = float(asked @ contents.moments[1:] @ asked) - self._mean**2
            self._deviation = math.sqrt(max(spread, 0))

    def __call__(
        self, lexical: "NDArray[np.floating]", dense: "NDArray[np.floating]"
    ) -> "NDArray[np.float64]":
        """The weighted sum of both, the cosines in deviations over the collection."""
        mean, deviation = self._mean, self._deviation
        return fuse(lexical, dense, share=self._share, mean=mean, deviation=deviation)


def _nothing(query: Query) -> Found:
    import numpy as np

    none = np.empty(0, dtype=np.float64)
    lexical, dense = (None if side is None else none for side in (query.words, query.vector))
    return Found(np.empty(0, dtype=np.int64), none, lexical, dense)
