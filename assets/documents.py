"""From files to documents: which collections there are, and the text that their files hold.

Each folder in raw/documents is a collection. Files that were edited are read, those that are gone
leave, and what cannot be read is in the quarantine with the reason.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from assets import show, sources
from assets.warehouse import COLLECTIONS, OWNERS, Made, Warehouse, asset_by, code_of
from tracemill.errors import InputError
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.retrieval.recipe import Collection

GROUP = "retrieval"
INSTALLED = "installed"
"""The collection of what is installed here; it lies not in raw/documents."""
RECIPES = (".yaml", ".yml")
LOOSE = "documents"
"""The collection of the files that lie in raw/documents itself."""
SAMPLE_ROWS = 5
COUNTED = ("read", "unchanged", "renamed", "deleted")
HARVESTING = ("installed", "public_names", "reference", "sources", "records", "languages")
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

    Raises `InputError` when a recipe is wrong or for nothing, when a name is taken twice or cannot
    name a collection.
    """
    raw = settings.raw_documents
    entries = sorted(raw.iterdir()) if raw.is_dir() else []
    folders = {each.name: each for each in entries if each.is_dir() and each.name[0] != "."}
    _check_names(raw, folders)
    recipes = _recipes(entries, {INSTALLED, LOOSE, *folders})
    found: dict[str, Origin] = {}
    if settings.harvest_installed:
        found[INSTALLED] = Origin(None, True, recipes[INSTALLED])
    if any(map(_is_document, entries)):
        found[LOOSE] = Origin(raw, False, _without_recipes(recipes[LOOSE]))
    return found | {name: Origin(path, True, recipes[name]) for name, path in folders.items()}


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

    def whole() -> dict[str, str]:
        return _document_pages(settings, warehouse.parts(context.asset_key))

    return warehouse.make_each(context, work, asked, whole)


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
    return path.is_file() and path.suffix not in RECIPES and path.name[0] != "."


def _check_names(raw: Path, folders: Iterable[str]) -> None:
    from tracemill.retrieval.collection import is_name

    for name in folders:
        if name in (INSTALLED, LOOSE):
            raise InputError(
                f"{raw / name}: {name!r} is the name of a collection of ours: rename the folder"
            )
        if not is_name(name) or "..." in name:  # Dagster takes these for a range.
            raise InputError(f"{raw / name} cannot name a collection: rename the folder")


def _recipes(entries: Sequence[Path], names: Iterable[str]) -> "dict[str, Collection]":
    """The recipe of each collection; the defaults where none lies beside it."""
    from tracemill.retrieval.recipe import Collection, collection_recipe

    recipes = {name: Collection() for name in names}
    written: dict[str, Path] = {}
    for file in (each for each in entries if each.suffix in RECIPES and each.is_file()):
        if file.stem not in recipes:
            raise InputError(
                f"{file} is a recipe for nothing: no folder {file.stem} lies beside it"
            )
        if file.stem in written:
            raise InputError(
                f"{file.parent} has {written[file.stem].name} and {file.name}, two recipes of one "
                "collection: keep one"
            )
        recipes[file.stem] = collection_recipe(file)
        written[file.stem] = file
    return recipes


def _without_recipes(recipe: "Collection") -> "Collection":
    extraction = recipe.extraction
    no_recipes = {"exclude": (*extraction.exclude, "*.yaml", "*.yml")}
    return recipe.model_copy(update={"extraction": extraction.model_copy(update=no_recipes)})


def _forget_gone(settings: Settings, known: Mapping[str, Origin]) -> None:
    """Delete what was made of collections whose folder is gone; what was made there by hand has no
    tables beside its versions, and stays."""
    for folder in settings.indexes.glob("*/"):
        if folder.name not in known and any(folder.glob("*.parquet")):
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
    counts = {f"files_{name}": getattr(found, name) for name in COUNTED}
    return _documents_made(settings, name, table(settings, name, "documents"), counts)


def _documents_made(
    settings: Settings, name: str, documents: Path, counts: Mapping[str, int]
) -> Made:
    """What was made of the files; its digest does not change with a file's time alone."""
    import polars as pl

    from tracemill.retrieval.extract import version

    refused = settings.quarantined_documents(name)
    frame = pl.scan_parquet(documents, glob=False).drop("modified_ns", "text").collect()
    rows = "\n".join(frame.sort("document_id").write_ndjson().splitlines())
    left_out = pl.scan_parquet(refused, glob=False).select(pl.len()).collect().item()
    return Made(
        # A text follows from the bytes of its file and from who reads them.
        digest=hashlib.sha256(f"{version()}\n{rows}".encode()).hexdigest(),
        rows=frame.height,
        files=(documents, refused),
        facts={"refused": left_out},
        did=counts,
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
