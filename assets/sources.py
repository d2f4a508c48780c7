"""What comes in: the documentation that is installed here, and the files dropped into raw/.

The installed text makes the first build work on any machine, offline; a user's own files take the
same road. What cannot be read goes to the quarantine with file, line and reason.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import show
from assets.warehouse import OWNERS, Made, Warehouse, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.records import Batch

GROUP = "sources"
CODE = code_of(__name__, "tracemill.corpus")


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version=CODE,
)
def installed_records(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> dg.MaterializeResult:
    """Questions about the installed packages, answered by their docstrings."""
    from tracemill.corpus import installed
    from tracemill.corpus.records import record_frame

    settings = warehouse.settings

    def batches() -> "Iterator[Batch]":
        if settings.harvest_installed:
            yield from installed.harvest()

    return warehouse.make(
        context,
        lambda: _harvest(context, warehouse, batches(), record_frame([])),
        {"installed": _installed_fingerprint(settings)},
    )


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version=CODE,
    deps=[installed_records],
)
def raw_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Questions with answers: the installed docstrings, and what lies in raw/records.

    One row a record: user_query, assistant_response, context, source, timestamp.
    """
    from tracemill.corpus import read
    from tracemill.corpus.records import record_frame

    settings = warehouse.settings
    installed = settings.corpus / "installed_records.parquet"

    def batches() -> "Iterator[Batch]":
        yield from map(_all_kept, batches_of(installed))
        yield from read.read_records(settings.raw_records)

    return warehouse.make(
        context,
        lambda: _harvest(context, warehouse, batches(), record_frame([])),
        {
            "installed_records": warehouse.digest(installed_records.key),
            "raw/records": fingerprint(settings.raw_records),
        },
    )


@dg.asset(
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version=CODE,
    deps=[installed_records],
)
def raw_documents(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Texts to search in: what is installed, and what lies in raw/documents.

    Installed are a reference page for each module, READMEs, and Python's language reference.
    """
    from tracemill.corpus import installed, read
    from tracemill.corpus.records import document_frame

    settings = warehouse.settings
    records = settings.corpus / "installed_records.parquet"

    def batches() -> "Iterator[Batch]":
        yield _all_kept(_reference_pages(records))
        if settings.harvest_installed:
            yield from map(_all_kept, installed.installed_documents())
        yield from read.read_documents(settings.raw_documents)

    return warehouse.make(
        context,
        lambda: _harvest(context, warehouse, batches(), document_frame([])),
        {
            "installed": _installed_fingerprint(settings),
            "installed_records": warehouse.digest(installed_records.key),
            "raw/documents": fingerprint(settings.raw_documents),
        },
    )


@dg.asset_check(asset=raw_records)
def nothing_quarantined(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every file and line in raw/records could be read; a refusal warns and stops nothing."""
    import polars as pl

    refused = pl.read_parquet(_quarantine(warehouse.settings, "raw_records"))
    why = refused["reason"].value_counts(sort=True)
    return dg.AssetCheckResult(
        passed=refused.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{refused.height} refused, see quarantine/",
        metadata={"refused": refused.height, "reasons": dg.MetadataValue.md(show.sample(why, 20))},
    )


def fingerprint(folder: Path) -> str:
    """A digest of names, sizes and times of the files below a folder: cheap, and never too old."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        stat = file.stat()
        digest.update(f"{file.relative_to(folder)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def batches_of(table: Path) -> "Iterator[pl.DataFrame]":
    """The rows of a Parquet file, one batch after the other."""
    import polars as pl
    from pyarrow import parquet

    with parquet.ParquetFile(table) as file:
        for batch in file.iter_batches(batch_size=10_000):
            yield pl.DataFrame(batch)


def _reference_pages(records: Path) -> "pl.DataFrame":
    import polars as pl

    from tracemill.corpus.reference import reference_documents

    return reference_documents(pl.read_parquet(records))


def _harvest(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    batches: "Iterator[Batch]",
    empty: "pl.DataFrame",
) -> Made:
    """Write what could be read to the folder, the rest to the quarantine, and the fact to the log."""
    import polars as pl

    from tracemill.corpus import write
    from tracemill.corpus.records import refusal_frame
    from tracemill.events import SourceHarvested

    name = context.asset_key.path[-1]
    quarantined = [refusal_frame([])]

    def kept() -> "Iterator[pl.DataFrame]":
        yield empty
        for batch in batches:
            if batch.quarantined.height:
                quarantined.append(batch.quarantined)
            yield batch.kept

    table = write.write_table(kept(), _table(warehouse.settings, name))
    refused = write.write_table(pl.concat(quarantined), _quarantine(warehouse.settings, name))
    event = SourceHarvested(
        name=name,
        items=table.rows,
        quarantined=refused.rows,
        digest=table.digest,
        **warehouse.origin(context),
    )
    with warehouse.open_log() as log:
        log.append(event)
    return Made(
        digest=table.digest,
        rows=table.rows,
        files=(table.path, refused.path),
        facts={"quarantined": refused.rows, "megabytes": round(table.path.stat().st_size / 1e6, 2)},
        pages=_pages(table.path),
    )


def _pages(table: Path) -> dict[str, str]:
    import polars as pl

    frame = pl.scan_parquet(table)
    origin = pl.col("source").str.extract(r"^([^:]+)")
    by_origin = frame.group_by(origin).len().sort("len", "source", descending=[True, False])
    top = by_origin.head(12).collect()
    plot = show.bars("Largest sources", top["source"].to_list(), top["len"].to_list(), "rows")
    return {"sample": show.sample(frame.head(5).collect()), "plot": plot}


def _table(settings: Settings, name: str) -> Path:
    folder = settings.indexes if name == "raw_documents" else settings.corpus
    return folder / f"{name}.parquet"


def _quarantine(settings: Settings, name: str) -> Path:
    return settings.quarantine / f"{name}.parquet"


def _all_kept(frame: "pl.DataFrame") -> "Batch":
    from tracemill.corpus.records import Batch, refusal_frame

    return Batch(frame, refusal_frame([]))


def _installed_fingerprint(settings: Settings) -> str:
    from tracemill.corpus import installed

    return installed.installed_fingerprint() if settings.harvest_installed else "left out"
