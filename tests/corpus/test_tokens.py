"""Counts are exact, bounds hold, and what is too long ends in one place."""

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemill import tokenizer
from tracemill.corpus import tokens
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.corpus.trainable import trainable
from tracemill.errors import UsageError

NOW = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = list(tokens.TOKENIZERS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SYSTEM = Message("system", "You help with trains.")


def record(*messages: Message, tools: str | None = None, conversation_id: str | None = None):
    return Record(
        messages, "tests", "line 1", NOW, tools=tools, conversation_id=conversation_id, label="x"
    )


def talk(exchanges: int, words: int = 10) -> list[Message]:
    said = [
        (Message("user", f"{n} " + "why " * words), Message("assistant", f"{n} " + "so " * words))
        for n in range(exchanges)
    ]
    return [message for pair in said for message in pair]


def needs(name: str) -> None:
    if tokens.TOKENIZERS[name].package:
        pytest.importorskip(tokens.TOKENIZERS[name].package or "", reason="the extra `tokens`")


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)  # the first one loads the vocabulary
@given(texts=st.lists(TEXTS, max_size=8))
def test_no_text_has_more_tokens_than_its_bytes_allow(name: str, texts: list[str]):
    needs(name)
    used = tokens.TOKENIZERS[name]
    for text, length in zip(texts, tokens.lengths(texts, name), strict=True):
        assert 0 <= length <= used.per_byte * len(text.encode()) + used.per_text


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(
    said=st.lists(st.tuples(TEXTS, TEXTS, st.none() | TEXTS), min_size=1, max_size=4),
    tools=st.none() | TEXTS,
)
def test_the_bound_is_never_below_the_count(name: str, said: list, tools: str | None):
    needs(name)
    rows = [
        record(Message("user", asked, name=by), Message("assistant", answer), tools=tools)
        for asked, answer, by in said
    ]
    frame = record_frame(rows)
    bound = frame.select(tokens.most(name)).to_series()
    assert (bound >= tokens.count(frame, name)).all()


def test_a_record_counts_its_texts_its_seams_and_its_tools():
    call = '[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]'
    messages = (
        SYSTEM,
        Message("user", "When does it leave?", name="ada"),
        Message("assistant", None, tool_calls=call),
        Message("tool", "09:12", tool_call_id="a"),
        Message("assistant", "At 09:12."),
    )
    texts = (SYSTEM.content, "When does it leave?", "ada", call, "09:12", "At 09:12.", "[1]")
    expected = sum(map(tokenizer.count, map(str, texts))) + 5 * 4 + 1 + 3
    frame = record_frame([record(*messages, tools="[1]"), record(Message("user", ""))])
    assert tokens.count(frame).to_list() == [expected, 7]


# Published for cl100k_base and o200k_base in OpenAI's cookbook, "How to count tokens with tiktoken".
COOKBOOK = {
    "antidisestablishmentarianism": (6, 6),
    "2 + 2 = 4": (7, 7),
    "お誕生日おめでとう": (9, 8),
}


@pytest.mark.parametrize(("place", "name"), [(0, "cl100k_base"), (1, "o200k_base")])
def test_openais_published_examples_are_met(place: int, name: str):
    needs(name)
    expected = [pair[place] for pair in COOKBOOK.values()]
    assert tokens.lengths(list(COOKBOOK), name).tolist() == expected


def test_an_unknown_tokenizer_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UsageError, match="no tokenizer is called 'gpt2': there are default, o200k"):
        tokens.lengths(["a"], "gpt2")
    monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"needs the extra `tokens`: `uv pip install"):
        tokens.lengths(["a"], "o200k_base")


def test_no_record_is_counted_where_bytes_decide(monkeypatch: pytest.MonkeyPatch):
    def refuse(texts: object) -> None:
        assert texts == []

    known = tokens.TOKENIZERS["default"]
    monkeypatch.setitem(
        tokens.TOKENIZERS,
        "default",
        known._replace(lengths=lambda texts: refuse(texts) or known.lengths([])),
    )
    frame = record_frame([record(SYSTEM, *talk(3)), record(*talk(1))])
    kept, dropped = tokens.limit(frame, 10_000)
    assert (kept.drop("part_of").equals(frame), kept["part_of"].null_count()) == (True, 2)
    assert dropped.is_empty()


