# /// script
# requires-python = ">=3.11"
# dependencies = ["usearch==2.26.6", "numpy>=2"]
# ///
"""usearch: inner product, float32 and float16, one thread."""

from functools import partial

from nearest import EF_CONSTRUCTION, NEAREST, M, Way, main


def build(vectors, dtype):
    import numpy as np
    from usearch.index import Index  # pyright: ignore[reportMissingImports]

    index = Index(
        ndim=vectors.shape[1],
        metric="ip",
        dtype=dtype,
        connectivity=M,
        expansion_add=EF_CONSTRUCTION,
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return index


def search(index, queries, ef):
    index.expansion_search = ef
    found = index.search(queries, NEAREST, threads=1).keys
    return found.reshape(len(queries), NEAREST)


def save(index, path):
    index.save(str(path))


if __name__ == "__main__":
    main({dtype: Way(partial(build, dtype=dtype), search, save) for dtype in ("f32", "f16")})
