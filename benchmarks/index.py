"""Our index beside usearch, faiss and exact numpy: `python -m benchmarks.index [--quick]`.

Real chunks, embedded by the light model; the same vectors, questions and parameters for everybody,
each in a process alone. Then what a whole collection takes, and the size from which on the graph is
faster than comparing with every vector. Writes `results/index.md`; nothing passes or fails.
"""

import argparse
import math
import os
import time
from itertools import pairwise
from typing import Any

from benchmarks import report
from benchmarks.index_collection import CHANGED, CLOSE
from benchmarks.index_data import TOKENS, Passages, passages
from benchmarks.near_ways import CACHE, PEERS
from benchmarks.peers.nearest import EF_CONSTRUCTION, EFS, M
from benchmarks.processes import ONE_THREAD, PYTHON, told, uv
from benchmarks.report import Table, console, number
from tracemill.retrieval.collection.contents import EXACT_BELOW

WAYS = (
    # (name, module or script in `peers/`, way)
    ("**tracemill** (hnswlib)", None, "one"),
    ("**tracemill**, asked in all threads", None, "all"),
    ("usearch f32", "index_usearch.py", "f32"),
    ("usearch f16", "index_usearch.py", "f16"),
    ("faiss HNSW", "index_faiss.py", "hnsw"),
    ("faiss, exact", "index_faiss.py", "flat"),
    ("numpy, exact", "index_numpy.py", "exact"),
)
COLLECTION = (*PYTHON, "benchmarks.index_collection")


def main() -> None:
    """Measure everybody at both sizes, then collections and the crossing; report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the chunks, one round")
    quick = parser.parse_args().quick
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    CACHE.mkdir(exist_ok=True)
    given = [passages(count // (10 if quick else 1), CACHE) for count in (20_000, 100_000)]
    began = time.monotonic()
    tables = [*(_side_by_side(each, 1 if quick else 3) for each in given), *_whole(given)]
    tables.append(_crossing(given[-1]))
    heading = (
        f"`python -m benchmarks.index{' --quick' if quick else ''}` on {report.machine()}; "
        f"{time.monotonic() - began:,.0f} s."
    )
    for table in tables:
        table.show()
    console.print(heading)
    path = report.write("index", heading, tables)
    if not quick:
        report.quote("index", path.read_text(encoding="utf-8"))


def _side_by_side(given: Passages, rounds: int) -> Table:
    rows = [(name, *_cells(name, script, way, given, rounds)) for name, script, way in WAYS]
    return Table(
        f"{len(given.vectors):,} vectors of {given.vectors.shape[1]}, M = {M}, "
        f"efConstruction = {EF_CONSTRUCTION}, one thread",
        ("", "build s", *(f"recall@10 / queries/s, ef {ef}" for ef in EFS), "alone", "file"),
        rows,
        f"Chunks of up to {TOKENS} tokens of {given.sources}, by the light model; asked: "
        f"{len(given.questions):,} questions of SQuAD and of docstrings' names, in one batch, the "
        "fastest of three rounds. alone: the median query that comes alone, at ef "
        f"{EFS[len(EFS) // 2]}.",
    )


def _cells(
    name: str, script: str | None, way: str, given: Passages, rounds: int
) -> tuple[str, ...]:
    before = uv() if script else (*PYTHON, "benchmarks.index_ours")
    if before and script:
        before = (*before, str(PEERS / script))
    command = before and (*before, way, str(given.folder), str(rounds))
    said = told(name, command, **ONE_THREAD)
    if said is None:
        return ("not here", *[""] * (len(EFS) + 2))
    at = [f"{recall:.3f} / {rate:,.0f}" for recall, rate in said["at"].values()]
    file = f"{said['file_mb']:,.0f} MB" if said["file_mb"] else ""
    built = number(said["build_s"]) if said["file_mb"] else ""
    return built, *at, *[""] * (len(EFS) - len(at)), report.microseconds(said["one_s"]), file


def _whole(given: list[Passages]) -> list[Table]:
    """What a collection takes: chunks, vectors, graph and BM25 together."""
    builds: list[tuple[str, ...]] = []
    asks: list[tuple[str, ...]] = []
    for each in given:
        count = len(each.vectors)
        if built := told("building", (*COLLECTION, "build", str(CACHE), str(count))):
            builds.append((f"{count:,} chunks", *_built(built)))
        if asked := told("asking", (*COLLECTION, "ask", str(CACHE), str(count))):
            asks.append((f"{count:,} chunks", *_asked(asked)))
    return [
        Table(
            "A collection: written",
            ("", "first", f"{CHANGED:.0%} changed", "the same anew", "on disk", "of it texts"),
            builds,
            "Seconds until the version serves, synced to the disk: chunks, vectors, graph, BM25, "
            "recall check. Changed: other texts and vectors in the place of so many.",
        ),
        Table(
            "A collection: asked",
            ("", "first open", "again", "hybrid/s", "dense/s", "lexical/s", "by a vector/s"),
            asks,
            "One question after the other, as words (embedded then) but for the last column, ten "
            "results with all columns. The first open in a process compares every file with its digest.",
        ),
    ]


def _built(said: dict[str, Any]) -> tuple[str, ...]:
    seconds = (f"{number(said[key])} s" for key in ("first_s", "changed_s", "anew_s"))
    return *seconds, f"{said['megabytes']:,.0f} MB", f"{said['texts_mb']:,.0f} MB"


def _asked(said: dict[str, Any]) -> tuple[str, ...]:
    opened = (report.microseconds(said[key]) for key in ("opened_s", "again_s"))
    return *opened, *(f"{rate:,.0f}" for rate in said["rates"].values())


def _crossing(given: Passages) -> Table:
    said = told("the crossing", (*COLLECTION, "cross", str(CACHE), str(len(given.vectors))))
    rows = said["rows"] if said else []
    shown = [
        (
            f"{row['size']:,}",
            f"{row['ef']}",
            f"{row['recall']:.4f}",
            *(f"{row[key]:,.0f} us" for key in ("exact_us", "graph_us")),
            *(f"{row[key]:,.0f} us" for key in ("exact_batch_us", "graph_batch_us")),
        )
        for row in rows
    ]
    alone, batch = (_where(rows, f"exact{kind}_us", f"graph{kind}_us") for kind in ("", "_batch"))
    return Table(
        "Exact or graph: microseconds a query",
        (
            "vectors",
            "ef",
            "recall@10",
            "exact",
            "graph",
            "exact, 300 at once",
            "graph, 300 at once",
        ),
        shown,
        f"All cores, ten results, through the search of a collection. ef: the least with recall "
        f"{CLOSE}. They cross at {alone} for a query alone and at {batch} for many at once; "
        f"`EXACT_BELOW` is {EXACT_BELOW:,}.",
    )


def _where(rows: list[dict[str, float]], exact: str, by_graph: str) -> str:
    """The size at which the graph becomes faster, between two that were measured."""
    for before, after in pairwise(rows):
        low, high = (math.log(row[exact] / row[by_graph]) for row in (before, after))
        if low < 0 <= high:
            share = -low / (high - low)
            return f"{before['size'] * (after['size'] / before['size']) ** share:,.0f}"
    faster = "the graph" if rows and rows[0][exact] > rows[0][by_graph] else "exact search"
    return f"no size measured here ({faster} is always faster)"


if __name__ == "__main__":
    main()
