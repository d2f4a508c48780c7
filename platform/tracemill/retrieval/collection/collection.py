"""A collection: chunks with their vectors, searched by words and by likeness, changed as a whole.

An open `Collection` is one version and stays what it is. Each change writes the next version beside
it, checks that, lets it serve, and returns it; a change that changes nothing writes nothing.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError, UsageError
from tracemill.retrieval import filters
from tracemill.retrieval.collection import contents as parts
from tracemill.retrieval.collection import graph, incoming, opening, versions, writing
from tracemill.retrieval.collection import search as searching
from tracemill.retrieval.collection.contents import Contents
from tracemill.retrieval.collection.opening import Opened
from tracemill.retrieval.collection.search import Found, Mode, Query
from tracemill.retrieval.collection.vectors import Vectors, concatenate
from tracemill.retrieval.collection.versions import Manifest, Terms
from tracemill.retrieval.filters import Where
from tracemill.retrieval.frames import searchable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from tracemill.log import EventLog
    from tracemill.retrieval.embed import Model

Change = Callable[[Contents], "tuple[pl.DataFrame, Vectors]"]
_FILTERS_KEPT = 32


@dataclass(frozen=True)
class Collection:
    """An open version of a collection. Threads may share it."""

    folder: Path
    """Of all collections."""
    name: str
    manifest: Manifest
    degraded: str | None = None
    """Why this version serves and not the last one; None when it is the last one."""
    log: "EventLog | None" = field(default=None, repr=False, compare=False)
    """Where calls to an embedding provider are recorded; local models make none."""
    cache: Path | None = field(default=None, repr=False, compare=False)
    """The folder that keeps embeddings."""
    contents: Contents = field(kw_only=True, repr=False, compare=False)
    _filtered: dict[str, Any] = field(
        default_factory=dict[str, Any], init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def digest(self) -> str:
        """The version: of the chunks, their vectors and the terms."""
        return self.manifest.digest

    @property
    def terms(self) -> Terms:
        return self.manifest.terms

    @property
    def model(self) -> str:
        """Who embeds, as provider/model."""
        return self.terms.model

    @property
    def dimensions(self) -> int:
        return self.terms.dimensions

    @property
    def recall_at_10(self) -> float:
        """Share of the exact ten nearest that a search finds, when it was built; 1 if exact."""
        return self.manifest.recall_at_10

    @property
    def chunks(self) -> "pl.DataFrame":
        """All chunks, in no order that means anything."""
        return self.contents.chunks

    def search(
        self,
        query: "str | NDArray[np.float32]",
        k: int = 5,
        *,
        where: Where | None = None,
        mode: Mode = "hybrid",
    ) -> "pl.DataFrame":
        """The k best chunks, best first; fewer where there are fewer.

        Args:
            query: words; or a vector of length 1 by the collection's model, searched by likeness.
            where: only chunks for which this holds (`filters`).
            mode: `hybrid` weighs words and likeness by the collection's `lexical_share`; `lexical`
                finds only chunks that share a word with the question.

        Returns `rank` (from 1), `score` (to be compared within one search), `lexical` (share of the
        question's weight that the chunk holds, 0 to 1), `dense` (cosine), and the chunk's columns;
        null where a side was not asked. Chunks that tie are in the order of their ids.

        Raises `UsageError` for a blank question or a filter that cannot be, `InputError` for a
        vector of other dimensions.
        """
        queries: Any = [query]
        return self.search_many(queries, k, where=where, mode=mode)[0]

    def search_many(
        self,
        queries: "Sequence[str] | Sequence[NDArray[np.float32]] | NDArray[np.float32]",
        k: int = 5,
        *,
        where: Where | None = None,
        mode: Mode = "hybrid",
    ) -> "list[pl.DataFrame]":
        """As `search` for each query, on all cores; the answers are the same."""
        if k < 1:
            raise UsageError(f"cannot look for {k} chunks: ask for at least one")
        asked = self._asked(queries, mode)
        rows = None if where is None else self._rows(where)
        found = searching.search(self.contents, asked, k, share=self.terms.lexical_share, rows=rows)
        return [self._frame(each) for each in found]

    def get(self, chunk_ids: Iterable[str]) -> "pl.DataFrame":
        """The chunks of these ids, in this order; those that are not held are left out."""
        import polars as pl

        wanted = pl.DataFrame({"chunk_id": list(chunk_ids)}, schema={"chunk_id": pl.String})
        found = wanted.join(self.chunks, on="chunk_id", how="inner", maintain_order="left")
        return found.select(self.chunks.columns)

    def count(self, where: Where | None = None) -> int:
        """How many chunks there are, for which `where` holds."""
        return len(self) if where is None else len(self._rows(where))

    def list(
        self, where: Where | None = None, *, after: str = "", limit: int = 100
    ) -> "pl.DataFrame":
        """Chunks in the order of their ids, a page at a time.

        Args:
            after: the last chunk_id of the page before.
        """
        import polars as pl

        chunks = self.chunks if where is None else self.chunks[self._rows(where)]
        return chunks.filter(pl.col("chunk_id") > after).sort("chunk_id").head(limit)

    def recall_check(self) -> float:
        """Search the graph and all vectors for the same questions: the share of the exact ten
        nearest that the graph finds; 1 where there is no graph."""
        if self.contents.graph is None:
            return 1.0
        held = self.contents
        return graph.recall(held.graph, held.vectors, held.labels, self.manifest.ef).recall_at_10

    def add(
        self, chunks: "pl.DataFrame", vectors: "NDArray[np.float32] | None" = None
    ) -> "Collection":
        """Add chunks that are new.

        Args:
            vectors: float32 of shape (chunks, dimensions), of length 1; None has them embedded.

        Raises `InputError` for an id that is already held; then nothing is added.
        """
        new = incoming.chunks(chunks)
        made = self._vectors(new, vectors)

        def change(held: Contents) -> "tuple[pl.DataFrame, Vectors]":
            known = new.join(held.chunks, on="chunk_id", how="semi")["chunk_id"]
            if len(known):
                raise InputError(
                    f"{len(known)} of {new.height} chunks are already in {self.name!r}, as "
                    f"{known[0]}: `upsert` replaces them"
                )
            return held.chunks.vstack(new), concatenate(held.vectors, made)

        return self._changed(change)

    def upsert(
        self, chunks: "pl.DataFrame", vectors: "NDArray[np.float32] | None" = None
    ) -> "Collection":
        """Add chunks, and put them in the place of those with the same ids. Arguments as `add`."""
        new = incoming.chunks(chunks)
        made = self._vectors(new, vectors)

        def change(held: Contents) -> "tuple[pl.DataFrame, Vectors]":
            stay = (~held.chunks["chunk_id"].is_in(new["chunk_id"].implode())).arg_true().to_numpy()
            rows = stay.astype("int64")
            kept = held.vectors.take(rows)
            return held.chunks[rows].vstack(new), concatenate(kept, made)

        return self._changed(change)

    def delete(
        self, *, chunk_ids: Iterable[str] = (), document_ids: Iterable[str] = ()
    ) -> "Collection":
        """Remove chunks by their ids or by those of their documents; unknown ones change nothing."""
        import polars as pl

        ids, documents = [*chunk_ids], [*document_ids]

        def change(held: Contents) -> "tuple[pl.DataFrame, Vectors]":
            goes = pl.col("chunk_id").is_in(ids) | pl.col("document_id").is_in(documents)
            rows = held.chunks.select((~goes).arg_true()).to_series().to_numpy().astype("int64")
            return held.chunks[rows], held.vectors.take(rows)

        return self._changed(change)

    def replace(
        self, chunks: "pl.DataFrame", vectors: "NDArray[np.float32]", *, serve: bool = True
    ) -> "Collection":
        """Hold exactly these afterwards; what did not change is not computed again.

        Args:
            vectors: float32 of shape (chunks, dimensions), of length 1.
            serve: False writes the version and leaves the earlier one serving, until `serve()`.

        Raises `InputError` when the chunks and vectors do not fit, or when the graph's recall is
        below `min_recall`; then the earlier version serves on.
        """
        new = incoming.chunks(chunks)
        made = self._vectors(new, vectors)
        home = versions.home(self.folder, self.name)
        with versions.writing(home):
            try:
                before = self._last(home)
            except InputError:
                before = None
            fits = before is not None and _comparable(before.manifest.terms, self.terms)
            digest = writing.write(home, self.terms, before if fits else None, new, made)
            self._finish(home, digest, serve=serve)
        return self._at(home, digest)

    def serve(self) -> "Collection":
        """From here on this version serves. Raises `InputError` when it is gone or damaged."""
        home = versions.home(self.folder, self.name)
        with versions.writing(home):
            found = opening.version(home, self.digest)
            self._finish(home, self.digest, serve=True)
        return self._opened(found)

    def _changed(self, change: Change) -> "Collection":
        """Change what is served now, which may be newer than what is open here."""
        home = versions.home(self.folder, self.name)
        with versions.writing(home):
            before = self._last(home)
            if before.degraded:
                raise InputError(f"{before.degraded}: its last changes would be lost")
            _must_fit(self.name, before.manifest.terms, self.terms)
            digest = writing.write(home, before.manifest.terms, before, *change(before.contents))
            self._finish(home, digest, serve=True)
        return self._at(home, digest)

    def _at(self, home: Path, digest: str) -> "Collection":
        """The version that was written; it may be this one."""
        held = self.digest == digest and not self.degraded and self.manifest.files
        return self if held else self._opened(opening.version(home, digest))

    def _last(self, home: Path) -> Opened:
        if versions.served(home)[:1] == [self.digest] and not self.degraded:
            return Opened(self.manifest, self.contents)
        return opening.current(home)

    @staticmethod
    def _finish(home: Path, digest: str, *, serve: bool) -> None:
        if serve and versions.served(home)[:1] != [digest]:
            versions.point(home, digest)
        versions.forget(home, digest)

    def _opened(self, found: Opened) -> "Collection":
        return Collection(
            self.folder,
            self.name,
            found.manifest,
            found.degraded,
            self.log,
            self.cache,
            contents=found.contents,
        )

    @cached_property
    def _embedder(self) -> "Model":
        from tracemill.retrieval.embed import model

        found = model(self.model, log=self.log, dimensions=self.dimensions)
        if found.identity != self.terms.identity:
            raise InputError(
                f"collection {self.name!r} holds vectors of {self.terms.identity}, questions would "
                f"be embedded by {found.identity}: build the collection again"
            )
        return found

    def _vectors(self, new: "pl.DataFrame", given: "NDArray[np.float32] | None") -> Vectors:
        if given is None:
            from tracemill.retrieval.embed import embed

            texts = searchable(new).to_list()
            given = embed(texts, model=self._embedder, kind="document", cache=self.cache).vectors
        incoming.vectors(given, new["chunk_id"], self.terms)
        return parts.quantised(given, self.terms.vectors)

    def _asked(
        self,
        queries: "Sequence[str] | Sequence[NDArray[np.float32]] | NDArray[np.float32]",
        mode: Mode,
    ) -> Sequence[Query]:
        texts = [query for query in queries if isinstance(query, str)]
        if not texts:
            return [Query(None, self._checked(query, mode)) for query in queries]
        if len(texts) < len(queries):
            raise UsageError("queries are all words or all vectors, not both")
        if not all(text.strip() for text in texts):
            raise UsageError("a question is blank: say what is looked for")
        if mode == "lexical":
            return [Query(text, None) for text in texts]
        from tracemill.retrieval.embed import embed

        vectors = embed(texts, model=self._embedder, kind="query", cache=self.cache).vectors
        words = texts if mode == "hybrid" else [None] * len(texts)
        return [Query(*both) for both in zip(words, vectors, strict=True)]

    def _checked(self, vector: Any, mode: Mode) -> "NDArray[np.float32]":
        import numpy as np

        if mode == "lexical":
            raise UsageError("a vector has no words: search it by mode='dense', or give a text")
        if np.shape(vector) != (self.dimensions,):
            raise InputError(
                f"collection {self.name!r} has vectors of {self.dimensions} numbers "
                f"({self.model}), the query has the shape {np.shape(vector)}: embed it by that model"
            )
        return np.asarray(vector, dtype=np.float32)

    def _rows(self, where: Where) -> "NDArray[np.int64]":
        """The rows that a filter leaves; the last few filters are remembered."""
        key = repr(filters.compiled(self.chunks.schema, where))
        found = self._filtered.get(key)
        if found is None:
            found = filters.rows(self.chunks, where)
            # Each step is whole, whatever other threads do between them.
            for old in list(self._filtered)[: -(_FILTERS_KEPT - 1)]:
                self._filtered.pop(old, None)
            self._filtered[key] = found
        return found

    def _frame(self, found: Found) -> "pl.DataFrame":
        import polars as pl

        scores = {
            "rank": pl.Series(range(1, len(found.rows) + 1), dtype=pl.Int64),
            "score": pl.Series(found.score, dtype=pl.Float64),
            "lexical": pl.Series(_or_nulls(found.lexical, found), dtype=pl.Float64),
            "dense": pl.Series(_or_nulls(found.dense, found), dtype=pl.Float64),
        }
        return pl.DataFrame(scores).hstack(self.chunks[found.rows])


def _or_nulls(side: "NDArray[np.float64] | None", found: Found) -> Any:
    return [None] * len(found.rows) if side is None else side


def _comparable(one: Terms, other: Terms) -> bool:
    """May vectors of both stand in one graph?"""
    return (one.identity, one.dimensions, one.vectors) == (
        other.identity,
        other.dimensions,
        other.vectors,
    )


def _must_fit(name: str, held: Terms, asked: Terms) -> None:
    if not _comparable(held, asked):
        raise InputError(
            f"collection {name!r} holds {held.vectors} vectors of {held.identity}, not "
            f"{asked.vectors} of {asked.identity}: `replace` all of its chunks, or name another"
        )
