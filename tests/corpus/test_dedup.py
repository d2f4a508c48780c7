import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from rich.console import Console

from tracemill.corpus import records
from tracemill.corpus.dedup import clusters, deduplicate, explain
from tracemill.corpus.near.bands import Policy
from tracemill.errors import UsageError

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
WORDS = st.lists(st.sampled_from("abcdefg"), max_size=14).map(" ".join)
ROWS = st.lists(
    st.tuples(st.sampled_from(["", "why", "how"]), WORDS, st.sampled_from([None, 1.0, 2.0])),
    max_size=25,
)
Row = tuple[str, str] | tuple[str, str, float | None]


def frame(*rows: Row) -> pl.DataFrame:
    return records.record_frame(
        [
            records.Record(
                records.pair(row[0], row[1]),
                "test",
                f"line {number:03}",
                WHEN + timedelta(number % 3),
                rating=row[2] if len(row) > 2 else None,
            )
            for number, row in enumerate(rows)
        ]
    )


def answers(rows: pl.DataFrame) -> list[str]:
    return rows.select(records.answer().alias("answer")).to_series().to_list()


def shingles(text: str) -> set[tuple[str, ...]]:
    """The definition, without hashes."""
    words = text.lower().split()
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, 1))} if words else set()


def similarity(left: str, right: str) -> float:
    one, other = shingles(left), shingles(right)
    if len(one) == len(other) == 1:  # "a a a a a" and "a a a a a a" are not told to be alike
        return float(left.lower().split() == right.lower().split())
    return len(one & other) / len(one | other)


def sentence(seed: int, words: int = 60) -> list[str]:
    return [f"w{random.Random(seed * 1_000 + at).randrange(5_000)}" for at in range(words)]


def chain() -> list[str]:
    """A is near B and B near C at 0.85, but A is not near C; A is the longest, C the shortest."""
    words = sentence(2, 66)
    texts = [" ".join(words[at : at + size]) for at, size in ((0, 60), (3, 59), (6, 58))]
    assert similarity(*texts[:2]) > 0.85 < similarity(*texts[1:])
    assert similarity(texts[0], texts[2]) < 0.85
    return texts


def test_records_that_differ_in_case_and_blanks_are_exact_duplicates():
    rows = frame(("Why?", "Because it is so."), ("why?", "because  it is\nso."), ("How?", "Thus."))
    kept, dropped = deduplicate(rows)
    assert_frame_equal(kept, rows[1:])
    assert dropped.select("kept_id", "jaccard", "via_id", "reason").rows() == [
        (rows["record_id"][1], 1.0, None, "exact duplicate")
    ]


def test_a_near_duplicate_names_the_longer_record_and_their_similarity():
    words = sentence(1)
    short, long = " ".join(words), " ".join([*words, "and", "more"])
    kept, dropped = deduplicate(frame(("Why?", short), ("Why?", long)))
    assert answers(kept) == [long]
    assert dropped.select("kept_id", "jaccard", "reason").rows() == [
        (kept["record_id"][0], similarity(f"Why? {short}", f"Why? {long}"), "near duplicate")
    ]


def test_a_star_drops_only_records_that_are_near_itself():
    a, b, c = chain()
    kept, dropped = deduplicate(frame(("", c), ("", b), ("", a)), threshold=0.85)
    assert answers(kept) == [c, a]
    assert dropped["kept_id"].to_list() == [kept["record_id"][1]]


def test_a_component_keeps_its_first_and_says_through_whom_the_far_ones_belong_to_it():
    a, b, c = chain()
    rows = frame(("", c), ("", b), ("", a))
    kept, dropped = deduplicate(rows, threshold=0.85, policy="component")
    ids = rows["record_id"]
    assert answers(kept) == [a]
    assert dropped.select("kept_id", "jaccard", "via_id").rows() == [
        (ids[2], similarity(b, c), ids[1]),
        (ids[2], similarity(a, b), None),
    ]


