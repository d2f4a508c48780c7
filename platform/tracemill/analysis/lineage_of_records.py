"""A record's way: its file and line, each step of the corpus, the data sets that hold it, their models."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.analysis.lineage import Lineage, Step, shortened
from tracemill.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.write import Dataset
    from tracemill.log import EventLog
    from tracemill.settings import Settings

STEPS = (
    "raw_records",
    "clean_records",
    "protected_records",
    "fitting_records",
    "unique_records",
    "decontaminated_records",
    "training_splits",
)
"""The steps of the corpus, in their order."""
_LEAST_DIGITS = 4
_SHOWN = ("record_id", "origin", "source", "call_id", "part_of", "reason", "kept_id", "jaccard")


def of(log: "EventLog", settings: "Settings", wanted: str) -> Lineage | None:
    """The lineage of a record: by its id, the beginning of one, or its source, as `faq.jsonl:12`.

    Raises `UsageError` where several records are meant.
    """
    found = _ids(settings, wanted)
    if not found:
        return None
    if len(found) > 1:
        ids = ", ".join(sorted(found)[:5])
        raise UsageError(f"{wanted!r} is the beginning of {len(found):,} records: {ids} ...")
    [(record_id, row)] = found.items()
    said = f"of {row['origin']}" if row.get("origin") else ""
    return Lineage(
        Step("record", record_id, said, row["file"]),
        tuple(_origin(log, row)),
        (*way(settings, record_id), *datasets(log, settings, record_id)),
    )


def made_of_call(log: "EventLog", settings: "Settings", call_id: str) -> Iterator[Step]:
    """The records that a call became, each with its way."""
    import polars as pl

    seen: set[str] = set()
    for step, file, rows in _tables(settings, pl.col("call_id") == call_id):
        for record_id in rows["record_id"]:
            if record_id not in seen:
                seen.add(record_id)
                beyond = (*way(settings, record_id), *datasets(log, settings, record_id))
                yield Step("record", record_id, f"since {step}", file, beyond)


def way(settings: "Settings", record_id: str) -> list[Step]:
    """What each step of the corpus did with a record; of one that was cut, its parts as well."""
    import polars as pl

    wanted = pl.col("record_id") == record_id
    told = [
        _told(step, file, row)
        for step, file, rows in _tables(settings, wanted)
        for row in rows.iter_rows(named=True)
    ]
    for file in _files(settings.kept("fitting_records")):
        table = pl.scan_parquet(file, glob=False)
        if "part_of" in table.collect_schema():
            parts = table.filter(pl.col("part_of") == record_id).select("record_id").collect()
            told += [
                Step("part", part, "it was cut", _named(settings, file))
                for part in parts["record_id"]
            ]
    return [*told, *shortened(_duplicates(settings, record_id), "duplicates")]


def _duplicates(settings: "Settings", record_id: str) -> list[Step]:
    """The records that were dropped because this one stays."""
    import polars as pl

    wanted = pl.col("kept_id") == record_id
    found = [
        (file, row)
        for file in _files(settings.dropped("unique_records"))
        for row in pl.scan_parquet(file, glob=False)
        .filter(wanted)
        .select("record_id", "source", "reason")
        .collect()
        .iter_rows(named=True)
    ]
    return [
        Step(
            "stands for",
            row["record_id"],
            f"{row['reason']}, {row['source']}",
            _named(settings, file),
        )
        for file, row in found
    ]


def datasets(log: "EventLog", settings: "Settings", record_id: str) -> list[Step]:
    """The versions of the data set that hold a record, and the models that were trained on them."""
    import polars as pl

    from tracemill.corpus.write import versions

    held = (pl.col("record_id") == record_id) | (pl.col("part_of") == record_id)
    steps: list[Step] = []
    for dataset in versions(settings.splits):
        for split in dataset.rows:
            for file in sorted(dataset.path.glob(f"{split}*.parquet")):
                count = pl.scan_parquet(file, glob=False).filter(held).select(pl.len()).collect()
                if count.item():
                    steps.append(_dataset_step(log, settings, dataset, split, file))
    return steps


def trained_on(log: "EventLog", digest: str, split: str | None = None) -> list[Step]:
    """The models that were trained on a version of the data set."""
    found = log.arrow(
        "SELECT model, name, left(digest, 8) AS digest, state, rows, split FROM models "
        "WHERE (starts_with($digest, dataset_digest) OR starts_with(dataset_digest, $digest)) "
        "AND ($split IS NULL OR split = $split) ORDER BY registered_at",
        {"digest": digest, "split": split},
    ).to_pylist()
    return [
        Step(
            "model",
            row["model"],
            f"{row['state']}, trained on {row['rows']:,} rows of {row['split']}",
            "view models",
        )
        for row in found
    ]


def _dataset_step(
    log: "EventLog", settings: "Settings", dataset: "Dataset", split: str, file: Path
) -> Step:
    models = trained_on(log, dataset.digest, split)
    return Step(
        "data set",
        f"{dataset.name}@{dataset.digest[:16]}",
        f"one of {dataset.rows[split]:,} rows of {split}",
        _named(settings, file),
        shortened(models, "models"),
    )


def _ids(settings: "Settings", wanted: str) -> dict[str, dict[str, Any]]:
    """Record -> where it was found first."""
    import polars as pl

    digits = wanted.removeprefix("b2:")
    begins = pl.col("record_id").str.starts_with(f"b2:{digits}")
    sure = pl.lit(wanted.startswith("b2:") and len(digits) >= _LEAST_DIGITS)
    found: dict[str, dict[str, Any]] = {}
    for _, file, rows in _tables(settings, (pl.col("source") == wanted) | (begins & sure)):
        for row in rows.iter_rows(named=True):
            found.setdefault(row["record_id"], {**row, "file": file})
    return found


def _origin(log: "EventLog", row: dict[str, Any]) -> Iterator[Step]:
    """Where it was read: a line of a file, or a call."""
    if row.get("call_id"):
        call = log.arrow(
            "SELECT request_model, occurred_at FROM events WHERE stream = 'call:' || $id "
            "ORDER BY position LIMIT 1",
            {"id": row["call_id"]},
        ).to_pylist()
        said = f"of {call[0]['request_model']}, {call[0]['occurred_at']:%Y-%m-%d}" if call else ""
        yield Step("call", row["call_id"], said or "no longer in the log", "events")
    elif row.get("source"):
        origin = row.get("origin") or ""
        place = "installed documentation" if origin == "installed" else f"raw/records, {origin}"
        yield Step("line", row["source"], place, row["file"])


def _told(step: str, file: str, row: dict[str, Any]) -> Step:
    if not row.get("reason"):
        return Step("step", step, "kept", file)
    kept = row.get("kept_id")
    near = f" of {kept}" if kept else ""
    alike = f" (Jaccard {row['jaccard']:.3f})" if row.get("jaccard") is not None else ""
    return Step("step", step, f"dropped: {row['reason']}{near}{alike}", file)


def _tables(settings: "Settings", wanted: "pl.Expr") -> "Iterator[tuple[str, str, pl.DataFrame]]":
    """The rows that are wanted, of every step: what it kept, then what it dropped."""
    import polars as pl

    for step in STEPS:
        for folder in (settings.kept(step), settings.dropped(step)):
            for file in _files(folder):
                table = pl.scan_parquet(file, glob=False)
                known = table.collect_schema().names()
                if not {"record_id", "source", "call_id"} <= set(known):
                    continue
                columns = [name for name in _SHOWN if name in known]
                rows = table.filter(wanted).select(columns).head(1000).collect()
                if len(rows):
                    yield step, _named(settings, file), rows


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _named(settings: "Settings", file: Path) -> str:
    return file.relative_to(settings.warehouse).as_posix()
