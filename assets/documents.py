"""From files to documents: which collections there are, and the text that their files hold.

Each folder in raw/documents is a collection. Files that were edited are read, those that are gone
leave, and what cannot be read is in the quarantine with the reason.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from assets import show, sources
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import UsageError
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.retrieval.recipe import Collection

GROUP = "retrieval"
INSTALLED = "installed"
"""The collection of what is installed here; it lies not in raw/documents."""
LOOSE = "documents"
"""The collection of the files that lie in raw/documents itself."""
SAMPLE_ROWS = 5
HARVESTING = ("installed", "public_names", "reference", "sources", "records")
READING = ("frames", "documents", "folder", "extract")


class Origin(NamedTuple):
    """Where the documents of a collection are, and how they become one."""

    folder: Path | None
    """None for what is installed."""
    deep: bool
    """Whether folders below it belong to it."""
    recipe: "Collection"


def origins(settings: Settings) -> dict[str, Origin]:
    """The collections that there should be, by name.

    Raises `InputError` when a recipe is wrong, `UsageError` when a name is taken twice.
    """
    from tracemill.retrieval.recipe import collection_recipe

    def recipe(name: str) -> "Collection":
        files = [raw / f"{name}{suffix}" for suffix in (".yaml", ".yml")]
        return collection_recipe(next((file for file in files if file.is_file()), files[0]))

    raw = settings.raw_documents
    entries = sorted(raw.iterdir()) if raw.is_dir() else []
    folders = [each for each in entries if each.is_dir() and not each.name.startswith(".")]
    taken = [each.name for each in folders if each.name in (INSTALLED, LOOSE)]
    if taken:
        raise UsageError(
            f"raw/documents/{taken[0]}: {taken[0]} is a collection of its own, "
            "give the folder another name"
        )
    found = {INSTALLED: Origin(None, True, recipe(INSTALLED))} if settings.harvest_installed else {}
    if any(map(_is_document, entries)):
        found[LOOSE] = Origin(raw, False, _without_recipes(recipe(LOOSE)))
    return found | {each.name: Origin(each, True, recipe(each.name)) for each in folders}


def names(settings: Settings) -> list[str]:
    """The names of all collections."""
    return sorted(origins(settings))


def inputs(settings: Settings) -> dict[str, dict[str, str]]:
    """Collection -> digests of its files and of how they are read, but for what is installed."""
    from tracemill.retrieval.extract import version

    return {
        name: {
            "files": sources.fingerprint(origin.folder, deep=origin.deep),
            "extraction": version(),
            "recipe": origin.recipe.extraction.model_dump_json(),
        }
        for name, origin in origins(settings).items()
        if origin.folder is not None
    }


@asset_by(
    COLLECTIONS,
    key_prefix=GROUP,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    code_version=code_of(
        __name__,
        *(f"tracemill.corpus.{name}" for name in HARVESTING),
        *(f"tracemill.retrieval.{name}" for name in READING),
    ),
    deps=[sources.installed_records],
)
def documents(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:
    """Texts of files, each with its title, pages, language and what it says about itself.

    A folder in raw/documents is a collection. Files that cannot be read are in the quarantine, with
    the reason; a file that did not change is not read again.
    """
    from tracemill.events import SourceHarvested

    settings = warehouse.settings
    found = origins(settings)
    _forget_gone(settings, found)
    asked = inputs(settings)
    if INSTALLED in found:
        asked[INSTALLED] = {
            "installed": sources.installed_fingerprint(settings),
            "installed_records": warehouse.digest(sources.installed_records.key),
        }

    def work(name: str) -> Made:
        made = _harvest(settings, name) if name == INSTALLED else _read(settings, name, found[name])
        event = SourceHarvested(
            name=f"documents/{name}",
            items=made.rows or 0,
            quarantined=int(made.facts["refused"]),
            digest=made.digest,
            **warehouse.origin(context),
        )
        with warehouse.open_log() as log:
            log.append(event)
        return made

    return warehouse.make_each(context, work, asked, lambda: _document_pages(settings, found))


def table(settings: Settings, name: str, what: str) -> Path:
    """The file with the documents, chunks or embeddings of a collection."""
    return settings.collection(name) / f"{what}.parquet"


@dg.asset_check(asset=documents)
def every_file_read(warehouse: Warehouse) -> dg.AssetCheckResult:
    """Every file in raw/documents could be read; a refusal warns and stops nothing."""
    import polars as pl

    settings = warehouse.settings
    files = sorted((settings.quarantine / "documents").glob("*.parquet"))
    read = [pl.read_parquet(file, columns=["reason"], glob=False) for file in files]
    refused = pl.concat([pl.DataFrame(schema={"reason": pl.String}), *read])
    why = refused["reason"].value_counts(sort=True)
    return dg.AssetCheckResult(
        passed=refused.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{refused.height} refused: `tracemill quarantine --step documents -n 20`",
        metadata={"refused": refused.height, "reasons": dg.MetadataValue.md(show.sample(why, 20))},
    )


def _is_document(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".yaml", ".yml") and path.name[0] != "."


def _without_recipes(recipe: "Collection") -> "Collection":
    extraction = recipe.extraction
    no_recipes = {"exclude": (*extraction.exclude, "*.yaml", "*.yml")}
    return recipe.model_copy(update={"extraction": extraction.model_copy(update=no_recipes)})


def _forget_gone(settings: Settings, known: Mapping[str, Origin]) -> None:
    """Delete what was made of collections whose folder is gone."""
    for folder in settings.indexes.glob("*/"):
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)
    for file in (settings.quarantine / "documents").glob("*.parquet"):
        if file.stem not in known:
            file.unlink(missing_ok=True)


def _harvest(settings: Settings, name: str) -> Made:
    """The documentation that is installed: a reference page a module, READMEs, the language."""
    import polars as pl

    from tracemill.corpus import installed
    from tracemill.corpus.records import document_frame
    from tracemill.corpus.reference import reference_documents
    from tracemill.corpus.tables import write_table
    from tracemill.retrieval.documents import from_frame

    harvested = pl.read_parquet(sources.installed_file(settings), glob=False)
    pages = [document_frame([]), reference_documents(harvested), *installed.installed_documents()]
    kept, dropped = from_frame(pl.concat(pages))
    documents = write_table(kept, table(settings, name, "documents"))
    write_table(_refusals(dropped), settings.quarantined_documents(name))
    return _documents_made(settings, name, documents.path, {"files_read": kept.height})


def _read(settings: Settings, name: str, origin: Origin) -> Made:
    from tracemill.retrieval import folder

    assert origin.folder is not None
    found = folder.update(
        origin.folder,
        source=origin.folder.relative_to(settings.warehouse).as_posix(),
        documents=table(settings, name, "documents"),
        refused=settings.quarantined_documents(name),
        extraction=origin.recipe.extraction,
        deep=origin.deep,
    )
    counts = {f"files_{name}": count for name, count in found._asdict().items()}
    return _documents_made(settings, name, table(settings, name, "documents"), counts)


def _documents_made(
    settings: Settings, name: str, documents: Path, counts: Mapping[str, int]
) -> Made:
    """What was made of the files; its digest does not change with a file's time alone."""
    import polars as pl

    refused = settings.quarantined_documents(name)
    frame = pl.scan_parquet(documents, glob=False).drop("modified_ns", "text").collect()
    rows = "\n".join(frame.sort("document_id").write_ndjson().splitlines())
    return Made(
        digest=hashlib.sha256(rows.encode()).hexdigest(),
        rows=frame.height,
        files=(documents, refused),
        facts={
            **counts,
            "refused": pl.scan_parquet(refused, glob=False).select(pl.len()).collect().item(),
        },
    )


def _refusals(dropped: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return dropped.select(
        file="source",
        line=pl.lit(None, pl.Int64),
        reason="reason",
        text=pl.col("text").str.head(400),
    )


def all_rows(settings: Settings, what: str, names: Iterable[str]) -> "pl.LazyFrame":
    """A table of all collections, one below the other."""
    import polars as pl

    return pl.scan_parquet([table(settings, name, what) for name in sorted(names)], glob=False)


def _document_pages(settings: Settings, names: Iterable[str]) -> dict[str, str]:
    import polars as pl

    rows = all_rows(settings, "documents", names)
    shown = rows.select("title", "source", "format", "language", "text").head(SAMPLE_ROWS)
    characters = rows.select(pl.col("text").str.len_chars() / 1000).collect().to_series()
    formats = rows.group_by("format").len("documents").sort("documents", "format", descending=True)
    return {
        "sample": show.sample(shown.collect()),
        "formats": show.sample(formats.collect(), rows=20),
        "plot": show.histogram("Length of documents", characters, "thousand characters"),
    }
