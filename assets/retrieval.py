"""From documents to vectors: texts are cut into chunks, and chunks are embedded.

Each collection takes this road on its own, and only what changed takes it again.
"""

import time
from typing import TYPE_CHECKING

import dagster as dg

from assets import show
from assets.documents import GROUP, SAMPLE_ROWS, Origin, all_rows, documents, origins, table
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import UsageError
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
        __name__,
        *(f"tracemill.retrieval.{name}" for name in ("frames", "blocks", "chunks", "embed")),
        "tracemill.tokenizer",
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
        rows = all_rows(settings, "chunks", warehouse.parts(context.asset_key))
        sample = rows.select("title", "headings", "start", "end", "text").head(SAMPLE_ROWS)
        tokens = rows.select("tokens").collect().to_series()
        return {
            "sample": show.sample(sample.collect()),
            "plot": show.histogram("Length of chunks", tokens, "tokens"),
        }

    asked = {
        name: {
            documents.key.to_user_string(): digest,
            "recipe": found[name].recipe.model_dump_json(
                include={"chunking", "model", "dimensions"}
            ),
        }
        for name, digest in parts.items()
        if name in found
    }
    return warehouse.make_each(context, work, asked, whole)


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.retrieval.{name}" for name in ("frames", "embed")),
        "tracemill.tokenizer",
    ),
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
            facts={"model": model.name, "dimensions": model.dimensions},
            did={
                "computed": made.computed,
                "from_cache": frame.height - made.computed,
                "duration_ms": round(event.latency_ms),
            },
        )

    def whole() -> dict[str, str]:
        names = sorted(warehouse.parts(context.asset_key))
        sample = all_rows(settings, "chunks", names).select("chunk_id", "title", "text")
        rows = sample.head(SAMPLE_ROWS).collect()
        likeness = pl.concat([_likeness(settings, name) for name in names])
        return {
            "sample": show.sample(rows),
            "plot": show.histogram("Likeness of neighbouring chunks", likeness, "cosine"),
        }

    asked = {
        name: {
            chunks.key.to_user_string(): digest,
            "recipe": found[name].recipe.model_dump_json(include={"model", "dimensions"}),
            "weights": weights(found[name]),
        }
        for name, digest in parts.items()
        if name in found
    }
    return warehouse.make_each(context, work, asked, whole)


@dg.asset_check(asset=embeddings, blocking=True)
def vectors_fit(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each chunk is embedded once, in numbers that the recipe asks for, of length 1 (or 0: no words)."""
    import numpy as np
    import polars as pl

    settings = warehouse.settings
    found = origins(settings)
    problems: list[str] = []
    total = 0
    for name in sorted(warehouse.parts(embeddings.key).keys() & found.keys()):
        frame = pl.read_parquet(table(settings, name, "embeddings"), glob=False)
        wanted = pl.read_parquet(table(settings, name, "chunks"), columns=["chunk_id"], glob=False)
        lengths = np.linalg.norm(frame["vector"].to_numpy(), axis=1)
        odd = int((~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0))).sum())
        total += frame.height
        if not frame["chunk_id"].equals(wanted["chunk_id"]):
            problems.append(f"{name}: {frame.height} vectors for {wanted.height} chunks")
        if frame["chunk_id"].n_unique() < frame.height:
            problems.append(f"{name}: a chunk has two vectors")
        width, asked = frame["vector"].to_numpy().shape[1], _dimensions(warehouse, name)
        if width != asked:
            problems.append(f"{name}: vectors of {width} numbers, the model has {asked}")
        if odd:
            problems.append(f"{name}: {odd} vectors are not of length 1")
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems) or f"{total:,} chunks, each with its vector",
        metadata={"vectors": total},
    )


def weights(origin: Origin) -> str:
    """Which model embeds: the one of a name is another after an update of its package."""
    from tracemill.retrieval import embed

    recipe = origin.recipe
    try:
        return embed.model(recipe.model, dimensions=recipe.dimensions).identity
    except (
        UsageError
    ):  # A provider's, whose name is all that is known; or one to be told by `work`.
        return recipe.model


def _dimensions(warehouse: Warehouse, name: str) -> int:
    """What the model gave when a collection was embedded."""
    record = warehouse.last(embeddings.key, name)
    return record["made"]["facts"]["dimensions"] if record else 0


def _earlier(settings: Settings, name: str, what: str) -> "pl.DataFrame | None":
    import polars as pl

    path = table(settings, name, what)
    return pl.read_parquet(path, glob=False) if path.is_file() else None


def _likeness(settings: Settings, name: str) -> "pl.Series":
    import polars as pl

    vectors = pl.read_parquet(table(settings, name, "embeddings"), glob=False)["vector"].to_numpy()
    return pl.Series("likeness", (vectors[:-1] * vectors[1:]).sum(axis=1), dtype=pl.Float32)
