# /// script
# requires-python = ">=3.11"
# dependencies = ["faiss-cpu==1.15.1", "numpy>=2"]
# ///
"""faiss: its HNSW over float32 and its exact index, inner product, one thread."""

from nearest import EF_CONSTRUCTION, NEAREST, M, Way, main


def build(vectors):
    import faiss  # pyright: ignore[reportMissingImports]

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], M, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EF_CONSTRUCTION
    index.add(vectors)
    return index


def search(index, queries, ef):
    index.hnsw.efSearch = ef
    return index.search(queries, NEAREST)[1]


def flat(vectors):
    import faiss  # pyright: ignore[reportMissingImports]

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def compare(index, queries, ef):
    return index.search(queries, NEAREST)[1]


def save(index, path):
    import faiss  # pyright: ignore[reportMissingImports]

    faiss.write_index(index, str(path))


if __name__ == "__main__":
    main({"hnsw": Way(build, search, save), "flat": Way(flat, compare, None, (0,))})
