"""An index finds what is there, is replaced whole, and is never opened when it is not its own."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import polars as pl
import pytest

from tracemill.errors import InputError, UsageError
from tracemill.retrieval import graph
from tracemill.retrieval import index as module
from tracemill.retrieval.chunks import chunk, searchable
from tracemill.retrieval.documents import COLUMNS
from tracemill.retrieval.embed import MODEL, embed
from tracemill.retrieval.index import Index, build_index, open_index

FACTS = {
    "journal": "The journal takes the writes of every process, one after the other.",
    "segments": "Segments are immutable Parquet files that DuckDB reads.",
    "clocks": "A monotonic clock measures how long a call took.",
    "prices": "Prices carry the day from which they hold, in dollars.",
}


def facts(extra: int = 0) -> pl.DataFrame:
    """Chunks of so many pieces of Python's reference, and then of the facts."""
    cut = (
        (f"{name} {at}", text[at : at + 300])
        for name, text in topics.items()
        for at in range(0, len(text) - 300, 300)
    )
    texts = dict(islice(cut, extra)) | FACTS
    rows = [(title, title, "facts 1.0", "text", text) for title, text in texts.items()]
    return chunk(pl.DataFrame(rows, schema=list(COLUMNS), orient="row"))


def build(folder: Path, extra: int = 0) -> Index:
    chunks = facts(extra)
    return build_index(chunks, embed(searchable(chunks).to_list()).vectors, folder, "facts")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes")
    build(folder)
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of a built index, to be spoiled."""
    return shutil.copytree(built, tmp_path / "indexes")


def test_words_find_the_chunk_that_answers(built: Path):
    index = open_index(built, "facts")
    found = index.search("What takes the writes of a process?", k=2)
    assert found["document_id"][0] == "journal"
    assert found.columns == ["rank", "score", *facts().columns]
    assert found["rank"].to_list() == [1, 2]
    assert 1 > found["score"][0] > 0.4 > found["score"][1]


def test_a_vector_finds_itself(built: Path):
    index = open_index(built, "facts")
    found = index.search(np.array(index.vectors[2]), k=1)
    assert found["document_id"].to_list() == ["clocks"]
    assert found["score"][0] == pytest.approx(1, abs=1e-6)


def test_more_than_there_is_gives_what_there_is(built: Path):
    assert open_index(built, "facts").search("writes", k=50).height == len(FACTS)


def test_the_graph_finds_what_an_exact_search_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index = build(tmp_path, extra=300)
    assert index.recall_at_10 > 0.99
    vector = np.array(index.vectors[17])
    # The last has no word in common with any chunk: only its vector finds something.
    queries = [vector, "What is an attribute reference?", "stopwatch"]
    exact = [index.search(query, 3) for query in queries]
    monkeypatch.setattr(module, "EXACT_BELOW", 0)
    by_graph = [index.search(query, 3) for query in queries]
    for one, other in zip(exact, by_graph, strict=True):
        assert one["chunk_id"].to_list() == other["chunk_id"].to_list()
        assert np.allclose(one["score"], other["score"], atol=1e-6)
    assert exact[2]["score"][0] < 1 - module.BM25_SHARE


def test_a_vector_of_other_dimensions_is_refused(built: Path):
    with pytest.raises(InputError, match="has vectors of 256 numbers"):
        open_index(built, "facts").search(np.zeros(64, dtype=np.float32))


def test_the_same_input_gives_the_same_bytes(folder: Path, tmp_path: Path):
    other = build(tmp_path / "other")
    index = open_index(folder, "facts")
    assert index.digest == other.digest
    manifests = [
        root / "facts" / index.digest / "manifest.json" for root in (folder, tmp_path / "other")
    ]
    assert manifests[0].read_text() == manifests[1].read_text()


def test_a_new_version_serves_and_an_open_one_stays_what_it_is(folder: Path):
    old = open_index(folder, "facts")
    new = build(folder, extra=5)
    assert len(new) == len(old) + 5
    assert open_index(folder, "facts").digest == new.digest != old.digest
    assert old.search("writes")["document_id"][0] == "journal"


def test_old_versions_go_and_the_newest_stay(folder: Path):
    digests = [build(folder, extra=extra).digest for extra in (1, 2, 3, 4)]
    left = {path.name for path in (folder / "facts").iterdir()}
    assert left == {"current", *digests[-3:]}


def test_what_a_killed_build_left_goes_after_a_day(folder: Path):
    old, new = (folder / "facts" / f".0123456789abcdef.{name}.tmp" for name in ("old", "new"))
    for aside in (old, new):
        aside.mkdir()
    long_ago = time.time() - 25 * 3600
    os.utime(old, (long_ago, long_ago))
    build(folder, extra=1)
    assert (old.exists(), new.exists()) == (False, True)


def test_going_back_to_an_old_version_builds_nothing(folder: Path):
    first = open_index(folder, "facts").digest
    manifest = folder / "facts" / first / "manifest.json"
    before = manifest.stat().st_mtime_ns
    build(folder, extra=1)
    assert build(folder).digest == first
    assert manifest.stat().st_mtime_ns == before


def test_a_damaged_version_is_built_again(folder: Path):
    digest = open_index(folder, "facts").digest
    (folder / "facts" / digest / "vectors.npy").write_bytes(b"")
    assert build(folder).digest == digest
    assert open_index(folder, "facts").search("writes")["document_id"][0] == "journal"


FILES = ["chunks.parquet", "vectors.npy", "nearest.hnsw", "bm25/vocab.index.json"]


@pytest.mark.parametrize("name", FILES)
def test_an_altered_file_is_refused_by_name(folder: Path, name: str):
    path = folder / "facts" / open_index(folder, "facts").digest / name
    spoiled = bytearray(path.read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    path.write_bytes(spoiled)
    with pytest.raises(InputError, match=rf"{name} is not what was written"):
        open_index(folder, "facts")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_by_name(folder: Path, name: str):
    (folder / "facts" / open_index(folder, "facts").digest / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing"):
        open_index(folder, "facts")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "another"}, f"vectors of another with 256 numbers, .* by {MODEL} with 256"),
        ({"dimensions": 64}, "with 64 numbers"),
        ({"format": 99}, "has the format 99, not 1"),
        ({"files": None}, "is not an index's manifest"),
    ],
)
def test_a_foreign_manifest_is_refused(folder: Path, change: dict[str, object], says: str):
    path = folder / "facts" / open_index(folder, "facts").digest / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=says):
        open_index(folder, "facts")


def test_an_index_that_is_not_there_names_the_mend(tmp_path: Path):
    with pytest.raises(InputError, match=r"no index 'facts' in .*: run `tracemill build`"):
        open_index(tmp_path, "facts")


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(folder: Path, name: str):
    with pytest.raises(UsageError, match="cannot name an index"):
        open_index(folder, name)


def test_a_build_that_is_interrupted_leaves_the_old_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {path.name for path in (folder / "facts").iterdir()}

    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(graph, "recall_at_10", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(folder, extra=5)
    assert {path.name for path in (folder / "facts").iterdir()} == before
    assert len(open_index(folder, "facts")) == len(FACTS)


def test_many_may_build_the_same_version_while_others_search(tmp_path: Path):
    build(tmp_path)
    with ThreadPoolExecutor(6) as pool:
        built = [pool.submit(build, tmp_path, extra) for extra in (1, 1, 2, 2)]
        opened = [pool.submit(lambda: open_index(tmp_path, "facts")) for _ in range(20)]
    lengths = {len(one.result()) for one in [*built, *opened]}
    assert lengths <= {len(FACTS), len(FACTS) + 1, len(FACTS) + 2}
    for one in opened:
        index = one.result()
        assert len(index) == len(index.vectors) == index.nearest.get_current_count()
        assert index.search("writes")["document_id"][0] == "journal"


def test_a_pointer_to_nowhere_is_refused(folder: Path):
    (folder / "facts" / "current").write_text("0123456789abcdef\n")
    with pytest.raises(InputError, match="is not an index's manifest"):
        open_index(folder, "facts")


def test_chunks_and_vectors_that_do_not_fit_are_refused(tmp_path: Path):
    chunks = facts()
    vectors = embed(searchable(chunks).to_list()).vectors
    broken = vectors.copy()
    broken[1, 3] = np.nan
    cases: list[tuple[pl.DataFrame, Any, str]] = [
        (chunks.clear(), vectors[:0], "there are no chunks"),
        (chunks, vectors[:2], r"4 chunks need float32 vectors of shape \(4, 256\)"),
        (chunks, vectors.astype(np.float64), "these are float64"),
        (chunks, broken, f"the vector of chunk {chunks['chunk_id'][1]} holds NaN"),
        (pl.concat([chunks[:2], chunks[:2]]), vectors, "appears twice"),
    ]
    for chunks_given, vectors_given, says in cases:
        with pytest.raises(InputError, match=says):
            build_index(chunks_given, vectors_given, tmp_path, "facts")
    assert list(tmp_path.iterdir()) == []
