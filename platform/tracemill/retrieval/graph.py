"""The nearest vectors by hnswlib's graph: for collections too large to compare with every vector.

Labels are row numbers. Similarity is the inner product, which for vectors of length 1 is the cosine.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracemill.retrieval.embed import DIMENSIONS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

M, EF_CONSTRUCTION, EF = 16, 200, 80


def build(vectors: "NDArray[np.float32]") -> Any:
    """The graph over vectors. One thread and a fixed seed: the same vectors give the same file."""
    graph = _empty()
    graph.init_index(len(vectors), M=M, ef_construction=EF_CONSTRUCTION, random_seed=100)
    graph.add_items(vectors, num_threads=1)
    return graph


def save(graph: Any, path: Path) -> None:
    """Write the graph to a file."""
    graph.save_index(str(path))


def load(path: Path, count: int) -> Any:
    """The graph that `save` wrote; a file of anything else may end the process: check it first."""
    graph = _empty()
    graph.load_index(str(path), max_elements=count)
    return graph


def search(
    graph: Any, vectors: "NDArray[np.float32]", k: int
) -> "tuple[NDArray[np.int64], NDArray[np.float64]]":
    """For each vector, the rows of its k nearest (at most all) and their similarities."""
    import numpy as np

    graph.set_ef(max(EF, k))
    rows, distances = graph.knn_query(vectors, k=k)
    return rows.astype(np.int64), 1 - distances.astype(np.float64)


def recall_at_10(graph: Any, vectors: "NDArray[np.float32]") -> float:
    """Share of the exact ten nearest that the graph finds, for up to 200 of its own vectors."""
    import numpy as np

    k = min(10, len(vectors))
    sample = np.linspace(0, len(vectors) - 1, num=min(200, len(vectors)), dtype=np.int64)
    found, _ = search(graph, vectors[sample], k)
    similarity = vectors[sample] @ vectors.T
    # Equal vectors are interchangeable: what counts is to be as near as the tenth.
    tenth = np.sort(similarity, axis=1)[:, -k][:, np.newaxis]
    return float(np.mean(np.take_along_axis(similarity, found, axis=1) >= tenth - 1e-6))


def _empty() -> Any:
    import hnswlib  # pyright: ignore[reportMissingTypeStubs]

    return hnswlib.Index(space="ip", dim=DIMENSIONS)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
