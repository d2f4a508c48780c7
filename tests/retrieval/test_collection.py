"""A collection is created, searched and changed; what cannot be is refused in one clear line."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.retrieval.passages import TEXTS, directions, numbered, passages, vectors_of
from tracemill.errors import InputError, UsageError
from tracemill.retrieval.collection import (
    Collection,
    Mode,
    collections,
    contents,
    create,
    graph,
    open_collection,
)
from tracemill.retrieval.frames import chunk_schema


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    folder = tmp_path_factory.mktemp("indexes")
    chunks = passages()
    return create(folder, "facts").add(chunks, vectors_of(chunks))


@pytest.fixture
def by_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections of 200 chunks and more have a graph."""
    monkeypatch.setattr(contents, "EXACT_BELOW", 200)


def test_words_find_the_chunk_that_answers(facts: Collection):
    found = facts.search("What takes the writes of a process?", k=2)
    assert found.columns == ["rank", "score", "lexical", "dense", *chunk_schema()]
    assert found["rank"].to_list() == [1, 2]
    assert found["document_id"][0] == "journal"
    assert found.null_count().select("score", "lexical", "dense").row(0) == (0, 0, 0)
    assert 1 > found["lexical"][0] > 0.3 > found["lexical"][1]


@pytest.mark.parametrize(
    ("mode", "nulls"), [("hybrid", (0, 0)), ("dense", (4, 0)), ("lexical", (0, 1))]
)
def test_a_side_that_is_not_asked_is_null(facts: Collection, mode: Mode, nulls: tuple[int, int]):
    found = facts.search("the files that segments are", k=9, mode=mode)
    assert found["document_id"][0] == "segments"
    # By words only what has one of them is found.
    assert found.height == {"hybrid": 4, "dense": 4, "lexical": nulls[1]}[mode]
    assert (found["lexical"].null_count(), found["dense"].null_count()) == nulls


def test_hybrid_is_between_its_two_sides(tmp_path: Path):
    """With all of the weight on one side, the order is that of this side."""
    chunks = passages()
    sides: list[tuple[float, Mode]] = [(1.0, "lexical"), (0.0, "dense")]
    for share, mode in sides:
        built = create(tmp_path, mode, lexical_share=share).add(chunks, vectors_of(chunks))
        question = "the day of a call and of the writes"
        both, one = built.search(question), built.search(question, mode=mode)
        assert both["chunk_id"].to_list()[: one.height] == one["chunk_id"].to_list()


def test_a_vector_finds_itself(facts: Collection):
    vector = vectors_of(passages())[2]
    found = facts.search(vector, k=1)
    assert found["document_id"].to_list() == ["clocks"]
    assert found["score"][0] == found["dense"][0] == pytest.approx(1, abs=1e-6)
    assert found["lexical"].to_list() == [None]


def test_chunks_are_embedded_when_no_vectors_are_given(facts: Collection, tmp_path: Path):
    built = create(tmp_path, "facts").add(passages())
    assert built.digest == facts.digest


def test_get_count_and_list(facts: Collection):
    assert facts.get(["c:prices", "c:gone", "c:clocks"])["title"].to_list() == ["prices", "clocks"]
    assert (facts.count(), len(facts)) == (4, 4)
    assert facts.count({"title": {"in": ["prices", "clocks", "none"]}}) == 2
    pages = [facts.list(limit=3), facts.list(limit=3, after="c:prices")]
    assert [page["title"].to_list() for page in pages] == [
        ["clocks", "journal", "prices"],
        ["segments"],
    ]
    assert facts.list({"title": "prices"})["text"].to_list() == [TEXTS["prices"]]


def test_an_empty_collection_is_one(tmp_path: Path):
    made = create(tmp_path, "empty")
    opened = open_collection(tmp_path, "empty")
    assert (len(opened), opened.digest, collections(tmp_path)) == (0, made.digest, ["empty"])
    assert opened.search("anything").columns == [
        "rank",
        "score",
        "lexical",
        "dense",
        *chunk_schema(),
    ]
    assert opened.search("anything").is_empty()
    assert opened.delete(chunk_ids=["c:x"]).digest == made.digest
    chunks = passages()
    full = opened.add(chunks, vectors_of(chunks))
    assert full.delete(document_ids=TEXTS).digest == made.digest


def test_changes(tmp_path: Path):
    chunks = passages()
    first = create(tmp_path, "facts").add(chunks[:3], vectors_of(chunks[:3]))
    second = first.upsert(chunks[2:], vectors_of(chunks[2:]))
    assert (len(first), len(second)) == (3, 4)
    third = second.delete(document_ids=["journal"], chunk_ids=["c:prices"])
    assert sorted(third.chunks["title"]) == ["clocks", "segments"]
    assert second.search("journal writes", 1)["title"][0] == "journal"  # It stays what it was.
    assert open_collection(tmp_path, "facts").digest == third.digest