def test_over_long_records_are_dropped_with_the_limit_as_the_reason():
    frame = record_frame([record(*talk(1)), record(*talk(9)), record(*talk(2))])
    kept, dropped = tokens.limit(frame, 100)
    assert kept["record_id"].to_list() == [frame["record_id"][0], frame["record_id"][2]]
    assert dropped.select("record_id", "reason").rows() == [
        (frame["record_id"][1], "over 100 tokens")
    ]


def test_a_long_conversation_is_cut_between_its_exchanges():
    frame = record_frame([record(SYSTEM, *talk(5), conversation_id="c1")])
    kept, dropped = tokens.limit(frame, 110, over="split")
    assert dropped.is_empty()
    said = [[turn["content"][0] for turn in messages] for messages in kept["messages"]]
    assert said == [list("Y0011"), list("Y2233"), list("Y44")]
    whole = frame["record_id"][0]
    assert kept.select("conversation_id", "part_of", "label").unique().rows() == [
        ("c1", whole, "x")
    ]
    assert kept["record_id"].n_unique() == 3
    assert whole not in kept["record_id"]


def test_a_call_and_its_result_stay_together():
    call = '[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]'
    answered = [
        Message("user", "first"),
        Message("assistant", None, tool_calls=call),
        Message("user", "are you there?"),
        Message("tool", "42", tool_call_id="a"),
        Message("assistant", "It is 42."),
    ]
    frame = record_frame([record(*answered, Message("user", "second"), Message("assistant", "2."))])
    most = tokens.count(frame)[0] - 1
    kept, _ = tokens.limit(frame, most, over="split")
    assert [len(messages) for messages in kept["messages"]] == [5, 2]
    assert kept["conversation_id"].to_list() == frame["record_id"].to_list() * 2


def test_what_cannot_be_cut_is_dropped_whole():
    long = Message("user", "word " * 500)
    frame = record_frame([record(*talk(1), long, Message("assistant", "Yes."), *talk(1))])
    kept, dropped = tokens.limit(frame, 200, over="split")
    assert kept.is_empty()
    assert dropped["reason"].to_list() == ["over 200 tokens, in turns that cannot be cut"]


def test_a_part_in_which_nothing_is_learned_is_left_out():
    shown = Message("assistant", "so " * 20, weight=0)
    messages = [Message("user", "why " * 20), shown] * 2 + talk(1, 20)
    kept, dropped = tokens.limit(record_frame([record(*messages)]), 70, over="split")
    assert (kept.height, dropped.height) == (1, 0)
    assert kept["messages"][0][-1]["weight"] is None


TURNS = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TURNS, min_size=1, max_size=6),
    st.integers(16, 300),
    st.sampled_from(["drop", "split"]),
)
def test_every_record_is_in_one_place_and_every_kept_one_fits(lengths, most, over):
    rows = [
        record(SYSTEM, *(m for n, words in enumerate(turns) for m in talk(1, words + n)))
        for turns in lengths
    ]
    frame = record_frame(rows).unique("record_id", maintain_order=True)
    kept, dropped = tokens.limit(frame, most, over=over)
    whole = set(kept.filter(pl.col("part_of").is_null())["record_id"])
    cut = set(kept["part_of"].drop_nulls())
    gone = set(dropped["record_id"])
    assert whole | cut | gone == set(frame["record_id"])
    assert len(whole) + len(cut) + len(gone) == frame.height
    assert (tokens.count(kept) <= most).all()
    assert {turns[-1]["role"] for turns in kept["messages"]} <= {"assistant"}
    assert {turns[0]["role"] for turns in kept["messages"]} <= {"system"}


def test_a_model_is_found_by_its_versions():
    nano = trainable("gpt-4.1-nano-2025-04-14")
    assert nano is not None
    assert (nano.max_tokens, nano.tokenizer, nano.usd_per_million) == (
        65_536,
        "o200k_base",
        Decimal("1.5"),
    )
    assert trainable("ft:gpt-3.5-turbo-0613:us::abc").max_tokens == 4_096  # type: ignore[union-attr]
    assert trainable("gpt-3.5-turbo-0125").max_tokens == 16_385  # type: ignore[union-attr]
    assert trainable("gpt-4.12") is None
