"""Whatever the way to it, a set of chunks is found as if it had been built at once."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.retrieval.passages import directions, numbered
from tracemill.retrieval.collection import Collection, contents, create, graph, open_collection
from tracemill.retrieval.collection.graph import recall

POOL = 260
CHUNKS, VECTORS = numbered(POOL), directions(2 * POOL)
QUERIES = directions(12, seed=5)

# Each change takes a stretch of the pool; `shift` gives its chunks the vectors of others.
# Most begin with a graph and are short, so that it is changed and not built anew.
lengths = st.integers(1, 30) | st.integers(1, 160)
stretch = st.tuples(st.integers(0, POOL - 1), lengths, st.sampled_from([0, 0, 1, 40]))
begun = st.tuples(st.just("add"), st.tuples(st.just(0), st.integers(0, POOL), st.just(0)))
change = st.tuples(st.sampled_from(["add", "upsert", "delete", "replace", "retitle"]), stretch)
changes = st.tuples(begun, st.lists(change, max_size=5)).map(lambda both: [both[0], *both[1]])


@pytest.fixture(autouse=True, scope="module")
def _small_collections_have_graphs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "EXACT_BELOW", 60)
        yield


@given(changes=changes, kind=st.sampled_from(["float32", "int8"]))
@example(
    changes=[("add", (0, 250, 0)), ("delete", (10, 25, 0)), ("upsert", (40, 30, 40))],
    kind="float32",
)
@settings(
    deadline=None,
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
)
def test_any_changes_lead_to_what_building_anew_gives(
    changes: list[tuple[str, tuple[int, int, int]]], kind: Any
):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built = create(folder, "changed", vectors=kind)
        expected: dict[str, tuple[dict[str, Any], int]] = {}
        for what, where in changes:
            built = _changed(built, expected, what, *where)
        opened = open_collection(folder, "changed")
        assert opened.digest == built.digest
        chunks = pl.DataFrame([row for row, _ in expected.values()], schema=CHUNKS.schema)
        vectors = VECTORS[[at for _, at in expected.values()]]
        anew = create(folder, "anew", vectors=kind).replace(chunks, vectors)
        _same(opened, anew)


def _changed(
    built: Collection,
    expected: dict[str, tuple[dict[str, Any], int]],
    what: str,
    start: int,
    length: int,
    shift: int,
) -> Collection:
    """Make the change, and the same one in a dictionary."""
    rows = range(start, min(start + length, POOL))
    chunks, at = CHUNKS[list(rows)], [row + shift for row in rows]
    if what == "retitle":
        held = [row for row in rows if CHUNKS["chunk_id"][row] in expected]
        chunks = CHUNKS[held].with_columns(title=pl.lit("renamed"), metadata=pl.lit('{"n":1}'))
        at = [expected[id][1] for id in chunks["chunk_id"]]
    if what == "delete":
        for id in chunks["chunk_id"]:
            expected.pop(id, None)
        return built.delete(chunk_ids=chunks["chunk_id"])
    if what == "add":
        new = [id not in expected for id in chunks["chunk_id"]]
        chunks = chunks.filter(pl.Series(new, dtype=pl.Boolean))
        at = [row for row, fresh in zip(at, new, strict=True) if fresh]
    if what == "replace":
        expected.clear()
    for row, vector in zip(chunks.to_dicts(), at, strict=True):
        expected[row["chunk_id"]] = (row, vector)
    change = {"add": built.add, "replace": built.replace}.get(what, built.upsert)
    return change(chunks, VECTORS[at])


def _same(one: Collection, other: Collection) -> None:
    assert one.digest == other.digest
    assert one.list(limit=POOL).equals(other.list(limit=POOL))
    for mode in ("dense", "hybrid", "lexical"):
        queries: Any = QUERIES if mode == "dense" else ["passage 17", "number 120 renamed"]
        for mine, theirs in zip(
            _exact(one).search_many(queries, 10, mode=mode),
            _exact(other).search_many(queries, 10, mode=mode),
            strict=True,
        ):
            assert mine["chunk_id"].to_list() == theirs["chunk_id"].to_list()
            for side in ("score", "lexical", "dense"):
                assert np.allclose(
                    mine[side].to_numpy(), theirs[side].to_numpy(), atol=1e-9, equal_nan=True
                )
    held = one.contents
    if held.graph is not None:
        assert one.recall_at_10 >= 0.995
        assert held.graph.get_current_count() == one.manifest.slots
        assert set(held.labels) <= set(held.graph.get_ids_list())
        assert np.allclose(held.graph.get_items(held.labels), held.vectors.floats(), atol=1e-6)
    else:
        assert len(one) < contents.EXACT_BELOW


def _exact(collection: Collection) -> Collection:
    from dataclasses import replace

    return replace(collection, contents=replace(collection.contents, graph=None))


def test_many_small_changes_keep_the_recall_and_bound_the_dead(tmp_path: Path):
    """All of the chunks go and others come, fifty at a time."""
    chunks, vectors = numbered(600), directions(600)
    built = create(tmp_path, "many").replace(chunks[:300], vectors[:300])
    shares: list[float] = []
    for start in range(300, 600, 50):
        gone = chunks[start - 300 : start - 250]["chunk_id"]
        built = built.delete(chunk_ids=gone).add(
            chunks[start : start + 50], vectors[start : start + 50]
        )
        shares.append(1 - len(built) / built.manifest.slots)
        assert built.recall_at_10 >= 0.995
    assert max(shares) <= graph.DEAD_SHARE
    assert min(shares[1:]) < 0.1 < max(shares)  # It was built anew on the way, more than once.
    assert built.chunks.sort("chunk_id").equals(chunks[300:])


def test_only_new_vectors_enter_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chunks, vectors = numbered(400), directions(420)
    built = create(tmp_path, "many").replace(chunks, vectors[:400])
    entered: list[tuple[int, int]] = []
    change, build = graph.change, graph.build

    def counted(*arguments: Any, **named: Any) -> Any:
        entered.append((len(named["vectors"]), len(named["gone"])))
        return change(*arguments, **named)

    monkeypatch.setattr(graph, "change", counted)
    monkeypatch.setattr(graph, "build", lambda _: pytest.fail("built anew"))
    built = built.delete(chunk_ids=chunks["chunk_id"][:10])
    built = built.upsert(chunks[10:15], vectors[400:405])
    built = built.add(chunks[:3], vectors[:3])
    assert entered == [(0, 10), (5, 5), (3, 0)]
    # Those that swap their vectors among themselves stay where they are.
    swapped = built.upsert(chunks[20:22], vectors[[21, 20]])
    assert entered == [(0, 10), (5, 5), (3, 0)]
    assert swapped.search(vectors[20], 1)["chunk_id"][0] == "c:00021"
    monkeypatch.setattr(graph, "build", build)
    assert (
        recall(swapped.contents.graph, swapped.contents.vectors, swapped.contents.labels)[0] > 0.99
    )


def test_the_same_set_built_anew_is_the_same_bytes(tmp_path: Path):
    chunks, vectors = numbered(300), directions(300)
    one = create(tmp_path, "one").replace(chunks, vectors)
    other = create(tmp_path, "other").replace(chunks.reverse(), vectors[::-1].copy())
    assert one.manifest == other.manifest


def test_equal_vectors_each_keep_a_place(tmp_path: Path):
    chunks, vectors = numbered(300), directions(300)
    vectors[100:200] = vectors[0]
    built = create(tmp_path, "same").replace(chunks, vectors)
    found = built.search(vectors[0], 120)
    near = found["dense"].to_numpy() > 1 - 1e-6
    assert near[:101].all()
    assert not near[101:].any()
    fewer = built.delete(chunk_ids=chunks["chunk_id"][100:150])
    assert fewer.manifest.slots == 300
    more = fewer.add(
        chunks[100:120].with_columns(chunk_id="n" + pl.col("chunk_id")), vectors[100:120]
    )
    assert len(more) == 270
    assert (more.search(vectors[0], 100)["dense"].to_numpy() > 1 - 1e-6).sum() == 71
