"""Records that mean nearly the same: dropped where `raw/dataset.yaml` asks for it.

`dedup.semantic` is off unless it is set. Then this step writes nothing: `step` says that the tables
of `unique_records` are what comes next.
"""

from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

import dagster as dg

from assets import flow, show
from assets.cleaning import GROUP
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.recipe import Dedup

UNIQUE = dg.AssetKey([GROUP, "unique_records"])
DISTINCT = "distinct_records"
TEXTS_AT_ONCE = 10_000


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"numpy", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in ("records", "dedup", "semantic")),
        *("tracemill.retrieval.embed", "tracemill.tokenizer"),
    ),
    deps=[UNIQUE],
)
def distinct_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Records that do not mean nearly the same as another, by the cosine of offline embeddings.

    Only where `dedup.semantic` names the least cosine; else all unique records go on as they are.
    """
    settings = warehouse.settings
    asked = flow.dataset_recipe(settings).dedup
    off = asked.semantic is None

    def work() -> Made:
        return _passed_on(warehouse) if off else _sifted(settings, asked)

    inputs = {
        "unique_records": warehouse.digest(UNIQUE),
        "recipe": "off" if off else asked.model_dump_json(include={"fields", "semantic"}),
    }
    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=distinct_records, blocking=True, name="no_record_lost")
def none_lost_as_semantic_duplicates(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every unique record was kept, or dropped as a semantic duplicate."""
    if step(warehouse) != DISTINCT:
        return dg.AssetCheckResult(passed=True, description="all go on: dedup.semantic is not set")
    return flow.accounted(warehouse.settings, distinct_records.key, UNIQUE)


@dg.asset_check(asset=distinct_records, blocking=True, name="duplicates_explained")
def semantic_duplicates_explained(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Each removal names a record that stayed and their cosine, at the threshold or above."""
    import polars as pl

    settings = warehouse.settings
    if step(warehouse) != DISTINCT:
        return dg.AssetCheckResult(passed=True, description="none: dedup.semantic is not set")
    kept = pl.scan_parquet(flow.kept_files(settings, DISTINCT), glob=False).select("record_id")
    dropped = pl.scan_parquet(flow.dropped_files(settings, DISTINCT), glob=False)
    lost = dropped.join(kept, left_on="kept_id", right_on="record_id", how="anti").select(pl.len())
    rows, likeness = dropped.select(pl.len(), pl.col("similarity").min()).collect().row(0)
    strangers = lost.collect().item()
    least = flow.dataset_recipe(settings).dedup.semantic or 0
    return dg.AssetCheckResult(
        passed=strangers == 0 and (likeness is None or likeness >= least),
        description=f"{rows:,} duplicates, {strangers:,} of a record that did not stay",
    )


def step(warehouse: Warehouse) -> str:
    """The step whose tables hold what this one let through: itself, or the one before."""
    record = warehouse.last(distinct_records.key)
    return DISTINCT if record and record["made"]["files"] else UNIQUE.path[-1]


def _passed_on(warehouse: Warehouse) -> Made:
    import polars as pl

    from tracemill.corpus import records

    settings = warehouse.settings
    for file in (*flow.kept_files(settings, DISTINCT), *flow.dropped_files(settings, DISTINCT)):
        file.unlink()
    files = flow.kept_files(settings, UNIQUE.path[-1])
    table = pl.scan_parquet(files, glob=False)
    rows = table.select(pl.len()).collect().item()
    said = table.head(flow.SAMPLE_ROWS).select(records.question(), records.answer(), "source")
    plot = show.bars("Passed on: dedup.semantic is not set", ["records"], [rows], "records")
    return Made(
        digest=warehouse.digest(UNIQUE),
        rows=rows,
        files=(),
        facts={"dropped": 0},
        pages={"sample": show.sample(said.collect()), "plot": plot},
    )


def _sifted(settings: Settings, asked: "Dedup") -> Made:
    from tracemill.corpus import semantic
    from tracemill.retrieval.embed import MODEL

    decisions = _decisions(settings, asked)
    batches = flow.records_of(settings, UNIQUE.path[-1])
    judged = (semantic.decide(batch, decisions) for batch in batches)
    made = flow.sift(settings, DISTINCT, judged, {"model": MODEL, "fields": asked.fields})
    unit = "cosine of the embeddings of a dropped record and the one that stayed"
    likeness = decisions["similarity"]
    pages = {} if likeness.is_empty() else {
        "likeness": show.histogram("Likeness of removed semantic duplicates", likeness, unit)
    }  # fmt: skip
    return made.with_more(pages=pages)


def _decisions(settings: Settings, asked: "Dedup") -> "pl.DataFrame":
    """On all records; their vectors lie in a file that nobody sees and that is gone afterwards."""
    import numpy as np
    import polars as pl

    from tracemill.corpus import dedup, semantic
    from tracemill.retrieval.embed import DIMENSIONS

    ranks: list[pl.DataFrame] = []
    with TemporaryFile(dir=settings.corpus) as file:
        for batch in flow.records_of(settings, UNIQUE.path[-1]):
            documents = dedup.documents(batch, asked.fields)
            _embed(documents["text"].to_list(), file)
            ranks.append(documents.select("record_id", "length", "quality"))
        file.flush()
        table = pl.concat(ranks)
        shape = (table.height, DIMENSIONS)
        vectors = (
            np.memmap(file, np.float32, "r", shape=shape)
            if table.height
            else np.empty(shape, np.float32)
        )
        return semantic.decisions(table, vectors, asked.semantic or 1)


def _embed(texts: list[str], file: IO[bytes]) -> None:
    """Write the vectors of texts. Not by the cache of embeddings: records would fill it for ever."""
    from tracemill.retrieval.embed import compute

    for at in range(0, len(texts), TEXTS_AT_ONCE):
        file.write(compute(texts[at : at + TEXTS_AT_ONCE]).tobytes())
