"""Calls that were made and judged become records; the log and the provider are real ones."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tracemill.corpus import logged
from tracemill.corpus.records import Batch
from tracemill.events import FeedbackGiven, LlmCallCached, LlmCallFinished, LlmCallStarted, new_id
from tracemill.llm.client import Client
from tracemill.log import EventLog
from tracemill.messages import (
    Image,
    Message,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
)

MODEL: dict[str, Any] = {"provider": "openai", "request_model": "gpt-5"}
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def taken(log: EventLog) -> Batch:
    return logged.from_calls(log.sql(logged.CALLS), log.sql(logged.JUDGEMENTS))


def judged(call_id: str, *scores: float) -> list[FeedbackGiven]:
    return [FeedbackGiven(call_id=call_id, score=score) for score in scores]


def a_call(
    content: Any, *messages: Message, call_id: str | None = None, finish: str = "stop", **asked: Any
) -> list[Any]:
    call_id = call_id or new_id()
    same: dict[str, Any] = {**MODEL, "call_id": call_id, "occurred_at": NOON}
    done: dict[str, Any] = {"content": content, "finish_reasons": (finish,), "usage": Usage()}
    return [
        LlmCallStarted(messages=messages or (Message(role="user", content="Q?"),), **same, **asked),
        LlmCallFinished(response_model="gpt-5", latency_ms=1, **done, **same),
        *judged(call_id, 1),
    ]


def test_a_judged_call_is_a_record_with_its_call_as_lineage(log: EventLog):
    client = Client(log)
    request = Request.of(
        "say it", model="local/echo", system="Be brief.", conversation_id="c", user_id="u"
    )
    response = client.generate(request)
    client.generate(Request.of("nobody judged this", model="local/echo"))
    log.append(judged(response.call_id, 1, 0.5))
    batch = taken(log)
    started = next(log.read(stream=f"call:{response.call_id}")).event
    [record] = batch.kept.drop("record_id").to_dicts()
    turn = dict.fromkeys(("name", "tool_calls", "tool_call_id", "weight"))
    assert record == {
        "messages": [
            {"role": "system", "content": "Be brief.", **turn},
            {"role": "user", "content": "say it", **turn},
            {"role": "assistant", "content": "say it", **turn},
        ],
        "origin": "calls",
        "source": response.call_id,
        "timestamp": started.occurred_at,
        "tools": None,
        "call_id": response.call_id,
        "conversation_id": "c",
        "user_id": "u",
        "label": None,
        "rating": 0.75,
        "licence": None,
    }
    assert batch.quarantined.is_empty()


def test_calls_of_tools_and_their_results_are_kept_and_thoughts_are_not(log: EventLog):
    call = ToolCall(id="t1", name="look", arguments='{"at": 1}')
    log.append(
        a_call(
            (Reasoning(content="hm"), Text(content="It is "), Text(content="red.")),
            Message(role="user", content="Look!"),
            Message(role="assistant", content=(call,)),
            Message(role="tool", content=(ToolResult(id="t1", response="red"),)),
            tools=(Tool(name="look", parameters={"type": "object", "default": None}),),
        )
    )
    [record] = taken(log).kept.to_dicts()
    assert [(m["role"], m["content"], m["tool_call_id"]) for m in record["messages"]] == [
        ("user", "Look!", None),
        ("assistant", None, None),
        ("tool", "red", "t1"),
        ("assistant", "It is red.", None),
    ]
    function = {"name": "look", "arguments": '{"at": 1}'}
    assert json.loads(record["messages"][1]["tool_calls"]) == [
        {"id": "t1", "type": "function", "function": function}
    ]
    [tool] = json.loads(record["tools"])
    assert tool["function"]["name"] == "look"
    assert tool["function"]["parameters"] == {"type": "object", "default": None}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (a_call("cut", finish="length"), "the answer ended with length: it is not whole"),
        (a_call(""), "the answer is empty"),
        (a_call((Reasoning(content="hm"),)), "the answer is empty"),
        (
            a_call("red", Message(role="user", content=(Image(uri="https://x"),))),
            "message 1, part 1 is 'uri': only text can be trained on",
        ),
        (
            a_call((ToolCall(id="t", name="look", arguments='{"at'),)),
            (
                "message 2, part 1: arguments is not JSON: Unterminated string starting at: "
                "line 1 column 2 (char 1)"
            ),
        ),
    ],
)
def test_what_cannot_be_learned_from_is_refused(log: EventLog, events: list[Any], reason: str):
    log.append(events)
    batch = taken(log)
    assert batch.kept.is_empty()
    name = f"call {events[0].call_id}"
    assert batch.quarantined.rows() == [(name, None, reason, "")]


def test_what_is_said_of_a_cached_answer_is_said_of_the_call_it_is_from(log: EventLog):
    first, again = new_id(), new_id()
    log.append(a_call("A.", call_id=first))
    cached = LlmCallCached(call_id=again, cached_call_id=first, latency_ms=0, **MODEL)
    log.append([cached, *judged(again, -1)])
    assert taken(log).kept.select("call_id", "rating").rows() == [(first, 0.0)]


def test_a_log_without_judgements_gives_an_empty_frame(log: EventLog):
    assert taken(log).kept.is_empty()
