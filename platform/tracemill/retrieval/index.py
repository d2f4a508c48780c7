"""Names of before for `collection`, until their last callers have moved."""

from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.retrieval.collection import Collection, create
from tracemill.retrieval.collection import open_collection as open_index

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

__all__ = ["Index", "build_index", "open_index"]

Index = Collection


def build_index(
    chunks: "pl.DataFrame", vectors: "NDArray[np.float32]", folder: Path, name: str
) -> Collection:
    """`create` and `replace`."""
    return create(folder, name, exist_ok=True).replace(chunks, vectors)
