"""Is all of a collection as it should be? One finding for each thing that can be wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tracemill.errors import InputError, TracemillError
from tracemill.retrieval.collection import contents as parts
from tracemill.retrieval.collection import opening, versions
from tracemill.retrieval.collection.opening import Opened


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str


def check(folder: Path, name: str) -> list[Finding]:
    """Look at everything, whatever fails; digests are compared anew.

    Raises `InputError` when there is no whole version to look at.
    """
    home = versions.home(folder, name)
    opened = opening.current(home)
    looks: dict[str, Callable[[Path, Opened], str]] = {
        "version": _serves,
        "digests": _digests,
        "chunks": _chunks,
        "vectors": _vectors,
        "recall": _recall,
        "fresh": _fresh,
    }
    return [_finding(what, look, home, opened) for what, look in looks.items()]


def _finding(what: str, look: Callable[[Path, Opened], str], home: Path, opened: Opened) -> Finding:
    try:
        return Finding(what, True, look(home, opened))
    except TracemillError as error:
        return Finding(what, False, str(error))


def _serves(home: Path, opened: Opened) -> str:
    if opened.degraded:
        raise InputError(opened.degraded)
    reserve = len(versions.served(home)) - 1
    return f"{opened.manifest.digest}; {reserve} before it in reserve"


def _digests(home: Path, opened: Opened) -> str:
    versions.verify(home / opened.manifest.digest, opened.manifest, anew=True)
    sizes = [file.bytes for file in opened.manifest.files.values()]
    return f"{len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB, each as it was written"


def _chunks(_: Path, opened: Opened) -> str:
    held, manifest = opened.contents, opened.manifest
    distinct = held.chunks["chunk_id"].n_unique()
    if distinct != manifest.chunks:
        raise InputError(f"{manifest.chunks - distinct} chunks appear more than once")
    digest = parts.digest(held.chunks, held.vectors, manifest.terms)
    if digest != manifest.digest:
        raise InputError(f"chunks and vectors have the digest {digest}, not {manifest.digest}")
    return f"{manifest.chunks:,} chunks of {manifest.documents:,} documents, each once"


def _vectors(_: Path, opened: Opened) -> str:
    import numpy as np

    terms = opened.manifest.terms
    odd = 0
    for start in range(0, len(opened.contents), 8_192):
        floats = opened.contents.vectors.floats(slice(start, start + 8_192))
        lengths = np.linalg.norm(floats, axis=1)
        odd += int((~(np.isclose(lengths, 1, atol=1e-3) | (lengths == 0))).sum())
    if odd:
        raise InputError(f"{odd} vectors are not of length 1")
    return f"one a chunk, {terms.dimensions} x {terms.vectors} of {terms.model}"


def _recall(_: Path, opened: Opened) -> str:
    from tracemill.retrieval.collection import graph

    held, manifest = opened.contents, opened.manifest
    if held.graph is None:
        return "exact: every vector is compared"
    found = graph.recall(held.graph, held.vectors, held.labels, manifest.ef).recall_at_10
    dead = manifest.slots - manifest.chunks
    if found < manifest.terms.min_recall:
        raise InputError(
            f"{found:.4f} of the exact ten nearest are found, at least "
            f"{manifest.terms.min_recall} are asked: build it again"
        )
    return f"{found:.4f} of the exact ten nearest at ef {manifest.ef}; {dead:,} dead slots"


def _fresh(home: Path, opened: Opened) -> str:
    """Does the version hold the chunks that were cut last?"""
    import polars as pl

    cut = home / parts.CHUNKS
    if not cut.exists():
        return "changed by hand: no chunks were cut from documents"
    try:
        last = pl.read_parquet(cut, glob=False, columns=["chunk_id"])
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{cut} cannot be read: {error}") from None
    held: pl.DataFrame = opened.contents.chunks.select("chunk_id")
    missing = last.join(held, on="chunk_id", how="anti").height
    stale = held.join(last, on="chunk_id", how="anti").height
    if missing or stale:
        raise InputError(
            f"{missing:,} chunks that were cut are not indexed, {stale:,} indexed ones are stale: "
            "`tracemill build` follows"
        )
    return "holds the chunks that were cut last, and no others"
