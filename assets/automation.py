"""What starts by itself beside the sources: the log as it grows, reports, alerts, batches, housekeeping.

Schedules and sensors launch what changes the log's tables by day. `calls` and `costs` follow each fold
by their own condition; no schedule of these makes them, so that nothing is made twice.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import (
    UnresolvedAssetJobDefinition as Job,
)

from assets import daily, housekeeping, log, reports
from assets.warehouse import Warehouse, every
from tracemill.errors import TracemillError

if TYPE_CHECKING:
    from tracemill.llm.client import Client

GROWN = 1_000
"""So many events make the newest day worth making again."""

refresh_days = dg.define_asset_job(
    "refresh_days",
    selection=dg.AssetSelection.assets(log.log_fold, *daily.ASSETS),
    description="The log's tail sealed, and its tables of the days that have changed.",
)
render_reports = dg.define_asset_job(
    "render_reports",
    selection=dg.AssetSelection.groups(reports.GROUP),
    description="The notebooks on costs, failures and training data, where these have changed.",
)
look_after = dg.define_asset_job(
    "look_after",
    selection=dg.AssetSelection.assets(housekeeping.health, housekeeping.retention),
    description="What doctor sees, and what raw/retention.yaml says is too old.",
)
keep_safe = dg.define_asset_job(
    "keep_safe",
    selection=dg.AssetSelection.assets(
        housekeeping.compaction, housekeeping.backup, housekeeping.verification
    ),
    description="The log compacted, backed up, and every byte of the warehouse verified.",
)


def _schedule(name: str, job: Job, cron: str) -> dg.ScheduleDefinition:
    running = dg.DefaultScheduleStatus.RUNNING
    return dg.ScheduleDefinition(name=name, job=job, cron_schedule=cron, default_status=running)


def under_way(instance: dg.DagsterInstance) -> bool:
    """Whether a run has begun; one that was killed says so for ever, so it counts for an hour."""
    since = datetime.now(UTC) - timedelta(hours=1)
    statuses = (dg.DagsterRunStatus(name) for name in ("QUEUED", "STARTING", "STARTED"))
    wanted = dg.RunsFilter(statuses=[*statuses], updated_after=since)
    return instance.get_runs_count(wanted) > 0


@dg.schedule(
    job=render_reports,
    cron_schedule="0 6 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_reports(
    _: dg.ScheduleEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Each day at 06:00 UTC: the notebooks whose data has been built."""
    ready = [
        page.key
        for page in reports.ASSETS
        if all(warehouse.last(key) is not None for key in page.dependency_keys)
    ]
    if not ready:
        return dg.SkipReason("nothing has been built yet: run `tracemill build`")
    return dg.RunRequest(asset_selection=ready)


SCHEDULES = [
    _schedule("daily_look_after", look_after, "15 3 * * *"),
    _schedule("weekly_keep_safe", keep_safe, "45 3 * * 0"),
    daily_reports,
]
"""All in UTC; the reports an hour after the records that they tell of."""


@dg.sensor(
    job=refresh_days,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def log_growth(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Seals the log and makes its tables by day when it grew by 1,000 events, or a day has ended."""
    if warehouse.last(log.log_fold.key) is None:
        return dg.SkipReason("nothing has been built yet: run `tracemill build`")
    today = datetime.now(UTC).date().isoformat()
    with warehouse.open_log() as opened:
        position = opened.position()
    if not context.cursor:
        # The day is kept also where little happens: else no day would ever be seen to end.
        context.update_cursor(f"{today} 0")
    before = context.cursor.split() if context.cursor else [today, "0"]
    grown = position - int(before[1])
    if grown < GROWN and before[0] == today:
        return dg.SkipReason(f"{grown} new events; {GROWN:,} or the end of the day are waited for")
    if under_way(context.instance):
        return dg.SkipReason("a run is under way: what it leaves undone is seen after it")
    context.update_cursor(f"{today} {position}")
    days = daily.due(warehouse)
    return dg.RunRequest(
        run_key=f"{today} {position}", tags=every(daily.DAYS, context.instance, days)
    )


@dg.sensor(minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def alerts(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SkipReason:
    """Looks each minute at the rules that are shipped and those of raw/alerts.yaml; tells the sinks."""
    from tracemill.operations.alerts import check

    try:
        with warehouse.open_log() as opened:
            outcomes = check(opened, warehouse.settings)
    except TracemillError as error:
        return dg.SkipReason(str(error))
    told = [
        f"{each.rule}: {each.error or each.state}"
        + "".join(f"; {sink} was not told: {why}" for sink, why in each.not_told.items())
        for each in outcomes
    ]
    return dg.SkipReason("; ".join(told) or "no rule is enabled")


@dg.sensor(minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.RUNNING)
def batches(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SkipReason:
    """Asks after each batch that runs, and collects its answers when it has ended."""
    return dg.SkipReason("; ".join(follow_batches(warehouse)) or "no batch is running")


def follow_batches(warehouse: Warehouse) -> list[str]:
    """Collect what has ended; what became of each batch that was under way, in words."""
    from tracemill.llm import batches as known
    from tracemill.llm.client import Client

    with warehouse.open_log() as opened:
        going = [each for each in known.states(opened) if not each.collected]
        if not going:
            return []
        client = Client(opened, warehouse.settings)
        try:
            told = [f"{each.batch_id}: {_advanced(client, each.batch_id)}" for each in going]
        finally:
            client.close()
    return told


def _advanced(client: "Client", batch_id: str) -> str:
    from tracemill.llm import batches as known

    try:
        now = known.poll(client, batch_id)
        if not now.ended:
            return now.state
        made = known.collect(client, batch_id)
    except TracemillError as error:  # A key that is missing keeps no other batch waiting.
        return str(error)
    return f"collected, {made.finished} finished, {made.failed} failed"


follow_the_log = dg.AutomationConditionSensorDefinition(
    "follow_the_log",
    target=dg.AssetSelection.assets(log.calls, log.costs),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Makes calls and costs again when the log was sealed by another run.",
)
JOBS = [refresh_days, render_reports, look_after, keep_safe]
SENSORS = [log_growth, alerts, batches, follow_the_log]
