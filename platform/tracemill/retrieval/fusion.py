"""One score of two: how well a chunk's words and its meaning fit a question."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def fuse(lexical: "NDArray[Any]", dense: "NDArray[Any]", *, share: float) -> "NDArray[np.float64]":
    """Scores of candidates, higher is better.

    Args:
        lexical: BM25 of each candidate on its scale from 0 to 1 (`lexical.scores`).
        dense: the cosine of each candidate's vector and the question's.
        share: the weight of BM25, from 0 (vectors alone) to 1 (BM25 alone).
    """
    import numpy as np

    return share * lexical.astype(np.float64) + (1 - share) * dense.astype(np.float64)
