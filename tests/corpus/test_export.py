import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from jsonschema import Draft202012Validator

from tracemill.corpus.chat import conversation
from tracemill.corpus.export import JSONL, hub_columns, json_lines
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Message, Record, pair, record_frame
from tracemill.errors import InputError

DATA = Path(os.environ.get("TRACEMILL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
SPEC = DATA / "specs" / "openai-openapi.json.gz"
WHEN = datetime(2024, 5, 6, tzinfo=UTC)
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = {"name": "find", "description": "Finds.", "parameters": SCHEMA}
TOOLS = json.dumps([{"type": "function", "function": TOOL}])


def calls(*arguments: str) -> str:
    tools = ({"name": "find", "arguments": text} for text in arguments)
    made = [{"id": f"c{n}", "type": "function", "function": tool} for n, tool in enumerate(tools)]
    return json.dumps(made)


HARD = 'ü "quoted" \\ \u2028 \x00 \n| 🙂'
PLAIN = [Message("user", HARD), Message("assistant", "Because.")]
STANDING = [
    Message("system", "Be brief."),
    *PLAIN,
    Message("user", "More"),
    Message("assistant", ""),
]
CALLING = [
    Message("system", "Be brief."),
    Message("user", "Where?"),
    Message("assistant", None, tool_calls=calls('{"q":"a"}', '{"q":"b"}')),
    Message("tool", "here", tool_call_id="c0"),
    Message("tool", "there", tool_call_id="c1"),
    Message("assistant", "Here and there."),
]
WEIGHED = [
    Message("user", "One", name="ann"),
    Message("assistant", "A", weight=0),
    Message("user", "Two"),
    Message("assistant", "B", weight=1),
]


def frame(*conversations: list[Message], tools: str | None = None) -> pl.DataFrame:
    return record_frame([Record(said, "o", f"s{n}", WHEN, tools) for n, said in
                         enumerate(conversations)])  # fmt: skip


def row(format: str, said: list[Message], tools: str | None = None) -> dict[str, Any]:
    return json.loads(json_lines(frame(said, tools=tools), format)[0])


def test_openai_has_what_its_fine_tuning_reads():
    assert row("openai", CALLING, TOOLS) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Where?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": json.loads(CALLING[2].tool_calls or ""),
            },
            {"role": "tool", "content": "here", "tool_call_id": "c0"},
            {"role": "tool", "content": "there", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Here and there."},
        ],
        "tools": json.loads(TOOLS),
    }
    assert row("openai", WEIGHED)["messages"] == [
        {"role": "user", "content": "One", "name": "ann"},
        {"role": "assistant", "content": "A", "weight": 0},
        {"role": "user", "content": "Two"},
        {"role": "assistant", "content": "B", "weight": 1},
    ]


def test_anthropic_has_system_on_top_and_results_in_one_turn():
    assert row("anthropic", CALLING, TOOLS) == {
        "system": "Be brief.",
        "tools": [{"name": "find", "description": "Finds.", "input_schema": SCHEMA}],
        "messages": [
            {"role": "user", "content": "Where?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": f"c{n}", "name": "find", "input": {"q": q}}
                    for n, q in enumerate("ab")
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c0", "content": "here"},
                    {"type": "tool_result", "tool_use_id": "c1", "content": "there"},
                ],
            },
            {"role": "assistant", "content": "Here and there."},
        ],
    }


def test_sharegpt_has_speakers_and_calls_as_text():
    found = row("sharegpt", CALLING, TOOLS)
    called = [{"name": "find", "arguments": {"q": q}} for q in "ab"]
    assert found == {
        "conversations": [
            {"from": "human", "value": "Where?"},
            {"from": "function_call", "value": json.dumps(called)},
            {"from": "observation", "value": "here"},
            {"from": "observation", "value": "there"},
            {"from": "gpt", "value": "Here and there."},
        ],
        "system": "Be brief.",
        "tools": json.dumps([TOOL]),
    }


