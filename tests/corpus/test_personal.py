"""Personal data in frames of records: nothing is lost, nothing is left, stand-ins are stable."""

import json
import re
import string
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.pii.labelled import labelled
from tracemill.corpus.personal import personal_data, protect, suspects
from tracemill.corpus.records import Message, Record, record_frame
from tracemill.corpus.stand_ins import STAND_IN, pseudonymised, real, stand_in
from tracemill.errors import InputError
from tracemill.pii import RULES, find, redact

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ROWS = labelled()
CALL = json.dumps(
    [
        {
            "id": "1",
            "type": "function",
            "function": {
                "name": "pay",
                "arguments": json.dumps(
                    {"to": "ann@mail.example", "card": 4111111111111111, "phone": 4155550123}
                ),
            },
        }
    ]
)


def record(text: str, **rest: str | None) -> Record:
    said = (Message("user", text), Message("assistant", "Done."))
    return Record(said, "support", "support.jsonl:1", NOW, **rest)  # pyright: ignore[reportArgumentType]


def texts(frame: pl.DataFrame) -> list[str]:
    return [turn["content"] for turn in frame["messages"].explode().to_list()]


found_texts = st.one_of(
    st.sampled_from([row.text for row in ROWS]),
    st.sampled_from(ROWS).flatmap(
        lambda row: st.sampled_from([row.text[s.start : s.end] for s in row.spans] or [row.text])
    ),
    st.sampled_from(sorted({needle for rule in RULES for needle in rule.needles})),
    st.text("+0123456789.-: @aB_/[]=\n", max_size=12),
    st.text(string.ascii_letters + string.digits + "-_.", max_size=40),
    st.text(max_size=5),
)
many = st.lists(st.lists(found_texts, max_size=5).map("".join), min_size=1, max_size=6)
# Hypothesis does not know that a repetition may keep what it took.
shaped = {
    at: st.from_regex(re.sub(r"(?<=[}*?+])\+", "", rule.pattern.pattern))
    for at, rule in enumerate(RULES)
}
salts = st.sampled_from(["", "salt", "\u00e9"])


@pytest.mark.parametrize("action", ["redact", "pseudonym", "drop", "keep"])
def test_the_rest_of_a_record_stays(action: str) -> None:
    frame = record_frame([record("Nothing here."), record("I said so.", label="x")])
    kept, dropped, counts = protect(frame, action)  # pyright: ignore[reportArgumentType]
    assert kept.equals(frame)
    assert (dropped.height, counts.height) == (0, 0)


def test_redaction_reaches_every_text_of_a_record() -> None:
    turns = (
        Message("user", "I am bob@mail.example", name="bob@mail.example"),
        Message("assistant", None, tool_calls=CALL),
        Message("tool", "sent to ann@mail.example", tool_call_id="1"),
        Message("assistant", "Done."),
    )
    tools = json.dumps([{"function": {"name": "pay", "description": "ask x@mail.example"}}])
    made = protect(record_frame([Record(turns, "a", "b", NOW, tools=tools)]), "redact")
    new = made.kept.row(0, named=True)
    call = json.loads(new["messages"][1]["tool_calls"])[0]["function"]
    assert [turn["content"] for turn in new["messages"]] == [
        "I am [email]",
        None,
        "sent to [email]",
        "Done.",
    ]
    assert new["messages"][0]["name"] == "[email]"
    assert json.loads(call["arguments"]) == {"to": "[email]", "card": "[card]", "phone": "[phone]"}
    assert json.loads(new["tools"])[0]["function"]["description"] == "ask [email]"
    assert made.counts.rows() == [("email", 5, 1), ("phone", 1, 1), ("card", 1, 1)]
    assert personal_data(made.kept).height == 0


def test_a_secret_that_only_its_name_tells_is_redacted_in_json() -> None:
    call = json.dumps([{"function": {"name": "f", "arguments": '{"password": "hunter22"}'}}])
    turns = (Message("user", "Go."), Message("assistant", None, tool_calls=call))
    new = protect(record_frame([Record(turns, "a", "b", NOW)]), "redact").kept
    calls = json.loads(new["messages"][0][1]["tool_calls"])
    assert json.loads(calls[0]["function"]["arguments"]) == {"password": "[password]"}


