"""What keeps the log small, safe and sound: compaction, retention, backups, and looks at all of it.

Each is done whenever it is asked for; schedules ask. What rewrites files that all share is in the
pool `warehouse`, so that one of them runs at a time. Folds are not: they queue behind their own
lock, and whoever appends begins one at any time.
"""

import shutil

import dagster as dg

from assets import show
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.settings import Settings

GROUP = "housekeeping"
POOL = "warehouse"
KEPT = 4
"""Backups that stay, where raw/retention.yaml does not say `keep_backups`."""


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"yaml"},
    pool=POOL,
    code_version=code_of(__name__, "tracemill.operations.retention"),
)
def retention(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """What raw/retention.yaml says is too old: emptied or deleted; without that file all stays."""
    from tracemill.operations.retention import apply
    from tracemill.operations.retention import retention as terms_of

    def work() -> Made:
        terms = terms_of(warehouse.settings)
        with warehouse.open_log() as log:
            gone = apply(log, warehouse.settings, terms, actor=warehouse.origin(context)["actor"])
        return Made(
            digest=context.run.run_id,
            rows=None,
            files=(),
            facts={
                "policies": len(terms.policies),
                "events_emptied": sum(due.events for due in gone.events),
                "cache_entries_deleted": sum(gone.cached.values()),
                "reports_deleted": gone.reports,
                "jobs_emptied": gone.jobs,
                "backups_deleted": len(gone.backups),
            },
        )

    return _anew(context, warehouse, work)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    pool=POOL,
    code_version=code_of(__name__, "tracemill.log"),
    deps=[retention],
)
def compaction(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Small segments of the log merged into large ones, and those that nobody reads any more deleted."""

    def work() -> Made:
        with warehouse.open_log() as log:
            log.fold()
            before = len(log.segments())
            log.compact()
            files = log.segments()
            return Made(
                digest=context.run.run_id,
                rows=log.position(),
                files=(),
                facts={
                    "segments_before": before,
                    "segments": len(files),
                    "files_deleted": log.gc(),
                    "megabytes": round(sum(file.stat().st_size for file in files) / 1e6, 2),
                },
            )

    return _anew(context, warehouse, work)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet", "sqlite"},
    pool=POOL,
    code_version=code_of(__name__, "tracemill.log"),
    deps=[compaction],
)
def backup(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """A copy of the log, every law of which was checked on the copy; older copies than 4 are deleted.

    Copies share their sealed files. They lie in backups/ of the warehouse: that guards against
    mistakes, not against the loss of the disk.
    """
    from tracemill.log import backups, prune
    from tracemill.log.backup import new_name
    from tracemill.operations.retention import retention as terms_of

    settings = warehouse.settings

    def work() -> Made:
        keep = terms_of(settings).keep_backups or KEPT
        _room(settings)
        name = new_name([each.name for each in backups(settings.backups)])
        with warehouse.open_log() as log:
            made = log.backup(settings.backups / name, actor=warehouse.origin(context)["actor"])
        gone = prune(settings.backups, keep=keep)
        return Made(
            digest=made.manifest.sha256,
            rows=made.position,
            files=(),
            facts={
                "backup": made.name,
                "checked": made.manifest.checked,
                "files": len(made.manifest.files),
                "megabytes": round(made.size_bytes / 1e6, 2),
                "kept": keep,
                "deleted": len(gone),
            },
        )

    return _anew(context, warehouse, work)


@dg.asset_check(asset=backup)
def backup_holds(warehouse: Warehouse) -> dg.AssetCheckResult:
    """The newest backup can be read: every byte is as its list says."""
    from tracemill.log import backups
    from tracemill.log.backup import damage

    known = backups(warehouse.settings.backups)
    problems = damage(known[-1]) if known else ["there is no backup"]
    said = f"{known[-1].name}: {known[-1].position:,} events" if known else ""
    return dg.AssetCheckResult(passed=not problems, description="; ".join(problems) or said)


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version=code_of(__name__, "tracemill.operations.verification"),
    deps=[compaction],
)
def verification(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Every byte that something vouches for, read: the log's hash chain, data sets, collections, models."""
    import polars as pl

    from tracemill.operations.verification import verify

    def work() -> Made:
        with warehouse.open_log() as log:
            found = log.verify()
        parts = [
            ("log", found.events, found.problems),
            *((each.part, each.files, each.problems) for each in verify(warehouse.settings)),
        ]
        rows = [(part, read, "; ".join(why)) for part, read, why in parts]
        frame = pl.DataFrame(rows, schema=["part", "read", "problems"], orient="row")
        return Made(
            digest=context.run.run_id,
            rows=None,
            files=(),
            facts={"problems": sum(len(why) for _, _, why in parts)},
            pages={"parts": show.sample(frame, rows=10, width=300)},
        )

    return _anew(context, warehouse, work)


@dg.asset_check(asset=verification)
def all_sound(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Nothing is missing or altered."""
    return _counted(warehouse, verification.key, "problems", "`tracemill verify`")


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python"},
    code_version=code_of(__name__, "tracemill.operations.examine"),
)
def health(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """What `tracemill doctor` sees: versions, locks, disk, clock, rights, leftovers, and how to mend it."""
    import polars as pl

    from tracemill.operations.examine import examine

    def work() -> Made:
        findings = examine(warehouse.settings)
        frame = pl.DataFrame([finding._asdict() for finding in findings])
        order = {"failed": 0, "warning": 1, "ok": 2}
        ranked = frame.sort(pl.col("state").replace_strict(order), maintain_order=True)
        return Made(
            digest=context.run.run_id,
            rows=None,
            files=(),
            facts={
                f"{state}": sum(finding.state == state for finding in findings) for state in order
            },
            pages={"findings": show.sample(ranked, rows=len(findings), width=300)},
        )

    return _anew(context, warehouse, work)


@dg.asset_check(asset=health)
def all_well(warehouse: Warehouse) -> dg.AssetCheckResult:
    """The doctor found nothing that fails."""
    return _counted(warehouse, health.key, "failed", "`tracemill doctor`")


def _anew(context: dg.AssetExecutionContext, warehouse: Warehouse, work) -> dg.MaterializeResult:
    return warehouse.make(context, work, {"run": context.run.run_id})


def _counted(
    warehouse: Warehouse, key: dg.AssetKey, fact: str, command: str
) -> dg.AssetCheckResult:
    record = warehouse.last(key)
    count = record["made"]["facts"][fact] if record else 0
    said = f"{count} {fact}: {command} says the mend" if count else "nothing is wrong"
    return dg.AssetCheckResult(passed=not count, description=said, metadata={fact: count})


def _room(settings: Settings) -> None:
    """A backup that fills the disk would stop the log: twice its size has to be free."""
    size = sum(file.stat().st_size for file in settings.log.rglob("*") if file.is_file())
    free = shutil.disk_usage(settings.warehouse).free
    if free < 2 * size:
        raise dg.Failure(
            f"{free / 1e9:.1f} GB are free and the log has {size / 1e9:.1f} GB: make room, or back "
            "up to another disk by `tracemill log backup FOLDER`",
            allow_retries=False,
        )
