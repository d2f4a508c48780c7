"""From raw documents to a collection that answers with its sources: clean, cut, embed, index."""

import time

import dagster as dg

from assets import show, sources
from assets.warehouse import OWNERS, Made, Warehouse, code_of

GROUP = "retrieval"
COLLECTION = "installed"
CODE = code_of(__name__, "tracemill.retrieval", "tracemill.llm")
LEAST_RECALL = 0.95


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=CODE,
    deps=[sources.raw_documents],
)
def documents(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Documents with clean text, each once; what was dropped lies beside them with the reason."""
    import polars as pl

    from tracemill.corpus.write import write_table
    from tracemill.retrieval.documents import normalise

    folder = warehouse.settings.indexes

    def work() -> Made:
        kept, dropped = normalise(pl.read_parquet(folder / "raw_documents.parquet", glob=False))
        table = write_table(kept, folder / "documents.parquet")
        refused = write_table(dropped, folder / "documents_dropped.parquet")
        lengths = kept["text"].str.len_chars() / 1000
        return Made(
            digest=table.digest,
            rows=table.rows,
            files=(table.path, refused.path),
            facts={"dropped": refused.rows, "characters": int(kept["text"].str.len_chars().sum())},
            pages={
                "sample": show.sample(kept.select("title", "source", "format", "text")),
                "plot": show.histogram("Length of documents", lengths, "thousand characters"),
            },
        )

    return warehouse.make(context, work)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=CODE,
    deps=[documents],
)
def chunks(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Stretches of at most 512 tokens, cut where the text's own structure allows it.

    Each knows its headings and its exact place in its document.
    """
    import polars as pl

    from tracemill.corpus.write import write_table
    from tracemill.retrieval.chunks import chunk

    folder = warehouse.settings.indexes

    def work() -> Made:
        frame = chunk(pl.read_parquet(folder / "documents.parquet", glob=False))
        table = write_table(frame, folder / "chunks.parquet")
        return Made(
            digest=table.digest,
            rows=table.rows,
            files=(table.path,),
            facts={
                "documents": frame["document_id"].n_unique(),
                "tokens": int(frame["tokens"].sum()),
            },
            pages={
                "sample": show.sample(frame.select("title", "headings", "start", "end", "text")),
                "plot": show.histogram("Length of chunks", frame["tokens"], "tokens"),
            },
        )

    return warehouse.make(context, work)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version=CODE,
    deps=[chunks],
)
def embeddings(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One vector a chunk, computed offline; a text that was embedded before comes from the cache."""
    import polars as pl

    from tracemill.corpus.write import write_table
    from tracemill.events import EmbeddingsComputed
    from tracemill.retrieval.chunks import searchable
    from tracemill.retrieval.embed import DIMENSIONS, MODEL, PROVIDER, embed

    settings = warehouse.settings

    def work() -> Made:
        frame = pl.read_parquet(settings.indexes / "chunks.parquet", glob=False)
        started = time.perf_counter()
        vectors, computed = embed(searchable(frame).to_list(), cache=settings.cache)
        event = EmbeddingsComputed(
            provider=PROVIDER,
            request_model=MODEL,
            dimensions=DIMENSIONS,
            texts=len(vectors),
            computed=computed,
            latency_ms=(time.perf_counter() - started) * 1000,
            **warehouse.origin(context),
        )
        vector = pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, DIMENSIONS))
        table = write_table(
            frame.select("chunk_id", vector), settings.indexes / "embeddings.parquet"
        )
        with warehouse.open_log() as log:
            log.append(event)
        neighbours = pl.Series((vectors[:-1] * vectors[1:]).sum(axis=1))
        return Made(
            digest=table.digest,
            rows=table.rows,
            files=(table.path,),
            facts={
                "model": MODEL,
                "dimensions": DIMENSIONS,
                "computed": computed,
                "from_cache": len(vectors) - computed,
                "duration_ms": round(event.latency_ms),
            },
            pages={
                "sample": show.sample(frame.select("chunk_id", "title", "text")),
                "plot": show.histogram("Likeness of neighbouring chunks", neighbours, "cosine"),
            },
        )

    return warehouse.make(context, work)


@dg.asset_check(asset=embeddings, blocking=True)
def vectors_fit(warehouse: Warehouse) -> dg.AssetCheckResult:
    """One finite vector a chunk, in the same order, of length 1 or (for a text without words) 0."""
    import numpy as np
    import polars as pl

    folder = warehouse.settings.indexes
    frame = pl.read_parquet(folder / "embeddings.parquet", glob=False)
    expected = pl.read_parquet(folder / "chunks.parquet", columns=["chunk_id"], glob=False)[
        "chunk_id"
    ]
    lengths = np.linalg.norm(frame["vector"].to_numpy(), axis=1)
    odd = int((~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0))).sum())
    return dg.AssetCheckResult(
        passed=odd == 0 and frame["chunk_id"].equals(expected),
        description=f"{frame.height} vectors for {expected.len()} chunks, {odd} of odd length",
        metadata={"vectors": frame.height, "odd": odd},
    )


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"hnswlib"},
    code_version=CODE,
    deps=[chunks, embeddings],
)
def chunk_index(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """The collection that questions are put to: words and vectors over all chunks."""
    import polars as pl

    from tracemill.events import IndexBuilt
    from tracemill.retrieval.index import build_index

    folder = warehouse.settings.indexes

    def work() -> Made:
        frame = pl.read_parquet(folder / "chunks.parquet", glob=False)
        vectors = pl.read_parquet(folder / "embeddings.parquet", glob=False)["vector"].to_numpy()
        index = build_index(frame, vectors, folder, COLLECTION)
        event = IndexBuilt(
            name=COLLECTION,
            digest=index.digest,
            chunks=len(index),
            dimensions=index.dimensions,
            embedding_model=index.model,
            recall_at_10=index.recall_at_10,
            **warehouse.origin(context),
        )
        with warehouse.open_log() as log:
            log.append(event)
        titles = frame["title"].value_counts(sort=True).head(12)
        return Made(
            digest=index.digest,
            rows=len(index),
            files=(
                folder / COLLECTION / "current",
                folder / COLLECTION / index.digest / "manifest.json",
            ),
            facts={
                "recall_at_10": index.recall_at_10,
                "version": index.digest,
                "model": index.model,
            },
            pages={
                "sample": show.sample(index.search("how to read a file", k=5).drop("chunk_id")),
                "plot": show.bars(
                    "Documents with most chunks",
                    titles["title"].to_list(),
                    titles["count"].to_list(),
                    "chunks",
                ),
            },
        )

    return warehouse.make(context, work)


@dg.asset_check(asset=chunk_index, blocking=True)
def index_recall(warehouse: Warehouse) -> dg.AssetCheckResult:
    """The graph finds at least 95 of 100 of the exact ten nearest, on a sample."""
    from tracemill.retrieval.index import open_index

    index = open_index(warehouse.settings.indexes, COLLECTION)
    return dg.AssetCheckResult(
        passed=index.recall_at_10 >= LEAST_RECALL,
        description=f"recall at 10 is {index.recall_at_10:.3f}, at least {LEAST_RECALL} is asked",
        metadata={"recall_at_10": index.recall_at_10},
    )
