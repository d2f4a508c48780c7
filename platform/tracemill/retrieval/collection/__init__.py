"""Collections: chunks, their vectors and words, in folders of versions that are swapped whole.

`create` and `open_collection` give a `Collection`; it is searched, and changed by `add`, `upsert`,
`delete` and `replace`, which return the version that follows. These methods, `get`, `count` and
`list` are all that the rest of the platform asks of a collection: what stands behind them can be a
server as well.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tracemill.errors import InputError, UsageError
from tracemill.retrieval.collection import contents as _contents
from tracemill.retrieval.collection import opening as _opening
from tracemill.retrieval.collection import versions as _versions
from tracemill.retrieval.collection.collection import Collection
from tracemill.retrieval.collection.search import Mode
from tracemill.retrieval.collection.vectors import Kind
from tracemill.retrieval.collection.versions import Terms, is_name
from tracemill.retrieval.filters import Where

if TYPE_CHECKING:
    from tracemill.log import EventLog
    from tracemill.retrieval.embed import Model

__all__ = ["Collection", "Mode", "Where", "collections", "create", "is_name", "open_collection"]

MIN_RECALL = 0.95


def create(
    folder: Path,
    name: str,
    *,
    model: "str | Model" = "local/wordllama",
    dimensions: int | None = None,
    vectors: Kind = "float32",
    lexical_share: float | None = None,
    min_recall: float = MIN_RECALL,
    log: "EventLog | None" = None,
    cache: Path | None = None,
    exist_ok: bool = False,
) -> Collection:
    """A new, empty collection.

    Args:
        folder: of all collections (`settings.indexes`).
        model: who embeds, as provider/model.
        dimensions: fewer than the model's, where it can give them; None for all.
        vectors: how they are kept; int8 takes a quarter of the room.
        lexical_share: the weight of the words in a search; None for what was measured for the model.
        min_recall: a version whose graph finds a smaller share of the exact ten nearest is refused.
        log, cache: as of `open_collection`.
        exist_ok: take one that is there; where its terms are others than these, it serves on as it
            is until `replace` gives it new chunks under these terms.

    Raises `UsageError` for a collection that is there already, or a name that cannot be a folder's.
    """
    from tracemill.retrieval.embed import model as named

    home = _versions.home(folder, name)
    embedder = named(model, log=log, dimensions=dimensions) if isinstance(model, str) else model
    share = embedder.lexical_share if lexical_share is None else lexical_share
    terms = Terms(embedder.name, embedder.identity, embedder.dimensions, vectors, share, min_recall)
    nothing = _nothing(folder, name, terms, log, cache)
    if not (home / _versions.CURRENT).exists():
        return nothing.replace(nothing.chunks, nothing.contents.vectors.floats())
    if not exist_ok:
        raise UsageError(
            f"there is a collection {name!r} in {folder} already: open it, or replace it"
        )
    try:
        found = open_collection(folder, name, log=log, cache=cache)
    except InputError:  # Nothing of it is whole: `replace` writes it anew.
        return nothing
    return found if found.terms == terms else nothing


def open_collection(
    folder: Path,
    name: str,
    *,
    version: str | None = None,
    log: "EventLog | None" = None,
    cache: Path | None = None,
) -> Collection:
    """The version of a collection that serves; it stays what it is while others are written.

    Args:
        folder: of all collections (`settings.indexes`).
        version: another one by its digest, such as one that `replace(serve=False)` wrote.
        log: for collections whose questions a provider embeds.
        cache: the folder that keeps embeddings (`settings.cache`); None keeps none.

    Nothing is loaded before its digest has been compared. When a file of the version is missing,
    altered or foreign, the last good one is opened, and `degraded` says why in one line. Raises
    `InputError` when there is no collection, or no whole version of it.
    """
    home = _versions.home(folder, name)
    found = _opening.current(home) if version is None else _opening.version(home, version)
    return Collection(
        folder, name, found.manifest, found.degraded, log, cache, contents=found.contents
    )


def collections(folder: Path) -> list[str]:
    """The names of the collections in a folder, sorted."""
    return _versions.names(folder)


def _nothing(
    folder: Path, name: str, terms: Terms, log: "EventLog | None", cache: Path | None
) -> Collection:
    contents = _contents.empty(terms.dimensions, terms.vectors)
    digest = _contents.digest(contents.chunks, contents.vectors, terms)
    manifest = _versions.Manifest(digest, terms, 0, 0, 1.0, 0, 0, {})
    return Collection(folder, name, manifest, None, log, cache, contents=contents)
