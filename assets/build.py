"""Build assets with Dagster in this process, and show on screen how it goes.

The runs are recorded in the warehouse, so the UI shows later what was built here.
"""

import re
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from rich.console import Console

from assets import daily, documents, housekeeping, models, service, sources
from assets.definitions import defs
from assets.history import in_batches
from assets.progress import BuildProgress
from assets.warehouse import COLLECTIONS, MODELS, ORIGINS, Parts, Warehouse, every
from tracemill.errors import InputError, UsageError
from tracemill.files import sweep
from tracemill.settings import Settings

_PLUS = re.compile(r"\A(\+?)(.*?)(\+?)\Z", re.DOTALL)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def build(settings: Settings, selection: str | None = None, console: Console | None = None) -> int:
    """Build the assets whose code or inputs have changed, and run their checks.

    Args:
        selection: a group, an asset, or Dagster's selection syntax, as in `corpus`,
            `training_splits`, `+training_splits` (with all that it needs); all assets without it.

    Returns 0, or 1 when an asset or a blocking check failed. Raises `UsageError`, when the
    selection names nothing.
    """
    settings.create()
    for folder in (settings.corpus, settings.indexes, settings.quarantine):
        sweep(folder)
    console = console or Console()
    keys = selected(selection)
    console.print(f"Building {len(keys)} assets in {settings.warehouse}", highlight=False)
    started = time.monotonic()
    progress = BuildProgress(console, total=len(keys))
    with _instance(settings) as instance, in_batches(instance), progress.shown():
        _run_all(settings, instance, keys, progress)
    progress.tell_skipped(key.to_user_string() for key in keys)
    ok = not progress.failed
    console.print(_summary(progress, ok, time.monotonic() - started), highlight=False)
    return 0 if ok else 1


def _run_all(
    settings: Settings,
    instance: dg.DagsterInstance,
    keys: Collection[dg.AssetKey],
    progress: BuildProgress,
) -> None:
    """Make these assets; what has failed keeps only what needs it from being tried."""
    graph = defs.resolve_asset_graph()
    failed: set[dg.AssetKey] = set()
    for stage in stages(keys):
        left = [key for key in stage.keys if not graph.get_ancestor_asset_keys(key) & failed]
        if not left:
            continue
        try:
            if not stage.wanted(settings):
                progress.tell_unwanted(stage.name, [key.to_user_string() for key in left])
                continue
            tags = stage.tags(settings, instance)
        except InputError as error:
            progress.tell_failed(f"{stage.name}: {error}")
            failed |= {*left}
            continue
        failed |= broken(run(settings, instance, left, tags, progress.follow), left)


class Stage(NamedTuple):
    """What one run can make: Dagster's runs know one kind of partitions."""

    name: str
    keys: Sequence[dg.AssetKey]
    partitions: Parts | None = None
    parts: Callable[[Settings], Collection[str]] = lambda _: ()

    def wanted(self, settings: Settings) -> bool:
        """Whether there is a part to make. Raises `InputError` when a recipe is wrong."""
        return self.partitions is None or bool(self.parts(settings))

    def tags(self, settings: Settings, instance: dg.DagsterInstance) -> dict[str, str]:
        """Those of a run over all partitions. Raises `InputError` when a recipe is wrong."""
        if self.partitions is None:
            return {}
        return every(self.partitions, instance, self.parts(settings))


def stages(keys: Collection[dg.AssetKey]) -> list[Stage]:
    """The runs that make these assets: records, collections, models, what reads of all, its days."""
    graph = defs.resolve_asset_graph()
    parted = {
        key: graph.get(key).partitions_def
        for key in graph.materializable_asset_keys
        if graph.get(key).partitions_def in (COLLECTIONS, MODELS, daily.DAYS)
    }
    after = {key for key in keys if graph.get_ancestor_asset_keys(key) & parted.keys()}
    after -= parted.keys()
    of = {part: [k for k in keys if parted.get(k) == part] for part in {*parted.values()}}
    found = [
        Stage("records", sorted({*keys} - parted.keys() - after), ORIGINS, sources.origins),
        Stage("collections", sorted(of[COLLECTIONS]), COLLECTIONS, documents.names),
        Stage("models", sorted(of[MODELS]), MODELS, models.names),
        Stage("log and reports", sorted(after)),
        Stage("days of the log", sorted(of[daily.DAYS]), daily.DAYS, _days),
    ]
    return [stage for stage in found if stage.keys]


