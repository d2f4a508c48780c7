import gzip
import json
import os
import unicodedata
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import ftfy.badness
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracemill.corpus import clean as cleaning
from tracemill.corpus.clean import clean, repair
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Message, Record, pair, record_frame

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WHEN = datetime(2024, 5, 6, tzinfo=UTC)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(
        st.sampled_from(
            [
                *("caf\u00e9", "caf\u00c3\u00a9", "\u00e2\u20ac\u0153", "\u00c3", "e\u0301"),
                *("\r", "\n", " ", "\t", "\x0c", "\x85", "\x9d", "\ufeff", "\u2028", "\u0958"),
                *("word", "    code", "uses cookies", "java\x00script", "I can't help with that."),
            ]
        ),
        max_size=15,
    ).map("".join),
)
TEXTS = st.lists(st.tuples(TEXT, TEXT), max_size=8)
RECIPES = st.sampled_from(
    [
        Source(),
        Source(rules={"basic": False}),
        Source(rules={"c4": True, "c4.sentences": False}),
        Source(rules={"gopher": True, "fineweb": True, "gopher.few_words": 2}),
    ]
)


def frame(*rows: tuple[str, str]) -> pl.DataFrame:
    return record_frame([Record(pair(*row), "origin", "source", WHEN) for row in rows])


def conversation(*messages: Message, rating: float | None = None) -> pl.DataFrame:
    return record_frame([Record(messages, "origin", "source", WHEN, rating=rating)])


def answers(records: pl.DataFrame) -> list[str]:
    return [turns[-1]["content"] for turns in records["messages"].to_list()]


