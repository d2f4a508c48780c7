"""A search index over chunks: a folder for each version, written aside and swapped in whole.

    indexes/<name>/current            the version that serves, a line of text
    indexes/<name>/<digest>/          chunks.parquet, vectors.npy, nearest.hnsw, bm25/, manifest.json

A version is named by the digest of its chunks and vectors, so the same input gives the same name.
Nothing in a version is opened before its digests have been checked.
"""

import json
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError, UsageError
from tracemill.files import sha256_of, sync, write_text_atomically
from tracemill.llm import bm25
from tracemill.retrieval import graph
from tracemill.retrieval.chunks import searchable
from tracemill.retrieval.embed import DIMENSIONS, MODEL, compute

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

FORMAT = 1
# Measured on SQuAD 1.1 (2,000 questions): recall@1 / @10 is 77.6 / 95.0 for BM25 alone,
# 51.8 / 85.0 for the vectors alone and 77.9 / 96.2 for this sum.
BM25_SHARE = 0.8
# Comparing with every vector is perfect and, below this, as fast as the graph.
EXACT_BELOW = 5_000
_VERSIONS_KEPT = 3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Index:
    """An open version of a collection; it stays what it is while newer ones are built."""

    name: str
    digest: str
    """The version."""
    model: str
    """The embedding model of its vectors."""
    dimensions: int
    recall_at_10: float
    """Share of the exact ten nearest that the graph finds, on a sample of its own vectors."""
    chunks: "pl.DataFrame"
    vectors: "NDArray[np.float32]"
    """One row for each chunk, of length 1."""
    nearest: Any
    """hnswlib's graph; labels are row numbers."""
    lexical: Any
    """bm25s's model over the chunks."""

    def __len__(self) -> int:
        return self.chunks.height

    def search(self, query: "str | NDArray[np.float32]", k: int = 5) -> "pl.DataFrame":
        """The k best chunks, best first: their columns with `rank` (from 1) and `score`.

        Args:
            query: words, scored 0.8 BM25 (see `llm/bm25.py`) + 0.2 cosine, where 0 is nothing in
                common and 1 cannot be surpassed; or a vector, scored by cosine alone.

        Raises `InputError` for a vector of other dimensions.
        """
        import polars as pl

        rows, scores = self._words(query, k) if isinstance(query, str) else self._near(query, k)
        ranks = pl.Series("rank", range(1, len(rows) + 1), dtype=pl.Int64)
        found = self.chunks[rows.tolist()]
        return found.select(ranks, pl.Series("score", scores, dtype=pl.Float64), pl.all())

    def _words(self, question: str, k: int) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        import numpy as np

        lexical = bm25.scores(self.lexical, question)
        vector = compute([question])[0]
        pool = max(10 * k, 100)
        if len(self) < EXACT_BELOW or pool >= len(self):
            rows = np.arange(len(self))
        else:
            rows = np.union1d(_best(lexical, pool), self._near(vector, pool)[0])
        scores = BM25_SHARE * lexical[rows] + (1 - BM25_SHARE) * (self.vectors[rows] @ vector)
        best = _best(scores, k)
        return rows[best], scores[best].astype(np.float64)

    def _near(
        self, vector: "NDArray[np.float32]", k: int
    ) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
        import numpy as np

        if vector.shape != (self.dimensions,):
            raise InputError(
                f"index {self.name!r} has vectors of {self.dimensions} numbers ({self.model}), "
                f"the query has the shape {vector.shape}: embed it by the same model"
            )
        if len(self) < EXACT_BELOW:
            scores = self.vectors @ vector
            rows = _best(scores, k)
            return rows, scores[rows].astype(np.float64)
        rows, scores = graph.search(self.nearest, vector[np.newaxis], min(k, len(self)))
        return rows[0], scores[0]


def build_index(
    chunks: "pl.DataFrame", vectors: "NDArray[np.float32]", folder: Path, name: str
) -> Index:
    """Write a version of the collection `name`, let it serve from now on, and open it.

    Args:
        chunks: columns as `chunks.chunk` gives them.
        vectors: their embeddings, float32 of shape (chunks, 256).
        folder: the folder of all collections (`settings.indexes`).

    An equal version is not built again. Raises `InputError` when chunks and vectors do not fit,
    `UsageError` for a name that cannot be a folder's.
    """
    _check(chunks, vectors)
    collection = _collection(folder, name)
    digest = _digest(chunks, vectors)
    version = collection / digest
    if not _intact(version):
        aside = collection / f".{digest}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            _write(aside, chunks, vectors, name=name, digest=digest)
            _put(aside, version)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        sync(collection)
    write_text_atomically(collection / "current", digest + "\n")
    _forget_old(collection, digest)
    return open_index(folder, name)


def open_index(folder: Path, name: str) -> Index:
    """The version of the collection `name` that serves now.

    Raises `InputError` when there is none, when a file of it is missing, altered or foreign, or
    when its vectors were made by another model.
    """
    collection = _collection(folder, name)
    current = collection / "current"
    if not current.is_file():
        raise InputError(f"there is no index {name!r} in {folder}: run `tracemill build`")
    version = collection / current.read_text(encoding="utf-8").strip()
    manifest = _manifest(version)
    if (manifest["model"], manifest["dimensions"]) != (MODEL, DIMENSIONS):
        raise InputError(
            f"index {name!r} holds vectors of {manifest['model']} with {manifest['dimensions']} "
            f"numbers, questions are embedded by {MODEL} with {DIMENSIONS}: build it again"
        )
    return _open(version, manifest)


