"""A whole collection, measured in processes alone: `python -m benchmarks.index_collection WHAT FOLDER COUNT`.

`build` writes COUNT chunks as a first version, then a second one with one percent of them changed, and
the same anew elsewhere; `ask` opens what was written and searches it; `cross` finds from which size on
the graph is faster than comparing with every vector.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.index_data import NEAREST, Passages, passages
from tracemill.retrieval.collection import Collection, create, graph, open_collection
from tracemill.retrieval.collection.contents import Contents, empty
from tracemill.retrieval.collection.search import Query, search
from tracemill.retrieval.collection.vectors import Vectors
from tracemill.retrieval.embed import model

NAME = "measured"
CHANGED = 0.01
ASKED = 300
"""Questions that are asked one after the other."""
CLOSE = 0.995
"""Recall at which exact search and the graph are compared."""
SIZES = (1_000, 2_000, 4_000, 6_000, 8_000, 12_000, 16_000, 24_000, 32_000, 48_000)


def build(folder: Path, given: Passages) -> dict[str, float]:
    """Seconds of a first version, of one percent changed, and of all that anew; megabytes."""
    shutil.rmtree(folder, ignore_errors=True)
    chunks, vectors = given.chunks, given.vectors
    first_s, first = _timed(lambda: _create(folder / "first").replace(chunks, vectors))
    edited, others = _edited(chunks, vectors)
    changed_s, second = _timed(lambda: first.replace(edited, others))
    anew_s, anew = _timed(lambda: _create(folder / "anew").replace(edited, others))
    assert second.digest == anew.digest != first.digest
    size = sum(f.stat().st_size for f in (folder / "anew").rglob("*") if f.is_file())
    return {
        "first_s": first_s,
        "changed_s": changed_s,
        "anew_s": anew_s,
        "megabytes": size / 1e6,
        "texts_mb": int(chunks["text"].str.len_bytes().sum()) / 1e6,
    }


def _create(folder: Path) -> Collection:
    return create(folder, NAME, model="local/wordllama")


def _edited(
    chunks: pl.DataFrame, vectors: NDArray[np.float32]
) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """Every hundredth chunk says more, under another id, and lies elsewhere."""
    row = pl.int_range(pl.len()) % round(1 / CHANGED) == 0
    edited = chunks.with_columns(
        chunk_id=pl.when(row).then(pl.col("chunk_id") + "e").otherwise("chunk_id"),
        text=pl.when(row).then(pl.col("text") + " It was edited.").otherwise("text"),
    )
    step = round(1 / CHANGED)
    others = vectors.copy()
    moved = others[::step] + np.roll(others[::step], 1, axis=0)
    others[::step] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return edited, others


def ask(folder: Path, given: Passages) -> dict[str, Any]:
    """Milliseconds to open, and questions a second by mode, one after the other."""
    model("local/wordllama").compute(["warm"])
    opened_s, opened = _timed(lambda: open_collection(folder / "first", NAME))
    again_s, _ = _timed(lambda: open_collection(folder / "first", NAME))
    texts, queries = given.questions[::7][:ASKED], given.queries[::7][:ASKED]
    rates = {
        mode: _rate(lambda text, mode=mode: opened.search(text, NEAREST, mode=mode), texts)
        for mode in ("hybrid", "dense", "lexical")
    }
    rates["a vector"] = _rate(
        lambda vector: opened.search(vector, NEAREST, mode="dense"), list(queries)
    )
    return {"opened_s": opened_s, "again_s": again_s, "rates": rates}


def _rate(find: Callable[[Any], object], asked: Sequence[Any]) -> float:
    """Questions a second; the first ones are not counted."""
    for each in asked[:20]:
        find(each)
    took, _ = _timed(lambda: [find(each) for each in asked])
    return len(asked) / took


def cross(folder: Path, given: Passages) -> dict[str, Any]:
    """For each size: recall and width of the graph, microseconds a query by both, alone and of many."""
    rows = [_both(given, size) for size in SIZES if size <= len(given.vectors)]
    return {"rows": rows}


def _both(given: Passages, size: int) -> dict[str, float]:
    exact = _contents(given, size)
    built = replace(exact, graph=graph.build(exact.vectors.floats()))
    queries = given.queries[:: len(given.queries) // ASKED][:ASKED]
    best = [set(found.rows.tolist()) for found in _found(exact, queries)]
    for ef in graph.EFS:
        built.graph.set_ef(ef)
        same = (
            len(each & set(found.rows.tolist()))
            for each, found in zip(best, _found(built, queries), strict=True)
        )
        recall = sum(same) / (NEAREST * len(queries))
        if recall >= CLOSE:
            break
    return {
        "size": size,
        "recall": recall,
        "ef": ef,
        "exact_us": _alone_us(exact, queries),
        "graph_us": _alone_us(built, queries),
        "exact_batch_us": _batch_us(exact, queries),
        "graph_batch_us": _batch_us(built, queries),
    }


def _contents(given: Passages, size: int) -> Contents:
    nothing = empty(given.vectors.shape[1], "float32")
    chunks, vectors = given.chunks[:size], Vectors(given.vectors[:size])
    return replace(nothing, chunks=chunks, vectors=vectors, labels=np.arange(size))


def _found(contents: Contents, queries: NDArray[np.float32]) -> list[Any]:
    return search(contents, [Query(None, query) for query in queries], NEAREST, share=0)


def _alone_us(contents: Contents, queries: NDArray[np.float32]) -> float:
    """The median query that comes alone, in the faster of two rounds."""
    rounds = [
        sorted(_timed(lambda q=q: _found(contents, q[np.newaxis]))[0] for q in queries)
        for _ in range(2)
    ]
    return min(took[len(took) // 2] for took in rounds) * 1e6


def _batch_us(contents: Contents, queries: NDArray[np.float32]) -> float:
    took = min(_timed(lambda: _found(contents, queries))[0] for _ in range(3))
    return took / len(queries) * 1e6


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def main() -> None:
    """Do one of them, print it as JSON."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    what, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    steps = {"build": build, "ask": ask, "cross": cross}
    print(json.dumps(steps[what](folder / f"collection-{count}", passages(count, folder))))


if __name__ == "__main__":
    main()
