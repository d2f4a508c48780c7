import random
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracemill.corpus import records
from tracemill.corpus.dedup import bands, deduplicate
from tracemill.corpus.shingles import jaccard, shingle_sets

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=14)
ROWS = st.lists(st.tuples(st.sampled_from(["why", "how"]), WORDS.map(" ".join)), max_size=25)


def frame(*rows: tuple[str, str]) -> pl.DataFrame:
    return records.record_frame(
        [
            records.record(query, response, "", f"line {number}", WHEN + timedelta(number))
            for number, (query, response) in enumerate(rows)
        ]
    )


def shingles(text: str) -> set[tuple[str, ...]]:
    """The definition, without hashes."""
    words = text.lower().split()
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, 1))}


def similarity(left: str, right: str) -> float:
    one, other = shingles(left), shingles(right)
    return len(one & other) / len(one | other)


def sentence(seed: int, words: int = 60) -> list[str]:
    return [f"w{random.Random(seed * 1_000 + at).randrange(5_000)}" for at in range(words)]


def test_records_that_differ_in_case_and_blanks_are_exact_duplicates():
    rows = frame(("Why?", "Because it is so."), ("why?", "because  it is\nso."), ("How?", "Thus."))
    kept, dropped = deduplicate(rows)
    assert set(kept["user_query"]) >= {"How?"}
    assert kept.height == 2
    [(kept_id, similar, reason)] = dropped.select("kept_id", "jaccard", "reason").rows()
    assert (similar, reason) == (1.0, "exact duplicate")
    assert kept_id in kept["group_id"]


def test_a_near_duplicate_names_the_longer_record_and_their_similarity():
    words = sentence(1)
    short, long = " ".join(words), " ".join([*words, "and", "more"])
    kept, dropped = deduplicate(frame(("Why?", short), ("Why?", long)))
    assert kept["assistant_response"].to_list() == [long]
    expected = similarity(f"Why? {short}", f"Why? {long}")
    assert dropped.select("kept_id", "jaccard", "reason").rows() == [
        (kept["record_id"][0], pytest.approx(expected), "near duplicate")
    ]


def test_a_record_is_dropped_only_for_one_that_is_near_itself():
    """A is near B and B near C, but A is not near C: a chain would drop C for A."""
    words = sentence(2, 66)
    a, b, c = (" ".join(words[at : at + size]) for at, size in ((0, 60), (3, 59), (6, 58)))
    assert similarity(a, b) > 0.85 < similarity(b, c)
    assert similarity(a, c) < 0.85
    kept, dropped = deduplicate(frame(("", a), ("", b), ("", c)), threshold=0.85)
    assert set(kept["assistant_response"]) == {a, c}
    assert dropped["kept_id"].to_list() == kept.filter(assistant_response=a)["record_id"].to_list()


def test_of_two_records_that_stay_the_nearer_one_is_named():
    words = sentence(3, 74)
    far, near, between = (" ".join(words[at:to]) for at, to in ((0, 62), (12, 74), (8, 68)))
    assert similarity(far, near) < 0.7 < similarity(between, far) < similarity(between, near)
    kept, dropped = deduplicate(frame(("", far), ("", near), ("", between)), threshold=0.7)
    assert (
        dropped["kept_id"].to_list() == kept.filter(assistant_response=near)["group_id"].to_list()
    )


@pytest.mark.parametrize("seed", range(6))
def test_of_two_as_long_the_smaller_id_stays(seed: int):
    words = sentence(seed)
    rows = frame(("Why?", " ".join([*words, "aaa"])), ("Why?", " ".join([*words, "bbb"])))
    kept, dropped = deduplicate(rows)
    assert [*kept["record_id"], *dropped["record_id"]] == sorted(rows["record_id"])


def test_nearly_every_pair_at_the_threshold_is_found():
    rows: list[tuple[str, str]] = []
    for seed in range(300):
        words = sentence(seed)
        changed = [*words[:54], *(f"new{seed}-{at}" for at in range(4))]
        rows += [("", " ".join(words)), ("", " ".join(changed))]
    similar = [similarity(one[1], two[1]) for one, two in zip(rows[::2], rows[1::2], strict=True)]
    assert 0.80 < min(similar) == max(similar) < 0.86
    assert deduplicate(frame(*rows)).dropped.height >= 299


def test_no_records_are_no_records():
    empty = records.record_frame([])
    kept, dropped = deduplicate(empty)
    assert kept.columns == [*empty.columns, "group_id"]
    assert dropped.columns == [*empty.columns, "kept_id", "jaccard", "reason"]


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([0.5, 0.8, 1.0]))
def test_the_order_of_the_input_changes_nothing(
    rows: list[tuple[str, str]], shuffle: random.Random, threshold: float
):
    whole = frame(*rows)
    order = list(range(whole.height))
    shuffle.shuffle(order)
    one, other = deduplicate(whole, threshold), deduplicate(whole[order], threshold)
    assert_frame_equal(one.kept, other.kept)
    assert_frame_equal(one.dropped, other.dropped)


@given(ROWS, st.sampled_from([0.5, 0.8, 1.0]))
def test_every_removal_has_true_evidence_and_no_row_is_lost(
    rows: list[tuple[str, str]], threshold: float
):
    before = frame(*rows)
    kept, dropped = deduplicate(before, threshold)
    assert sorted([*kept["source"], *dropped["source"]]) == sorted(before["source"])
    assert kept["group_id"].to_list() == kept["record_id"].to_list()
    assert kept["record_id"].is_unique().all()
    texts = {row["record_id"]: f"{row['user_query']} {row['assistant_response']}"
             for row in before.iter_rows(named=True)}  # fmt: skip
    for row in dropped.iter_rows(named=True):
        assert row["kept_id"] in kept["record_id"]
        assert row["jaccard"] >= threshold
        true = similarity(texts[row["record_id"]], texts[row["kept_id"]])
        assert row["jaccard"] == pytest.approx(true)
        exact = texts[row["record_id"]].split() == texts[row["kept_id"]].split()
        assert row["reason"] == ("exact duplicate" if exact else "near duplicate")


@given(st.lists(WORDS.map(" ".join), min_size=2, max_size=8))
def test_hashed_shingles_have_the_similarity_of_the_words(texts: list[str]):
    sets = shingle_sets(pl.Series("text", texts))
    assert [each.size for each in sets] == [len(shingles(text)) for text in texts]
    assert all(np.array_equal(each, np.unique(each)) for each in sets)
    assert jaccard(sets[0], sets[1]) == pytest.approx(similarity(texts[0], texts[1]))


def test_bands_reach_the_recall_that_they_promise():
    assert bands(0.8) == (21, 6)
    for threshold in (0.3, 0.5, 0.7, 0.9, 0.99, 1.0):
        count, rows = bands(threshold)
        assert count * rows <= 128
        assert count >= 2
        assert 1 - (1 - threshold**rows) ** count >= 0.998
