"""From raw records to training splits: repaired, each once, and never moved from split to split."""

import dagster as dg

from assets import show, sources
from assets.warehouse import OWNERS, Made, Warehouse, code_of

GROUP = "corpus"
CODE = code_of(__name__, "tracemill.corpus")
NAME, SEED = "records", 0
TEXTS = ("user_query", "assistant_response", "source")


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"polars", "parquet"},
    code_version=CODE,
    deps=[sources.raw_records],
)
def clean_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Records with repaired texts; what was dropped lies beside them with the reason."""
    import polars as pl

    from tracemill.corpus.clean import clean
    from tracemill.corpus.write import write_table

    folder = warehouse.settings.corpus

    def work() -> Made:
        cleaned = clean(pl.read_parquet(folder / "raw_records.parquet"))
        kept = write_table(cleaned.kept, folder / "clean_records.parquet")
        dropped = write_table(cleaned.dropped, folder / "clean_records_dropped.parquet")
        reasons = cleaned.dropped["reason"].value_counts(sort=True)
        return Made(
            digest=kept.digest,
            rows=kept.rows,
            files=(kept.path, dropped.path),
            facts={"dropped": dropped.rows},
            pages={
                "sample": show.sample(cleaned.kept.select(TEXTS)),
                "plot": show.bars(
                    "Why records were dropped",
                    reasons["reason"].to_list(),
                    reasons["count"].to_list(),
                    "records",
                ),
            },
        )

    return warehouse.make(context, work)


@dg.asset_check(asset=clean_records, blocking=True)
def no_record_lost(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every raw record was kept or dropped with a reason; none disappeared or was made up."""
    import polars as pl

    folder = warehouse.settings.corpus
    ids = pl.scan_parquet(folder / "raw_records.parquet").select("record_id").collect()
    kept = pl.scan_parquet(folder / "clean_records.parquet").select("record_id").collect()
    dropped = pl.read_parquet(
        folder / "clean_records_dropped.parquet", columns=["record_id", "reason"]
    )
    accounted = pl.concat([kept, dropped.select("record_id")])
    whole = ids["record_id"].sort().equals(accounted["record_id"].sort())
    return dg.AssetCheckResult(
        passed=whole and dropped["reason"].null_count() == 0,
        description=f"{ids.height:,} raw = {kept.height:,} kept + {dropped.height:,} dropped",
    )


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"datasketch", "parquet"},
    code_version=CODE,
    deps=[clean_records],
)
def unique_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Records that are not nearly the same as another; each removal names the one that stayed."""
    import polars as pl

    from tracemill.corpus.dedup import deduplicate
    from tracemill.corpus.write import write_table

    folder = warehouse.settings.corpus

    def work() -> Made:
        unique = deduplicate(pl.read_parquet(folder / "clean_records.parquet"))
        kept = write_table(unique.kept, folder / "unique_records.parquet")
        dropped = write_table(unique.dropped, folder / "unique_records_dropped.parquet")
        near = unique.dropped.filter(pl.col("jaccard") < 1)
        return Made(
            digest=kept.digest,
            rows=kept.rows,
            files=(kept.path, dropped.path),
            facts={"duplicates": dropped.rows, "near_duplicates": near.height},
            pages={
                "sample": show.sample(unique.kept.select(TEXTS)),
                "removed": show.sample(unique.dropped.select("user_query", "kept_id", "jaccard")),
                "plot": show.histogram(
                    "Likeness of removed near-duplicates", near["jaccard"], "Jaccard similarity"
                ),
            },
        )

    return warehouse.make(context, work)


@dg.asset_check(asset=unique_records, blocking=True)
def duplicates_explained(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Kept and removed add up, and each removal names a record that stayed, at 0.8 or more."""
    import polars as pl

    folder = warehouse.settings.corpus
    clean = pl.scan_parquet(folder / "clean_records.parquet").select(pl.len()).collect().item()
    kept = pl.read_parquet(folder / "unique_records.parquet", columns=["record_id"])
    dropped = pl.read_parquet(folder / "unique_records_dropped.parquet")
    stayed = dropped["kept_id"].is_in(kept["record_id"].implode()).all()
    near = bool((dropped["jaccard"] >= 0.8).all())
    return dg.AssetCheckResult(
        passed=bool(stayed) and near and clean == kept.height + dropped.height,
        description=f"{clean:,} clean = {kept.height:,} kept + {dropped.height:,} duplicates",
    )


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "json"},
    code_version=CODE,
    deps=[unique_records],
)
def training_splits(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Train, validation and test, as Parquet and JSONL, in a folder named by its content.

    A record stays in its split when others arrive: the split is a hash of its duplicate group.
    """
    import polars as pl

    from tracemill.corpus.split import split
    from tracemill.corpus.write import write_splits
    from tracemill.events import DatasetBuilt

    folder = warehouse.settings.corpus
    inputs = {"corpus/unique_records": warehouse.digest(unique_records.key)}

    def work() -> Made:
        frame = split(pl.read_parquet(folder / "unique_records.parquet"), salt=str(SEED))
        built = write_splits(frame, folder / "splits", name=NAME, inputs=inputs, seed=str(SEED))
        with warehouse.open_log() as log:
            event = DatasetBuilt(
                name=NAME,
                digest=built.digest,
                rows=built.rows,
                seed=SEED,
                inputs=tuple(inputs.values()),
                log_position=log.position(),
                **warehouse.origin(context),
            )
            log.append(event)
        return Made(
            digest=built.digest,
            rows=frame.height,
            files=tuple(sorted(built.path.iterdir())),
            facts={**built.rows, "version": built.path.name, "seed": SEED},
            pages={
                "sample": show.sample(frame.select("split", *TEXTS), rows=8),
                "plot": show.bars(
                    "Records by split", list(built.rows), list(built.rows.values()), "records"
                ),
            },
        )

    return warehouse.make(context, work, inputs)


@dg.asset_check(asset=training_splits, blocking=True)
def splits_disjoint(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No record and no group of duplicates is in two splits, and none is missing."""
    import polars as pl

    from tracemill.corpus.write import current

    folder = warehouse.settings.corpus
    version = current(folder / "splits")
    rows = pl.concat(
        pl.read_parquet(
            version.path / f"{name}.parquet", columns=["record_id", "group_id", "split"]
        )
        for name in version.rows
    )
    torn = rows.group_by("group_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)
    unique = pl.scan_parquet(folder / "unique_records.parquet").select("record_id").collect()
    whole = rows["record_id"].sort().equals(unique["record_id"].sort())
    return dg.AssetCheckResult(
        passed=whole and torn.is_empty(),
        description=f"{rows.height:,} records, {torn.height} groups in more than one split",
        metadata={"records": rows.height, "torn_groups": torn.height},
    )
