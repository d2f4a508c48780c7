"""Every defect is named with line, path and mend; no content of a file raises."""

import gzip
import json
import os
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.corpus.validation import Report, lines, measure, validate
from tracemill.corpus.validation.rules import RULES
from tracemill.errors import UsageError

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
U: dict[str, Any] = {"role": "user", "content": "Why?"}
A: dict[str, Any] = {"role": "assistant", "content": "So."}
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "parameters": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
        },
    },
}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n": 1}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "42"}

Check = Callable[..., Report]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Validate bytes, or rows."""

    def run(content: bytes | list[Any], **options: Any) -> Report:
        file = tmp_path / "train.jsonl"
        if not isinstance(content, bytes):
            content = b"".join(json.dumps(row).encode() + b"\n" for row in content)
        file.write_bytes(content)
        return validate(file, **{"min_rows": 0, **options})

    return run


def told(report: Report) -> list[tuple[int | None, str, str]]:
    return [(issue.line, issue.code, issue.path) for issue in report.issues]


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def call(**changes: Any) -> dict[str, Any]:
    return {**CALLS, "tool_calls": [{**CALL, **changes}]}


def function(**changes: Any) -> dict[str, Any]:
    return call(function={**CALL["function"], **changes})  # type: ignore[dict-item]


def test_good_rows_of_every_kind_have_no_issue(check: Check):
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    rows = [
        chat(U, A),
        chat({"role": "system", "content": "Be brief."}, U, A, {**U, "name": "ada"}, A),
        chat(U, {**A, "weight": 0}, {**U, "content": "And?"}, {**A, "weight": 1}),
        chat(U, CALLS, RESULT, A, tools=[TOOL], parallel_tool_calls=False),
        chat(U, CALLS, tools=[TOOL]),
        chat({"role": "developer", "content": "Look."}, {"role": "user", "content": parts}, A),
    ]
    report = check(rows)
    assert (report.issues, report.ok, report.shape, report.rows) == ((), True, "chat", 6)


ROWS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "no known field": ({"text": "a"}, [("unknown_shape", "")]),
    "messages as a string": ({"messages": "hi"}, [("wrong_type", "messages")]),
    "messages null": ({"messages": None}, [("missing", "messages")]),
    "no message": (chat(), [("empty", "messages")]),
    "a message that is a string": (chat(U, "x", A), [("wrong_type", "messages[1]")]),
    "an extra field": (chat(U, A, id=1), [("extra_field", "id")]),
    "a field that messages lack": (
        chat({**U, "text": "x"}, A),
        [("unknown_field", "messages[0].text")],
    ),
    "no role": (chat(U, {"content": "x"}, A), [("missing", "messages[1].role")]),
    "an unknown role": (
        chat(U, {"role": "human", "content": "x"}, A),
        [("bad_role", "messages[1].role")],
    ),
    "no user": (chat(A), [("no_user", "messages")]),
    "no answer": (chat(U), [("no_answer", "messages[0]")]),
    "a late system message": (
        chat(U, {"role": "system", "content": "x"}, A),
        [("late_system", "messages[1]")],
    ),
    "two users in a row": (chat(U, {**U, "content": "?"}, A), [("same_speaker", "messages[1]")]),
    "no content": (chat({"role": "user"}, A), [("missing", "messages[0].content")]),
    "null content": (
        chat(U, {**A, "content": None}),
        [("null_content", "messages[1].content")],
    ),
    "blanks": (chat({**U, "content": " \n"}, A), [("blank", "messages[0].content")]),
    "a number as content": (chat({**U, "content": 5}, A), [("wrong_type", "messages[0].content")]),
    "no parts": (chat({**U, "content": []}, A), [("empty", "messages[0].content")]),
    "a part that is a string": (
        chat({**U, "content": ["x"]}, A),
        [("wrong_type", "messages[0].content[0]")],
    ),
    "a part of sound": (
        chat({**U, "content": [{"type": "input_audio"}]}, A),
        [("bad_part", "messages[0].content[0].type")],
    ),
    "a text part without text": (
        chat({**U, "content": [{"type": "text"}]}, A),
        [("wrong_type", "messages[0].content[0].text")],
    ),
    "a picture by a path": (
        chat({**U, "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}, A),
        [("bad_part", "messages[0].content[0].image_url")],
    ),
    "a name with blanks": (chat({**U, "name": "a b"}, A), [("bad_name", "messages[0].name")]),
    "half a weight": (chat(U, {**A, "weight": 0.5}), [("bad_weight", "messages[1].weight")]),
    "true as weight": (chat(U, {**A, "weight": True}), [("bad_weight", "messages[1].weight")]),
    "a weight of a user": (chat({**U, "weight": 1}, A), [("bad_weight", "messages[0].weight")]),
    "nothing learned": (chat(U, {**A, "weight": 0}), [("nothing_learned", "messages")]),
    "a call without result": (
        chat(U, CALLS, A, tools=[TOOL]),
        [("no_result", "messages[1].tool_calls[0]")],
    ),
    "a result without call": (
        chat(U, RESULT, A),
        [("no_call", "messages[1].tool_call_id")],
    ),
    "a result of another call": (
        chat(U, CALLS, {**RESULT, "tool_call_id": "b"}, A, tools=[TOOL]),
        [
            ("no_call", "messages[2].tool_call_id"),
            ("no_result", "messages[1].tool_calls[0]"),
        ],
    ),
    "a second result": (
        chat(U, CALLS, RESULT, RESULT, A, tools=[TOOL]),
        [("no_call", "messages[3].tool_call_id")],
    ),
    "an id of two calls": (
        chat(U, CALLS, RESULT, CALLS, tools=[TOOL]),
        [("double_id", "messages[3].tool_calls[0].id")],
    ),
    "a call of a user": (
        chat({**U, "tool_calls": [CALL]}, A, tools=[TOOL]),
        [
            ("bad_call", "messages[0].tool_calls"),
            ("no_result", "messages[0].tool_calls[0]"),
        ],
    ),
    "arguments that are no JSON": (
        chat(U, function(arguments="{"), tools=[TOOL]),
        [("bad_arguments", "messages[1].tool_calls[0].function.arguments")],
    ),
    "arguments as an object": (
        chat(U, function(arguments={"n": 1}), tools=[TOOL]),
        [("bad_arguments", "messages[1].tool_calls[0].function.arguments")],
    ),
    "arguments as a list": (
        chat(U, function(arguments="[1]"), tools=[TOOL]),
        [("bad_arguments", "messages[1].tool_calls[0].function.arguments")],
    ),
    "arguments that break the schema": (
        chat(U, function(arguments='{"n": "one"}'), tools=[TOOL]),
        [("unfit_arguments", "messages[1].tool_calls[0].function.arguments")],
    ),
    "a tool that is not defined": (
        chat(U, function(name="g"), tools=[TOOL]),
        [("unknown_tool", "messages[1].tool_calls[0].function.name")],
    ),
    "no calls": (
        chat(U, {**A, "tool_calls": []}),
        [("bad_call", "messages[1].tool_calls")],
    ),
    "a tool without function": (chat(U, A, tools=[{"type": "f"}]), [("bad_tool", "tools[0]")]),
    "parameters that are no schema": (
        chat(
            U, A, tools=[{"type": "function", "function": {"name": "g", "parameters": {"type": 1}}}]
        ),
        [("bad_schema", "tools[0].function.parameters.type")],
    ),
    "functions": (chat(U, A, functions=[]), [("old_form", "functions")]),
    "a sharegpt row": (
        {"conversations": [{"from": "human", "value": ""}, {"from": "god", "value": "x"}]},
        [
            ("bad_role", "conversations[1].from"),
            ("blank", "conversations[0].value"),
            ("no_answer", "conversations[1]"),
        ],
    ),
    "an alpaca row": ({"instruction": "Do.", "output": None}, [("wrong_type", "output")]),
    "a pair": ({"question": " ", "answer": "x"}, [("blank", "question")]),
    "a completion": ({"prompt": "a", "completion": 3}, [("wrong_type", "completion")]),
    "a preference": (
        {
            "input": {"messages": [U]},
            "preferred_output": [A],
            "non_preferred_output": [A],
        },
        [("same_outputs", "preferred_output")],
    ),
    "a preference without answer": (
        {"input": {"messages": [U]}, "preferred_output": [{"role": "user", "content": "x"}]},
        [
            ("missing", "non_preferred_output"),
            ("no_answer", "preferred_output[0]"),
            ("same_speaker", "preferred_output[0]"),
        ],
    ),
    "a chosen and a rejected text": (
        {"prompt": "a", "chosen": "", "rejected": "b"},
        [("blank", "chosen")],
    ),
    "a row of Anthropic": (
        {
            "system": 3,
            "messages": [
                U,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "u"}]},
                A,
            ],
        },
        [
            ("bad_call", "messages[1].content[0]"),
            ("no_call", "messages[2].content[0].tool_use_id"),
            ("wrong_type", "system"),
        ],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_defect_is_named_where_it_is(name: str, check: Check):
    row, expected = ROWS[name]
    assert told(check([row])) == [(1, code, path) for code, path in expected]


BYTES: dict[str, tuple[bytes, list[tuple[int | None, str]]]] = {
    "a list": (b"[1, 2]", [(None, "no_rows"), (1, "not_object")]),
    "nothing": (b"", [(None, "no_rows")]),
    "a BOM": (b'\xef\xbb\xbf{"question": "a", "answer": "b"}', [(1, "bom")]),
    "a blank line": (b'\n{"question": "a", "answer": "b"}\n', [(1, "blank_line")]),
    "windows lines": (b'{"question": "a", "answer": "b"}\r\n', []),
    "latin-1": (b'{"question": "caf\xe9", "answer": "b"}', [(None, "no_rows"), (1, "not_utf8")]),
    "half a row": (b'{"question": "a"', [(None, "no_rows"), (1, "not_json")]),
    "NaN": (b'{"question": NaN}', [(None, "no_rows"), (1, "not_json")]),
    "too large a number": (
        b'{"question": "a", "answer": 1e999}',
        [(1, "number"), (1, "wrong_type")],
    ),
    "a surrogate": (b'{"question": "\\ud800"}', [(None, "no_rows"), (1, "not_json")]),
    "depth": (b'{"a":' * 100_000, [(None, "no_rows"), (1, "not_json")]),
    "digits": (b'{"a":' + b"9" * 100_000 + b"}", [(None, "no_rows"), (1, "not_json")]),
    "a field twice": (
        b'{"question": "a", "answer": "b", "question": "\\"c\\\\"}',
        [(1, "double_field")],
    ),
}


@pytest.mark.parametrize("name", BYTES)
def test_what_bytes_hold_is_told_and_never_raises(name: str, check: Check):
    content, expected = BYTES[name]
    assert [issue[:2] for issue in check(content).issues] == expected


def test_a_line_beyond_all_measure_is_skipped(check: Check, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "LONGEST", 100)
    good = json.dumps({"question": "a", "answer": "b"}).encode() + b"\n"
    report = check(good + b'{"question": "' + b"x" * 1_000 + b'"}\n' + good)
    assert told(report) == [(2, "long_line", ""), (3, "duplicate", "")]
    assert (report.lines, report.rows) == (3, 2)


def test_a_packed_file_is_read_and_a_torn_one_is_told(tmp_path: Path):
    row = (json.dumps(chat(U, A)) + "\n").encode()
    rows = b"".join(row.replace(b"Why", str(n).encode()) for n in range(2_000))
    file = tmp_path / "train.jsonl.gz"
    file.write_bytes(gzip.compress(rows))
    report = validate(file)
    assert (report.ok, report.rows) == (True, 2_000)
    file.write_bytes(gzip.compress(rows)[:-30])
    assert "broken_file" in {group.code for group in validate(file).groups}
    with pytest.raises(UsageError, match=r"none\.jsonl is no file"):
        validate(tmp_path / "none.jsonl")


def test_copies_are_counted_by_content_whatever_the_order_of_keys(check: Check):
    swapped = {"messages": [dict(reversed(U.items())), A]}
    other = chat(U, {**A, "content": "Because."})
    report = check([chat(U, A, id=1), swapped, chat(U, A), other, other])
    issues = [issue for issue in report.issues if issue.code != "extra_field"]
    assert [(issue.line, issue.code, issue.message) for issue in issues] == [
        (2, "duplicate", "is the row of line 1"),
        (3, "duplicate", "is the row of line 1"),
        (4, "conflict", "asks as line 1"),
        (5, "duplicate", "is the row of line 4"),
    ]


def test_rows_of_several_layouts_and_too_few_are_errors(check: Check):
    report = check([chat(U, A), {"question": "a", "answer": "b"}], min_rows=10)
    assert told(report) == [(None, "few_rows", ""), (2, "mixed_shapes", "")]


def test_rows_of_plain_texts_are_of_the_layout_of_their_neighbours(check: Check):
    tool = {"name": "look", "input_schema": {"type": "object"}}
    plain, system, tools = chat(U, A), chat(U, A, system="Be brief."), chat(U, A, tools=[tool])
    for rows in ([plain, system, tools, plain], [system, plain], [tools, plain, system]):
        report = check(rows)
        assert report.shape == "anthropic"
        assert {code for _, code, _ in told(report)} <= {"duplicate", "conflict"}
    named = chat({**U, "name": "bob"}, A)
    for rows in ([named, system], [plain, named, system], [system, plain, named]):
        assert "mixed_shapes" in {code for _, code, _ in told(check(rows))}


def test_of_many_issues_the_first_are_kept_and_all_are_counted(check: Check):
    rows = [chat(U)] * 250
    report = check(rows, keep=100)
    assert {g.code: (g.count, len(g.issues)) for g in report.groups} == {
        "no_answer": (250, 100),
        "duplicate": (249, 100),
    }
    assert (report.errors, report.warnings) == (250, 249)
    assert [len(g.issues) for g in check(rows, keep=None).groups] == [250, 249]


def test_a_model_gives_limit_price_and_tokenizer(check: Check):
    pytest.importorskip("quicktok", reason="the extra `tokens`")
    rows = [chat({**U, "content": f"{n} why?"}, A) for n in range(20)]
    rows.append(chat({**U, "content": "word " * 70_000}, A))
    report = check(rows, model="gpt-4.1-mini-2025-04-14", epochs=2)
    assert [(i.line, i.code) for i in report.issues] == [(21, "too_long")]
    assert report.lengths is not None
    assert report.cost is not None
    assert (report.lengths.tokenizer, report.lengths.counted) == ("o200k_base", 21)
    assert report.cost.tokens == 2 * report.lengths.total
    assert report.cost.usd == (Decimal(5) * report.cost.tokens / 1_000_000).quantize(
        Decimal("0.01")
    )
    assert [i.code for i in check(rows, model="gpt-9").issues] == ["not_priced"]
    pairs = [{"question": f"{n}?", "answer": "b"} for n in range(3)]
    assert "other_shape" in {i.code for i in check(pairs, model="gpt-4.1").issues}


def test_lengths_of_a_large_file_come_from_an_even_sample(
    check: Check, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measure, "SAMPLE", 64)
    rows = [chat({**U, "content": f"{n} " + "why " * (n % 50)}, A) for n in range(1_000)]
    exact = check(rows[:64]).lengths
    report = check(rows).lengths
    assert exact is not None
    assert report is not None
    assert (exact.counted, report.counted, report.rows) == (64, 63, 1_000)
    monkeypatch.setattr(measure, "SAMPLE", 2_000)
    whole = check(rows).lengths
    assert whole is not None
    assert report.total == pytest.approx(whole.total, rel=0.05)
    assert sum(count for _, _, count in whole.histogram) == 1_000
    assert report.most == whole.most


def test_labels_that_lean_to_one_side_are_told(check: Check):
    def row(n: int) -> dict[str, Any]:
        return chat({**U, "content": f"{n}?"}, {**A, "content": "yes" if n % 10 else "no"})

    report = check([row(n) for n in range(100)])
    assert report.answers == {"yes": 90, "no": 10}
    assert [issue.code for issue in report.issues] == ["imbalance"]


PERSONAL = (
    "jane.roe@example.com",
    "+49 30 901820",
    "DE89 3704 0044 0532 0130 00",
    "4111 1111 1111 1111",
    "8.8.8.8",
    "2001:db8::ff00:42:8329",
    "sk-abcdefghijklmnopqrstuvwx0123",
    "password: hunter2hunter",
    "api_key = 9f8e7d6c5b4a39281706",
    "https://joe:s3cret99@example.com",
    "Authorization: Bearer abcdef0123456789abcdef",
)


def test_personal_data_is_told_by_kind_and_line_and_never_repeated(check: Check):
    rows = [chat(U, {**A, "content": f"Ask {mail}"}) for mail in PERSONAL[:2]]
    report = check([chat({**U, "content": "Who?"}, A), *rows])
    found = [i for i in report.issues if i.code == "personal"]
    assert [(i.line, i.message) for i in found] == [(2, "email"), (3, "phone")]
    assert report.personal == {"email": 1, "phone": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("role", "content", "tool_calls", "tool_call_id", "name", "weight", "type"), inner
            ),
        )
        | st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("id", "function", "arguments", "text", "image_url"), inner)
        )
    ),
    max_leaves=12,
)
FIELDS = (
    *("messages", "tools", "system", "conversations", "instruction", "output", "prompt"),
    *("completion", "chosen", "rejected", "input", "preferred_output", "non_preferred_output"),
    *("question", "answer", "parallel_tool_calls", "functions"),
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "human"])
TURN = st.fixed_dictionaries({}, optional={"role": ROLES | JSON, "content": JSON, "from": ROLES,
    "value": JSON, "tool_calls": st.lists(st.just(CALL) | JSON, max_size=2), "tool_call_id": JSON,
    "weight": JSON, "name": JSON})  # fmt: skip
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, st.lists(TURN, max_size=4) | JSON))


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(ROW | JSON, max_size=4))
def test_no_json_raises(check: Check, rows: list[Any]):
    report = check(rows, model="gpt-4.1", tokenizer="default")
    assert report.lines == len(rows)
    assert {issue.code for issue in report.issues} <= set(RULES)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.lists(st.binary(max_size=40)).map(b"\n".join))
def test_no_bytes_raise(check: Check, content: bytes):
    report = check(content)
    packed = content.startswith(b"\x1f\x8b")
    assert packed or report.lines == content.count(b"\n") + bool(content.rpartition(b"\n")[2])


def test_a_poisoned_file_is_told_line_by_line(check: Check):
    """Ten thousand good rows, each hurt in one byte: all lines are accounted for."""
    chance = random.Random(7)
    poisoned = []
    for n in range(10_000):
        row = bytearray(json.dumps(chat({**U, "content": f"{n}: Grüße?"}, A)).encode())
        row[chance.randrange(len(row))] = chance.choice([0, 9, 34, 92, 123, 125, 0x80, 0xC3, 0xFF])
        poisoned.append(bytes(row))
    report = check(b"\n".join(poisoned), keep=None)
    broken = {i.line for i in report.issues if i.code in ("not_json", "not_utf8", "not_object")}
    assert (report.lines, report.rows + len(broken)) == (10_000, 10_000)


@pytest.mark.skipif(not (DATA / "sgd").is_dir(), reason=f"no dialogues in {DATA / 'sgd'}")
def test_real_dialogues_have_the_two_errors_that_are_in_them():
    """Two of 17,193 end with an answer of no letters; OpenAI refuses such rows."""
    report = validate(DATA / "sgd" / "records.jsonl.gz")
    assert (report.shape, report.rows) == ("chat", 17_193)
    errors = {(i.line, i.code, i.path) for i in report.issues if RULES[i.code].level == "error"}
    assert errors == {
        (14_584, "blank", "messages[15].content"),
        (14_922, "blank", "messages[11].content"),
    }


def test_the_rules_say_how_each_is_mended():
    assert all(rule.what and rule.mend for rule in RULES.values())


def test_stand_ins_are_nobodys_data(check: Check):
    report = check(
        [chat({**U, "content": "Write to person-3f9a01c2@example.com, not to x@y.org."}, A)]
    )
    assert report.personal == {"email": 1}
