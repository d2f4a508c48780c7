"""Records that mean nearly the same: near in vectors, whatever words they use.

Greedy in rank order, a block at a time: each record is held against those that stay so far. Float32
only proposes pairs; each removal rests on the cosine of the two vectors in float64, so that blocks,
threads and the order of the records change nothing.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tracemill.corpus.records import Judged
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

REASON = "semantic duplicate"
BLOCK = 1_024
"""Records that are judged at once; a block against as many kept ones takes 4 MB."""
EXACT_RECORDS = 200_000
"""Up to so many records each is compared with all that stay; a graph of them is faster above.
On two cores, little used, all pairs of 100,000 took 23 s and of 200,000 110 s; both much used, of
150,000 270 s and the graph 173 s, with 99.8 % of what all pairs find."""
PAIRS = 8_192
"""Verified at once: 32 MB for vectors of 256 numbers."""
SLACK = 1e-4
"""How much less than the threshold a product of float32 may be for a pair to be worth verifying;
sums of up to 4,096 terms of vectors of length 1 err by less."""
M, EF_CONSTRUCTION, EF, NEAREST = 16, 100, 100, 8
"""hnswlib's: links of a record, width of the search when it enters and when it asks; how many of
the nearest are verified."""

Vectors = NDArray[np.float32]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def decisions(
    documents: "pl.DataFrame", vectors: Vectors, threshold: float, *, exact: bool | None = None
) -> "pl.DataFrame":
    """Which records are dropped, each for one that stays and is as similar as the threshold asks.

    Longer records are taken first, then those of better quality, then the smaller id. The most
    similar of those that stay stands for a dropped one; of two as similar the first.

    Args:
        documents: `record_id` (each once), `length`, `quality` (may be null), as
            `dedup.documents` gives them.
        vectors: float32 of shape (records, dimensions), of any length; may be memory-mapped. One
            of zeros is similar to nothing.
        threshold: least cosine similarity, in (0, 1].
        exact: whether all pairs are looked at, or those that a graph finds; by default decided by
            the number of records.

    Returns the dropped ones: `record_id`, `kept_id`, `similarity`, `reason`. Raises `UsageError`
    when records and vectors do not fit.
    """
    import polars as pl

    _check(documents, vectors, threshold)
    order = _ranked(documents)
    if exact is None:
        exact = len(order) <= EXACT_RECORDS
    stay: _Stay = _All(vectors) if exact else _Graph(len(order), vectors.shape[1])
    star = _Star(vectors, order, threshold)
    for start in range(0, len(order), BLOCK):
        star.judge(np.arange(start, min(start + BLOCK, len(order))), stay)
    dropped = np.flatnonzero(star.stays_for >= 0)
    ids = documents["record_id"]
    return pl.DataFrame(
        {
            "record_id": ids[order[dropped].tolist()],
            "kept_id": ids[order[star.stays_for[dropped]].tolist()],
            "similarity": star.similarity[dropped],
            "reason": pl.repeat(REASON, dropped.size, eager=True),
        },
        schema={
            "record_id": pl.String,
            "kept_id": pl.String,
            "similarity": pl.Float64,
            "reason": pl.String,
        },
    )


def decide(frame: "pl.DataFrame", decisions: "pl.DataFrame") -> Judged:
    """A batch of records by the decisions on all of them."""
    kept = frame.join(decisions, on="record_id", how="anti", maintain_order="left")
    return Judged(kept, frame.join(decisions, on="record_id", how="inner", maintain_order="left"))


class _Stay(Protocol):
    """The records that stay so far, to be asked for those near to others."""

    def candidates(self, asked: Vectors, least: float) -> Pairs:
        """(row of `asked`, number of a record that stays) of pairs that may reach `least`."""
        ...

    def add(self, vectors: Vectors) -> None: ...


class _All:
    """Compares with every record that stays."""

    def __init__(self, like: Vectors) -> None:
        # Room for all; pages that are never written to cost nothing.
        self._vectors = np.empty(like.shape, np.float32)
        self._count = 0

    def candidates(self, asked: Vectors, least: float) -> Pairs:
        found: list[Pairs] = []
        for start in range(0, self._count, 8 * BLOCK):
            some = self._vectors[start : min(start + 8 * BLOCK, self._count)]
            rows, others = _at_least(asked @ some.T, least)
            found.append((rows, others + start))
        return _joined(found)

    def add(self, vectors: Vectors) -> None:
        self._vectors[self._count : self._count + len(vectors)] = vectors
        self._count += len(vectors)


class _Graph:
    """Asks hnswlib for the nearest few. One thread and a fixed seed build it, in rank order."""

    def __init__(self, room: int, dimensions: int) -> None:
        import hnswlib  # pyright: ignore[reportMissingTypeStubs]

        self._graph: Any = hnswlib.Index(space="ip", dim=dimensions)  # pyright: ignore[reportUnknownMemberType]
        self._graph.init_index(room, M=M, ef_construction=EF_CONSTRUCTION, random_seed=100)
        self._graph.set_ef(EF)
        self._count = 0

    def candidates(self, asked: Vectors, least: float) -> Pairs:
        if not self._count:
            return _joined([])
        found, distances = self._graph.knn_query(asked, k=min(NEAREST, self._count))
        rows, places = np.nonzero(1 - distances >= least)
        return rows, found[rows, places].astype(np.int64)

    def add(self, vectors: Vectors) -> None:
        numbers = np.arange(self._count, self._count + len(vectors))
        self._graph.add_items(vectors, numbers, num_threads=1)
        self._count += len(vectors)


class _Star:
    """The decisions so far; records go by their rank."""

    def __init__(self, vectors: Vectors, order: NDArray[np.int64], threshold: float) -> None:
        self._vectors, self._order, self._threshold = vectors, order, threshold
        self._kept = np.empty(0, np.int64)
        self.similarity = np.full(len(order), -1.0)
        self.stays_for = np.full(len(order), -1, np.int64)
        """-1 for one that stays itself."""

    def judge(self, ranks: NDArray[np.int64], stay: _Stay) -> None:
        """Decide on the next records, and let those that stay join the others."""
        block = _unit(self._vectors[self._order[ranks]])
        asked, numbers = stay.candidates(block, self._threshold - SLACK)
        self._verify(ranks[asked], self._kept[numbers])
        self._among(ranks, block)
        stays = self.stays_for[ranks] < 0
        self._kept = np.append(self._kept, ranks[stays])
        stay.add(block[stays])

    def _among(self, ranks: NDArray[np.int64], block: Vectors) -> None:
        """Hold each record of a block against those before it in the block that stay."""
        later, earlier = _at_least(block @ block.T, self._threshold - SLACK)
        later, earlier = ranks[later[earlier < later]], ranks[earlier[earlier < later]]
        starts = np.flatnonzero(np.diff(later, prepend=-1))
        for low, high in pairwise([*starts.tolist(), later.size]):
            before = earlier[low:high]
            before = before[self.stays_for[before] < 0]
            self._verify(np.full(before.size, later[low]), before)

    def _verify(self, later: NDArray[np.int64], kept: NDArray[np.int64]) -> None:
        """Let the nearest stand for each later record, where it is as near as is asked."""
        for start in range(0, later.size, PAIRS):
            some, others = later[start : start + PAIRS], kept[start : start + PAIRS]
            cosines = _cosines(self._vectors[self._order[some]], self._vectors[self._order[others]])
            near = np.flatnonzero(cosines >= self._threshold)
            # The nearest last, of two as near the first in rank: what is written last remains.
            near = near[np.lexsort((-others[near], cosines[near]))]
            near = near[self._nearer(some[near], others[near], cosines[near])]
            self.similarity[some[near]] = cosines[near]
            self.stays_for[some[near]] = others[near]

    def _nearer(
        self, later: NDArray[np.int64], kept: NDArray[np.int64], cosines: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which pairs are nearer than what stands for the record so far."""
        known = self.similarity[later]
        return (cosines > known) | ((cosines == known) & (kept < self.stays_for[later]))


