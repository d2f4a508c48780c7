"""What every index of vectors shares: how it is built, asked and timed, and how that is told.

    SCRIPT WAY FOLDER ROUNDS

In the folder lie `vectors.npy`, `queries.npy` (both float32, each row of length 1) and `truth.npy`,
the similarity of each query's exact tenth nearest. Whatever is as near as that is a hit.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

M, EF_CONSTRUCTION, NEAREST = 16, 200, 10
EFS = (40, 80, 160)


class Way(NamedTuple):
    """How a library does it."""

    build: Callable[[Any], Any]
    """Vectors to an index."""
    search: Callable[[Any, Any, int], Any]
    """(index, queries, ef) to the rows of the ten nearest of each."""
    save: Callable[[Any, Path], object] | None
    efs: tuple[int, ...] = EFS


def main(ways: dict[str, Way]) -> None:
    """Build, save, ask; print it all as JSON."""
    import numpy as np

    way, folder, rounds = ways[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])
    vectors, queries, truth = (
        np.load(folder / f"{name}.npy") for name in ("vectors", "queries", "truth")
    )
    way.search(way.build(vectors[:500]), queries[:50], way.efs[0])
    began = time.perf_counter()
    index = way.build(vectors)
    build_s = time.perf_counter() - began
    at = {ef: _asked(way, index, ef, vectors, queries, truth, rounds) for ef in way.efs}
    one_s = _alone(way, index, queries)
    file_mb = _size_mb(way, index)
    print(json.dumps({"build_s": build_s, "at": at, "one_s": one_s, "file_mb": file_mb}))


def _asked(way, index, ef, vectors, queries, truth, rounds) -> tuple[float, float]:
    """Recall, and queries a second in the fastest round of all queries as one batch."""
    import numpy as np

    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        rows = way.search(index, queries, ef)
        took.append(time.perf_counter() - began)
    rows = np.asarray(rows).astype(np.int64)
    nearness = np.einsum("qkd,qd->qk", vectors[rows], queries)
    return float(np.mean(nearness >= truth[:, np.newaxis] - 1e-6)), len(queries) / min(took)


def _alone(way, index, queries) -> float:
    """Seconds of the median query that comes alone."""
    took = []
    for at in range(0, len(queries), max(len(queries) // 300, 1)):
        began = time.perf_counter()
        way.search(index, queries[at : at + 1], way.efs[len(way.efs) // 2])
        took.append(time.perf_counter() - began)
    return sorted(took)[len(took) // 2]


def _size_mb(way, index) -> float:
    if way.save is None:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        way.save(index, Path(folder) / "index")
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
