"""The name of a request in the cache, and which answers may be given again."""

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.cache.caller import answered
from tracemill.errors import CallFailed
from tracemill.llm.cache import key, storable
from tracemill.llm.cache.answers import NOT_IN_KEY
from tracemill.messages import Image, Message, Reasoning, Request, Text, Tool, ToolCall, Usage

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
FULL: dict[str, Any] = {
    "model": "openai/gpt-6",
    "messages": (Message(role="user", content="is it?"),),
    "system": "be brief",
    "tools": (Tool(name="look", parameters=SCHEMA),),
    "tool_choice": "auto",
    "response_schema": SCHEMA,
    "max_output_tokens": 10,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop": ("\n",),
    "seed": 1,
    "logprobs": 2,
    "reasoning_effort": "low",
    "service_tier": "flex",
    "prompt_cache": "5m",
    "extra": {"presence_penalty": 1},
    "metadata": {"a": "b"},
    "conversation_id": "c",
    "user_id": "u",
    "key_id": "k",
    "prompt_name": "p",
    "prompt_version": "1",
    "stream": False,
}
OTHER: dict[str, Any] = {
    "model": "openai/gpt-7",
    "messages": (Message(role="user", content="is it not?"),),
    "system": None,
    "tools": (Tool(name="look", description="see", parameters=SCHEMA),),
    "tool_choice": "none",
    "response_schema": None,
    "max_output_tokens": None,
    "temperature": 0.0,
    "top_p": None,
    "top_k": 6,
    "stop": ("\n", "."),
    "seed": 0,
    "logprobs": 0,
    "reasoning_effort": "none",
    "service_tier": None,
    "prompt_cache": "1h",
    "extra": {},
    "metadata": {},
    "conversation_id": "d",
    "user_id": "v",
    "key_id": "l",
    "prompt_name": None,
    "prompt_version": "2",
    "stream": True,
}


def test_every_field_of_a_request_is_tried_here() -> None:
    assert set(FULL) == set(OTHER) == set(Request.model_fields)
    assert set(Request.model_fields) > NOT_IN_KEY


@pytest.mark.parametrize("field", sorted(FULL))
def test_the_key_has_every_field_that_can_change_the_answer(field: str) -> None:
    same = key(Request(**FULL)) == key(Request(**{**FULL, field: OTHER[field]}))
    assert same == (field in NOT_IN_KEY)


def test_a_key_is_a_name_for_files_and_servers() -> None:
    assert len(key(Request.of("hi"))) == 64
    int(key(Request.of("hi")), 16)


def test_the_same_model_at_another_place_is_another() -> None:
    request = Request.of("hi")
    keys = {key(request), key(request, "http://a/v1"), key(request, "http://b/v1")}
    assert len(keys) == 3


def test_what_stands_beside_each_other_does_not_run_together() -> None:
    assert key(Request.of("b:c", model="a/x")) != key(Request.of("c", model="a/x:b"))
    assert key(Request.of("hi", stop=("a", "b"))) != key(Request.of("hi", stop=("ab",)))
    assert key(Request.of("hi", system="yo")) != key(Request.of("yohi"))


def test_text_is_text_however_it_is_written() -> None:
    plain = Request.of("hi")
    parts = plain.model_copy(
        update={"messages": (Message(role="user", content=(Text(content="hi"),)),)}
    )
    assert key(plain) == key(parts)


def test_what_lies_where_counts() -> None:
    def of(*parts: Any) -> str:
        return key(Request(model="a/b", messages=(Message(role="user", content=parts),)))

    image = Image(uri="data:image/png;base64,AAAA")
    different = [
        of(Text(content="a b")),
        of(Text(content="a "), Text(content="b")),
        of(Text(content="a"), Text(content=" b")),
        of(Text(content="a b"), image),
        of(image, Text(content="a b")),
        of(Text(content="a b"), Image(uri="data:image/png;base64,AAAB")),
    ]
    assert len(set(different)) == len(different)


def test_the_order_of_a_schema_counts_because_answers_follow_it() -> None:
    turned = {"type": "object", "properties": dict(reversed(SCHEMA["properties"].items()))}  # type: ignore
    assert turned == SCHEMA
    one = Request.of("hi", response_schema=SCHEMA)
    assert key(one) != key(Request.of("hi", response_schema=turned))


def test_a_key_is_the_same_in_every_process() -> None:
    program = (
        "from tracemill.messages import Request; from tracemill.llm.cache import key\n"
        "print(key(Request.of('hi', metadata={'a': 'b'}, stop=('x',), temperature=1)))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {key(Request.of("hi", stop=("x",), temperature=1.0))}


fields = st.sets(st.sampled_from(sorted(FULL)))


@given(fields, fields)
def test_two_requests_share_a_key_if_and_only_if_they_ask_the_same(
    one: set[str], other: set[str]
) -> None:
    first, second = (
        Request(**{**FULL, **{name: OTHER[name] for name in changed}}) for changed in (one, other)
    )
    assert (key(first) == key(second)) == (one - NOT_IN_KEY == other - NOT_IN_KEY)
    assert key(Request.model_validate_json(first.model_dump_json())) == key(first)


def test_letters_that_utf_8_does_not_know_have_a_key() -> None:
    assert key(Request.of("\ud800")) != key(Request.of("\ud801"))


@pytest.mark.parametrize("odd", [{"default": {1, 2}}, {"default": object()}])
def test_a_schema_that_is_not_json_is_refused_in_a_sentence(odd: Any) -> None:
    with pytest.raises(CallFailed, match="schema of the request is not JSON") as caught:
        key(Request.of("hi", tools=(Tool(name="look", parameters=odd),)))
    assert caught.value.error_type == "invalid_request"


CALL = ToolCall(id="1", name="look", arguments="{}")


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"finish_reasons": ("tool_call",), "content": (CALL,)}, True),
        ({"finish_reasons": ("stop", "stop")}, True),
        ({"content": (Reasoning(content="hm"), Text(content="yes"))}, True),
        ({"content": (Image(uri="https://a/b.png"),)}, True),
        *(
            ({"finish_reasons": ("stop", reason)}, False)
            for reason in ("length", "content_filter", "refusal", "pause", "error", "other")
        ),
        ({"finish_reasons": ("context_window",)}, False),
        ({"finish_reasons": ()}, False),
        ({"content": ""}, False),
        ({"content": " \n"}, False),
        ({"content": ()}, False),
        ({"content": (Reasoning(content="hm"),)}, False),
        ({"refusal": "no"}, False),
        ({"refusal": ""}, False),
        ({"usage": Usage(estimated=True)}, False),
    ],
)
def test_which_answers_may_be_given_again(changes: dict[str, Any], may: bool) -> None:
    assert storable(answered(**changes)) is may
