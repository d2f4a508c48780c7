"""Everything that Dagster knows: the modules with assets, jobs, schedules and sensors.

A job knows one kind of partitions: one makes what comes of records, one what comes of documents. To
add an asset write a function in one of the modules; a new module is a name in `MODULES`.
"""

import hashlib
import json
from datetime import timedelta

import dagster as dg

from assets import (
    automation,
    checks,
    cleaning,
    corpus,
    daily,
    distinct,
    documents,
    evaluation,
    housekeeping,
    indexes,
    log,
    model_evaluation,
    models,
    promotion,
    quarantine,
    reports,
    retrieval,
    sources,
    splits,
)
from assets.warehouse import COLLECTIONS, MODELS, ORIGINS, Warehouse, every
from tracemill.errors import InputError

MODULES = [
    *(sources, cleaning, corpus, distinct, splits, quarantine),
    *(documents, retrieval, indexes, evaluation),
    *(models, model_evaluation, promotion, log, daily, reports, housekeeping),
    checks,
]
NOTHING_BUILT = dg.SkipReason(
    "nothing has been built yet: run `tracemill build` or Materialize all"
)


RETRIEVAL = dg.AssetSelection.groups(documents.GROUP)
TRAINING = dg.AssetSelection.groups(models.GROUP)

DAYS = dg.AssetSelection.assets(*daily.ASSETS)
OTHERS = dg.AssetSelection.groups(reports.GROUP, housekeeping.GROUP)
FRESH = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=49), warn_window=timedelta(hours=26)
)
"""Of what a schedule looks at each day: a missed day warns, two fail."""

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all() - RETRIEVAL - TRAINING - DAYS - OTHERS,
    description="Records, and all that is made of them; what has not changed is left as it is.",
)
refresh_collections = dg.define_asset_job(
    "refresh_collections",
    selection=RETRIEVAL,
    description="Documents, and all that is made of them; what has not changed is left as it is.",
)

refresh_models = dg.define_asset_job(
    "refresh_models",
    selection=TRAINING,
    description="Models of the splits in force, their evaluations, and which is in production.",
)


@dg.schedule(
    name="daily",
    job=refresh,
    cron_schedule="0 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_records(context: dg.ScheduleEvaluationContext, warehouse: Warehouse) -> dg.RunRequest:
    """Each day at 05:00 UTC: packages that were installed, calls that were made and judged."""
    parts = sources.origins(warehouse.settings)
    return dg.RunRequest(tags=every(ORIGINS, context.instance, parts))


@dg.schedule(
    job=refresh_collections,
    cron_schedule="30 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily_collections(context: dg.ScheduleEvaluationContext, warehouse: Warehouse) -> dg.RunRequest:
    """Each day at 05:30 UTC: the documentation of packages that were installed, and all folders."""
    parts = documents.names(warehouse.settings)
    return dg.RunRequest(tags=every(COLLECTIONS, context.instance, parts))


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def raw_files(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Runs `refresh` when a file or a recipe of records in raw/ was added, changed or removed."""
    settings = warehouse.settings
    try:
        now = sources.raw_inputs(settings)
        recipes = sources.recipes(settings)
    except InputError as error:
        return dg.SkipReason(str(error))
    tags = every(ORIGINS, context.instance, [*now, *sources.BUILT_IN])
    if warehouse.last(sources.raw_records.key) is None:
        return NOTHING_BUILT
    read = warehouse.part_inputs(sources.raw_records.key)
    unread = {name for name in now if read.get(name) != now[name]}
    gone = read.keys() - now.keys() - set(sources.BUILT_IN)
    changed = context.cursor is not None and context.cursor != recipes
    context.update_cursor(recipes)
    if not unread and not gone and not changed:
        return dg.SkipReason("warehouse/raw/ is as it was when it was last read")
    made = warehouse.runs([sources.raw_records.key, *(step.key for step in quarantine.STEPS)])
    return dg.RunRequest(run_key=_key(now, recipes, made), tags=tags)


@dg.sensor(
    job=refresh_collections,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def document_files(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Runs `refresh_collections` when a document, its recipe or its labelled questions changed."""
    settings = warehouse.settings
    try:
        now = documents.inputs(settings)
        told = evaluation.told(settings)
    except InputError as error:
        return dg.SkipReason(str(error))
    tags = every(COLLECTIONS, context.instance, documents.names(settings))
    if warehouse.last(documents.documents.key) is None:
        return NOTHING_BUILT
    read = warehouse.part_inputs(documents.documents.key)
    unread = {name for name in now if read.get(name) != now[name]}
    gone = read.keys() - now.keys() - {documents.INSTALLED}
    done = warehouse.part_inputs(evaluation.evaluation.key)
    untold = {name for name in told if not told[name].items() <= done.get(name, {}).items()}
    if not unread and not gone and not untold:
        return dg.SkipReason("warehouse/raw/documents/ is as it was when it was last read")
    if automation.under_way(context.instance):
        return dg.SkipReason("a run is under way: what it leaves undone is seen after it")
    # The last step: while a run is under way, its key must stay what it is.
    made = warehouse.runs([evaluation.evaluation.key])
    return dg.RunRequest(run_key=_key(now, told, made), tags=tags)


@dg.sensor(
    job=refresh_models,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def fine_tunes(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Asks after each fine-tune that runs; runs `refresh_models` when one has ended, or when
    splits, recipes or cases are not those of the last time."""
    settings = warehouse.settings
    if warehouse.last(splits.training_splits.key) is None:
        return NOTHING_BUILT
    try:
        running = models.follow(warehouse)
        undone = model_evaluation.undone(warehouse)
        tags = every(MODELS, context.instance, models.names(settings))
    except InputError as error:
        return dg.SkipReason(str(error))
    if not undone:
        return dg.SkipReason("; ".join(running) or "every model is that of its recipe and splits")
    if automation.under_way(context.instance):
        return dg.SkipReason("a run is under way: what it leaves undone is seen after it")
    made = warehouse.runs([promotion.production_model.key])
    return dg.RunRequest(run_key=_key(undone, made), tags=tags)


def _key(*state: object) -> str:
    """One try for each state: a run that fails is not launched again and again."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _kept_fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
    """With the promise of the schedules; models, days and housekeeping have times of their own."""
    scheduled = spec.group_name not in (models.GROUP, housekeeping.GROUP)
    daily_one = spec.key in (housekeeping.health.key, housekeeping.retention.key)
    kept = daily_one or (scheduled and not spec.key.path[-1].startswith("daily_"))
    return spec.replace_attributes(freshness_policy=FRESH) if kept else spec


defs = dg.Definitions(
    assets=dg.map_asset_specs(
        _kept_fresh,
        [a for a in dg.load_assets_from_modules(MODULES) if isinstance(a, dg.AssetsDefinition)],
    ),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=[refresh, refresh_collections, refresh_models, *automation.JOBS],
    schedules=[daily_records, daily_collections, *automation.SCHEDULES],
    sensors=[raw_files, document_files, fine_tunes, *automation.SENSORS],
    resources={"warehouse": Warehouse()},
    executor=dg.in_process_executor,
)
