"""Vectors of a collection as they lie in memory: float32, or int8 with a scale for each row.

Comparisons are made in float32 by BLAS, a block of rows at a time; what is shown is computed anew
in float64, so that a likeness does not depend on the block, the batch or the order of the rows.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["float32", "int8"]

_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Vectors:
    """One row for each chunk."""

    values: "NDArray[Any]"
    """Shape (chunks, dimensions), float32 or int8."""
    scales: "NDArray[np.float32] | None" = None
    """Shape (chunks,), where the values are int8: a row is its values times its scale."""

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dimensions(self) -> int:
        return int(self.values.shape[1])

    def take(self, rows: "NDArray[np.int64]") -> "Vectors":
        """These rows."""
        return Vectors(self.values[rows], None if self.scales is None else self.scales[rows])

    def floats(self, rows: "NDArray[np.int64] | slice | None" = None) -> "NDArray[np.float32]":
        """These rows (all by default) as float32."""
        import numpy as np

        rows = slice(None) if rows is None else rows
        if self.scales is None:
            return self.values[rows]
        return self.values[rows].astype(np.float32) * self.scales[rows, np.newaxis]

    def products(
        self, queries: "NDArray[np.float32]", rows: "NDArray[np.int64] | None" = None
    ) -> "NDArray[np.float32]":
        """The inner product of each query with each row: shape (queries, rows)."""
        import numpy as np

        if rows is not None and len(rows) * 4 > len(self):
            # To copy so many rows takes longer than to compare with all.
            return self.products(queries)[:, rows]
        count = len(self) if rows is None else len(rows)
        found = np.empty((len(queries), count), dtype=np.float32)
        step = max(1, _BLOCK_BYTES // (4 * self.dimensions))
        if rows is None and self.scales is None:
            step = max(count, 1)  # Nothing is copied: BLAS makes its own blocks.
        for start in range(0, count, step):
            block = slice(start, start + step)
            part = self.floats(block if rows is None else rows[block])
            if len(queries) == 1:
                # On a busy machine the threads of BLAS wait 16 ms for each other.
                np.vecdot(part, queries[0], out=found[0, block])
            else:
                np.matmul(queries, part.T, out=found[:, block])
        return found

    def exactly(
        self, query: "NDArray[np.float32]", rows: "NDArray[np.int64]"
    ) -> "NDArray[np.float64]":
        """The inner products in float64, the same for a row whatever the other rows are."""
        import numpy as np

        return (self.floats(rows).astype(np.float64) * query.astype(np.float64)).sum(axis=1)


def concatenate(first: Vectors, second: Vectors) -> Vectors:
    """The rows of both, which are of one kind."""
    import numpy as np

    scales = None
    if first.scales is not None and second.scales is not None:
        scales = np.concatenate((first.scales, second.scales))
    return Vectors(np.concatenate((first.values, second.values)), scales)


def best(
    scores: "NDArray[Any]", k: int, order: "NDArray[np.int64]", slack: float = 0.0
) -> "NDArray[np.int64]":
    """Where the k largest scores stand, largest first; equal ones by `order`.

    Args:
        scores: shape (n,).
        order: shape (n,): which of two that tie comes first.
        slack: keep, beyond the k, whatever is at most this much below the k-th.
    """
    import numpy as np

    k = min(k, len(scores))
    if not k:
        return np.empty(0, dtype=np.int64)
    # All that tie with the k-th stay in, so that the order decides and not the partition.
    kth = np.partition(scores, len(scores) - k)[len(scores) - k]
    places = np.flatnonzero(scores >= kth - slack)
    sorted_places = places[np.lexsort((order[places], -scores[places]))]
    return sorted_places if slack else sorted_places[:k]
