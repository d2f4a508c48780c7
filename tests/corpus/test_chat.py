"""Layouts that people use for conversations, and what of them is refused."""

import json
from typing import Any

import pytest

from tracemill.corpus.chat import conversation
from tracemill.corpus.recipe import Source
from tracemill.corpus.records import Message
from tracemill.errors import InputError

U, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}
ASKED, ANSWERED = Message("user", "Q"), Message("assistant", "A")
CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


def said(row: dict[str, Any], **recipe: Any) -> tuple[Message, ...]:
    return conversation(row, Source(**recipe)).messages


def called(calls: list[dict[str, Any]]) -> Message:
    return Message("assistant", None, None, json.dumps(calls, separators=(",", ":")))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [U, A]},
        {"messages": [U, A, {"role": "user", "content": "thanks"}]},
        {
            "messages": [
                U,
                A,
                {"role": "user", "content": "and?"},
                {"role": "assistant", "content": ""},
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]}, A]},
        {"messages": json.dumps([U, A])},
        {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
        {"conversation": [{"from": "user", "value": "Q"}, {"from": "bot", "value": "A"}]},
        {"instruction": "Q", "input": "", "output": "A"},
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": [U], "completion": [A]},
        {"user_query": "Q", "assistant_response": "A", "context": " "},
        {"Question": "Q", "Answer": "A"} | {"question": "Q", "answer": "A"},
    ],
)
def test_every_layout_says_the_same(row: dict[str, Any]):
    assert said(row) == (ASKED, ANSWERED)


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "It is "}, {"type": "text", "text": "red."}]
    assert (
        said({"messages": [U, {"role": "assistant", "content": parts}]})[1].content == "It is red."
    )


def test_weight_name_and_system_are_kept():
    row = {
        "messages": [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Q", "name": "ann"},
            {**A, "weight": 0},
            U,
            {**A, "weight": 1},
        ],
        "system": "Be brief.",
        "parallel_tool_calls": True,
    }
    assert said(row) == (
        Message("system", "Be brief."),
        Message("developer", "Be kind."),
        Message("user", "Q", "ann"),
        Message("assistant", "A", weight=0),
        ASKED,
        Message("assistant", "A", weight=1),
    )


def test_calls_of_tools_in_openais_form():
    look = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    row = {
        "messages": [
            U,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "t1", "content": "red"},
            A,
        ],
        "tools": [look],
    }
    found = conversation(row, Source())
    result = Message("tool", "red", tool_call_id="t1")
    assert found.messages == (ASKED, called([CALL]), result, ANSWERED)
    assert json.loads(found.tools or "") == [look]


def test_calls_of_tools_in_the_older_form():
    row = {
        "messages": [
            U,
            {"role": "assistant", "content": "", "function_call": CALL["function"]},
            {"role": "function", "name": "look", "content": "red"},
            A,
        ],
        "functions": [{"name": "look"}],
    }
    found = conversation(row, Source())
    result = Message("tool", "red", "look", None, "call_2_1")
    assert found.messages == (ASKED, called([{**CALL, "id": "call_2_1"}]), result, ANSWERED)
    assert json.loads(found.tools or "") == [{"type": "function", "function": {"name": "look"}}]


def test_calls_of_tools_in_anthropics_form():
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "text", "text": "red"}],
    }
    row = {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            U,
            {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]},
            {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
            A,
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    }
    found = conversation(row, Source())
    function = {"name": "look", "arguments": '{"at":1}'}
    assert found.messages == (
        Message("system", "Be brief."),
        ASKED,
        called([{**CALL, "function": function}])._replace(content="I look."),
        Message("tool", "red", tool_call_id="t1"),
        Message("user", "Well?"),
        ANSWERED,
    )
    defined = {"name": "look", "parameters": {"type": "object"}}
    assert json.loads(found.tools or "") == [{"type": "function", "function": defined}]


def test_calls_of_tools_in_sharegpts_form():
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Q"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"at": 1}}'},
        {"from": "observation", "value": "red"},
        {"from": "gpt", "value": "A"},
    ]
    found = conversation({"conversations": turns, "tools": '[{"name": "look"}]'}, Source())
    function = {"name": "look", "arguments": '{"at":1}'}
    assert found.messages == (
        Message("system", "Be brief."),
        ASKED,
        called([{"id": "call_3_1", "type": "function", "function": function}]),
        Message("tool", "red", tool_call_id="call_3_1"),
        ANSWERED,
    )


def test_results_without_an_id_belong_to_the_calls_in_turn():
    calls = [{**CALL, "id": id} for id in ("a", "b")]
    turns = [
        U,
        {"role": "assistant", "tool_calls": calls},
        *[{"role": "tool", "content": "r"}] * 2,
        A,
    ]
    assert [each.tool_call_id for each in said({"messages": turns})] == [None, None, "a", "b", None]


