"""From chunks and vectors to a collection that answers: words and likeness, in one version.

What is gone leaves the index; a version serves once it is whole and has passed its recall check.
"""

from collections.abc import Sequence

import dagster as dg

from assets import show
from assets.documents import GROUP, origins, table
from assets.retrieval import chunks, embeddings, weights
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import InputError
from tracemill.settings import Settings

PARTS = ("frames", "embed", "collection", "lexical", "fusion", "filters", "rerank")


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"hnswlib"},
    code_version=code_of(
        __name__,
        *(f"tracemill.retrieval.{name}" for name in PARTS),
        *(f"tracemill.llm.{name}" for name in ("bm25", "words")),
        "tracemill.tokenizer",
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
        vectors = pl.read_parquet(table(settings, name, "embeddings"), glob=False)
        if not vectors["chunk_id"].equals(frame["chunk_id"]):
            raise InputError(
                f"{name}: its vectors are not those of its chunks, as another build writes them: "
                "build it again"
            )
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
            made = before.replace(frame, vectors["vector"].to_numpy())
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
            did={"added": len(now - held), "deleted": len(held - now)},
        )

    asked = {
        name: {
            chunks.key.to_user_string(): cut[name],
            embeddings.key.to_user_string(): embedded[name],
            "recipe": found[name].recipe.model_dump_json(
                include={"vectors", "min_recall", "lexical_share"}
            ),
            "weights": weights(found[name]),
        }
        for name in cut.keys() & embedded.keys() & found.keys()
    }
    for name, digest in warehouse.parts(context.asset_key).items():
        if not _serves(settings, name, digest):
            warehouse.forget(context.asset_key, name)

    def whole() -> dict[str, str]:
        return _index_pages(settings, sorted(warehouse.parts(context.asset_key)))

    return warehouse.make_each(context, work, asked, whole)


@dg.asset_check(asset=chunk_index, blocking=True)
def index_holds(warehouse: Warehouse) -> dg.AssetCheckResult:
    """What serves is whole, holds the chunks of today and no others, and finds the nearest."""
    import polars as pl

    from tracemill.retrieval.collection import open_collection

    settings = warehouse.settings
    problems: list[str] = []
    recalls: dict[str, float] = {}
    found = origins(settings)
    for name in sorted(warehouse.parts(chunk_index.key).keys() & found.keys()):
        held = open_collection(settings.indexes, name)
        wanted = pl.read_parquet(table(settings, name, "chunks"), columns=["chunk_id"], glob=False)
        recalls[name] = held.recall_at_10
        stale = set(held.chunks["chunk_id"]) ^ set(wanted["chunk_id"])
        least = found[name].recipe.min_recall
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


def _serves(settings: Settings, name: str, digest: str) -> bool:
    """Whether a version is whole and the one that serves."""
    from tracemill.retrieval.collection import open_collection

    try:
        held = open_collection(settings.indexes, name)
    except InputError:
        return False
    return held.digest == digest and not held.degraded


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