def test_of_two_records_that_stay_the_nearer_one_is_named():
    words = sentence(3, 74)
    far, near, between = (" ".join(words[at:to]) for at, to in ((0, 62), (12, 74), (8, 68)))
    assert similarity(far, near) < 0.7 < similarity(between, far) < similarity(between, near)
    kept, dropped = deduplicate(frame(("", far), ("", near), ("", between)), threshold=0.7)
    assert dropped["kept_id"].to_list() == [kept["record_id"][1]]


@pytest.mark.parametrize("seed", range(6))
def test_of_two_as_long_the_better_stays_and_then_the_one_with_the_smaller_id(seed: int):
    words = sentence(seed)
    texts = (" ".join([*words, "aaa"]), " ".join([*words, "bbb"]))
    kept, dropped = deduplicate(frame(*(("Why?", text) for text in texts)))
    assert [*kept["record_id"], *dropped["record_id"]] == sorted([*kept["record_id"], *dropped["record_id"]])  # fmt: skip
    for better in range(2):
        ratings: list[float | None] = [None, None]
        ratings[better] = 0.5
        rated = frame(
            *(("Why?", text, rating) for text, rating in zip(texts, ratings, strict=True))
        )
        assert answers(deduplicate(rated).kept) == [texts[better]]
        graded = rated.with_columns(quality=pl.Series([0.9, 0.1]))
        assert answers(deduplicate(graded).kept) == [texts[0]]


def test_one_record_from_several_places_stays_once_where_it_was_first():
    rows = frame(("Why?", "So."), ("How?", "Thus."), ("Why?", "So."), ("Why?", "So."))
    kept, dropped = deduplicate(rows.reverse())
    assert kept["source"].to_list() == ["line 001", "line 000"]
    assert dropped.select("source", "kept_id", "jaccard", "reason").rows() == [
        (f"line 00{line}", rows["record_id"][0], 1.0, "exact duplicate") for line in (3, 2)
    ]


def test_records_without_words_are_no_duplicates_of_each_other():
    rows = frame(("Why?", ""), ("Why?", " "), ("How?", "\n\n"), ("How?", "Thus."))
    assert deduplicate(rows, fields="answer").dropped.is_empty()
    assert clusters(rows, fields="answer").n_unique() == 4


def test_fields_say_what_is_compared():
    rows = frame(("Why?", "So."), ("Why?", "Thus."), ("How?", "Thus."))
    assert deduplicate(rows).dropped.is_empty()
    assert deduplicate(rows, fields="prompt").dropped.height == 1
    assert deduplicate(rows, fields="answer").dropped.height == 1
    one, two, three = clusters(rows, fields="prompt")
    assert one == two == min(rows["record_id"][:2])
    assert three == rows["record_id"][2]


def test_nearly_every_pair_at_the_threshold_is_found():
    texts: list[str] = []
    for seed in range(300):
        words = sentence(seed)
        changed = [*words[:54], *(f"new{seed}-{at}" for at in range(4))]
        texts += [" ".join(words), " ".join(changed)]
    similar = [similarity(one, two) for one, two in zip(texts[::2], texts[1::2], strict=True)]
    assert 0.80 < min(similar) == max(similar) < 0.86
    assert deduplicate(frame(*(("", text) for text in texts))).dropped.height >= 299


@pytest.mark.parametrize("policy", ["star", "component"])
def test_no_records_are_no_records(policy: Policy):
    empty = records.record_frame([])
    kept, dropped = deduplicate(empty, policy=policy)
    assert_frame_equal(kept, empty)
    assert dropped.columns == [*empty.columns, "kept_id", "jaccard", "via_id", "reason"]
    assert clusters(empty).is_empty()


@given(
    ROWS,
    st.randoms(use_true_random=False),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.sampled_from(["star", "component"]),
)
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_input_changes_nothing(
    rows: list[Row], shuffle: random.Random, threshold: float, policy: Policy
):
    whole = frame(*rows)
    order = list(range(whole.height))
    shuffle.shuffle(order)
    one = deduplicate(whole, threshold=threshold, policy=policy)
    other = deduplicate(whole[order], threshold=threshold, policy=policy)
    for left, right in zip(one, other, strict=True):
        assert_frame_equal(left, right.sort("source"))


