"""All that did not become training data, in one table: the lines refused, the records dropped.

In a notebook: `pl.read_parquet(settings.quarantined_records)`; on the command line `tracemill
quarantine`.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import dagster as dg

from assets import corpus, distinct, flow, show, sources, splits
from assets.cleaning import clean_records, protected_records
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

STEPS = [
    clean_records,
    protected_records,
    corpus.fitting_records,
    corpus.unique_records,
    distinct.distinct_records,
    corpus.decontaminated_records,
    splits.training_splits,
]
EVIDENCE = {
    "kept_id": "String",
    "jaccard": "Float64",
    "similarity": "Float64",
    "evaluation": "String",
    "shared": "String",
}
TEXT_CHARACTERS = 400


@dg.asset(
    key_prefix="corpus",
    group_name="corpus",
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=code_of(__name__),
    deps=[sources.raw_records, *STEPS],
)
def quarantine(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Every line that was refused and every record that was dropped: step, origin, source, reason.

    A duplicate names the record that stayed and their likeness; a contaminated record names the
    evaluation set and what they share.
    """
    from tracemill.corpus.tables import write_table

    settings = warehouse.settings

    def work() -> Made:
        table = write_table(_rows(settings), settings.quarantined_records)
        return Made(
            digest=table.digest, rows=table.rows, files=(table.path,), pages=_pages(settings)
        )

    return warehouse.make(context, work)


def _rows(settings: Settings) -> "Iterator[pl.DataFrame]":
    import polars as pl

    from tracemill.corpus.tables import read_batches

    types = {name: getattr(pl, kind) for name, kind in EVIDENCE.items()}
    for file in sorted((settings.quarantine / sources.RAW).glob("*.parquet")):
        for batch in read_batches([file]):
            yield _line(batch, file.stem, types)
    for step in STEPS:
        name = step.key.path[-1]
        for batch in read_batches(flow.dropped_files(settings, name)):
            yield _record(batch, name, types)


def _line(
    refused: "pl.DataFrame", origin: str, types: "Mapping[str, pl.DataType]"
) -> "pl.DataFrame":
    """A line that could not be read, as a row of the quarantine."""
    import polars as pl

    where = pl.concat_str("file", pl.lit(":") + pl.col("line").cast(pl.String), ignore_nulls=True)
    return refused.select(
        step=pl.lit(sources.RAW),
        origin=pl.lit(origin),
        source=where,
        record_id=pl.lit(None, pl.String),
        reason="reason",
        text="text",
        **{name: pl.lit(None, kind) for name, kind in types.items()},
    )


def _record(
    dropped: "pl.DataFrame", step: str, types: "Mapping[str, pl.DataType]"
) -> "pl.DataFrame":
    """A record that a step dropped, as a row of the quarantine."""
    import polars as pl

    from tracemill.corpus import records

    return dropped.select(
        "origin",
        "source",
        "record_id",
        "reason",
        step=pl.lit(step),
        text=records.whole().str.head(TEXT_CHARACTERS),
        **{
            name: pl.col(name) if name in dropped.columns else pl.lit(None, kind)
            for name, kind in types.items()
        },
    ).select("step", "origin", "source", "record_id", "reason", "text", *types)


def _pages(settings: Settings) -> dict[str, str]:
    import polars as pl

    rows = pl.scan_parquet(settings.quarantined_records, glob=False)
    why = rows.group_by("step", "reason").len("records").sort("records", "reason", descending=True)
    by_step = rows.group_by("step").len("records").collect()
    order = [sources.RAW, *(step.key.path[-1] for step in STEPS)]
    counts = dict(by_step.iter_rows())
    return {
        "reasons": show.sample(why.collect(), rows=40, width=160),
        "sample": show.sample(rows.head(8).collect().drop("record_id")),
        "plot": show.bars(
            "What did not become training data, by step",
            order,
            [counts.get(step, 0) for step in order],
            "lines and records",
        ),
    }
