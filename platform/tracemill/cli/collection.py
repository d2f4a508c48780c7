"""`tracemill search` and `tracemill collections`: what is indexed, and what a search finds there."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracemill.cli.options import Json, Warehouse, settings_for
from tracemill.cli.output import harmless, plain, print_facts, print_json, print_lines
from tracemill.errors import InputError, TracemillError, UsageError

if TYPE_CHECKING:
    from tracemill.retrieval.collection import Collection
    from tracemill.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Collections of documents: what each holds, and whether it is sound.

A folder in warehouse/raw/documents/ is a collection; `tracemill build` reads it, cuts it into chunks,
embeds these and writes a version that serves when it is whole. The versions before it stay for a
while, and serve should the last one be damaged.

  tracemill collections ls
  tracemill collections show handbook
  tracemill collections check handbook      every digest, recall, nothing stale
  tracemill search "how do I get leave" -c handbook""",
)

_MODES = ("hybrid", "dense", "lexical")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the collection.")]


def search(
    words: Annotated[str, typer.Argument(help="What to look for: words or a question.")],
    collection: Annotated[
        str, typer.Option("-c", "--collection", help="Where to look; `collections ls` lists them.")
    ] = "installed",
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="How many chunks.")] = 5,
    mode: Annotated[
        str, typer.Option(help="hybrid (words and meaning), dense (meaning) or lexical (words).")
    ] = "hybrid",
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only chunks for which this holds, as language=en; may be repeated."),
    ] = None,
    as_json: Json = False,
    warehouse: Warehouse = None,
) -> None:
    """Search a collection: the chunks that fit best, with their places. No model is asked.

    A condition is FIELD OPERATOR VALUE; fields are those of a chunk (language, source, format,
    modified_at, tokens, headings ...) and metadata.KEY; operators are = != < <= > >= in contains.

    Examples:

      tracemill search "how to read a file"
      tracemill search "leave of absence" -c handbook -k 10 --where language=en
      tracemill search invoice -c mail --where 'modified_at>=2026-01-01' --where 'metadata.team in ap,ar'
      tracemill search asyncio.gather --mode lexical --json | jq .text
    """
    from tracemill.retrieval.filters import read

    if mode not in _MODES:
        raise UsageError(f"--mode is one of {', '.join(_MODES)}, not {mode!r}")
    conditions = read(where or [])
    found = _search(collection, words, k, mode, conditions, settings_for(warehouse), warehouse)
    rows = found.to_dicts()
    if as_json:
        for row in rows:
            print_json(row)
    elif rows:
        for row in rows:
            _print_found(row)
    else:
        print("nothing found", file=sys.stderr)


def _search(
    name: str, words: str, k: int, mode: Any, where: Any, settings: "Settings", warehouse: Any
) -> Any:
    """Models of providers record their calls, and only for these the log is opened."""
    opened = _open(settings, name)
    if opened.model.startswith("local/") or mode == "lexical":
        return opened.search(words, k, where=where or None, mode=mode)
    from tracemill.cli.options import open_log
    from tracemill.retrieval.collection import open_collection

    with open_log(warehouse) as log:
        opened = open_collection(settings.indexes, name, log=log, cache=settings.cache)
        return opened.search(words, k, where=where or None, mode=mode)


def _print_found(row: dict[str, Any]) -> None:
    place = " > ".join(dict.fromkeys((row["title"], *row["headings"])))
    parts = [
        f"{name} {row[name]:.2f}" for name in ("score", "lexical", "dense") if row[name] is not None
    ]
    print(f"{row['rank']}. {plain(place)}  ({', '.join(parts)})")
    print(f"   {plain(row['source'])}{_span(row)}")
    text = plain(row["text"])
    print(f"   {text if len(text) <= 300 else text[:299].rstrip() + '…'}\n")


def _span(row: dict[str, Any]) -> str:
    for what in ("page", "line"):
        first, last = row[f"first_{what}"], row[f"last_{what}"]
        if first is not None:
            return f", {what} {first}" if first == last else f", {what}s {first}-{last}"
    return ""


