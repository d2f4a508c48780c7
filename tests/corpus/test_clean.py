import unicodedata
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracemill.corpus import records
from tracemill.corpus.clean import LONGEST, clean

WHEN = datetime(2024, 5, 6, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TEXTS = st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=12)


def frame(*rows: tuple[str, str, str]) -> pl.DataFrame:
    return records.record_frame([records.record(*row, "source", WHEN) for row in rows])


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("Cafe\u0301 is a word", "Caf\u00e9 is a word"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("a bell\x07 and a \ufeffmark", "a bell and a mark"),
        ("  indented  \n    code\t \n\n", "indented\n    code"),
        ("def f():\n\treturn 1", "def f():\n\treturn 1"),
    ],
)
def test_a_repair_changes_how_a_text_is_written(written: str, repaired: str):
    cleaned = clean(frame(("What is it?", written, written)))
    assert cleaned.kept.select("assistant_response", "context").rows() == [(repaired, repaired)]
    assert cleaned.dropped.is_empty()


@pytest.mark.parametrize(
    ("query", "response", "reason"),
    [
        ("a?", "A good answer.", "question under 3 characters"),
        ("Why?", "Because.\x00\x00\x00", "answer under 10 characters"),
        ("Why?", "x" * LONGEST, "question and answer over 32,000 characters"),
        ("Why?", "1 + 1 + 1 + 1", "answer without a letter"),
        ("Why is it so?", " Why is it so?", "answer repeats the question"),
        ("Why?", "See base class.", "boilerplate: the answer only points elsewhere"),
        ("Why?", "**DEPRECATED**", "boilerplate: the answer only points elsewhere"),
    ],
)
def test_a_dropped_record_has_its_reason(query: str, response: str, reason: str):
    cleaned = clean(frame((query, response, "")))
    assert cleaned.kept.is_empty()
    assert cleaned.dropped["reason"].to_list() == [reason]


@pytest.mark.parametrize(
    "response",
    ["See base class for the rest, which says how it is built, step by step, in five parts. Long.",
     "Deprecated since 2.0: use `join` instead.", "Not a number? Return 0.",
     "Inherits the lock of its parent."],
)  # fmt: skip
def test_an_answer_that_says_something_stays(response: str):
    assert clean(frame(("Why?", response, ""))).kept.height == 1


@given(TEXTS)
def test_no_row_is_lost_and_its_id_stays(rows: list[tuple[str, str, str]]):
    before = frame(*rows)
    kept, dropped = clean(before)
    assert sorted([*kept["record_id"], *dropped["record_id"]]) == sorted(before["record_id"])
    assert dropped["reason"].null_count() == 0


@given(TEXTS)
def test_cleaning_twice_is_cleaning_once(rows: list[tuple[str, str, str]]):
    kept = clean(frame(*rows)).kept
    again = clean(kept)
    assert_frame_equal(again.kept, kept)
    assert again.dropped.is_empty()


@given(TEXTS, TEXTS)
def test_batches_give_the_rows_of_the_whole(
    first: list[tuple[str, str, str]], second: list[tuple[str, str, str]]
):
    parts = [clean(frame(*first)), clean(frame(*second))]
    whole = clean(frame(*first, *second))
    assert_frame_equal(pl.concat([each.kept for each in parts]), whole.kept)
    assert_frame_equal(pl.concat([each.dropped for each in parts]), whole.dropped)


@given(TEXT)
def test_kept_text_is_in_nfc(text: str):
    kept = clean(frame(("What is it?", "An answer: " + text, text))).kept
    assert all(unicodedata.is_normalized("NFC", each) for each in kept["assistant_response"])