def test_a_change_goes_on_from_what_serves_and_not_from_what_is_open(tmp_path: Path):
    chunks = passages()
    opened = create(tmp_path, "facts")
    for row in range(4):
        opened.add(chunks[row : row + 1], vectors_of(chunks)[row : row + 1])
    assert len(open_collection(tmp_path, "facts")) == 4


def test_what_changes_nothing_writes_nothing(tmp_path: Path):
    chunks = passages()
    built = create(tmp_path, "facts").add(chunks, vectors_of(chunks))
    before = _times(tmp_path)
    again = built.replace(chunks.reverse(), vectors_of(chunks)[::-1].copy())
    assert again.digest == built.upsert(chunks[:2], vectors_of(chunks)[:2]).digest == built.digest
    assert built.delete(chunk_ids=["c:nobody"]).digest == built.digest
    assert _times(tmp_path) == before


def _times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_metadata_alone_changes_without_a_new_vector_in_the_graph(tmp_path: Path, by_graph: None):
    chunks, vectors = numbered(300), directions(300)
    first = create(tmp_path, "many").replace(chunks, vectors)
    second = first.replace(chunks.with_columns(metadata=pl.lit('{"team":"core"}')), vectors)
    assert first.digest != second.digest
    assert _graph(first) == _graph(second)
    assert second.count({"metadata.team": "core"}) == 300


def test_a_chunk_that_moved_keeps_its_place_in_the_graph(tmp_path: Path, by_graph: None):
    chunks, vectors = numbered(300), directions(300)
    first = create(tmp_path, "many").replace(chunks, vectors)
    second = first.replace(chunks.with_columns(chunk_id="m" + pl.col("chunk_id")), vectors)
    assert _graph(first) == _graph(second)
    assert second.search(vectors[7], 1)["chunk_id"][0] == "mc:00007"


def _graph(collection: Collection) -> tuple[bytes, int]:
    home = collection.folder / collection.name / collection.digest
    return (home / "graph.hnsw").read_bytes(), collection.manifest.slots


def test_the_graph_finds_what_an_exact_search_finds(tmp_path: Path, by_graph: None):
    chunks, vectors = numbered(1500), directions(1500)
    built = create(tmp_path, "many").replace(chunks, vectors)
    assert built.recall_at_10 >= 0.995
    assert built.recall_check() == built.recall_at_10
    queries = graph.between(built.contents.vectors)
    exact = np.sort(queries.astype(float) @ vectors.T.astype(float), axis=1)[:, :-11:-1]
    found = np.array([one["dense"] for one in built.search_many(queries, 10)])
    assert np.mean(found >= exact[:, -1:] - 1e-6) == pytest.approx(built.recall_at_10, abs=1e-3)


def test_many_questions_at_once_have_the_answers_of_each_alone(tmp_path: Path, by_graph: None):
    chunks = numbered(300)
    built = create(tmp_path, "many").replace(chunks, vectors_of(chunks))
    questions = [f"which passage has number {n}" for n in range(0, 300, 3)]
    for mode in ("hybrid", "dense", "lexical"):
        together = built.search_many(questions, 7, mode=mode)
        for question, one in zip(questions, together, strict=True):
            assert one.equals(built.search(question, 7, mode=mode))


def test_what_ties_is_in_the_order_of_ids(tmp_path: Path):
    chunks = passages((name, "the same words") for name in "dbeac").with_columns(title=pl.lit("t"))
    built = create(tmp_path, "same").add(chunks, vectors_of(chunks))
    for mode in ("hybrid", "dense", "lexical"):
        assert built.search("same words", 3, mode=mode)["document_id"].to_list() == ["a", "b", "c"]


def test_int8_takes_a_quarter_of_the_room_and_finds_nearly_the_same(tmp_path: Path):
    chunks, vectors = numbered(400), directions(400)
    full = create(tmp_path, "full").replace(chunks, vectors)
    small = create(tmp_path, "small", vectors="int8").replace(chunks, vectors)
    sizes = [one.manifest.files["vectors.npy"].bytes for one in (full, small)]
    assert sizes[0] / sizes[1] > 3.9
    queries = directions(50, seed=1)
    for one, other in zip(full.search_many(queries), small.search_many(queries), strict=True):
        both = one.join(other, on="chunk_id", suffix="_small")
        assert both.height >= 4
        assert np.allclose(both["dense"], both["dense_small"], atol=0.01)
    # Nothing is rounded twice: rows that stay are the same bytes.
    smaller = small.delete(chunk_ids=["c:00399"])
    assert (
        smaller.digest
        == create(tmp_path, "anew", vectors="int8").replace(chunks[:399], vectors[:399]).digest
    )