def _collection(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name an index: use letters, digits, '-' and '_'")
    return folder / name


def _check(chunks: "pl.DataFrame", vectors: "NDArray[np.float32]") -> None:
    import numpy as np

    if not chunks.height:
        raise InputError("there are no chunks: an index needs at least one")
    if vectors.dtype != np.float32 or vectors.shape != (chunks.height, DIMENSIONS):
        raise InputError(
            f"{chunks.height} chunks need float32 vectors of shape {(chunks.height, DIMENSIONS)}, "
            f"these are {vectors.dtype} of shape {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise InputError(f"the vector of chunk {chunks['chunk_id'][row]} holds NaN or infinity")
    if chunks["chunk_id"].n_unique() != chunks.height:
        twice = chunks.filter(~chunks["chunk_id"].is_first_distinct())["chunk_id"][0]
        raise InputError(f"chunk {twice} appears twice: each may be indexed once")


def _digest(chunks: "pl.DataFrame", vectors: "NDArray[np.float32]") -> str:
    """Of everything that decides what a search finds; 16 hex digits."""
    words = (bm25.K1, bm25.B, sorted(bm25.STOP_WORDS))
    recipe = (FORMAT, MODEL, DIMENSIONS, graph.M, graph.EF_CONSTRUCTION, words)
    digest = sha256(repr(recipe).encode())
    for column in (chunks["chunk_id"], chunks["source"], searchable(chunks)):
        digest.update("\0".join(column).encode("utf-8", "surrogatepass"))
    digest.update(vectors.tobytes())
    return digest.hexdigest()[:16]


def _write(
    folder: Path, chunks: "pl.DataFrame", vectors: "NDArray[np.float32]", *, name: str, digest: str
) -> None:
    import numpy as np

    folder.mkdir(parents=True)
    chunks.write_parquet(folder / "chunks.parquet", compression="zstd")
    np.save(folder / "vectors.npy", vectors, allow_pickle=False)
    nearest = graph.build(vectors)
    graph.save(nearest, folder / "nearest.hnsw")
    bm25.save(bm25.build(searchable(chunks)), folder / "bm25")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "format": FORMAT,
        "name": name,
        "digest": digest,
        "model": MODEL,
        "dimensions": DIMENSIONS,
        "chunks": chunks.height,
        "recall_at_10": graph.recall_at_10(nearest, vectors),
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in files},
    }
    for path in files:
        sync(path)
    write_text_atomically(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    sync(folder / "bm25")


def _put(aside: Path, version: Path) -> None:
    """Rename, over a damaged version if there is one; who was faster with the same one wins."""
    if version.exists() and not _intact(version):
        shutil.rmtree(version)
    try:
        aside.rename(version)
    except OSError:
        if not _intact(version):
            raise


def _manifest(version: Path) -> dict[str, Any]:
    """The manifest, once every file that it names is there and unaltered."""
    path = version / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files: dict[str, str] = dict(manifest["files"])
        written_as = manifest["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is not an index's manifest ({error}): build it again") from error
    if written_as != FORMAT:
        raise InputError(f"{version} has the format {written_as}, not {FORMAT}: build it again")
    for name, digest in files.items():
        if not (version / name).is_file():
            raise InputError(f"{version / name} is missing: build the index again")
        if sha256_of(version / name) != digest:
            raise InputError(f"{version / name} is not what was written: build the index again")
    return manifest


def _intact(version: Path) -> bool:
    try:
        return bool(_manifest(version))
    except InputError:
        return False


def _open(version: Path, manifest: dict[str, Any]) -> Index:
    import numpy as np
    import polars as pl

    return Index(
        name=manifest["name"],
        digest=manifest["digest"],
        model=manifest["model"],
        dimensions=manifest["dimensions"],
        recall_at_10=manifest["recall_at_10"],
        chunks=pl.read_parquet(version / "chunks.parquet"),
        vectors=np.load(version / "vectors.npy", mmap_mode="r", allow_pickle=False),
        nearest=graph.load(version / "nearest.hnsw", manifest["chunks"]),
        lexical=bm25.load(version / "bm25"),
    )


def _forget_old(collection: Path, current: str) -> None:
    """Delete all but the newest versions, and what a killed build left a day ago.

    Who has a version open keeps it, for its files are mapped.
    """
    versions = [path for path in collection.glob("[!.]*") if path.is_dir()]
    newest = sorted(versions, key=_changed_s, reverse=True)
    old = [path for path in newest[_VERSIONS_KEPT:] if path.name != current]
    yesterday = time.time() - 24 * 3600
    left = [path for path in collection.glob(".*.tmp") if _changed_s(path) < yesterday]
    for path in old + left:
        shutil.rmtree(path, ignore_errors=True)


def _changed_s(path: Path) -> float:
    """When it was last changed, in epoch seconds; now, where another builder took it away."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()


def _best(scores: "NDArray[Any]", k: int) -> "NDArray[np.int64]":
    """The rows of the k largest scores, largest first; equal ones in the order of their rows."""
    import numpy as np

    k = min(k, len(scores))
    # Everything that ties with the k-th stays in, so that the order decides and not the partition.
    kth = np.partition(scores, len(scores) - k)[len(scores) - k] if k else np.inf
    rows = np.flatnonzero(scores >= kth)
    return rows[np.argsort(-scores[rows], kind="stable")][:k]
