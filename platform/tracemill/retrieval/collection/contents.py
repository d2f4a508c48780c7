"""What a version holds once it is open, how it gets into files, and how the next one follows.

Rows stand in the order of their labels in the graph. A chunk whose vector was there before keeps
that vector's label, so only new vectors enter the graph. Without a graph, and after it was built
anew, rows stand in the order of their ids: the same chunks then give the same bytes.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError
from tracemill.retrieval import lexical
from tracemill.retrieval.collection import graph
from tracemill.retrieval.collection.vectors import Vectors
from tracemill.retrieval.collection.versions import FORMAT, Manifest, Terms
from tracemill.retrieval.frames import chunk_schema, searchable
from tracemill.retrieval.lexical import Lexical

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

EXACT_BELOW = 20_000
"""Fewer vectors than these are all compared, which is perfect and needs no graph. Where a graph finds
99.5 % of what questions ask for, it is faster only beyond this size (`benchmarks/index.py`)."""

CHUNKS, VECTORS, SCALES = "chunks.parquet", "vectors.npy", "scales.npy"
LABELS, MOMENTS, GRAPH, WORDS = "labels.npy", "moments.npy", "graph.hnsw", "words"
_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Contents:
    """Chunks and everything to find them by; the parts have the same rows."""

    chunks: "pl.DataFrame"
    vectors: Vectors
    labels: "NDArray[np.int64]"
    """Of each row in the graph; rising."""
    graph: Any
    """hnswlib's, or None where every vector is compared."""
    words: Lexical
    """What the chunks say."""
    moments: "NDArray[np.float64]"
    """The mean of the vectors, and below it the mean of their outer products: what any question's
    likeness to all of them has as mean and as mean square. Shape (1 + dimensions, dimensions)."""

    def __len__(self) -> int:
        return self.chunks.height

    @cached_property
    def order(self) -> "NDArray[np.int64]":
        """For each row, the rank of its chunk_id: which of two that tie comes first."""
        return self.chunks["chunk_id"].rank("ordinal").to_numpy().astype("int64")


def empty(dimensions: int, kind: str) -> Contents:
    """Nothing."""
    import numpy as np
    import polars as pl

    return Contents(
        pl.DataFrame(schema=chunk_schema()),
        quantised(np.empty((0, dimensions), dtype=np.float32), kind),
        np.empty(0, dtype=np.int64),
        None,
        lexical.build([]),
        np.zeros((1 + dimensions, dimensions)),
    )


def quantised(vectors: "NDArray[np.float32]", kind: str) -> Vectors:
    """Vectors as they are kept. Those of int8 are made long 1 again by their scales."""
    import numpy as np

    from tracemill.retrieval.embed import quantise

    if kind == "float32":
        return Vectors(vectors)
    codes = quantise(vectors).codes
    lengths = np.linalg.norm(codes.astype(np.float32), axis=1)
    return Vectors(codes, (1 / np.where(lengths > 0, lengths, 1)).astype(np.float32))


def digest(chunks: "pl.DataFrame", vectors: Vectors, terms: Terms) -> str:
    """Of everything that decides what a search finds, whatever the order of the rows; 16 digits."""
    recipe = (FORMAT, lexical.identity(), terms, graph.M, graph.EF_CONSTRUCTION)
    found = sha256(repr(recipe).encode())
    rows = chunks["chunk_id"].arg_sort().to_numpy().astype("int64")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        found.update(chunks[block].write_ndjson().encode())
        part = vectors.take(block)
        found.update(part.values.tobytes())
    return found.hexdigest()[:16]


def moments(chunks: "pl.DataFrame", vectors: Vectors) -> "NDArray[np.float64]":
    """As `Contents.moments`; the same whatever the order of the rows."""
    import numpy as np

    found = np.zeros((1 + vectors.dimensions, vectors.dimensions))
    rows = chunks["chunk_id"].arg_sort().to_numpy().astype("int64")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        floats = vectors.floats(rows[start : start + _ROWS_AT_ONCE]).astype(np.float64)
        found[0] += floats.sum(axis=0)
        found[1:] += floats.T @ floats
    return found / max(len(rows), 1)


@dataclass(frozen=True)
class Following:
    """How the rows of the next version relate to those of the one before."""

    rows: "NDArray[np.int64]"
    """The order of the next version's rows."""
    labels: "NDArray[np.int64]"
    """Of them, in this order."""
    new: "NDArray[np.int64]"
    """Which of them, in this order, are not in the graph yet."""
    gone: "NDArray[np.int64]"
    """Labels that nobody has any more."""


