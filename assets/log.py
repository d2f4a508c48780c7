"""What happened: the log's tail sealed, and its calls and costs as tables that any tool opens."""

import dagster as dg

from assets import evaluation, indexes, promotion, retrieval, show, sources, splits
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.log import EventLog

GROUP = "log"
CODE = code_of(__name__, "tracemill.log")
# Prompts and answers stay in the log: these columns can be shared.
CALLS = """
    SELECT * EXCLUDE (prompt, answer, error_message), length(prompt) AS prompt_characters
    FROM calls ORDER BY started_at, call_id
"""
COSTS = "SELECT * FROM costs_by_day ORDER BY day, provider, request_model"


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"duckdb", "parquet"},
    code_version=CODE,
    deps=[
        sources.raw_records,
        splits.training_splits,
        retrieval.embeddings,
        indexes.chunk_index,
        evaluation.evaluation,
        promotion.production_model,
    ],
)
def log_fold(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """The log's newest events, sealed into segments; what appends to the log comes before it."""
    with warehouse.open_log() as log:
        position = log.position()

        def work() -> Made:
            sealed = log.fold()
            files = tuple(log.segments())
            kinds = log.sql(
                "SELECT kind, count(*) AS events FROM events GROUP BY kind ORDER BY 2 DESC"
            )
            return Made(
                digest=f"position {position}",
                rows=position,
                files=files,
                facts={"sealed": sealed, "segments": len(files)},
                pages={
                    "kinds": show.sample(kinds, rows=50),
                    "plot": show.bars(
                        "Events by kind",
                        kinds["kind"].to_list(),
                        kinds["events"].to_list(),
                        "events",
                    ),
                },
            )

        return warehouse.make(context, work, {"position": str(position)})


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"duckdb", "parquet"},
    code_version=CODE,
    automation_condition=dg.AutomationCondition.eager(),
    deps=[log_fold],
)
def calls(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """One row a model call: who, when, how long, what it took, what it cost; no texts."""
    import polars as pl

    from tracemill.corpus.write import write_table

    with warehouse.open_log() as log:

        def work() -> Made:
            table = write_table(log.sql(CALLS), warehouse.settings.reports / "calls.parquet")
            frame = pl.read_parquet(table.path, glob=False)
            latency = frame["latency_ms"].drop_nulls()
            median = frame.select(pl.col("latency_ms").median().fill_null(0).round(2)).item()
            return Made(
                digest=table.digest,
                rows=table.rows,
                files=(table.path,),
                facts={
                    "failed": frame.filter(pl.col("status") == "failed").height,
                    "median_ms": median,
                },
                pages={
                    "sample": show.sample(frame.tail(5)),
                    "plot": show.histogram("Latency of calls", latency, "milliseconds"),
                },
            )

        return warehouse.make(context, work, {"last call": _last_call(log)})


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"duckdb", "parquet"},
    code_version=CODE,
    automation_condition=dg.AutomationCondition.eager(),
    deps=[calls],
)
def costs(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """What each model cost on each day (UTC), in US dollars."""
    import polars as pl

    from tracemill.corpus.write import write_table

    def work() -> Made:
        with warehouse.open_log() as log:
            table = write_table(log.sql(COSTS), warehouse.settings.reports / "costs.parquet")
        frame = pl.read_parquet(table.path, glob=False)
        by_model = (
            frame.group_by("request_model").agg(pl.col("cost_usd").sum()).sort("request_model")
        )
        return Made(
            digest=table.digest,
            rows=table.rows,
            files=(table.path,),
            facts={
                "cost_usd": float(frame["cost_usd"].sum()),
                "calls": int(frame["calls"].sum()),
                "unpriced": int(frame["unpriced"].sum()),
            },
            pages={
                "sample": show.sample(frame.tail(10), rows=10),
                "plot": show.bars(
                    "Cost by model",
                    by_model["request_model"].to_list(),
                    by_model["cost_usd"].cast(pl.Float64).to_list(),
                    "US dollars",
                ),
            },
        )

    return warehouse.make(context, work)


@dg.asset_check(asset=costs)
def costs_reconcile(warehouse: Warehouse) -> dg.AssetCheckResult:
    """The days add up to the calls: the same number of ended calls, the same dollars."""
    import polars as pl

    reports = warehouse.settings.reports
    ended = pl.read_parquet(reports / "calls.parquet", glob=False).filter(
        pl.col("status") != "running"
    )
    days = pl.read_parquet(reports / "costs.parquet", glob=False)
    by_call, by_day = ended["cost_usd"].sum(), days["cost_usd"].sum()
    same = ended.height == days["calls"].sum() and by_call == by_day
    return dg.AssetCheckResult(
        passed=same,
        description=f"{ended.height} calls for ${by_call}, {days['calls'].sum()} for ${by_day} by day",
    )


def _last_call(log: EventLog) -> str:
    """The position of the newest event of a call: the table changes only with it."""
    newest = log.sql("SELECT max(position) AS newest FROM events WHERE kind LIKE 'llm.call.%'")
    return str(newest.item())