@pytest.mark.parametrize("action", ["redact", "pseudonym", "drop", "keep"])
def test_what_is_in_json_is_counted_once(action: str) -> None:
    turns = (Message("user", "Go."), Message("assistant", None, tool_calls=CALL))
    made = protect(record_frame([Record(turns, "a", "b", NOW)]), action)  # pyright: ignore[reportArgumentType]
    assert made.counts.rows() == [("email", 1, 1), ("phone", 1, 1), ("card", 1, 1)]


def test_dropped_records_say_why_and_none_is_lost() -> None:
    frame = record_frame(
        [record("I am ann@mail.example, +1 212-555-0143"), record("Hello."), record("see 10.1.2.3")]
    )
    kept, dropped, counts = protect(frame, "drop")
    assert kept["record_id"].to_list() == [frame["record_id"][1]]
    assert dropped["reason"].to_list() == ["personal data: email", "personal data: ip"]
    assert counts.rows() == [("email", 1, 1), ("ip", 1, 1)]


def test_users_stay_apart_and_unknown() -> None:
    frame = record_frame(
        [
            record("a", user_id="ann@mail.example", conversation_id="ann@mail.example/1"),
            record("b", user_id="u2", conversation_id="c2"),
            record("c", user_id="ann@mail.example"),
        ]
    )
    once = protect(frame, "redact", salt="s").kept
    assert protect(frame, "keep").kept.equals(frame)
    assert once["user_id"][0] == once["user_id"][2] != once["user_id"][1]
    assert once["user_id"].str.contains("^user-[0-9a-f]{16}$").all()
    assert once["conversation_id"].to_list()[1:] == ["c2", None]
    assert "ann" not in once["conversation_id"][0]
    assert protect(once, "redact", salt="s").kept.equals(once)
    assert protect(frame, "redact", salt="t").kept["user_id"][0] != once["user_id"][0]


