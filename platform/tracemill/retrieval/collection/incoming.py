"""Chunks and vectors from outside, checked before anything is written."""

from typing import TYPE_CHECKING

from tracemill.errors import InputError
from tracemill.retrieval.collection.versions import Terms
from tracemill.retrieval.frames import chunk_schema

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


def chunks(frame: "pl.DataFrame") -> "pl.DataFrame":
    """The columns of chunks, in their order and types; `InputError` names what is amiss."""
    import polars as pl

    schema = chunk_schema()
    if missing := [name for name in schema if name not in frame.columns]:
        raise InputError(f"chunks lack the columns {', '.join(missing)}: cut them by `chunk`")
    try:
        found = frame.select(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise InputError(f"chunks have a column of another type: {error}") from None
    ids = found["chunk_id"]
    if ids.null_count():
        raise InputError("a chunk has no chunk_id")
    if ids.n_unique() != len(ids):
        twice = ids.filter(~ids.is_first_distinct())[0]
        raise InputError(f"chunk {twice} appears twice: each may be indexed once")
    return found


def vectors(found: "NDArray[np.float32]", ids: "pl.Series", terms: Terms) -> None:
    """`InputError` unless there is one finite vector of length 1 (or of zeros) for each chunk."""
    import numpy as np

    shape = (len(ids), terms.dimensions)
    if found.dtype != np.float32 or found.shape != shape:
        raise InputError(
            f"{len(ids)} chunks of a collection of {terms.model} need float32 vectors of shape "
            f"{shape}, these are {found.dtype} of shape {found.shape}"
        )
    lengths = np.sqrt(np.einsum("ij,ij->i", found, found))
    odd = np.flatnonzero(~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0)))
    if len(odd):
        row = int(odd[0])
        length = float(lengths[row])
        what = f"has the length {length:.4g}" if np.isfinite(length) else "holds NaN or infinity"
        raise InputError(
            f"the vector of chunk {ids[row]} {what} ({len(odd)} such vectors): "
            "vectors have the length 1, as `embed` gives them"
        )
