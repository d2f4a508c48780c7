"""`tracemill quarantine` and `explain`: what did not become training data, and why."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, settings_for
from tracemill.cli.output import plain, print_frame
from tracemill.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from tracemill.settings import Settings

Csv = Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")]


def quarantine(
    step: Annotated[str | None, typer.Option(help="Only this step, as clean_records.")] = None,
    origin: Annotated[str | None, typer.Option(help="Only this source, as support.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only reasons that contain this.")] = None,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="Show so many rows themselves.")
    ] = None,
    as_json: Json = False,
    as_csv: Csv = False,
    warehouse: Warehouse = None,
) -> None:
    """Tell what did not become training data: how much, at which step, for which reason.

    With -n the lines and records themselves.

    Examples:

      tracemill quarantine
      tracemill quarantine --step raw_records -n 20
      tracemill quarantine --reason duplicate -n 5 --json | jq .kept_id
    """
    import polars as pl

    rows = _quarantined(settings_for(warehouse))
    for name, value in (("step", step), ("origin", origin)):
        if value is not None:
            rows = rows.filter(pl.col(name) == value)
    if reason is not None:
        rows = rows.filter(pl.col("reason").str.contains(reason, literal=True))
    if limit is None:
        rows = (
            rows.group_by("step", "reason")
            .agg(n=pl.len(), example=pl.col("source").min())
            .sort("n", "step", "reason", descending=[True, False, False])
        )
    found = rows.collect() if limit is None else rows.head(limit).collect()
    if found.is_empty():
        print("nothing that fits", file=sys.stderr)
    else:
        print_frame(found, as_json=as_json, as_csv=as_csv)


def explain(
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD", help="Its id (the beginning is enough), or its source: faq.jsonl:12."
        ),
    ],
    warehouse: Warehouse = None,
) -> None:
    """Tell where a record ended: in which split, or at which step it was dropped and why.

    A duplicate is shown side by side with the record that stayed for it.

    Examples:

      tracemill explain b2:51a9d77ce0f2
      tracemill explain faq.jsonl:12
    """
    settings = settings_for(warehouse)
    told = False
    for row in _quarantined(settings).filter(_is(record)).head(20).collect().iter_rows(named=True):
        told = True
        _tell_dropped(row, settings)
    for split, row in _in_splits(settings, record):
        told = True
        print(f"{row['record_id']} of {row['source']} is in {split}")
    if not told:
        raise InputError(
            f"no record has the id or source {record!r}: `tracemill quarantine -n 5` shows some"
        )


def _tell_dropped(row: dict[str, Any], settings: "Settings") -> None:
    from rich.console import Console

    print(f"{row['record_id'] or 'a line'} of {row['source']}")
    print(f"  {row['step']}: {plain(row['reason'])}")
    if row["evaluation"]:
        print(f"  evaluation set {row['evaluation']}, both say: {plain(row['shared'] or '')}")
    if row["kept_id"]:
        from tracemill.corpus.dedup import explain as pair

        kept, dropped = (
            _find(folder, row[name])
            for folder, name in (
                (settings.kept(row["step"]), "kept_id"),
                (settings.dropped(row["step"]), "record_id"),
            )
        )
        Console(highlight=False).print(pair(row["record_id"], kept, dropped))


def _find(folder: Path, record_id: str) -> "pl.DataFrame":
    import polars as pl

    tables = pl.scan_parquet(sorted(folder.glob("*.parquet")), glob=False)
    return tables.filter(pl.col("record_id") == record_id).collect()


def _in_splits(settings: "Settings", record: str) -> "list[tuple[str, dict[str, Any]]]":
    import polars as pl

    from tracemill.corpus.write import current

    if not (settings.corpus / "splits" / "current").is_file():
        return []
    version = current(settings.corpus / "splits")
    found: list[tuple[str, dict[str, Any]]] = []
    for split in version.rows:
        for file in sorted(version.path.glob(f"{split}*.parquet")):
            rows = (
                pl.scan_parquet(file, glob=False).filter(_is(record)).select("record_id", "source")
            )
            found += [(split, row) for row in rows.head(20).collect().iter_rows(named=True)]
    return found


def _quarantined(settings: "Settings") -> "pl.LazyFrame":
    import polars as pl

    if not settings.quarantined_records.is_file():
        raise InputError(
            "nothing has been sorted out yet: `tracemill build +quarantine` makes the table"
        )
    return pl.scan_parquet(settings.quarantined_records, glob=False)


def _is(record: str) -> "pl.Expr":
    import polars as pl

    by_source = pl.col("source") == record
    wanted = record if record.startswith("b2:") else f"b2:{record}"
    return by_source | pl.col("record_id").str.starts_with(wanted)
