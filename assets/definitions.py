"""Everything that Dagster knows: the modules with assets, one job, a schedule and a sensor.

To add an asset write a function in one of the modules; a new module is a name in `MODULES`.
"""

import hashlib
import json

import dagster as dg

from assets import cleaning, corpus, distinct, log, quarantine, reports, retrieval, sources, splits
from assets.warehouse import Warehouse, every_origin
from tracemill.errors import InputError

MODULES = [sources, cleaning, corpus, distinct, splits, quarantine, retrieval, log, reports]

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    description="Everything; what has not changed is left as it is.",
)


@dg.schedule(
    job=refresh,
    cron_schedule="0 5 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def daily(context: dg.ScheduleEvaluationContext, warehouse: Warehouse) -> dg.RunRequest:
    """Each day at 05:00 UTC: packages that were installed, calls that were made and judged."""
    origins = sources.origins(warehouse.settings)
    return dg.RunRequest(tags=every_origin(context.instance, origins))


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def raw_files(
    context: dg.SensorEvaluationContext, warehouse: Warehouse
) -> dg.RunRequest | dg.SkipReason:
    """Runs `refresh` when a file or a recipe in warehouse/raw/ was added, changed or removed."""
    settings = warehouse.settings
    try:
        now = sources.raw_inputs(settings)
        recipes = sources.recipes(settings)
    except InputError as error:
        return dg.SkipReason(str(error))
    tags = every_origin(context.instance, [*now, *sources.BUILT_IN])
    documents = warehouse.last(sources.raw_documents.key)
    records = warehouse.last(sources.raw_records.key)
    if records is None or documents is None:
        return dg.SkipReason("nothing has been built yet: run `tracemill build` or Materialize all")
    read = warehouse.part_inputs(sources.raw_records.key)
    state = sources.fingerprint(settings.raw_documents)
    unread = {name for name in now if read.get(name) != now[name]}
    gone = read.keys() - now.keys() - set(sources.BUILT_IN)
    changed = context.cursor is not None and context.cursor != recipes
    context.update_cursor(recipes)
    as_read = not unread and not gone and state == documents["inputs"]["raw/documents"]
    if as_read and not changed:
        return dg.SkipReason("warehouse/raw/ is as it was when it was last read")
    # One try for each state of the folder: a run that fails is not launched again and again.
    key = hashlib.sha256(json.dumps([now, state, recipes], sort_keys=True).encode()).hexdigest()
    return dg.RunRequest(run_key=" ".join([key, records["run"], documents["run"]]), tags=tags)


defs = dg.Definitions(
    assets=dg.load_assets_from_modules(MODULES),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=[refresh],
    schedules=[daily],
    sensors=[raw_files],
    resources={"warehouse": Warehouse()},
    executor=dg.in_process_executor,
)
