"""Semantic duplicates: what is dropped is near to what stays, whatever order, blocks and paths."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill.corpus import semantic
from tracemill.corpus.records import Record as Row
from tracemill.corpus.records import pair, record_frame
from tracemill.errors import UsageError

DIMENSIONS = 16


def documents(
    lengths: list[int], quality: list[float | None] | None = None, names: list[str] | None = None
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "record_id": names or [f"r{n:05}" for n in range(len(lengths))],
            "length": lengths,
            "quality": quality or [None] * len(lengths),
        },
        schema={"record_id": pl.String, "length": pl.Int64, "quality": pl.Float64},
    )


def around(centres: int, records: int, spread: float, seed: int) -> semantic.Vectors:
    """Unit vectors that lie in clouds; the wider the spread, the less similar in a cloud."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, DIMENSIONS))
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    found = middle[rng.integers(0, centres, records)]
    found = found + rng.normal(size=found.shape) * spread / DIMENSIONS**0.5
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@st.composite
def clouds(draw: Callable[..., int]) -> tuple[pl.DataFrame, semantic.Vectors, float]:
    """Records of few lengths and qualities, so that ties are common; a threshold amid the pairs."""
    records = draw(st.integers(0, 60))
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    rng = np.random.default_rng(seed)
    vectors = around(draw(st.integers(1, 8)), records, spread, seed)
    vectors[rng.random(records) < 0.05] = 0
    quality = [None if q == 2 else float(q) for q in rng.integers(0, 3, records)]
    table = documents(rng.integers(1, 4, records).tolist(), quality)
    return table, vectors, draw(st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))


def plain(table: pl.DataFrame, vectors: semantic.Vectors, threshold: float) -> list[tuple]:
    """The same by the definition: one record after the other, each against all that stay."""

    def rank(row: int) -> tuple:
        record_id, length, quality = table.row(row)
        return -length, -(float("-inf") if quality is None else quality), record_id

    wide = vectors.astype(np.float64)
    stays: list[int] = []
    dropped: list[tuple] = []
    for row in sorted(range(table.height), key=rank):
        cosines = [(cosine(wide[row], wide[other]), -at) for at, other in enumerate(stays)]
        best, at = max(cosines, default=(0.0, 0))
        if best >= threshold:
            names = (table["record_id"][row], table["record_id"][stays[-at]])
            dropped.append((*names, best, semantic.REASON))
        else:
            stays.append(row)
    return dropped


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = np.sqrt((one * one).sum() * (other * other).sum())
    return min(float((one * other).sum() / lengths), 1.0) if lengths else 0.0


@settings(deadline=None)
@given(clouds())
def test_decisions_are_those_of_the_definition(case: tuple):
    table, vectors, threshold = case
    found = semantic.decisions(table, vectors, threshold)
    expected = plain(table, vectors, threshold)
    assert [row[:2] for row in found.rows()] == [row[:2] for row in expected]
    assert found["similarity"].to_list() == pytest.approx([row[2] for row in expected])
    assert set(found["reason"]) <= {semantic.REASON}


@settings(deadline=None)
@given(clouds(), st.randoms())
def test_the_order_of_the_records_does_not_matter(case: tuple, random):
    table, vectors, threshold = case
    order = random.sample(range(table.height), table.height)
    there = semantic.decisions(table, vectors, threshold)
    here = semantic.decisions(table[order], vectors[order], threshold)
    assert here.equals(there)


@settings(deadline=None)
@given(clouds(), st.booleans())
def test_each_dropped_record_is_as_near_as_is_asked_to_one_that_stays(case: tuple, exact: bool):
    table, vectors, threshold = case
    found = semantic.decisions(table, vectors, threshold, exact=exact)
    ids = table["record_id"].to_list()
    dropped = set(found["record_id"])
    assert len(dropped) == found.height
    assert not dropped & set(found["kept_id"])
    for record_id, kept_id, similarity, _ in found.iter_rows():
        real = cosine(*vectors[[ids.index(record_id), ids.index(kept_id)]].astype(np.float64))
        assert similarity == pytest.approx(real)
        assert similarity >= threshold


@settings(deadline=None)
@given(clouds())
def test_blocks_and_the_graph_change_nothing_in_small_sets(case: tuple):
    table, vectors, threshold = case
    there = semantic.decisions(table, vectors, threshold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semantic, "BLOCK", 7)
        patch.setattr(semantic, "PAIRS", 5)
        assert semantic.decisions(table, vectors, threshold, exact=True).equals(there)
        patch.setattr(semantic, "NEAREST", 60)  # All, so that ties are settled alike.
        assert semantic.decisions(table, vectors, threshold, exact=False).equals(there)