def test_the_context_of_a_pair_stands_before_and_the_input_of_alpaca_behind():
    row = {"instruction": "Q", "input": "C", "output": "A"}
    assert said(row) == (Message("user", "Q\n\nC"), ANSWERED)
    assert said(row, format="pairs") == (Message("user", "C\n\nQ"), ANSWERED)
    assert said({"question": "Q", "context": "C", "answer": "A"}) == (
        Message("user", "C\n\nQ"),
        ANSWERED,
    )


def test_the_history_of_alpaca_comes_first():
    row = {"instruction": "Q", "output": "A", "history": [["q1", "a1"]], "system": "S"}
    earlier = (Message("system", "S"), Message("user", "q1"), Message("assistant", "a1"))
    assert said(row) == (*earlier, ASKED, ANSWERED)


def test_columns_of_a_recipe_reach_into_objects_and_lists():
    row = {"q": {"text": "Q"}, "answers": {"text": ["A", "B"]}, "question": "no"}
    columns = {"user_query": "q.text", "assistant_response": "answers.text.0"}
    assert said(row, columns=columns) == (ASKED, ANSWERED)
    assert said({"dialog": {"turns": [U, A]}}, columns={"messages": "dialog.turns"}) == (
        ASKED,
        ANSWERED,
    )


def test_a_format_decides_where_several_fit():
    row = {"messages": [U, A], "prompt": "P", "completion": "C"}
    assert said(row) == (ASKED, ANSWERED)
    assert said(row, format="pairs") == (Message("user", "P"), Message("assistant", "C"))


ROLES = "system, developer, user, assistant, tool, human, gpt, chatgpt, bot, model, function_call"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (
            [U, A, {"role": "narrator", "content": "x"}, A],
            "message 3: role 'narrator' is not one of ",
        ),
        ([U, {"content": "A"}, A], "message 2: role is missing"),
        ([U, "hello", A], "message 2 is text, not an object with role and content"),
        ([U], "no message of an assistant: nothing to learn from"),
        ([], "no message of an assistant: nothing to learn from"),
        ({"role": "user"}, "messages is an object, not a list"),
        ([{"role": "user", "content": " "}, A], "message 1: content is empty"),
        ([{"role": "user", "content": None}, A], "message 1: content is null"),
        ([{"role": "user", "content": 3}, A], "message 1: content is a number, not text"),
        (
            [
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]},
                A,
            ],
            "message 1, part 2 is 'image_url': only text can be trained on",
        ),
        (
            [{"role": "user", "content": "\ud800"}, A],
            "message 1: content is not valid Unicode: not UTF-8, or half of a surrogate pair",
        ),
        ([U, {**A, "weight": 0.5}], "message 2: weight is 0.5, not 0 or 1"),
        ([{**U, "name": 3}, A], "message 1: name is a number, not text"),
        (
            [
                U,
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{a"}}],
                },
            ],
            "message 2, tool call 1: arguments is not JSON: ",
        ),
        (
            [
                U,
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}],
                },
            ],
            "message 2, tool call 1: arguments is a list, not a JSON object",
        ),
        (
            [U, {"role": "assistant", "tool_calls": [{}]}],
            "message 2, tool call 1: name is null, not text",
        ),
        (
            [U, {"role": "assistant", "tool_calls": "f()"}],
            "message 2: tool_calls is text, not a list",
        ),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_refused_with_the_place(turns: Any, reason: str):
    with pytest.raises(InputError) as refused:
        said({"messages": turns})
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("row", "recipe", "reason"),
    [
        ({}, "auto", "no user_query (known as user_query, prompt, instruction, question)"),
        ({"prompt": "Q", "chosen": [A]}, "auto", "assistant_response is a list, not text"),
        ({"prompt": "Q", "completion": "A"}, "chat", "no messages (known as messages)"),
        ({"messages": [U, A]}, "alpaca", "no user_query (known as instruction)"),
        ({"messages": [U, A], "tools": {"a": 1}}, "auto", "tools is an object, not a list"),
        ({"messages": [U, A], "tools": [{}]}, "auto", "tool 1: name is null, not text"),
        (
            {"instruction": "Q", "output": "A", "history": "x"},
            "auto",
            "history is not a list of question and answer",
        ),
        (
            {"messages": "[oops"},
            "auto",
            "messages is not JSON: Expecting value: line 1 column 2 (char 1)",
        ),
    ],
)
def test_a_row_of_another_layout_says_what_is_missing(
    row: dict[str, Any], recipe: Any, reason: str
):
    with pytest.raises(InputError) as refused:
        said(row, format=recipe)
    assert str(refused.value) == reason


def test_nesting_without_end_is_no_crash():
    deep: Any = "A"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InputError, match="message 1, part 1"):
        said({"messages": [{"role": "assistant", "content": deep}]})
    with pytest.raises(InputError, match="nested too deep"):
        said({"messages": "[" * 100_000})