@pytest.mark.parametrize(
    ("written", "repaired"),
    [
        ("Cafe\u0301 is a word", "Caf\u00e9 is a word"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("a bell\x07 and a \ufeffmark", "a bell and a mark"),
        ("\n \n  said\n    code\t \n\n", "said\n    code"),
        ("    indented\n    code", "    indented\n    code"),
        ("\tif x:\n\t\treturn 1", "\tif x:\n\t\treturn 1"),
        ("def f():\n\n\n\n\n\n\treturn 1", "def f():\n\n\n\treturn 1"),
        ("It\u00e2\u20ac\u2122s a caf\u00c3\u00a9", "It\u2019s a caf\u00e9"),
        ("\u00e2\u20ac\u0153so\u00e2\u20ac\x9d, 5 \u00c2\u00b0C", "\u201cso\u201d, 5 \u00b0C"),
        ("\x93quoted\x94 in C1", "\u201cquoted\u201d in C1"),
    ],
)
def test_a_repair_changes_how_a_text_is_written(written: str, repaired: str):
    assert repair(pl.Series([written])).to_list() == [repaired]


@pytest.mark.parametrize(
    "text",
    [
        "\u201ccurly\u201d \u2018quotes\u2019 \u2014 and a dash\u2026",
        "&lt;p&gt; stays &amp; so does \ufb01 and \uff21",
        "\x1b[0m is not text".replace("\x1b", "\\x1b"),
        "na\u00efve, \u00c5ngstr\u00f6m, \u00abguillemets\u00bb, 10 \u20ac, \u00a9 2024",
        "\u041f\u0440\u0438\u0432\u0435\u0442, \u4f60\u597d, \u0645\u0631\u062d\u0628\u0627, \U0001f389",
        "\u250c\u2500\u2510\n\u2502 \u2502\n\u2514\u2500\u2518",
        "a\u200d\u2640b zero width joiners stay",
    ],
)
def test_what_is_written_well_stays(text: str):
    assert repair(pl.Series([text])).to_list() == [text]


@given(st.lists(TEXT, max_size=10))
def test_columns_see_mojibake_where_ftfy_does(texts: list[str]):
    seen = pl.Series(texts, dtype=pl.String).str.contains(cleaning._mojibake()).to_list()
    assert all(
        here or not ftfy.badness.is_bad(text) for here, text in zip(seen, texts, strict=True)
    )


def test_what_was_given_is_left_as_it_was():
    texts = pl.Series([" caf\u00c3\u00a9 \n", "plain", None])
    assert repair(texts).to_list() == ["caf\u00e9", "plain", None]
    assert texts.to_list() == [" caf\u00c3\u00a9 \n", "plain", None]


def test_a_repair_may_reveal_another():
    assert repair(pl.Series(["caf\u00c3\x00\u00a9"])).to_list() == ["caf\u00e9"]


def test_roles_tools_and_names_are_not_touched():
    call = '[{"id": "1",  "type": "function", "function": {"name": "f", "arguments": "{ }\\r\\n"}}]'
    turns = (
        Message("system", "Be  kind. \r\n"),
        Message("user", "Look it up, please.\x00", name="Zo\u00c3\u00ab"),
        Message("assistant", None, tool_calls=call),
        Message("tool", '{"found": 1}  \n', name="f", tool_call_id="1"),
        Message("assistant", "One was found.\n", weight=1),
    )
    before = conversation(*turns)
    kept = clean(before).kept
    contents = ["Be  kind.", "Look it up, please.", None, '{"found": 1}', "One was found."]
    expected = [turn._replace(content=text) for turn, text in zip(turns, contents, strict=True)]
    assert kept["messages"].to_list() == [[turn._asdict() for turn in expected]]
    assert kept.drop("messages").rows() == before.drop("messages").rows()


@pytest.mark.parametrize(
    ("query", "response", "reason"),
    [
        ("Why?", " \n", "basic.no_answer: no answer"),
        ("a?", "A good answer.", "basic.short_question: question under 3 characters"),
        ("Why?", "Because.\x00\x00\x00", "basic.short_answer: answer under 10 characters"),
        ("Why?", "x" * 32_000, "basic.long: question and answer over 32,000 characters"),
        ("Why?", "1 + 1 + 1 + 1", "basic.no_letter: answer without a letter"),
        ("Why is it so?", " Why is it so?", "basic.repeats: answer repeats the question"),
        ("Why?", "See base class.", "basic.boilerplate: answer only points elsewhere"),
        ("Why?", "**DEPRECATED**", "basic.boilerplate: answer only points elsewhere"),
        ("Why?", "I'm sorry, but I can't help with that.", "basic.refusal: answer declines"),
        ("Why?", "so and so on " * 40, "basic.loop: answer ends in a loop of over 7 rounds"),
    ],
)
def test_a_dropped_record_has_its_reason(query: str, response: str, reason: str):
    cleaned = clean(frame((query, response)))
    assert cleaned.kept.is_empty()
    assert cleaned.dropped["reason"].to_list() == [reason]


@pytest.mark.parametrize(
    "response",
    ["See base class for the rest, which says how it is built, step by step, in five parts. Long.",
     "Deprecated since 2.0: use `join` instead.", "Not a number? Return 0.",
     "Inherits the lock of its parent.", "\u6211\u559c\u6b22\u5728\u6cb3\u8fb9\u6563\u6b65\u548c\u770b\u4e66\u3002"],
)  # fmt: skip
def test_an_answer_that_says_something_stays(response: str):
    assert clean(frame(("Why?", response))).kept.height == 1


def test_an_answer_of_tool_calls_alone_is_not_judged_as_text():
    asked = Message("user", "Look it up, please.")
    call = Message("assistant", None, tool_calls='[{"id": "1"}]')
    assert clean(conversation(asked, call), Source(rules={"gopher": True})).kept.height == 1
    nothing = Message("assistant", None)
    assert clean(conversation(asked, nothing)).dropped["reason"].to_list() == [
        "basic.no_answer: no answer"
    ]


def test_without_a_question_there_is_none_to_be_short():
    assert clean(conversation(Message("assistant", "A text of its own."))).kept.height == 1


def test_a_recipe_switches_rules_and_thresholds():
    short = frame(("Why?", "Billing"))
    assert clean(short).kept.is_empty()
    assert clean(short, Source(rules={"basic.short_answer": 3})).kept.height == 1
    assert clean(short, Source(rules={"basic": False})).kept.height == 1
    assert clean(short, Source(rules={"basic": False, "gopher.few_words": 5})).dropped[
        "reason"
    ].to_list() == ["gopher.few_words: under 5 words"]
    with pytest.raises(ValueError, match="did you mean basic"):
        Source(rules={"basic.shortanswer": 3})


def test_lines_of_a_banner_go_where_the_rules_for_web_text_are_on():
    written = "The mill stands by the river.\nThis site uses cookies. Accept?\nIt is old."
    records = frame(("What does 'uses cookies' mean?", written))
    web = Source(rules={"c4": True, "c4.sentences": False})
    assert answers(clean(records, web).kept) == ["The mill stands by the river.\nIt is old."]
    assert clean(records, web).kept["messages"][0][0]["content"] == "What does 'uses cookies' mean?"
    assert answers(clean(records).kept) == [written]


def test_records_rated_lower_are_dropped_and_the_unrated_stay():
    rows = [
        conversation(*pair("Why is it so?", "It is so because."), rating=r) for r in (1, 3, None)
    ]
    kept, dropped = clean(pl.concat(rows), Source(min_rating=2.5))
    assert kept["rating"].to_list() == [3, None]
    assert dropped["reason"].to_list() == ["rated under 2.5"]


def test_a_record_in_another_language_is_dropped():
    records = frame(
        ("Why?", "The train to the coast leaves at half past seven every morning."),
        ("Warum?", "Der Zug an die K\u00fcste f\u00e4hrt jeden Morgen um halb acht ab."),
        ("Why?", "Short one. 42."),
    )
    kept, dropped = clean(records, Source(languages=("en", "fr")))
    assert kept["record_id"].to_list() == records["record_id"].gather([0, 2]).to_list()
    assert dropped["reason"].to_list() == ["language: de is not en or fr"]


@given(TEXTS, RECIPES)
@settings(deadline=None)
def test_no_row_is_lost_and_its_id_stays(rows: list[tuple[str, str]], recipe: Source):
    before = frame(*rows)
    kept, dropped = clean(before, recipe)
    assert sorted([*kept["record_id"], *dropped["record_id"]]) == sorted(before["record_id"])
    assert kept.columns == before.columns
    assert dropped.columns == [*before.columns, "reason"]
    assert dropped["reason"].null_count() == 0


@given(TEXTS, RECIPES)
@settings(deadline=None)
def test_cleaning_twice_is_cleaning_once(rows: list[tuple[str, str]], recipe: Source):
    kept = clean(frame(*rows), recipe).kept
    again = clean(kept, recipe)
    assert_frame_equal(again.kept, kept)
    assert again.dropped.is_empty()


@given(TEXTS, TEXTS, RECIPES)
@settings(deadline=None)
def test_batches_give_the_rows_of_the_whole(
    first: list[tuple[str, str]], second: list[tuple[str, str]], recipe: Source
):
    parts = [clean(frame(*first), recipe), clean(frame(*second), recipe)]
    whole = clean(frame(*first, *second), recipe)
    assert_frame_equal(pl.concat([each.kept for each in parts]), whole.kept)
    assert_frame_equal(pl.concat([each.dropped for each in parts]), whole.dropped)


@given(TEXT)
def test_repaired_text_is_in_nfc_and_has_no_control_characters(text: str):
    repaired = repair(pl.Series([text])).item()
    assert unicodedata.is_normalized("NFC", repaired)
    assert not pl.Series([repaired]).str.contains(cleaning.CONTROL).item()


@pytest.mark.skipif(not (DATA / "sgd").is_dir(), reason=f"no dialogues in {DATA / 'sgd'}")
def test_real_dialogues_are_hardly_touched():
    with gzip.open(DATA / "sgd" / "records.jsonl.gz", "rt") as lines:
        rows = [json.loads(line)["messages"] for line in islice(lines, 2_000)]
    talks = [[Message(turn["role"], turn["content"]) for turn in row] for row in rows]
    whole = [talk for talk in talks if talk[-1].role == "assistant"]
    records = record_frame([Record(talk, "sgd", "sgd", WHEN) for talk in whole])
    kept, dropped = clean(records)
    assert kept.height > 0.97 * records.height
    assert set(dropped["reason"]) <= {
        "basic.short_answer: answer under 10 characters",
        "basic.short_question: question under 3 characters",
        "basic.no_answer: no answer",
    }
