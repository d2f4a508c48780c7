"""Checks of what calls cost, how they fail and what they say, each day by the days before it.

Each reads the views of the log, as notebooks do; a warning stops nothing.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from math import isnan

import dagster as dg

from assets import show
from assets.checks import verdicts
from assets.checks.verdicts import Verdict
from assets.warehouse import Warehouse
from tracemill.log import EventLog

COSTS = dg.AssetKey(["log", "costs"])
LENGTHS = """
    SELECT
      CAST(started_at AS DATE) AS day,
      coalesce(prompt_name || ' ' || left(prompt_version, 8), request_model) AS what,
      input_tokens
    FROM calls
    WHERE input_tokens > 0 AND started_at >= $first AND started_at < $end
    QUALIFY row_number() OVER (
      PARTITION BY coalesce(conversation_id, call_id), what ORDER BY started_at, call_id) = 1
"""
# The draw depends on the ids alone: the same calls give the same verdict.
PROMPTS = """
    WITH drawn AS (
      SELECT call_id
      FROM calls
      WHERE started_at >= $first AND started_at < $end AND status <> 'cached'
      QUALIFY row_number() OVER (
        PARTITION BY coalesce(conversation_id, call_id) ORDER BY started_at, call_id) = 1
      ORDER BY md5(call_id)
      LIMIT 500
    )
    SELECT prompt FROM calls WHERE call_id IN (FROM drawn) AND prompt <> '' ORDER BY call_id
"""


def cost_anomaly(log: EventLog, last: date, since: date | None) -> Verdict:
    """What a day cost in all, and of each model, is within what the weeks before let expect."""
    return verdicts.cost_anomaly(log.sql("FROM costs_by_day WHERE day <= ?", [last]), last, since)


def error_rate_change(log: EventLog, last: date, since: date | None) -> Verdict:
    """Each class of errors of each model is as frequent as in the 28 days before."""
    first = last - timedelta(verdicts.BEFORE)
    rates = log.sql("FROM error_rates WHERE day BETWEEN ? AND ?", [first, last])
    return verdicts.error_rate_change(rates, last)


def length_drift(log: EventLog, last: date, since: date | None) -> Verdict:
    """Prompts of the last 7 days are as long as those of the 28 days before, version by version."""
    days = verdicts.AFTER + verdicts.BEFORE
    return verdicts.length_drift(log.sql(LENGTHS, _between(last, days)), last)


def embedding_drift(log: EventLog, last: date, since: date | None) -> Verdict:
    """Prompts of the last 7 days are about what those of the 28 days before were about."""
    border = last - timedelta(verdicts.AFTER)
    before, after = (
        log.sql(PROMPTS, _between(to, days))["prompt"].to_list()
        for to, days in ((border, verdicts.BEFORE), (last, verdicts.AFTER))
    )
    return verdicts.embedding_drift(before, after)


def price_coverage(log: EventLog, last: date, since: date | None) -> Verdict:
    """No model came up in the last 7 days that no table has a price of."""
    return verdicts.price_coverage(log.sql("FROM costs_by_day WHERE day <= ?", [last]), last)


JUDGES = {
    judge.__name__: judge
    for judge in (cost_anomaly, error_rate_change, length_drift, embedding_drift, price_coverage)
}


def result(verdict: Verdict, **also: str) -> dg.AssetCheckResult:
    """A verdict as Dagster shows it: what was found as a table, the stated rate beside it."""
    stated = (
        f"{verdict.rate:g} of quiet days" if verdict.rate else "none: it counts and does not guess"
    )
    figures = {
        name: "unknown" if isinstance(value, float) and isnan(value) else value
        for name, value in verdict.figures.items()
    }
    table = (
        {}
        if verdict.found is None
        else {"found": dg.MetadataValue.md(show.sample(verdict.found, 20))}
    )
    return dg.AssetCheckResult(
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=verdict.description,
        metadata={"false_alarms": stated, **figures, **also, **table},
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(name, asset=COSTS, description=judge.__doc__)
        for name, judge in JUDGES.items()
    ],
    can_subset=True,
)
def calls_against_their_past(
    context: dg.AssetCheckExecutionContext, warehouse: Warehouse
) -> Iterator[dg.AssetCheckResult]:
    """Spend, errors, lengths, subjects and prices of yesterday, against the days before."""
    last = datetime.now(UTC).date() - timedelta(1)
    with warehouse.open_log() as log:
        for key in sorted(context.selected_asset_check_keys):
            verdict = JUDGES[key.name](log, last, _since(context.instance, key))
            yield result(verdict, through=str(last))._replace(
                asset_key=key.asset_key, check_name=key.name
            )


def _since(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> date | None:
    """The last day that was judged: days after it are judged too, and it is judged again, so that
    a warning stays for the day on which it came."""
    # The newest record is that of the run under way, in which the check is no more than planned.
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
    judged = (record.evaluation for record in records)
    told = (e.metadata for e in judged if isinstance(e, dg.AssetCheckEvaluation))
    through = next((metadata["through"] for metadata in told if "through" in metadata), None)
    return date.fromisoformat(str(through.value)) if through else None


def _between(last: date, days: int) -> dict[str, date]:
    """So many days, the last one included."""
    return {"first": last - timedelta(days - 1), "end": last + timedelta(1)}