def test_the_graph_finds_what_all_pairs_find_in_many_blocks():
    vectors = around(900, 6_000, 0.22, seed=1)
    rng = np.random.default_rng(1)
    table = documents(rng.integers(20, 2_000, 6_000).tolist())
    exact = semantic.decisions(table, vectors, 0.95, exact=True)
    graph = semantic.decisions(table, vectors, 0.95, exact=False)
    assert 3_000 < exact.height < 5_500
    assert len(set(exact.rows()) & set(graph.rows())) >= 0.999 * exact.height
    assert graph.equals(semantic.decisions(table, vectors, 0.95, exact=False))


def test_the_longest_then_the_best_then_the_first_id_stays():
    same = np.ones((3, DIMENSIONS), np.float32)
    assert stays(documents([3, 5, 4]), same) == "r00001"
    assert stays(documents([5, 5, 5], [0.1, None, 0.7]), same) == "r00002"
    assert stays(documents([5, 5, 5], [0.7, None, 0.7], ["b", "a", "c"]), same) == "b"


def stays(table: pl.DataFrame, vectors: semantic.Vectors) -> str:
    found = semantic.decisions(table, vectors, 1.0)
    assert found["similarity"].to_list() == [1.0, 1.0]
    return found["kept_id"].unique().item()


def test_likeness_does_not_chain():
    steps = np.linspace(0, 1.2, 7)  # 0.2 rad apart: neighbours have a cosine of 0.98.
    vectors = np.stack([np.cos(steps), np.sin(steps)], axis=1).astype(np.float32)
    found = semantic.decisions(documents([9, 8, 7, 6, 5, 4, 3]), vectors, 0.97)
    assert found.select("record_id", "kept_id").rows() == [
        ("r00001", "r00000"),
        ("r00003", "r00002"),
        ("r00005", "r00004"),
    ]


def test_vectors_need_no_length_of_one_and_may_be_mapped(tmp_path):
    vectors = around(5, 40, 0.1, seed=3)
    table = documents([1] * 40)
    there = semantic.decisions(table, vectors, 0.9)
    np.save(tmp_path / "vectors.npy", vectors * 8)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert semantic.decisions(table, mapped, 0.9).equals(there)


def test_a_text_without_a_vector_is_similar_to_nothing():
    nothing = np.zeros((3, DIMENSIONS), np.float32)
    assert semantic.decisions(documents([1, 2, 3]), nothing, 0.00001).is_empty()


def test_no_records_give_no_decisions():
    none = semantic.decisions(documents([]), np.empty((0, DIMENSIONS), np.float32), 0.9)
    assert none.is_empty()
    assert none.columns == ["record_id", "kept_id", "similarity", "reason"]


def test_a_batch_is_kept_and_dropped_by_the_decisions_on_all():
    when = pl.datetime(2026, 1, 1, time_zone="UTC")
    texts = ["How do I open a tin?", "How is a tin opened?", "Where is the key?"]
    moment = pl.select(when).item()
    frame = record_frame([Row(pair(text, "So."), "o", text, moment) for text in texts])
    ids = frame["record_id"]
    found = documents([20, 19, 18], names=ids.to_list())
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)
    kept, dropped = semantic.decide(frame, semantic.decisions(found, vectors, 0.95))
    assert kept.equals(frame[[0, 2]])
    assert dropped.select(frame.columns).equals(frame[[1]])
    assert dropped.select("kept_id", "reason").rows() == [(ids[0], "semantic duplicate")]
    assert dropped["similarity"].item() == pytest.approx(1 / np.sqrt(1 + 0.01**2))


@pytest.mark.parametrize(
    ("table", "vectors", "threshold", "says"),
    [
        (documents([1]), np.ones((2, 3), np.float32), 0.9, "1 records have vectors of shape"),
        (documents([1]), np.ones((1, 3), np.float32), 0.0, "above 0, at most 1"),
        (documents([1, 1], names=["a", "a"]), np.ones((2, 3), np.float32), 0.9, "there twice"),
        (documents([1]), np.full((1, 3), np.nan, np.float32), 0.9, "NaN or infinity"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    table: pl.DataFrame, vectors: semantic.Vectors, threshold: float, says: str
):
    with pytest.raises(UsageError, match=says):
        semantic.decisions(table, vectors, threshold)
