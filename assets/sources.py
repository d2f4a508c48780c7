"""What comes in: the documentation that is installed here, and the records dropped into raw/.

The installed text makes the first build work on any machine, offline; a user's own files take the
same road. What cannot be read goes to the quarantine with file, line and reason.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from assets import flow, show
from assets.warehouse import ORIGINS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.corpus.records import Batch

GROUP = "sources"
RAW = "raw_records"
BUILT_IN = ("installed", "calls")
"""Origins that lie not in raw/records; a recipe of their name may lie there."""
HARVESTING = ("installed", "public_names", "reference", "sources", "records")
READING = (
    *("read", "formats", "chat", "fields", "columns", "json_rows", "json_array", "row_schema"),
    *("table_rows", "records", "logged"),
)
CODE = code_of(__name__, *(f"tracemill.corpus.{name}" for name in HARVESTING))


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
        lambda: _harvest(context, warehouse, batches(), record_frame([]), installed_file(settings)),
        {"installed": installed_fingerprint(settings)},
    )


@asset_by(
    ORIGINS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version=code_of(__name__, *(f"tracemill.corpus.{name}" for name in READING)),
    deps=[installed_records],
)
def raw_records(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Conversations that end with an answer: installed docstrings, raw/records, judged calls.

    One row a record: messages, tools, where it came from, and whom it belongs to. A file or folder
    in raw/records is an origin; how it is read says the YAML of its name beside it.
    """
    from tracemill.corpus import read
    from tracemill.corpus.logged import from_calls
    from tracemill.corpus.records import record_frame
    from tracemill.corpus.tables import read_batches

    settings = warehouse.settings
    found = read.origins(settings.raw_records, built_in=BUILT_IN)
    calls, judgements = _judged_calls(warehouse)

    def batches(origin: str) -> "Iterator[Batch]":
        if origin == "installed":
            return map(_all_kept, read_batches([installed_file(settings)]))
        if origin == "calls":
            return iter([from_calls(calls, judgements)])
        return read.read_records(found[origin].path, origin, found[origin].recipe)

    judged = judgements.sort("call_id", "score").write_json()
    inputs = raw_inputs(settings) | {
        "installed": {"installed_records": warehouse.digest(installed_records.key)},
        "calls": {"judged": hashlib.sha256(judged.encode()).hexdigest()},
    }
    return warehouse.make_each(
        context,
        lambda origin: _harvest(
            context,
            warehouse,
            batches(origin),
            record_frame([]),
            flow.kept_file(settings, RAW, origin),
            origin,
        ),
        inputs,
        lambda: _pages(flow.kept_files(settings, RAW)),
    )


@dg.asset_check(asset=raw_records)
def nothing_quarantined(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every file and line in raw/records could be read; a refusal warns and stops nothing."""
    import polars as pl

    refused = pl.read_parquet(
        sorted((warehouse.settings.quarantine / RAW).glob("*.parquet")), glob=False
    )
    why = refused["reason"].value_counts(sort=True)
    return dg.AssetCheckResult(
        passed=refused.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{refused.height} refused: `tracemill quarantine --step {RAW} -n 20`",
        metadata={"refused": refused.height, "reasons": dg.MetadataValue.md(show.sample(why, 20))},
    )


def _judged_calls(warehouse: Warehouse) -> "tuple[pl.DataFrame, pl.DataFrame]":
    """The calls that somebody judged, and the judgements."""
    from tracemill.corpus.logged import CALLS, JUDGEMENTS

    with warehouse.open_log() as log:
        judgements = log.sql(JUDGEMENTS)
        return log.sql(CALLS), judgements


def origins(settings: Settings) -> list[str]:
    """The names of all sources of records; `InputError` as of `raw_inputs`."""
    return [*raw_inputs(settings), *BUILT_IN]


def recipes(settings: Settings) -> str:
    """A digest of how every source is read and cleaned, and of how the data set is made."""
    told = [flow.recipe_of(settings, name).model_dump_json() for name in origins(settings)]
    told.append(flow.dataset_recipe(settings).model_dump_json())
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def raw_inputs(settings: Settings) -> dict[str, dict[str, str]]:
    """Origin -> digests of its files and of how they are read, for what lies in raw/records.

    Raises `InputError` where two files want to be one origin, or a recipe is wrong: that of the
    data set too, before anything is made by it.
    """
    from tracemill.corpus import read

    flow.dataset_recipe(settings)
    asked = {"format", "columns", "licence"}
    return {
        name: {
            "files": fingerprint(origin.path),
            "recipe": origin.recipe.model_dump_json(include=asked),
        }
        for name, origin in read.origins(settings.raw_records, built_in=BUILT_IN).items()
    }


def fingerprint(path: Path, *, deep: bool = True) -> str:
    """A digest of names, sizes and times of a file, or of those in a folder: never too old.

    `deep` takes the folders below it along.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else path.rglob("*") if deep else path.iterdir()
    for file in sorted(each for each in files if each.is_file()):
        stat = file.stat()
        digest.update(
            f"{file.relative_to(path.parent)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()


def _harvest(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    batches: "Iterable[Batch]",
    empty: "pl.DataFrame",
    kept: Path,
    origin: str | None = None,
) -> Made:
    """Write what could be read to a table, the rest to the quarantine, and the fact to the log."""
    from tracemill.corpus.records import Batch, refusal_frame
    from tracemill.corpus.tables import write_tables
    from tracemill.events import SourceHarvested

    name = context.asset_key.path[-1]
    quarantine = warehouse.settings.quarantine / (f"{name}/{origin}" if origin else name)
    paths = {"kept": kept, "quarantined": quarantine.with_name(f"{quarantine.name}.parquet")}
    everything = chain([Batch(empty, refusal_frame([]))], batches)
    tables = write_tables((batch._asdict() for batch in everything), paths)
    table, refused = tables["kept"], tables["quarantined"]
    event = SourceHarvested(
        name=f"{name}/{origin}" if origin else name,
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
        pages=_pages([table.path]),
    )


def _pages(tables: list[Path]) -> dict[str, str]:
    import polars as pl

    if not tables:
        return {}
    frame = pl.scan_parquet(tables, glob=False)
    origin = pl.col("source").str.extract(r"^([^:]+)")
    by_origin = frame.group_by(origin).len().sort("len", "source", descending=[True, False])
    top = by_origin.head(12).collect()
    plot = show.bars("Largest sources", top["source"].to_list(), top["len"].to_list(), "rows")
    return {"sample": show.sample(frame.head(5).collect()), "plot": plot}


def installed_file(settings: Settings) -> Path:
    return settings.corpus / "installed_records.parquet"


def _all_kept(frame: "pl.DataFrame") -> "Batch":
    from tracemill.corpus.records import Batch, refusal_frame

    return Batch(frame, refusal_frame([]))


def installed_fingerprint(settings: Settings) -> str:
    from tracemill.corpus import installed

    return installed.installed_fingerprint() if settings.harvest_installed else "left out"