@pytest.mark.parametrize(
    ("kind", "value", "same"),
    [
        ("email", "Bob@Mail.example", "bob@mail.example"),
        ("phone", "+49 30 1234567", "+49 (30) 123-4567"),
        ("iban", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
        ("card", "4111-1111-1111-1111", "4111111111111111"),
        ("ip", "2001:DB9::1234", "2001:db9::1234"),
        ("national_id", "457-55-5462", "457-55-5462"),
    ],
)
def test_a_stand_in_is_the_same_however_a_value_is_spelt(kind: str, value: str, same: str) -> None:
    one, other = stand_in(kind, value, "s"), stand_in(kind, same, "s")
    assert one.replace(" ", "").replace("-", "") == other.replace(" ", "").replace("-", "")
    assert STAND_IN.fullmatch(one) is not None
    assert stand_in(kind, value, "t") != one
    assert real(f"it is {one} now") == ()


def test_secrets_are_never_imitated() -> None:
    for row in ROWS:
        for span in row.spans:
            if span.kind in {"api_key", "token", "private_key", "password"}:
                text = pseudonymised(row.text[span.start : span.end], "s").text
                assert stand_in(span.kind, text, "s") == f"[{span.kind}]"


@settings(max_examples=20, deadline=None)
@given(many)
def test_after_redaction_nothing_is_found_and_doing_it_again_changes_nothing(
    said: list[str],
) -> None:
    frame = record_frame([record(text) for text in said])
    kept, dropped, _ = protect(frame, "redact")
    assert (kept.height, dropped.height) == (frame.height, 0)
    assert not any(map(find, texts(kept)))
    assert texts(kept) == [new for text in said for new in (redact(text).text, "Done.")]
    assert protect(kept, "redact").kept.equals(kept)


@settings(max_examples=20, deadline=None)
@given(many, salts)
def test_stand_ins_are_the_same_in_every_batch_and_stay(said: list[str], salt: str) -> None:
    frame = record_frame([record(text) for text in said])
    whole = protect(frame, "pseudonym", salt=salt)
    parts = [protect(frame[i], "pseudonym", salt=salt) for i in range(frame.height)]
    assert whole.kept.equals(pl.concat([part.kept for part in parts]))
    assert whole.counts["found"].sum() == sum(part.counts["found"].sum() for part in parts)
    assert personal_data(whole.kept).height == 0
    assert protect(whole.kept, "pseudonym", salt=salt).kept.equals(whole.kept)


@settings(max_examples=20, deadline=None)
@given(many)
def test_no_record_is_lost(said: list[str]) -> None:
    frame = record_frame([record(text) for text in said])
    kept, dropped, counts = protect(frame, "drop")
    assert kept.height + dropped.height == frame.height
    assert set(kept["record_id"]) | set(dropped["record_id"]) == set(frame["record_id"])
    assert not any(map(real, texts(kept)))
    assert (counts.height == 0) == (dropped.height == 0)


@settings(max_examples=80, deadline=None)
@given(many)
def test_columns_never_miss_what_is_found(said: list[str]) -> None:
    suspected = suspects(pl.Series(said, dtype=pl.String)).to_list()
    assert [text for text, may in zip(said, suspected, strict=True) if find(text) and not may] == []


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(shaped)).flatmap(shaped.__getitem__), st.sampled_from(["", *"a1 ="]))
@example("password\x1f= hunter22", "")
@example("0@0.0.AA", "")
@example("X-0000000A", "")
@example("secret =>   'abcdefgh12345678'", "")
@example("authorization \u00a0= bas\u0131c abcdef", "")
def test_columns_never_miss_what_a_rule_describes(text: str, before: str) -> None:
    text = (before + text).encode("utf-8", "replace").decode()
    assert suspects(pl.Series([text])).item() or find(text) == ()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_number_begins_and_is_as_its_rule_says(data: st.DataObject) -> None:
    at = data.draw(st.sampled_from([i for i, rule in enumerate(RULES) if not rule.needles]))
    match = RULES[at].pattern.search(data.draw(shaped[at]))
    if match:
        assert match[0][0] in RULES[at].first
        assert RULES[at].needs in match[0]
        digits = re.search("[0-9]{2}" if RULES[at].lettered else "[0-9]", match[0])
        assert digits is not None
        assert digits.start() in RULES[at].ahead


def test_columns_never_miss_what_is_labelled() -> None:
    said = [row.text for row in ROWS] + [
        row.text[s.start : s.end] for row in ROWS for s in row.spans
    ]
    suspected = suspects(pl.Series(said)).to_list()
    assert [text for text, may in zip(said, suspected, strict=True) if find(text) and not may] == []
    assert suspects(pl.Series(["Nothing to see here.", None, ""])).to_list() == [False] * 3


try:
    import spacy  # pyright: ignore[reportMissingImports]

    MODELS = spacy.util.get_installed_models()
except ImportError:
    MODELS = []


@pytest.mark.skipif(not MODELS, reason="no spaCy model is installed: names are not looked for")
def test_names_become_names() -> None:
    said = "My name is Angela Merkel and I live in Berlin. Write to angela@mail.example."
    frame = record_frame([record(said), record("Angela Merkel called about the invoice.")])
    redacted = protect(frame, "redact", names=True)
    assert texts(redacted.kept)[0] == "My name is [name] and I live in Berlin. Write to [email]."
    assert redacted.counts.filter(kind="name").row(0) == ("name", 2, 2)
    new = protect(frame, "pseudonym", names=True, salt="s").kept
    first, second = texts(new)[0], texts(new)[2]
    assert "Merkel" not in first
    assert second.removesuffix(" called about the invoice.") in first
    assert protect(new, "pseudonym", names=True, salt="s").kept.equals(new)


@pytest.mark.skipif(bool(MODELS), reason="a spaCy model is installed")
def test_names_without_a_model_say_what_to_install() -> None:
    with pytest.raises(InputError, match="spacy download en_core_web_sm"):
        protect(record_frame([record("Angela called.")]), "redact", names=True)
