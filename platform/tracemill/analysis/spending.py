"""What calls cost, how long they took and which failed: sums over the ends of calls, by any key.

The SQL is put together from the tables here alone; what people give goes in as parameters.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracemill.analysis.called import pointer
from tracemill.analysis.period import Period, span
from tracemill.analysis.table import Drawing, Table
from tracemill.errors import UsageError
from tracemill.intervals import wilson

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog

TIMES = {
    "day": "CAST(e.occurred_at AS DATE)",
    "week": "CAST(date_trunc('week', e.occurred_at) AS DATE)",
    "month": "CAST(date_trunc('month', e.occurred_at) AS DATE)",
}
KEYS = {
    **TIMES,
    "model": "e.request_model",
    "provider": "e.provider",
    "key": "e.key_id",
    "user": "e.user_id",
    "prompt": "e.prompt_name",
    "prompt_version": "e.prompt_version",
    "operation": "coalesce(e.operation, 'chat')",
    "status": "substr(e.kind, 10)",
}
"""What may stand in `by`, and the expression for it; `tag:NAME` beside."""

_ENDS = (
    "e.kind IN ('llm.call.finished', 'llm.call.aborted', 'llm.call.failed', 'llm.call.crashed', "
    "'llm.call.cached') AND ($since IS NULL OR e.occurred_at >= $since::TIMESTAMP) "
    "AND ($until IS NULL OR e.occurred_at < $until::TIMESTAMP)"
)
# A reader who stops a stream has what he wanted.
# Beside calls that took tokens, which the view prices, those that did not.
_PRICED = """(
  SELECT
    ended_at AS occurred_at, 'llm.call.' || status AS kind, provider, request_model, operation,
    key_id, user_id, metadata, prompt_name, prompt_version, input_tokens, output_tokens,
    cost_usd, repriced_usd, repriced_usd IS NULL AS unpriced
  FROM call_costs
  UNION ALL BY NAME
  SELECT
    occurred_at, kind, provider, request_model, operation, key_id, user_id, metadata,
    prompt_name, prompt_version, saved_usd
  FROM events WHERE kind IN ('llm.call.failed', 'llm.call.crashed', 'llm.call.cached')
)"""
_FAILED = (
    "e.kind IN ('llm.call.failed', 'llm.call.crashed') "
    "OR (e.kind = 'llm.call.aborted' AND e.error_type IS DISTINCT FROM 'interrupted')"
)
_ERROR_TYPE = "CASE e.kind WHEN 'llm.call.crashed' THEN 'crashed' ELSE e.error_type END"
_SPAN = "min(e.occurred_at) AS first, max(e.occurred_at) AS last"


def costs(log: "EventLog", by: str | Sequence[str], period: Period) -> Table:
    """See `Opened.costs`."""
    frame = _grouped(
        log,
        by,
        period,
        """
        count(*) AS calls,
        count(*) FILTER (e.kind IN ('llm.call.failed', 'llm.call.crashed')) AS failed,
        count(*) FILTER (e.kind = 'llm.call.aborted') AS aborted,
        count(*) FILTER (e.kind = 'llm.call.cached') AS cached,
        coalesce(sum(e.input_tokens), 0)::BIGINT AS input_tokens,
        coalesce(sum(e.output_tokens), 0)::BIGINT AS output_tokens,
        CAST(coalesce(sum(e.repriced_usd), 0) AS DECIMAL(38, 12)) AS cost_usd,
        coalesce(sum(e.cost_usd), 0) AS recorded_usd,
        coalesce(sum(e.saved_usd), 0) AS saved_usd,
        count(*) FILTER (e.unpriced) AS unpriced
        """,
        source=_PRICED,
    )
    keys, n = _keys(by), int(frame["calls"].sum())
    unpriced, total = int(frame["unpriced"].sum()), frame["cost_usd"].sum()
    frame, told = _ordered(frame, keys, "cost_usd", period)
    note = f"{total:,.2f} USD in all, by the prices of the day of each call"
    note += f"; {unpriced:,} calls have no known price and are not in it" if unpriced else ""
    return Table(
        frame, f"Costs by {_and(keys)}", "USD", told, n, "calls", note, _drawing(keys, "cost_usd")
    )


def latency(log: "EventLog", by: str | Sequence[str], period: Period) -> Table:
    """See `Opened.latency`."""
    frame = _grouped(
        log,
        by,
        period,
        """
        count(*) AS calls,
        avg(e.latency_ms) AS mean_ms,
        quantile_cont(e.latency_ms, 0.5) AS p50_ms,
        quantile_cont(e.latency_ms, 0.9) AS p90_ms,
        quantile_cont(e.latency_ms, 0.99) AS p99_ms,
        max(e.latency_ms) AS max_ms,
        quantile_cont(e.time_to_first_chunk_ms, 0.5) AS first_chunk_p50_ms,
        quantile_cont(e.time_to_first_chunk_ms, 0.9) AS first_chunk_p90_ms,
        count(e.time_to_first_chunk_ms) AS streamed
        """,
        only="e.kind = 'llm.call.finished'",
    )
    keys, n = _keys(by), int(frame["calls"].sum())
    frame, told = _ordered(frame, keys, "p50_ms", period)
    drawing = _drawing(keys, "p50_ms", "lines")
    if drawing.kind == "bars":
        drawing = Drawing("intervals", "p50_ms", keys, ends=("p50_ms", "p90_ms"))
    note = "finished calls, from the first request to the whole answer, retries included; "
    note += "drawn: the median" + (" and up to the 90th percentile" if drawing.ends else "")
    return Table(frame, f"Latency by {_and(keys)}", "ms", told, n, "calls", note, drawing)


def errors(log: "EventLog", by: str | Sequence[str], period: Period) -> Table:
    """See `Opened.errors`."""
    import polars as pl

    keys = _keys(by, "error_type")
    others = tuple(key for key in keys if key != "error_type")
    counted = _grouped(
        log,
        others,
        period,
        f"""
        count(*) AS calls,
        count(*) FILTER ({_FAILED}) AS failed,
        coalesce(sum(greatest(e.attempts - 1, 0)), 0)::BIGINT AS retries,
        mode({_ERROR_TYPE} ORDER BY {_ERROR_TYPE}) FILTER ({_FAILED}) AS most_often
        """,
    )
    n, failed = int(counted["calls"].sum()), int(counted["failed"].sum())
    frame = counted
    if len(others) < len(keys):
        frame = _by_error_type(log, keys, others, period, counted)
    rates = [wilson(f / c, c) for f, c in zip(frame["failed"], frame["calls"], strict=True)]
    frame = frame.with_columns(
        pl.Series("failed_percent", [100 * r.value for r in rates], pl.Float64),
        pl.Series("low_percent", [100 * r.low for r in rates], pl.Float64),
        pl.Series("high_percent", [100 * r.high for r in rates], pl.Float64),
    )
    frame, told = _ordered(frame, keys, "failed_percent", period)
    drawing = _drawing(keys, "failed_percent", "lines")
    if drawing.kind == "bars":
        drawing = Drawing("intervals", "failed_percent", keys, ends=("low_percent", "high_percent"))
    note = f"{failed:,} of {n:,} calls failed; intervals hold the true share in 95 of 100 cases"
    return Table(
        frame, f"Failed calls by {_and(keys)}", "% of calls", told, n, "calls", note, drawing
    )


def _by_error_type(
    log: "EventLog",
    keys: tuple[str, ...],
    others: tuple[str, ...],
    period: Period,
    counted: "pl.DataFrame",
) -> "pl.DataFrame":
    """A row for each class of error, beside all calls of the other keys."""
    import polars as pl

    what = """count(*) AS failed,
        coalesce(sum(greatest(e.attempts - 1, 0)), 0)::BIGINT AS retries"""
    frame = _grouped(log, keys, period, what, only=_FAILED, also=("error_type",))
    if not others:
        return frame.with_columns(calls=pl.lit(counted["calls"].sum(), pl.Int64))
    calls = counted.select(*others, "calls")
    return frame.join(calls, on=list(others), how="left", nulls_equal=True)


def _grouped(
    log: "EventLog",
    by: str | Sequence[str],
    period: Period,
    what: str,
    *,
    source: str = "events",
    only: str = "true",
    also: tuple[str, ...] = (),
) -> "pl.DataFrame":
    """`what`, grouped; the columns of the groups have their own names, and the span is beside."""
    keys = _keys(by, *also)
    parameters: dict[str, Any] = dict(period.parameters)
    named: list[str] = []
    for place, key in enumerate(keys):
        expression = KEYS.get(key, _ERROR_TYPE)
        if key.startswith("tag:"):
            parameters[f"tag{place}"] = pointer(key.removeprefix("tag:"))
            expression = f"e.metadata ->> $tag{place}"
        named.append(f"{expression} AS key{place}, ")
    frame = log.sql(
        f"SELECT {''.join(named)} {what}, {_SPAN} FROM {source} AS e "  # noqa: S608 (of the tables above)
        f"WHERE {_ENDS} AND ({only}) GROUP BY ALL HAVING count(*) > 0",
        parameters,
    )
    return frame.rename({f"key{place}": key for place, key in enumerate(keys)})


def _keys(by: str | Sequence[str], *also: str) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys([by] if isinstance(by, str) else by))
    for key in keys:
        if key not in KEYS and key not in also and not key.startswith("tag:"):
            known = ", ".join([*KEYS, *also, "tag:NAME"])
            raise UsageError(f"nothing is summed by {key!r}; there are {known}")
    return keys


def _ordered(
    frame: "pl.DataFrame", keys: tuple[str, ...], figure: str, period: Period
) -> "tuple[pl.DataFrame, str]":
    """Times in order, and the largest first; with the period that was found."""
    told = period.told(*span(frame["first"], frame["last"]))
    times = [key for key in keys if key in TIMES]
    rest = [key for key in keys if key not in TIMES]
    frame = frame.drop("first", "last").select(*keys, *_others(frame, keys))
    return frame.sort(
        *times, figure, *rest, descending=[False] * len(times) + [True] + [False] * len(rest),
        nulls_last=True,
    ), told  # fmt: skip


def _others(frame: "pl.DataFrame", keys: tuple[str, ...]) -> list[str]:
    return [name for name in frame.columns if name not in {*keys, "first", "last"}]


def _drawing(keys: tuple[str, ...], figure: str, over_time: str = "stacked") -> Drawing:
    times = tuple(key for key in keys if key in TIMES)[:1]
    rest = tuple(key for key in keys if key not in times)
    if times:
        return Drawing("lines" if over_time == "lines" else "stacked", figure, times, rest)
    return Drawing("bars", figure, keys)


def _and(keys: tuple[str, ...]) -> str:
    words = [key.removeprefix("tag:").replace("_", " ") for key in keys] or ["nothing"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
