"""`tracemill quarantine` and `explain`: what did not become training data or a document, and why."""

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

SHOWN = 20
LEAST_DIGITS = 4
"""Of an id, to look it up."""
PLACE = r"(?: starting)?(?: at)? at character \d+$"
"""Where in a line JSON ends, which would make many reasons of one."""
NOTHING = "nothing was left out"
COLUMNS = {
    **dict.fromkeys(("step", "origin", "source", "record_id", "reason", "text", "kept_id"), str),
    **dict.fromkeys(("jaccard", "similarity"), float),
    **dict.fromkeys(("evaluation", "shared"), str),
}
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
    """Tell what did not become training data or a document: how much, at which step, and why.

    With -n the lines, records and files themselves.

    Examples:

      tracemill quarantine
      tracemill quarantine --step raw_records -n 20
      tracemill quarantine --step documents --origin handbook -n 20
      tracemill quarantine --reason duplicate -n 5 --json | jq .kept_id
    """
    import polars as pl

    rows = everything = _quarantined(settings_for(warehouse))
    for name, value in (("step", step), ("origin", origin)):
        if value is not None:
            rows = rows.filter(pl.col(name) == value)
    if reason is not None:
        rows = rows.filter(pl.col("reason").str.contains(reason, literal=True))
    if limit is None:
        rows = (
            rows.group_by("step", pl.col("reason").str.replace(PLACE, ""))
            .agg(n=pl.len(), example=pl.col("source").min())
            .sort("n", "step", "reason", descending=[True, False, False])
        )
    found = rows.collect() if limit is None else rows.head(limit).collect()
    if found.is_empty():
        print(_nothing(everything), file=sys.stderr)
    else:
        if not (as_json or as_csv):
            found = found.select(each for each in found if each.null_count() < found.height)
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

    A duplicate is shown side by side with the record that stayed for it; of a conversation that was
    cut each part is told.

    Examples:

      tracemill explain b2:51a9d77ce0f2
      tracemill explain faq.jsonl:12
    """
    import polars as pl

    settings = settings_for(warehouse)
    wanted = _is(record)
    whole, parts = _parts(settings, record)
    if parts:
        print(f"{whole} was cut into {len(parts)} parts")
        wanted |= pl.col("record_id").is_in(parts)
    dropped = _quarantined(settings).filter(wanted).head(SHOWN + 1).collect()
    for row in dropped.head(SHOWN).iter_rows(named=True):
        _tell_dropped(row, settings)
    kept = _in_splits(settings, wanted)
    for split, row in kept[:SHOWN]:
        of = f", a part of {row['part_of']}" if row["part_of"] and row["part_of"] != whole else ""
        print(plain(f"{row['record_id']} of {row['source']} is in {split}{of}"))
    if max(dropped.height, len(kept)) > SHOWN:
        print("There are more: give more of the id", file=sys.stderr)
    if dropped.is_empty() and not kept:
        raise InputError(
            f"no record has the id or source {record!r}: `tracemill quarantine -n 5` shows some"
        )


def _tell_dropped(row: dict[str, Any], settings: "Settings") -> None:
    from rich.console import Console

    print(plain(f"{row['record_id'] or 'a line'} of {row['source']}"))
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


def _parts(settings: "Settings", record: str) -> tuple[str | None, list[str]]:
    """The id of a record that was too long, and those of its parts."""
    import polars as pl

    files = sorted(settings.kept("fitting_records").glob("*.parquet"))
    if not files:
        return None, []
    records = pl.scan_parquet(files, glob=False).select("record_id", "part_of").drop_nulls()
    of_it = records.filter(_begins("part_of", record)).collect()
    wholes = of_it["part_of"].unique()
    if len(wholes) != 1:  # None, or a beginning that several share.
        return None, []
    return wholes.item(), of_it["record_id"].unique(maintain_order=True).to_list()


def _nothing(rows: "pl.LazyFrame") -> str:
    """That nothing fits, and by which names something would."""
    import polars as pl

    names = rows.select(pl.col("step", "origin").unique().sort().implode()).collect()
    there = (f"{name}s are {', '.join(names[name].item())}" for name in names.columns)
    return f"nothing that fits: {'; '.join(there)}" if names["step"].item().len() else NOTHING


def _in_splits(settings: "Settings", wanted: "pl.Expr") -> "list[tuple[str, dict[str, Any]]]":
    import polars as pl

    from tracemill.corpus.write import current

    if not (settings.splits / "current").is_file():
        return []
    version = current(settings.splits)
    found: list[tuple[str, dict[str, Any]]] = []
    for split in version.rows:
        for file in sorted(version.path.glob(f"{split}*.parquet")):
            rows = (
                pl.scan_parquet(file, glob=False)
                .filter(wanted)
                .select("record_id", "source", "part_of")
                .head(SHOWN + 1)
                .collect()
            )
            found += [(split, row) for row in rows.iter_rows(named=True)]
    return found


def _quarantined(settings: "Settings") -> "pl.LazyFrame":
    """Records, files of documents and labelled questions: all that was sorted out."""
    import polars as pl

    found = [_refused(settings, step) for step in ("documents", "questions")]
    if settings.quarantined_records.is_file():
        found.insert(0, pl.scan_parquet(settings.quarantined_records, glob=False))
    tables = [table for table in found if table is not None]
    if not tables:
        raise InputError(
            "nothing has been sorted out yet: `tracemill build +quarantine` makes the table"
        )
    return pl.concat([pl.LazyFrame(schema=COLUMNS), *tables], how="diagonal_relaxed")


def _refused(settings: "Settings", step: str) -> "pl.LazyFrame | None":
    """What was refused of each collection, in the columns of records."""
    import polars as pl

    files = sorted((settings.quarantine / step).glob("*.parquet"))
    where = pl.concat_str("file", pl.lit(":") + pl.col("line").cast(pl.String), ignore_nulls=True)
    tables = [
        pl.scan_parquet(file, glob=False).select(
            step=pl.lit(step), origin=pl.lit(file.stem), source=where, reason="reason", text="text"
        )
        for file in files
    ]
    return pl.concat(tables) if tables else None


def _is(record: str) -> "pl.Expr":
    import polars as pl

    return (pl.col("source") == record) | _begins("record_id", record)


def _begins(column: str, record: str) -> "pl.Expr":
    """Whether an id begins with this; a few letters alone are no id."""
    import polars as pl

    digits = record.removeprefix("b2:")
    return pl.lit(len(digits) >= LEAST_DIGITS) & pl.col(column).str.starts_with(f"b2:{digits}")
