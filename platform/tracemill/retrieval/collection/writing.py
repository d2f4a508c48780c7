"""Write the next version of a collection: aside, checked, then under its name. It does not serve yet.

What did not change is not computed again: a vector that was there keeps its place in the graph.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.errors import InputError
from tracemill.retrieval.collection import contents as parts
from tracemill.retrieval.collection import graph, versions
from tracemill.retrieval.collection.contents import Contents
from tracemill.retrieval.collection.graph import Checked
from tracemill.retrieval.collection.opening import Opened
from tracemill.retrieval.collection.vectors import Vectors
from tracemill.retrieval.collection.versions import Manifest, Terms

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


def write(
    home: Path, terms: Terms, before: Opened | None, chunks: "pl.DataFrame", vectors: Vectors
) -> str:
    """The digest of the version that holds exactly these; it is there afterwards.

    Args:
        before: what its graph may follow from: of the same terms, or None to build it anew.

    Call it as the only writer. Raises `InputError` when the recall of the graph is too low; then
    nothing has changed.
    """
    digest = parts.digest(chunks, vectors, terms)
    if _whole(home, digest):
        return digest
    with versions.aside(home, digest) as folder:
        following, nearest = _nearest(home, before, chunks, vectors, folder)
        contents = _arranged(before, chunks, vectors, following, nearest)
        checked = _checked(home, terms, contents)
        parts.save(contents, folder)
        manifest = Manifest(
            digest=digest,
            terms=terms,
            chunks=len(contents),
            documents=contents.chunks["document_id"].n_unique(),
            recall_at_10=checked.recall_at_10,
            ef=checked.ef,
            slots=nearest.get_current_count() if nearest is not None else 0,
            files=versions.files_of(folder),
        )
        versions.place(folder, manifest, home / digest)
    return digest


def _whole(home: Path, digest: str) -> bool:
    try:
        versions.verify(home / digest, versions.read(home / digest))
    except InputError:
        return False
    return True


def _nearest(
    home: Path,
    before: Opened | None,
    chunks: "pl.DataFrame",
    vectors: Vectors,
    folder: Path,
) -> "tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Any]":
    """The rows in their order with their labels, and the graph, written into the folder."""
    import numpy as np

    ordered = chunks["chunk_id"].arg_sort().to_numpy().astype("int64")
    anew = (ordered, np.arange(len(ordered)))
    if len(ordered) < parts.EXACT_BELOW:
        return anew, None
    target = folder / parts.GRAPH
    if before is None or before.contents.graph is None:
        return anew, _built(vectors.take(ordered), target)
    step = parts.follow(before.contents, chunks, vectors)
    slots = before.manifest.slots + len(step.new)
    if slots - len(ordered) > graph.DEAD_SHARE * slots:
        return anew, _built(vectors.take(ordered), target)
    earlier = home / before.manifest.digest / parts.GRAPH
    if not len(step.new) and not len(step.gone):
        shutil.copyfile(earlier, target)
        # Not the one that others search: the recall check changes how wide it is searched.
        same = graph.load(target, vectors.dimensions, before.manifest.ef)
        return (step.rows, step.labels), same
    changed = graph.change(
        earlier,
        vectors.dimensions,
        gone=step.gone,
        vectors=vectors.floats(step.rows[step.new]),
        labels=step.labels[step.new],
    )
    graph.save(changed, target)
    return (step.rows, step.labels), changed


def _built(vectors: Vectors, target: Path) -> Any:
    built = graph.build(vectors.floats())
    graph.save(built, target)
    return built


def _arranged(
    before: Opened | None,
    chunks: "pl.DataFrame",
    vectors: Vectors,
    following: "tuple[NDArray[np.int64], NDArray[np.int64]]",
    nearest: Any,
) -> Contents:
    rows, labels = following
    ordered, held = chunks[rows], vectors.take(rows)
    earlier = before.contents if before else parts.empty(vectors.dimensions, "float32")
    words = parts.said(earlier, ordered)
    return Contents(ordered, held, labels, nearest, words, parts.moments(ordered, held))


def _checked(home: Path, terms: Terms, contents: Contents) -> Checked:
    """Is the graph good enough? Before anyone is served by it."""
    if contents.graph is None:
        return Checked(1.0, 0)
    checked = graph.recall(contents.graph, contents.vectors, contents.labels)
    if checked.recall_at_10 < terms.min_recall:
        raise InputError(
            f"the next version of {home.name!r} was not written: its graph finds "
            f"{checked.recall_at_10:.3f} of the exact ten nearest and at least "
            f"{terms.min_recall:.3f} is asked (min_recall of its recipe); the last version serves"
        )
    return checked