def _days(settings: Settings) -> list[str]:
    """The days of the log that have changed."""
    return daily.due(warehouse_of(settings))


def broken(result: dg.ExecuteInProcessResult, keys: Collection[dg.AssetKey]) -> set[dg.AssetKey]:
    """Which of these assets a run did not make, or made so that a check stops what follows."""
    graph = defs.resolve_asset_graph()
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    stopped = {
        each.asset_key
        for each in result.get_asset_check_evaluations()
        if not each.passed
        and each.severity is dg.AssetCheckSeverity.ERROR
        and graph.get_check_spec(each.asset_check_key).blocking
    }
    return {*keys} - made | stopped


def run(
    settings: Settings,
    instance: dg.DagsterInstance,
    keys: Sequence[dg.AssetKey],
    tags: Mapping[str, str],
    follow: Callable[[dg.EventLogEntry], None] | None = None,
) -> dg.ExecuteInProcessResult:
    """Make these assets in this process; `follow` hears of each event."""
    run_id = str(uuid.uuid4())
    if follow:
        instance.add_event_listener(run_id, follow)
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={**QUIET, **_config(settings)},
        instance=instance,
        run_id=run_id,
        asset_selection=keys,
        tags={"tracemill/by": "command line", **tags},
        raise_on_error=False,
    )


def selected(selection: str | None) -> Sequence[dg.AssetKey]:
    """The keys that a selection names, sorted; without one all but housekeeping, whose work is not
    to make what has changed. `UsageError` when there is none."""
    graph = defs.resolve_asset_graph()
    everything = graph.materializable_asset_keys
    if selection is None:
        return sorted(key for key in everything if key.path[0] != housekeeping.GROUP)
    groups = {key.path[0] for key in everything}
    try:
        with warnings.catch_warnings(action="ignore"):  # Dagster's own selection warns as beta.
            chosen = dg.AssetSelection.from_string(_spelled(selection, everything))
            keys = chosen.resolve(graph) & everything
    except dg.DagsterError as error:
        raise UsageError(_no_selection(selection, groups)) from error
    if not keys:
        raise UsageError(_no_selection(selection, groups))
    return sorted(keys)


def _spelled(selection: str, keys: Collection[dg.AssetKey]) -> str:
    """Dagster's words for a group or an asset, with `+` for all before or all after it."""
    before, name, after = _PLUS.findall(selection)[0]
    if name in {key.path[0] for key in keys}:
        return f'{before}group:"{name}"{after}'
    named = sorted(k.to_user_string() for k in keys if name in (k.path[-1], k.to_user_string()))
    return " or ".join(f'{before}key:"{each}"{after}' for each in named) or selection


def _no_selection(selection: str, groups: set[str]) -> str:
    return (
        f"{selection!r} names no asset: give a group ({', '.join(sorted(groups))}), "
        "an asset such as training_splits, or +training_splits for all that it needs too"
    )


def _instance(settings: Settings) -> dg.DagsterInstance:
    """The history of runs, without the capture of what each step prints.

    The capture takes four processes a step, and would take our own lines from the screen.
    """
    module = "dagster._core.storage.noop_compute_log_manager"
    overrides = {"compute_logs": {"module": module, "class": "NoOpComputeLogManager"}}
    home = str(service.home(settings))
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides=overrides))


def warehouse_of(settings: Settings) -> Warehouse:
    return Warehouse(changed=settings.model_dump(mode="json", exclude_none=True))


def _config(settings: Settings) -> dict[str, object]:
    changed = warehouse_of(settings).changed
    return {"resources": {"warehouse": {"config": {"changed": changed}}}}


def _summary(progress: BuildProgress, ok: bool, seconds: float) -> str:
    failed, skipped, warnings = progress.failed, progress.skipped, progress.warnings
    parts = [
        f"{len(progress.made)} built",
        f"{len(progress.unchanged)} unchanged",
        *([f"[red]{len(failed)} failed[/]"] if failed else []),
        *([f"{len(skipped)} skipped"] if skipped else []),
        *([f"[yellow]{len(warnings)} warning{'s' * (len(warnings) > 1)}[/]"] if warnings else []),
    ]
    mark = "[green]done[/]" if ok else "[red]failed[/]"
    return f"{mark}: {', '.join(parts)} in {seconds:.1f} s"