def test_a_graph_that_finds_too_little_does_not_serve(
    tmp_path: Path, by_graph: None, monkeypatch: pytest.MonkeyPatch
):
    built = create(tmp_path, "many", min_recall=1).replace(numbered(100), directions(100))
    monkeypatch.setattr(graph, "EFS", (1,))
    with pytest.raises(InputError, match=r"its graph finds 0\.\d+ of the exact ten .* at least 1"):
        built.replace(numbered(900), directions(900))
    assert open_collection(tmp_path, "many").digest == built.digest
    assert {path.name for path in (tmp_path / "many").iterdir() if path.is_dir()} <= {
        built.digest,
        create(tmp_path, "none", min_recall=1).digest,
    }


def test_a_version_may_be_looked_at_before_it_serves(tmp_path: Path):
    chunks = passages()
    first = create(tmp_path, "facts").replace(chunks[:2], vectors_of(chunks[:2]))
    staged = first.replace(chunks, vectors_of(chunks), serve=False)
    assert open_collection(tmp_path, "facts").digest == first.digest
    looked_at = open_collection(tmp_path, "facts", version=staged.digest)
    assert looked_at.search("dollars", 1)["title"][0] == "prices"
    assert looked_at.serve().digest == open_collection(tmp_path, "facts").digest == staged.digest


def test_other_terms_hold_from_the_next_replace_on(tmp_path: Path):
    chunks = passages()
    old = create(tmp_path, "facts").replace(chunks, vectors_of(chunks))
    with pytest.raises(UsageError, match="there is a collection 'facts'"):
        create(tmp_path, "facts")
    assert create(tmp_path, "facts", exist_ok=True).digest == old.digest
    smaller = create(tmp_path, "facts", dimensions=64, exist_ok=True)
    assert open_collection(tmp_path, "facts").dimensions == 256
    with pytest.raises(InputError, match=r"holds float32 vectors of local/wordllama 256 .* not "):
        smaller.add(chunks)
    vectors = vectors_of(chunks)[:, :64]
    smaller.replace(chunks, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    assert open_collection(tmp_path, "facts").dimensions == 64
    with pytest.raises(InputError, match="vectors of shape"):
        old.replace(chunks, vectors)


def test_what_does_not_fit_is_refused(tmp_path: Path):
    chunks = passages()
    vectors = vectors_of(chunks)
    broken, long = vectors.copy(), vectors.copy()
    broken[1, 3], long[2] = np.nan, 2 * long[2]
    built = create(tmp_path, "facts").add(chunks[:1], vectors[:1])
    before = _times(tmp_path)
    cases: list[tuple[pl.DataFrame, Any, str]] = [
        (
            chunks,
            vectors[:2],
            r"4 chunks .* shape \(4, 256\), these are float32 of shape \(2, 256\)",
        ),
        (chunks, vectors.astype(np.float64), "these are float64"),
        (chunks, broken, "the vector of chunk c:segments holds NaN"),
        (chunks, long, "the vector of chunk c:clocks has the length 2 "),
        (pl.concat([chunks[:2], chunks[:2]]), vectors, "c:journal appears twice"),
        (chunks.drop("text", "tokens"), vectors, "lack the columns tokens, text"),
        (chunks, vectors, "1 of 4 chunks are already in 'facts', as c:journal: `upsert`"),
    ]
    for chunks_given, vectors_given, says in cases:
        with pytest.raises(InputError, match=says):
            built.add(chunks_given, vectors_given)
    assert _times(tmp_path) == before


def test_a_search_that_cannot_be_is_refused(facts: Collection):
    with pytest.raises(InputError, match=r"vectors of 256 numbers .* shape \(64,\)"):
        facts.search(np.zeros(64, dtype=np.float32))
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("  ", {}, "blank"),
        ("x", {"k": 0}, "at least one"),
        ("x", {"where": {"lang": "en"}}, "chunks have no field 'lang'"),
        (np.zeros(256, dtype=np.float32), {"mode": "lexical"}, "a vector has no words"),
    ]
    for query, options, says in cases:
        with pytest.raises(UsageError, match=says):
            facts.search(query, **options)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a" * 101])
def test_a_name_that_cannot_be_a_folder_is_refused(tmp_path: Path, name: str):
    for make in (create, open_collection):
        with pytest.raises(UsageError, match="cannot name a collection"):
            make(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_collection_that_is_not_there_names_those_that_are(tmp_path: Path):
    create(tmp_path, "mail")
    with pytest.raises(InputError, match=r"no collection 'male' in .* \(there are mail\)"):
        open_collection(tmp_path, "male")
