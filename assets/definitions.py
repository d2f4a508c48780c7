"""Everything that Dagster knows: the modules with assets, one job, a schedule and a sensor.

To add an asset write a function in one of the modules; a new module is a name in `MODULES`.
"""

import dagster as dg

from assets import corpus, log, reports, retrieval, sources
from assets.warehouse import Warehouse

MODULES = [sources, corpus, retrieval, log, reports]

refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    description="Everything; what has not changed is left as it is.",
)

daily = dg.ScheduleDefinition(
    name="daily",
    job=refresh,
    cron_schedule="0 5 * * *",
    description="Each day at 05:00 UTC: packages that were installed, calls that were made.",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)


@dg.sensor(
    job=refresh,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def raw_files(warehouse: Warehouse) -> dg.RunRequest | dg.SkipReason:
    """Runs `refresh` when a file in warehouse/raw/ was added, changed or removed."""
    settings = warehouse.settings
    records = warehouse.last(sources.raw_records.key)
    documents = warehouse.last(sources.raw_documents.key)
    if records is None or documents is None:
        return dg.SkipReason("nothing has been built yet: run `tracemill build` or Materialize all")
    read = [records["inputs"]["raw/records"], documents["inputs"]["raw/documents"]]
    now = [sources.fingerprint(folder) for folder in (settings.raw_records, settings.raw_documents)]
    if now == read:
        return dg.SkipReason("warehouse/raw/ is as it was when it was last read")
    # One try for each state of the folder: a run that fails is not launched again and again.
    return dg.RunRequest(run_key=" ".join([*now, records["run"], documents["run"]]))


defs = dg.Definitions(
    assets=dg.load_assets_from_modules(MODULES),
    asset_checks=dg.load_asset_checks_from_modules(MODULES),
    jobs=[refresh],
    schedules=[daily],
    sensors=[raw_files],
    resources={"warehouse": Warehouse()},
    executor=dg.in_process_executor,
)