def _check(documents: "pl.DataFrame", vectors: Vectors, threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise UsageError(f"a cosine of {threshold} cannot be asked: above 0, at most 1")
    if vectors.ndim != 2 or len(vectors) != documents.height:
        raise UsageError(f"{documents.height} records have vectors of shape {vectors.shape}")
    if documents["record_id"].is_duplicated().any():
        raise UsageError("a record is there twice: drop exact duplicates first")


def _ranked(documents: "pl.DataFrame") -> NDArray[np.int64]:
    """Row numbers, the record that would stay first."""
    import polars as pl

    by = documents.select(
        "record_id",
        length=-pl.col("length").cast(pl.Int64),
        quality=-pl.col("quality").fill_nan(None).fill_null(float("-inf")),
    )
    order = by.select(pl.arg_sort_by("length", "quality", "record_id"))
    return order.to_series().to_numpy().astype(np.int64)


def _unit(vectors: Vectors) -> Vectors:
    """The same directions with length 1; zeros stay zeros."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise UsageError("a vector holds NaN or infinity")
    return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _cosines(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Row by row; exactly 1 for equal rows, 0 where one is of zeros."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    lengths = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    return np.minimum((one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1), 1.0)


def _at_least(scores: Vectors, least: float) -> Pairs:
    """Rows and columns of what reaches it, row by row."""
    rows, columns = np.divmod(np.flatnonzero(scores >= least), max(scores.shape[1], 1))
    return rows, columns


def _joined(found: list[Pairs]) -> Pairs:
    none = np.empty(0, np.int64)
    return (
        np.concatenate([none, *(rows for rows, _ in found)]),
        np.concatenate([none, *(others for _, others in found)]),
    )