@given(ROWS, st.sampled_from([0.5, 0.8, 1.0]), st.sampled_from(["star", "component"]))
@settings(max_examples=40, deadline=None)
def test_every_removal_has_true_evidence_and_no_row_is_lost(
    rows: list[Row], threshold: float, policy: Policy
):
    before = frame(*rows)
    kept, dropped = deduplicate(before, threshold=threshold, policy=policy)
    assert sorted([*kept["source"], *dropped["source"]]) == sorted(before["source"])
    assert_frame_equal(deduplicate(kept, threshold=threshold, policy=policy).kept, kept)
    assert kept["record_id"].is_unique().all()
    said = before.select("record_id", records.whole().alias("text")).unique("record_id")
    texts: dict[str, str] = dict(said.rows())
    for row in dropped.iter_rows(named=True):
        other = row["via_id"] or row["kept_id"]
        text, beside = texts[row["record_id"]], texts[other]
        assert row["kept_id"] in kept["record_id"]
        assert row["jaccard"] >= threshold
        if text.split():
            assert row["jaccard"] == similarity(text, beside)
        exact = text.split() == texts[row["kept_id"]].split()
        assert row["reason"] == ("exact duplicate" if exact else "near duplicate")
        assert row["via_id"] is None or policy == "component"


@given(ROWS, st.sampled_from([0.5, 0.8]))
@settings(max_examples=40, deadline=None)
def test_a_group_holds_only_what_near_duplicates_lead_to(rows: list[Row], threshold: float):
    whole = frame(*rows)
    texts = whole.select(records.whole()).to_series().to_list()
    expected = oracle_groups(texts, whole["record_id"].to_list(), threshold)
    found = clusters(whole, fields="both", threshold=threshold).to_list()
    assert len(set(zip(found, expected, strict=True))) == len(set(found))
    assert set(found) <= set(whole["record_id"])


def oracle_groups(texts: Sequence[str], ids: Sequence[str], threshold: float) -> list[str]:
    group = list(range(len(texts)))
    for one in range(len(texts)):
        for other in range(one):
            both = texts[one].split() and texts[other].split()
            if ids[one] == ids[other] or (
                both and similarity(texts[one], texts[other]) >= threshold
            ):
                old, new = group[one], group[other]
                group = [new if each == old else each for each in group]
    return [
        min(id for id, other in zip(ids, group, strict=True) if other == each) for each in group
    ]


def test_an_explanation_shows_both_texts_and_what_they_share():
    words = sentence(7)
    changed = [*words[:30], "<b>else</b>", *words[31:], "more"]
    rows = frame(("Why?", " ".join(words)), ("Why?", " ".join(changed)))
    kept, dropped = deduplicate(rows, threshold=0.7)
    told = explain(dropped["record_id"][0], kept, dropped)
    text, longer = (f"Why? {' '.join(each)}" for each in (words, changed))
    shared = shingles(text) & shingles(longer)
    assert (told.shared, told.shingles, told.kept_shingles) == (len(shared), 57, 58)
    assert told.jaccard == similarity(text, longer) == dropped["jaccard"][0]
    assert [passage[:2] for passage in told.passages() if not passage.shared] == [
        (words[30], "<b>else</b>"),
        ("", "more"),
    ]
    assert str(told).splitlines()[0] == told.rule
    assert f"  - {words[30]}\n  + <b>else</b>" in str(told)
    console = Console(width=100, record=True, file=None, quiet=True)
    console.print(told)
    page = told._repr_html_()
    assert "&lt;b&gt;else&lt;/b&gt;" in page
    assert "<b>" not in page


def test_only_what_was_dropped_can_be_explained():
    rows = frame(("Why?", "So."), ("Why?", "so."), ("How?", "Thus."))
    kept, dropped = deduplicate(rows)
    with pytest.raises(UsageError, match="was not dropped"):
        explain(kept["record_id"][0], kept, dropped)
    with pytest.raises(UsageError, match="is not among the kept"):
        explain(dropped["record_id"][0], kept.clear(), dropped)
