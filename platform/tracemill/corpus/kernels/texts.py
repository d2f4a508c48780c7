"""Where the bytes of an Arrow column of strings lie: what kernels read without a copy."""

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Texts: TypeAlias = "pl.Series | pa.Array[Any] | pa.ChunkedArray[Any]"
Located: TypeAlias = "tuple[NDArray[np.uint64], NDArray[np.int64]]"

PART_BYTES = 1 << 20
TEXT_BYTES = 64
"""What a text costs besides its bytes, in bytes."""
INLINE = 12
"""Bytes that a string view holds itself (Arrow columnar format, variable-size binary view)."""


class Places(NamedTuple):
    """Where n texts lie in memory, for as long as `owners` is held."""

    addresses: NDArray[np.uint64]
    """Of the first byte of each text."""
    lengths: NDArray[np.int64]
    """Bytes of UTF-8; 0 for a null."""
    owners: "tuple[pa.Array[Any], ...]"


def places(texts: Texts) -> Places:
    """The UTF-8 of each text of a column, sliced or chunked, without copying it.

    Raises:
        TypeError: if the column holds something else than strings.
    """
    chunks = _chunks(texts)
    found = [_places(chunk) for chunk in chunks]
    addresses = np.concatenate([np.empty(0, np.uint64), *(each for each, _ in found)])
    lengths = np.concatenate([np.empty(0, np.int64), *(each for _, each in found)])
    return Places(addresses, lengths, tuple(chunks))


def parts(lengths: NDArray[np.int64]) -> list[slice]:
    """Ranges of texts of about `PART_BYTES` each, so that work is shared and scratch stays small.

    Args:
        lengths: (n,) bytes of each text; no text is divided.
    """
    ends = np.cumsum(lengths + TEXT_BYTES)
    borders = np.searchsorted(ends, np.arange(PART_BYTES, ends[-1] if ends.size else 0, PART_BYTES))
    starts = np.unique(np.concatenate([[0], borders, [lengths.size]])).tolist()
    return [slice(*pair) for pair in itertools.pairwise(starts)] or [slice(0, 0)]


def _chunks(texts: Texts) -> "list[pa.Array[Any]]":
    import polars as pl
    import pyarrow as pa

    if isinstance(texts, pl.Series):
        views = pl.CompatLevel.newest()
        return [chunk.to_arrow(compat_level=views) for chunk in texts.get_chunks()]
    return texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]


def _places(texts: "pa.Array[Any]") -> Located:
    import pyarrow as pa

    kind = texts.type
    if pa.types.is_null(kind) or not len(texts):
        return np.zeros(len(texts), np.uint64), np.zeros(len(texts), np.int64)
    if pa.types.is_string_view(kind):
        addresses, lengths = _viewed(texts)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        addresses, lengths = _packed(texts, np.int32 if pa.types.is_string(kind) else np.int64)
    else:
        raise TypeError(f"texts are of type {kind}, not strings")
    if texts.null_count:
        lengths[texts.is_null().to_numpy(zero_copy_only=False)] = 0
    return addresses, lengths


def _packed(texts: "pa.Array[Any]", width: type[np.signedinteger[Any]]) -> Located:
    """Of offsets into one buffer of bytes."""
    _, ends, data = texts.buffers()
    found = _numbers(ends, width)[texts.offset :][: len(texts) + 1].astype(np.int64)
    return (found[:-1] + (data.address if data else 0)).astype(np.uint64), np.diff(found)


def _viewed(texts: "pa.Array[Any]") -> Located:
    """Of views: 16 bytes each, length and either the text itself or its place in a buffer."""
    _, views, *data = texts.buffers()
    fields = _numbers(views, np.int32).reshape(-1, 4)[texts.offset :][: len(texts)]
    lengths = fields[:, 0].astype(np.int64)
    own = fields.__array_interface__["data"][0] + 16 * np.arange(len(texts)) + 4
    bases = np.array([each.address if each else 0 for each in data] or [0], np.int64)
    outside = lengths > INLINE
    away = bases[np.where(outside, fields[:, 2], 0)] + fields[:, 3]
    return np.where(outside, away, own).astype(np.uint64), lengths


def _numbers(buffer: "pa.Buffer | None", width: type[np.signedinteger[Any]]) -> NDArray[Any]:
    return np.frombuffer(cast(Any, buffer), width)
