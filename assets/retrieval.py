"""From documents to a collection that answers with its sources: cut, embed, index.

Each collection takes this road on its own, and only what changed takes it again: files that were
edited are read, new chunks are embedded, and what is gone leaves the index.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from assets import show
from assets.documents import GROUP, SAMPLE_ROWS, all_rows, documents, origins, table
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(
        __name__, *(f"tracemill.retrieval.{name}" for name in ("frames", "blocks", "chunks"))
    ),
    deps=[documents],
)
def chunks(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Stretches of at most 512 tokens, cut where the text's own structure allows it.

    Each knows its headings and its exact place in its document: page, line, character.
    """
    import polars as pl

    from tracemill.corpus.tables import write_table
    from tracemill.retrieval import embed
    from tracemill.retrieval.chunks import chunk

    settings = warehouse.settings
    found = origins(settings)
    parts = warehouse.parts(documents.key)

    def work(name: str) -> Made:
        recipe = found[name].recipe
        with warehouse.open_log() as log:
            model = embed.model(recipe.model, log=log, dimensions=recipe.dimensions)
        frame = chunk(
            pl.read_parquet(table(settings, name, "documents"), glob=False),
            strategy=recipe.chunking.strategy,
            tokens=recipe.chunking.tokens,
            overlap=recipe.chunking.overlap,
            starts=model.starts,
            earlier=_earlier(settings, name, "chunks"),
        )
        written = write_table(frame, table(settings, name, "chunks"))
        return Made(
            digest=written.digest,
            rows=written.rows,
            files=(written.path,),
            facts={
                "documents": frame["document_id"].n_unique(),
                "tokens": int(frame["tokens"].sum()),
            },
        )

    def whole() -> dict[str, str]:
        rows = all_rows(settings, "chunks", parts)
        sample = rows.select("title", "headings", "start", "end", "text").head(SAMPLE_ROWS)
        tokens = rows.select("tokens").collect().to_series()
        return {
            "sample": show.sample(sample.collect()),
            "plot": show.histogram("Length of chunks", tokens, "tokens"),
        }

    asked = {
        name: {
            documents.key.to_user_string(): digest,
            "recipe": found[name].recipe.model_dump_json(include={"chunking", "model"}),
        }
        for name, digest in parts.items()
    }
    return warehouse.make_each(context, work, asked, whole)


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version=code_of(__name__, "tracemill.retrieval.embed", "tracemill.tokenizer"),
    deps=[chunks],
)
def embeddings(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One vector a chunk; a text that was embedded before, anywhere, comes from the cache."""
    import polars as pl

    from tracemill.corpus.tables import write_table
    from tracemill.events import EmbeddingsComputed
    from tracemill.retrieval import embed
    from tracemill.retrieval.frames import searchable

    settings = warehouse.settings
    found = origins(settings)
    parts = warehouse.parts(chunks.key)

    def work(name: str) -> Made:
        recipe = found[name].recipe
        frame = pl.read_parquet(table(settings, name, "chunks"), glob=False)
        started = time.perf_counter()
        with warehouse.open_log() as log:
            model = embed.model(recipe.model, log=log, dimensions=recipe.dimensions)
            made = embed.embed(
                searchable(frame).to_list(), model=model, kind="document", cache=settings.cache
            )
            provider, _, request_model = model.name.partition("/")
            event = EmbeddingsComputed(
                provider=provider,
                request_model=request_model,
                dimensions=model.dimensions,
                texts=frame.height,
                computed=made.computed,
                collection=name,
                call_ids=made.call_ids,
                latency_ms=(time.perf_counter() - started) * 1000,
                **warehouse.origin(context),
            )
            log.append(event)
        vector = pl.Series("vector", made.vectors, dtype=pl.Array(pl.Float32, model.dimensions))
        written = write_table(
            frame.select("chunk_id").with_columns(vector), table(settings, name, "embeddings")
        )
        return Made(
            digest=written.digest,
            rows=written.rows,
            files=(written.path,),
            facts={
                "model": model.name,
                "computed": made.computed,
                "from_cache": frame.height - made.computed,
                "duration_ms": round(event.latency_ms),
            },
        )

    def whole() -> dict[str, str]:
        sample = all_rows(settings, "chunks", parts).select("chunk_id", "title", "text")
        rows = sample.head(SAMPLE_ROWS).collect()
        likeness = pl.concat([_likeness(settings, name) for name in sorted(parts)])
        return {
            "sample": show.sample(rows),
            "plot": show.histogram("Likeness of neighbouring chunks", likeness, "cosine"),
        }

    asked = {
        name: {
            chunks.key.to_user_string(): digest,
            "recipe": found[name].recipe.model_dump_json(include={"model", "dimensions"}),
        }
        for name, digest in parts.items()
    }
    return warehouse.make_each(context, work, asked, whole)


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"hnswlib"},
    code_version=code_of(
        __name__,
        *(
            f"tracemill.retrieval.{name}"
            for name in ("frames", "collection", "lexical", "fusion", "filters")
        ),
    ),
    deps=[chunks, embeddings],
)
def chunk_index(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Collections that questions are put to: words and vectors over all chunks.

    Only what changed is added and taken out; a version serves once it has passed its recall check.
    """
    import polars as pl

    from tracemill.events import IndexBuilt
    from tracemill.retrieval.collection import create

    settings = warehouse.settings
    found = origins(settings)
    cut, embedded = warehouse.parts(chunks.key), warehouse.parts(embeddings.key)

    def work(name: str) -> Made:
        recipe = found[name].recipe
        frame = pl.read_parquet(table(settings, name, "chunks"), glob=False)
        vectors = pl.read_parquet(table(settings, name, "embeddings"), glob=False)["vector"]
        with warehouse.open_log() as log:
            before = create(
                settings.indexes,
                name,
                model=recipe.model,
                dimensions=recipe.dimensions,
                vectors=recipe.vectors,
                lexical_share=recipe.lexical_share,
                min_recall=recipe.min_recall,
                log=log,
                cache=settings.cache,
                exist_ok=True,
            )
            made = before.replace(frame, vectors.to_numpy())
            held, now = set(before.chunks["chunk_id"]), set(frame["chunk_id"])
            event = IndexBuilt(
                name=name,
                digest=made.digest,
                chunks=len(made),
                dimensions=made.dimensions,
                embedding_model=made.model,
                recall_at_10=made.recall_at_10,
                documents=frame["document_id"].n_unique(),
                added=len(now - held),
                deleted=len(held - now),
                **warehouse.origin(context),
            )
            log.append(event)
        home = settings.collection(name)
        return Made(
            digest=made.digest,
            rows=len(made),
            files=(home / "current", home / made.digest / "manifest.json"),
            facts={"added": len(now - held), "deleted": len(held - now)},
        )

    asked = {
        name: {
            chunks.key.to_user_string(): cut[name],
            embeddings.key.to_user_string(): embedded[name],
            "recipe": found[name].recipe.model_dump_json(
                include={"vectors", "min_recall", "lexical_share"}
            ),
        }
        for name in cut.keys() & embedded.keys()
    }
    return warehouse.make_each(context, work, asked, lambda: _index_pages(settings, sorted(asked)))


KEYS = [documents.key, chunks.key, embeddings.key, chunk_index.key]


@dg.asset_check(asset=embeddings, blocking=True)
def vectors_fit(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each chunk is embedded once, in numbers that the recipe asks for, of length 1 (or 0: no words)."""
    import numpy as np
    import polars as pl

    settings = warehouse.settings
    problems: list[str] = []
    total = 0
    for name in sorted(warehouse.parts(embeddings.key)):
        frame = pl.read_parquet(table(settings, name, "embeddings"), glob=False)
        wanted = pl.read_parquet(table(settings, name, "chunks"), columns=["chunk_id"], glob=False)
        lengths = np.linalg.norm(frame["vector"].to_numpy(), axis=1)
        odd = int((~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0))).sum())
        total += frame.height
        if not frame["chunk_id"].equals(wanted["chunk_id"]):
            problems.append(f"{name}: {frame.height} vectors for {wanted.height} chunks")
        if frame["chunk_id"].n_unique() < frame.height:
            problems.append(f"{name}: a chunk has two vectors")
        if odd:
            problems.append(f"{name}: {odd} vectors are not of length 1")
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems) or f"{total:,} chunks, each with its vector",
        metadata={"vectors": total},
    )


@dg.asset_check(asset=chunk_index, blocking=True)
def index_holds(warehouse: Warehouse) -> dg.AssetCheckResult:
    """What serves is whole, holds the chunks of today and no others, and finds the nearest."""
    import polars as pl

    from tracemill.retrieval.collection import open_collection

    settings = warehouse.settings
    problems: list[str] = []
    recalls: dict[str, float] = {}
    for name in sorted(warehouse.parts(chunk_index.key)):
        held = open_collection(settings.indexes, name)
        wanted = pl.read_parquet(table(settings, name, "chunks"), columns=["chunk_id"], glob=False)
        recalls[name] = held.recall_at_10
        stale = set(held.chunks["chunk_id"]) ^ set(wanted["chunk_id"])
        least = origins(settings)[name].recipe.min_recall
        if held.degraded:
            problems.append(held.degraded)
        if stale:
            problems.append(f"{name}: {len(stale)} chunks are stale or missing")
        if held.recall_at_10 < least:
            problems.append(f"{name}: recall at 10 is {held.recall_at_10:.3f}, {least} is asked")
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems) or f"{len(recalls)} collections, nothing stale",
        metadata={f"recall_at_10/{name}": recall for name, recall in recalls.items()},
    )


def _earlier(settings: Settings, name: str, what: str) -> "pl.DataFrame | None":
    import polars as pl

    path = table(settings, name, what)
    return pl.read_parquet(path, glob=False) if path.is_file() else None


def _likeness(settings: Settings, name: str) -> "pl.Series":
    import polars as pl

    vectors = pl.read_parquet(table(settings, name, "embeddings"), glob=False)["vector"].to_numpy()
    return pl.Series("likeness", (vectors[:-1] * vectors[1:]).sum(axis=1), dtype=pl.Float32)


def _index_pages(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    import polars as pl

    from tracemill.retrieval.collection import open_collection

    rows = [
        {
            "collection": held.name,
            "chunks": len(held),
            "documents": held.manifest.documents,
            "model": held.model,
            "recall_at_10": round(held.recall_at_10, 4),
            "version": held.digest,
        }
        for held in (open_collection(settings.indexes, name) for name in names)
    ]
    return {
        "sample": show.sample(pl.DataFrame(rows), rows=40),
        "plot": show.bars(
            "Chunks by collection",
            [str(row["collection"]) for row in rows],
            [int(row["chunks"]) for row in rows],
            "chunks",
        ),
    }
