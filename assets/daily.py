"""The log by day: what calls cost, how they failed, how long they took and were, a file for each day.

A day is made again when an event of it came late, was emptied, or is priced anew; others are left
alone. One query answers for all days of a run, so to make them one by one or at once is the same.
"""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import dagster as dg

from assets import log as events
from assets import show
from assets.warehouse import OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog

FIRST = os.environ.get("TRACEMILL_FIRST_DAY", "2024-01-01")
"""The first partition: Dagster asks for one that is the same wherever the code is loaded."""
DAYS = dg.DailyPartitionsDefinition(start_date=FIRST, timezone="UTC", end_offset=1)
"""Every day (UTC) from the first to today, today included."""
CODE = code_of(__name__, "tracemill.log")

COSTS = """
    WITH
      ended AS NOT MATERIALIZED (
        SELECT
          CAST(occurred_at AS DATE) AS day, key_id, position, stream, kind, occurred_at, provider,
          request_model, response_model, service_tier, input_tokens, output_tokens,
          cache_read_input_tokens, cache_write_input_tokens, cache_write_1h_input_tokens,
          reasoning_output_tokens, input_audio_tokens, cache_read_audio_tokens,
          output_audio_tokens, cost_usd, saved_usd, billed, usage_estimated
        FROM events
        WHERE kind IN ('llm.call.finished', 'llm.call.failed', 'llm.call.aborted',
                       'llm.call.crashed', 'llm.call.cached')
          AND occurred_at >= $since AND occurred_at < $until
      ),
      ends AS (FROM costs_among('ended'))
    SELECT
      day, provider, request_model, key_id,
      sum(calls)::BIGINT AS calls,
      coalesce(sum(calls) FILTER (status IN ('failed', 'crashed')), 0)::BIGINT AS failed,
      coalesce(sum(calls) FILTER (status = 'cached'), 0)::BIGINT AS cached,
      coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
      coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens,
      coalesce(sum(repriced_usd), 0)::DECIMAL(38, 12) AS cost_usd,
      coalesce(sum(saved_usd), 0)::DECIMAL(38, 9) AS saved_usd,
      sum(billed)::BIGINT AS billed,
      (sum(billed) - sum(priced))::BIGINT AS unpriced
    FROM ends GROUP BY ALL ORDER BY ALL
"""
FAILURES = """
    SELECT * REPLACE (round(waited_ms, 3) AS waited_ms) FROM error_rates
    WHERE day >= $since AND day < $until ORDER BY ALL
"""
LATENCY = """
    SELECT * REPLACE (round(output_tokens_per_s, 3) AS output_tokens_per_s) FROM latency
    WHERE day >= $since AND day < $until ORDER BY ALL
"""
# Turns of one conversation are alike, so that it counts once.
LENGTHS = """
    SELECT day, prompt_name, provider, request_model, call_id, input_tokens, output_tokens
    FROM (
      SELECT CAST(occurred_at AS DATE) AS day, substr(stream, 6) AS call_id, *
      FROM events
      WHERE kind = 'llm.call.finished' AND occurred_at >= $since AND occurred_at < $until
      QUALIFY row_number() OVER (
        PARTITION BY CAST(occurred_at AS DATE), coalesce(conversation_id, stream) ORDER BY position
      ) = 1
    )
    QUALIFY row_number() OVER (PARTITION BY day, prompt_name ORDER BY md5(call_id)) <= 1000
    ORDER BY ALL
"""
TABLES = {
    "daily_costs": COSTS,
    "daily_failures": FAILURES,
    "daily_latency": LATENCY,
    "daily_lengths": LENGTHS,
}
# A retry belongs to the day of its call's last one, and whether it was won may turn out the day after.
STATE = """
    WITH told AS (
      SELECT stream, kind, occurred_at, position, hash({columns}) AS digest FROM events
      WHERE kind IN ('llm.call.finished', 'llm.call.failed', 'llm.call.aborted',
                     'llm.call.crashed', 'llm.call.cached', 'llm.call.retried')
    )
    SELECT
      day, count(*) AS events, max(position) AS last_position, bit_xor(digest) AS digest
    FROM (
      SELECT CAST(occurred_at AS DATE) AS day, position, digest FROM told
      UNION ALL
      SELECT
        max(CAST(occurred_at AS DATE)) FILTER (kind = 'llm.call.retried'),
        max(position),
        hash(bit_xor(digest))
      FROM told
      WHERE stream IN (SELECT stream FROM told WHERE kind = 'llm.call.retried')
      GROUP BY stream
    )
    GROUP BY day ORDER BY day
"""


by_day = asset_by(
    DAYS,
    key_prefix=events.GROUP,
    group_name=events.GROUP,
    owners=OWNERS,
    kinds={"duckdb", "parquet"},
    code_version=CODE,
    deps=[events.log_fold],
)


