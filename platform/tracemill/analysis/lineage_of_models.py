"""A model's way: its job, data set and rows; its evaluations, promotions, and the calls that it served."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tracemill.analysis.lineage import Lineage, Step, shortened

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.settings import Settings

_SERVED = """
SELECT count(*) AS calls, count(*) FILTER (e.kind = 'llm.call.failed') AS failed,
  coalesce(sum(c.repriced_usd), 0) AS usd,
  count(*) FILTER (c.call_id IS NOT NULL AND c.repriced_usd IS NULL) AS unpriced,
  min(e.occurred_at) AS first, max(e.occurred_at) AS last
FROM events AS e LEFT JOIN call_costs AS c ON c.call_id = substr(e.stream, 6)
WHERE e.kind IN ('llm.call.finished', 'llm.call.failed', 'llm.call.aborted', 'llm.call.crashed')
  AND (e.request_model = $model OR e.response_model = $model OR e.request_model = $bare)
"""
_CHANGES = """
SELECT kind, occurred_at, actor, payload ->> '$.reason' AS reason FROM events
WHERE stream = 'model:' || $name AND payload ->> '$.digest' = $digest
  AND kind <> 'model.registered' ORDER BY position
"""
_EVALUATIONS = """
SELECT evaluation_id, name, dataset, outcome, any_value(finished_at) AS finished_at,
  string_agg(figure || ' ' || round("value", 4), ', ' ORDER BY figure) AS figures
FROM evaluations WHERE model IN ($model, $bare) GROUP BY ALL ORDER BY finished_at DESC
"""


def of(log: "EventLog", settings: "Settings", wanted: str) -> Lineage | None:
    """The lineage of a trained model (a name is its version in production, else its newest), or of
    any other model that was called; None where there is neither."""
    version = _version(log, wanted)
    if version:
        return _trained(log, settings, version)
    bare = wanted.partition("/")[2] or wanted
    served = _served(log, wanted, bare)
    told = [*_evaluations(log, wanted, bare), *served]
    if not told:
        return None
    return Lineage(Step("model", wanted, "not trained here", "events"), (), tuple(told))


def _trained(log: "EventLog", settings: "Settings", version: dict[str, Any]) -> Lineage:
    said = f"{version['state']}: {version['reason']}"
    return Lineage(
        Step("model", version["model"], said, "view models"),
        (
            Step("base model", version["base_model"], version["method"], "view models"),
            *_job(log, version),
            _dataset(log, settings, version),
        ),
        (
            *_evaluations(log, version["model"], version["model"]),
            *_changes(log, version),
            *_served(log, version["model"], version["model"]),
            *_siblings(log, version),
        ),
    )


def _version(log: "EventLog", wanted: str) -> dict[str, Any] | None:
    """By the name for a request, its beginning, the model's name, or `name:digest`."""
    asked = wanted.removeprefix("ft:local:")
    rows = log.arrow(
        "SELECT *, state = 'production' AS serving FROM models "
        "WHERE model = $wanted OR name = $asked "
        "OR ($asked LIKE '%:%' AND starts_with(name || ':' || digest, $asked)) "
        "OR CAST(job_id AS VARCHAR) = $wanted "
        "ORDER BY model = $wanted DESC, serving DESC, registered_at DESC LIMIT 1",
        {"wanted": wanted, "asked": asked},
    ).to_pylist()
    return rows[0] if rows else None


def _job(log: "EventLog", version: dict[str, Any]) -> Iterator[Step]:
    rows = log.arrow(
        "SELECT * FROM finetunes WHERE job_id = $job", {"job": version["job_id"]}
    ).to_pylist()
    for row in rows:
        took = f", {row['duration_s']:,.0f} s" if row["duration_s"] is not None else ""
        cost = f", {row['cost_usd']:.4f} USD" if row["cost_usd"] is not None else ""
        said = f"{row['state']}, {row['provider']}, {row['requested_at']:%Y-%m-%d}{took}{cost}"
        yield Step("job", version["job_id"], said, "view finetunes")


