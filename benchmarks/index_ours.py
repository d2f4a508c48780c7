"""Our graph in a process alone: `python -m benchmarks.index_ours WAY FOLDER ROUNDS`, as the peers are run.

It is built and asked by the functions that a collection uses. `one` asks in one thread, `all` in as
many as there are cores; a build always takes one, so that the same vectors give the same file.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.nearest import EF_CONSTRUCTION, NEAREST, M, Way, main
from tracemill.retrieval.collection import graph


def search(
    built: Any, queries: NDArray[np.float32], ef: int, threads: int
) -> NDArray[np.int64] | None:
    """The rows of the ten nearest of each query."""
    built.set_ef(ef)
    return graph.search(built, queries, NEAREST, threads)


def save(built: Any, path: Path) -> None:
    """Write the graph."""
    graph.save(built, path)


if __name__ == "__main__":
    assert (graph.M, graph.EF_CONSTRUCTION) == (M, EF_CONSTRUCTION)
    main(
        {
            name: Way(graph.build, partial(search, threads=threads), save)
            for name, threads in (("one", 1), ("all", os.cpu_count() or 1))
        }
    )