def follow(before: Contents, chunks: "pl.DataFrame", vectors: Vectors) -> Following:
    """Give each chunk the label of its vector: its own if it had one, else that of an equal vector
    whose chunk is gone, else a new one."""
    import numpy as np

    labels = np.full(len(vectors), -1, dtype=np.int64)
    same, was = _both(before.chunks, chunks)
    equal = (vectors.values[same] == before.vectors.values[was]).all(axis=1)
    labels[same[equal]] = before.labels[was[equal]]
    free = np.setdiff1d(np.arange(len(before)), was[equal])
    by_vector: dict[bytes, list[int]] = {}
    for row in free[::-1]:
        by_vector.setdefault(before.vectors.values[row].tobytes(), []).append(int(row))
    new = np.flatnonzero(labels < 0)
    new = new[np.lexsort((chunks["chunk_id"].rank("ordinal").to_numpy()[new],))]
    for row in new:
        if left := by_vector.get(vectors.values[row].tobytes()):
            labels[row] = before.labels[left.pop()]
    still = new[labels[new] < 0]
    first = int(before.labels.max(initial=-1)) + 1
    labels[still] = np.arange(first, first + len(still))
    rows = np.argsort(labels)
    gone = np.setdiff1d(before.labels, labels)
    return Following(rows, labels[rows], np.flatnonzero(labels[rows] >= first), gone)


def said(before: Contents, chunks: "pl.DataFrame") -> Lexical:
    """The words of chunks; those that were there before with the same text are not read again."""
    import numpy as np
    import polars as pl

    texts = pl.DataFrame({"text": searchable(chunks), "language": chunks["language"]})
    held = pl.DataFrame({"text": searchable(before.chunks), "language": before.chunks["language"]})
    same, was = _both(before.chunks, chunks)
    sides = zip(texts[same], held[was], strict=True)
    equal = (
        pl.DataFrame([one.eq_missing(other) for one, other in sides])
        .fold(lambda one, other: one & other)
        .to_numpy()
    )
    rows = np.full(len(chunks), -1, dtype=np.int64)
    rows[same[equal]] = was[equal]
    new = texts[np.flatnonzero(rows < 0)]
    return lexical.update(before.words, rows, new["text"].to_list(), new["language"].to_list())


def _both(
    before: "pl.DataFrame", after: "pl.DataFrame"
) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """The rows of the chunks that both have: in `after`, and in `before`."""
    left = after.select("chunk_id").with_row_index("row")
    right = before.select("chunk_id").with_row_index("was")
    both = left.join(right, on="chunk_id", how="inner")
    return both["row"].to_numpy().astype("int64"), both["was"].to_numpy().astype("int64")


def save(contents: Contents, folder: Path) -> None:
    """Write everything but the graph into a folder."""
    import numpy as np

    contents.chunks.write_parquet(folder / CHUNKS, compression="zstd", statistics=False)
    np.save(folder / VECTORS, contents.vectors.values, allow_pickle=False)
    if contents.vectors.scales is not None:
        np.save(folder / SCALES, contents.vectors.scales, allow_pickle=False)
    np.save(folder / LABELS, contents.labels, allow_pickle=False)
    np.save(folder / MOMENTS, contents.moments, allow_pickle=False)
    lexical.save(contents.words, folder / WORDS)


def load(folder: Path, manifest: Manifest) -> Contents:
    """The contents of a version whose files were verified.

    Everything is mapped or read, so that the files may be deleted. `InputError` when the parts do
    not fit each other.
    """
    import numpy as np
    import polars as pl

    terms = manifest.terms

    def mapped(name: str) -> Any:
        return np.load(
            folder / name, mmap_mode="r" if manifest.chunks else None, allow_pickle=False
        )

    try:
        chunks = pl.read_parquet(folder / CHUNKS, glob=False)
        scales = mapped(SCALES) if terms.vectors == "int8" else None
        vectors, labels = Vectors(mapped(VECTORS), scales), np.array(mapped(LABELS))
        middle = np.array(mapped(MOMENTS))
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InputError(f"{folder} cannot be read: {error}") from None
    nearest = None
    if manifest.slots:
        nearest = graph.load(folder / GRAPH, terms.dimensions, manifest.ef)
    words = lexical.load(folder / WORDS)
    contents = Contents(chunks, vectors, labels, nearest, words, middle)
    _fits(folder, manifest, contents)
    return contents


def _fits(folder: Path, manifest: Manifest, contents: Contents) -> None:
    shape = (manifest.chunks, manifest.terms.dimensions)
    parts = {
        CHUNKS: contents.chunks.schema == chunk_schema() and len(contents) == manifest.chunks,
        VECTORS: (contents.vectors.values.shape, str(contents.vectors.values.dtype))
        == (shape, manifest.terms.vectors),
        LABELS: contents.labels.shape == shape[:1],
        MOMENTS: contents.moments.shape == (1 + shape[1], shape[1]),
        GRAPH: contents.graph is None or contents.graph.get_current_count() == manifest.slots,
        WORDS: len(contents.words) == len(contents),
    }
    for name, fits in parts.items():
        if not fits:
            raise InputError(f"{folder / name} does not fit the version's manifest")