def _dataset(log: "EventLog", settings: "Settings", version: dict[str, Any]) -> Step:
    """The version of the data set, how it was built, and whose rows it holds."""
    digest = version["dataset_digest"]
    built = log.arrow(
        "SELECT occurred_at, payload -> '$.rows' AS rows, payload -> '$.dropped' AS dropped, "
        "payload ->> '$.log_position' AS position FROM events WHERE kind = 'dataset.built' "
        "AND starts_with(payload ->> '$.digest', $digest) ORDER BY position DESC LIMIT 1",
        {"digest": digest},
    ).to_pylist()
    beyond: list[Step] = []
    for row in built:
        said = f"{row['occurred_at']:%Y-%m-%d}, the log at position {row['position']}"
        beyond.append(Step("built", "", f"{said}; rows {row['rows']}", "event dataset.built"))
        if row["dropped"] not in (None, "{}"):
            beyond.append(Step("dropped", "", row["dropped"], "event dataset.built"))
    beyond += _origins(settings, digest, version["split"])
    said = f"{version['rows']:,} examples of {version['split']}"
    name = f"{version['dataset']}@{digest[:16]}"
    return Step("data set", name, said, "view models", tuple(beyond))


def _origins(settings: "Settings", digest: str, split: str) -> Iterator[Step]:
    """Rows of the split by where they came from."""
    import polars as pl

    from tracemill.corpus.write import versions

    for dataset in versions(settings.splits):
        if not dataset.digest.startswith(digest):
            continue
        for file in sorted(dataset.path.glob(f"{split}*.parquet")):
            table = pl.scan_parquet(file, glob=False)
            counts = table.group_by("origin").agg(pl.len(), pl.col("source").first()).collect()
            source = file.relative_to(settings.warehouse).as_posix()
            for origin, rows, first in counts.sort("len", descending=True).iter_rows():
                yield Step("origin", origin, f"{rows:,} rows, as {first}", source)


def _evaluations(log: "EventLog", model: str, bare: str) -> tuple[Step, ...]:
    rows = log.arrow(_EVALUATIONS, {"model": model, "bare": bare}).to_pylist()
    steps = [
        Step(
            "evaluation",
            row["evaluation_id"],
            f"{row['finished_at']:%Y-%m-%d}, {row['name']} on {row['dataset']}: "
            f"{row['outcome']}, {row['figures']}",
            "view evaluations",
        )
        for row in rows
    ]
    return shortened(steps, "evaluations")


def _changes(log: "EventLog", version: dict[str, Any]) -> Iterator[Step]:
    asked = {"name": version["name"], "digest": version["digest"]}
    for row in log.arrow(_CHANGES, asked).to_pylist():
        who = f" by {row['actor']}" if row["actor"] else ""
        what = str(row["kind"]).removeprefix("model.").replace("_", " ")
        said = f"{row['occurred_at']:%Y-%m-%d}{who}: {row['reason']}"
        yield Step(what, "", said, f"event {row['kind']}")


def _served(log: "EventLog", model: str, bare: str) -> Iterator[Step]:
    [row] = log.arrow(_SERVED, {"model": model, "bare": bare}).to_pylist()
    if row["calls"]:
        unpriced = f" and {row['unpriced']:,} without a known price" if row["unpriced"] else ""
        said = (
            f"{row['calls']:,} from {row['first']:%Y-%m-%d} to {row['last']:%Y-%m-%d}, "
            f"{row['failed']:,} failed, {row['usd']:.4f} USD{unpriced}"
        )
        yield Step("calls", "", said, "view call_costs")


def _siblings(log: "EventLog", version: dict[str, Any]) -> tuple[Step, ...]:
    rows = log.arrow(
        "SELECT model, state, reason FROM models WHERE name = $name AND digest <> $digest "
        "ORDER BY registered_at DESC",
        {"name": version["name"], "digest": version["digest"]},
    ).to_pylist()
    steps = [
        Step("other version", row["model"], f"{row['state']}: {row['reason']}", "view models")
        for row in rows
    ]
    return shortened(steps, "versions")