@by_day
def daily_costs(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """What was spent on each day, by model and key: calls, tokens, US dollars by today's prices."""
    return _make(context, warehouse)


@by_day
def daily_failures(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """How many calls failed on each day, by model and class of error; a row without counts all."""
    return _make(context, warehouse)


@by_day
def daily_latency(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """How long answers took on each day, by model: percentiles, streamed answers apart."""
    return _make(context, warehouse)


@by_day
def daily_lengths(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """How long prompts and answers were on each day: one call a conversation, 1,000 a prompt at most."""
    return _make(context, warehouse)


ASSETS = (daily_costs, daily_failures, daily_latency, daily_lengths)


def due(warehouse: Warehouse) -> list[str]:
    """The days that a run has to make, as a range; where there is none, the newest, which stays as it is.

    Days before the first partition are left out: a check of `daily_costs` tells of them.
    """
    today = datetime.now(UTC).date().isoformat()
    with warehouse.open_log() as log:
        asked = state(warehouse.settings, log)
    undone = {
        day
        for asset in ASSETS
        for day in warehouse.undone(asset.key, CODE, asked)
        if FIRST <= day <= today
    }
    if undone:
        return _between(min(undone), max(undone))
    return [max((day for day in asked if FIRST <= day <= today), default=today)]


def _between(first: str, last: str) -> list[str]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]


def table(settings: Settings, name: str) -> "pl.DataFrame":
    """All days of a table that were made, in order; no rows and no columns before the first."""
    import polars as pl

    files = sorted((settings.daily / name).glob("*.parquet"))
    return pl.concat([pl.read_parquet(f, glob=False) for f in files]) if files else pl.DataFrame()


def state(settings: Settings, log: "EventLog") -> dict[str, dict[str, str]]:
    """Day -> what its tables are made of: the digest of its events, and by which prices."""
    return _state(settings.model_dump_json(), log.prices.snapshot, log.position(), log.erasures)


@lru_cache(4)
def _state(settings: str, prices: str, position: int, erasures: int) -> dict[str, dict[str, str]]:
    from tracemill.log import EventLog
    from tracemill.log.rows import HOT

    query = STATE.format(columns=", ".join(["position", "kind", *HOT]))
    with EventLog.open(Settings.model_validate_json(settings)) as log:
        days = log.arrow(query).to_pylist()
    return {
        str(row["day"]): {
            "events": f"{row['events']} to {row['last_position']}: {row['digest']:016x}",
            "prices": prices,
        }
        for row in days
    }


def _make(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """The days of this run; those whose events are the same are left as they are."""
    from tracemill.corpus.tables import write_table

    settings, name = warehouse.settings, context.asset_key.path[-1]
    wanted = sorted(context.partition_keys)
    parts: dict[str, pl.DataFrame] = {}
    with warehouse.open_log() as log:
        asked = state(settings, log)
        quiet = {day: {"events": "none"} for day in wanted if day not in asked}

        def work(day: str) -> Made:
            if not parts:
                parts.update(_of_days(log, name, wanted[0], wanted[-1]))
            file = settings.daily / name / f"{day}.parquet"
            if day in quiet:
                file.unlink(missing_ok=True)
                return Made(digest="nothing happened", rows=0, files=())
            made = write_table(parts.get(day, parts[""]), file)
            return Made(digest=made.digest, rows=made.rows, files=(made.path,))

        result = warehouse.make_each(
            context, work, {**asked, **quiet}, lambda: _pages(settings, name)
        )
    return _by_day(context, warehouse, result)


def _of_days(log: "EventLog", name: str, first: str, last: str) -> "dict[str, pl.DataFrame]":
    """Day -> its rows, of one query; without rows those of the empty name."""
    since = datetime.fromisoformat(first)
    until = datetime.fromisoformat(last) + timedelta(days=1)
    frame = log.sql(TABLES[name], {"since": since, "until": until})
    parts = frame.partition_by("day", as_dict=True, maintain_order=True)
    return {"": frame.clear(), **{str(day): part for (day,), part in parts.items()}}


def _by_day(
    context: dg.AssetExecutionContext, warehouse: Warehouse, result: dg.MaterializeResult
) -> dg.MaterializeResult:
    """Each day's page has its own count; Dagster would keep the plots once for every day."""
    metadata = dict(result.metadata or {})
    pages = {
        key: metadata.pop(key)
        for key, value in list(metadata.items())
        if isinstance(value, dg.MarkdownMetadataValue)
    }
    days = sorted(context.partition_keys)
    for day in days:
        record = warehouse.last(context.asset_key, day)
        rows = record["made"]["rows"] if record else 0
        context.add_asset_metadata({"dagster/partition_row_count": rows}, partition_key=day)
    context.add_asset_metadata(pages, partition_key=days[-1])
    return dg.MaterializeResult(metadata=metadata, data_version=result.data_version)


def _pages(settings: Settings, name: str) -> Mapping[str, str]:
    """The newest rows, and the whole as lines over days."""
    import polars as pl

    frame = table(settings, name)
    if frame.is_empty():
        return {}
    title, unit, figure = {
        "daily_costs": ("Spent by day", "US dollars", pl.col("cost_usd").sum()),
        "daily_failures": (
            "Calls that failed by day",
            "calls",
            pl.col("failed").filter(pl.col("error_type").is_null()).sum(),
        ),
        "daily_latency": (
            "Answers by day: the slowest model's median",
            "seconds",
            pl.col("p50_latency_ms").max() / 1000,
        ),
        "daily_lengths": (
            "Prompts by day: median length",
            "tokens",
            pl.col("input_tokens").median(),
        ),
    }[name]
    days = frame.group_by("day").agg(figure.alias("figure").cast(pl.Float64)).sort("day")
    return {"plot": show.days(title, days["day"], days["figure"], unit), "sample": _newest(frame)}


def _newest(frame: "pl.DataFrame") -> str:
    return show.sample(frame.sort("day", descending=True, maintain_order=True), rows=8)


@dg.asset_check(asset=daily_costs)
def every_day_has_a_table(warehouse: Warehouse) -> dg.AssetCheckResult:
    """No call ended before the first day that has a table."""
    query = "SELECT count(*) FROM events WHERE kind LIKE 'llm.call.%' AND occurred_at < ?"
    with warehouse.open_log() as log:
        before = log.sql(query, [date.fromisoformat(FIRST)]).item()
    return dg.AssetCheckResult(
        passed=not before,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{before:,} events of calls before {FIRST}"
        + ("; set TRACEMILL_FIRST_DAY to an earlier day" if before else ""),
    )