@app.command("ls")
def ls(as_json: Json = False, warehouse: Warehouse = None) -> None:
    """List the collections: how much each holds, by which model, and how well it is searched.

    Examples:

      tracemill collections ls
      tracemill collections ls --json | jq .name
    """
    from tracemill.retrieval.collection import collections

    settings = settings_for(warehouse)
    found = [_told(settings, name) for name in collections(settings.indexes)]
    if as_json:
        for row in found:
            print_json(row)
    elif found:
        columns = ("name", "chunks", "documents", "model", "recall", "mb", "version", "state")
        rows = [[_cell(row[column]) for column in columns] for row in found]
        print_lines(columns, rows, right={"chunks", "documents", "recall", "mb"})
    else:
        print("no collections yet: `tracemill build` makes them", file=sys.stderr)


def _told(settings: "Settings", name: str) -> dict[str, Any]:
    from tracemill.retrieval.collection import open_collection

    try:
        opened = open_collection(settings.indexes, name)
    except InputError as error:
        nothing = dict.fromkeys(("chunks", "documents", "model", "recall", "mb", "version"))
        return {"name": name, **nothing, "state": str(error)}
    manifest = opened.manifest
    return {
        "name": name,
        "chunks": manifest.chunks,
        "documents": manifest.documents,
        "model": opened.model,
        "recall": manifest.recall_at_10,
        "mb": sum(file.bytes for file in manifest.files.values()) / 1e6,
        "version": opened.digest,
        "state": opened.degraded or "serves",
    }


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


@app.command("show")
def show(name: Name, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Tell what a collection holds: its model and terms, its formats and languages, its files.

    Examples:

      tracemill collections show installed
      tracemill collections show handbook --json | jq .files
    """
    opened = _open(settings_for(warehouse), name)
    manifest, terms = opened.manifest, opened.terms
    facts = {
        "version": opened.digest,
        "chunks": f"{manifest.chunks:,} of {manifest.documents:,} documents",
        "model": f"{terms.model}, {terms.dimensions} numbers as {terms.vectors}",
        "search": f"{terms.lexical_share:.2f} words + {1 - terms.lexical_share:.2f} meaning",
        "nearest": _nearest(opened),
        "formats": _counted(opened, "format"),
        "languages": _counted(opened, "language"),
        "metadata": ", ".join(_keys(opened)) or "none",
        "files": ", ".join(f"{n} {f.bytes / 1e6:,.1f} MB" for n, f in manifest.files.items()),
    }
    if as_json:
        from dataclasses import asdict

        print_json({"name": name, **asdict(manifest), "metadata": _keys(opened)})
    else:
        print_facts({key: harmless(fact) for key, fact in facts.items()})


def _nearest(opened: "Collection") -> str:
    manifest = opened.manifest
    if not manifest.slots:
        return "exact: every vector is compared"
    dead = manifest.slots - manifest.chunks
    return (
        f"a graph searched at ef {manifest.ef} finds {manifest.recall_at_10:.4f} of the exact ten; "
        f"{dead:,} of {manifest.slots:,} slots are dead"
    )


def _counted(opened: "Collection", column: str) -> str:
    counts = opened.chunks[column].value_counts(sort=True).head(12)
    return ", ".join(f"{value or 'unknown'} {count:,}" for value, count in counts.iter_rows())


def _keys(opened: "Collection") -> list[str]:
    """The keys of metadata that --where can ask for."""
    import json

    found = opened.chunks["metadata"].unique().drop_nulls()
    return sorted({key for text in found for key in json.loads(text)})


@app.command("check")
def check(name: Name, as_json: Json = False, warehouse: Warehouse = None) -> None:
    """Check all of a collection: digests, recall, every chunk once, vectors, nothing stale.

    Exits with 1 when something is wrong.

    Examples:

      tracemill collections check installed
      tracemill collections ls --json | jq -r .name | while read -r n; do tracemill collections check "$n"; done
    """
    from tracemill.retrieval.collection.check import check as look

    found = look(settings_for(warehouse).indexes, name)
    if as_json:
        for finding in found:
            print_json(finding._asdict())
    else:
        for each in found:  # Whole: the mend stands at the end.
            print(f"{'ok   ' if each.ok else 'WRONG'}  {each.what:<7}  {plain(each.detail)}")
    wrong = [each.what for each in found if not each.ok]
    if wrong:
        raise TracemillError(f"collection {name!r}: {', '.join(wrong)} not as it should be")


def _open(settings: "Settings", name: str) -> "Collection":
    """The collection; why an older version of it serves is told on stderr."""
    from tracemill.retrieval.collection import open_collection

    opened = open_collection(settings.indexes, name, cache=settings.cache)
    if opened.degraded:
        print("warning:", " ".join(harmless(opened.degraded).split()), file=sys.stderr)
    return opened