@pytest.mark.parametrize("format", JSONL)
@pytest.mark.parametrize("said", [PLAIN, STANDING])
def test_columns_and_single_rows_make_the_same(format: str, said: list[Message]):
    """Tools of none leave the fast way for rows, and must say the same."""
    slow = json_lines(frame(said).with_columns(tools=pl.lit("[]")), format)[0]
    assert row(format, said) == json.loads(slow)


def test_rows_stay_in_their_order_when_they_take_two_ways():
    mixed = [PLAIN, CALLING, STANDING, WEIGHED, PLAIN]
    lines = json_lines(frame(*mixed), "openai")
    assert [json.loads(line) for line in lines] == [row("openai", said) for said in mixed]
    assert all("\n" not in line for line in lines)
    assert json_lines(frame(), "openai").to_list() == []


@pytest.mark.parametrize("format", ["openai", "anthropic"])
@pytest.mark.parametrize("said", [PLAIN, CALLING], ids=["plain", "calling"])
def test_what_is_written_is_read_again(format: str, said: list[Message]):
    read = conversation(row(format, said, TOOLS), Source(format="auto"))
    bare = [turn._replace(name=None, tool_calls=None) for turn in read.messages]
    assert bare == [turn._replace(tool_calls=None) for turn in said]
    for one, other in zip(read.messages, said, strict=True):
        assert json.loads(one.tool_calls or "[]") == [
            call | {"function": {"name": "find", "arguments": one_of}}
            for call, one_of in zip(
                json.loads(other.tool_calls or "[]"),
                [each["function"]["arguments"] for each in json.loads(one.tool_calls or "[]")],
                strict=True,
            )
        ]
    assert json.loads(read.tools or "") == json.loads(TOOLS)


def test_weights_and_speakers_come_back_from_openai_rows():
    assert list(conversation(row("openai", WEIGHED), Source()).messages) == WEIGHED


def test_sharegpt_texts_are_read_again():
    read = conversation(row("sharegpt", STANDING[:3]), Source())
    assert list(read.messages) == STANDING[:3]


def test_calls_that_are_no_json_are_named():
    broken = [*PLAIN[:1], Message("assistant", None, tool_calls="[{")]
    made = frame(broken)
    with pytest.raises(InputError, match=made["record_id"][0]):
        json_lines(made, "openai")


def test_arguments_that_are_no_object_are_kept_as_text():
    said = [*PLAIN[:1], Message("assistant", None, tool_calls=calls("not json"))]
    block = row("anthropic", said)["messages"][1]["content"][0]
    assert block["input"] == {"arguments": "not json"}


@pytest.mark.skipif(not SPEC.is_file(), reason=f"no published schemas in {SPEC.parent}")
def test_openai_rows_fulfil_the_published_schema():
    with gzip.open(SPEC) as file:
        components = json.load(file)["components"]

    def check(schema: str, body: Any) -> None:
        strict = {"$ref": f"#/components/schemas/{schema}", "unevaluatedProperties": False}
        Draft202012Validator(strict | {"components": components}).validate(body)

    for said in (PLAIN, STANDING, CALLING, WEIGHED):
        made = row("openai", said, TOOLS)
        assert set(made) == {"messages", "tools"}
        for tool in made["tools"]:
            check("ChatCompletionTool", tool)
        for turn in made["messages"]:
            kind = "ChatCompletionRequestMessage"
            if "weight" in turn:
                kind = "FineTuneChatCompletionRequestAssistantMessage"
            check(kind, {name: value for name, value in turn.items() if name != "content" or value})


def test_a_hub_gets_typed_calls_and_nobody_s_name():
    made = frame(CALLING, PLAIN).with_columns(user_id=pl.lit("ann"), call_id=pl.lit("c"))
    hub = hub_columns(made, {"role", "content", "tool_calls"})
    assert hub.columns == ["record_id", "messages", "tools", "origin", "label", "licence"]
    assert hub["messages"][0][2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": json.loads(CALLING[2].tool_calls or ""),
    }
    assert hub_columns(frame(list(pair("a", "b"))), ("role", "content"))["messages"].to_list() == [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ]
