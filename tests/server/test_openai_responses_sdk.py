"""Responses as OpenAI's own SDK drives them: made, streamed, gone on with, looked up again."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.llm.serving import Say
from tests.server.conftest import World
from tests.server.openai_played import SECRET, THOUGHT, checked, play_openai
from tests.server.played import CALL, TEXT

MODEL = "gpt-5.4-mini"
CLAUDE = "claude-sonnet-5-5"
LOOK: Any = {
    "type": "function",
    "name": "look",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    world.upstream.answer = play_openai
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def sent(world: World) -> Any:
    """What the provider got last."""
    return world.upstream.seen[-1].json


def events_of(sdk: openai.OpenAI, **asked: Any) -> list[Any]:
    """The events of a stream, each of which its class demands nothing more of; numbered in order."""
    found = list(sdk.responses.create(stream=True, **asked))
    for event in found:
        EVENT.validate_python(event.to_dict())
    assert [event.sequence_number for event in found] == list(range(len(found)))
    return found


@pytest.mark.parametrize("model", [MODEL, CLAUDE, "local/echo"])
def test_a_response_and_the_same_once_more(sdk: openai.OpenAI, model: str) -> None:
    made = sdk.responses.create(
        model=model,
        input="Hello there.",
        instructions="Be brief.",
        metadata={"a": "b"},
        max_output_tokens=99,
    )
    checked(made)
    assert (made.status, made.output_text, made.object) == ("completed", TEXT, "response")
    assert (made.instructions, made.metadata, made.max_output_tokens) == (
        "Be brief.",
        {"a": "b"},
        99,
    )
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    again = checked(sdk.responses.retrieve(made.id))
    assert again.to_dict() | {"created_at": 0, "completed_at": 0} == made.to_dict() | {
        "created_at": 0,
        "completed_at": 0,
    }


def test_openais_models_are_asked_in_their_own_language(sdk: openai.OpenAI, world: World) -> None:
    search: Any = {"type": "web_search", "search_context_size": "low"}
    sdk.responses.create(
        model=MODEL,
        input="Hi",
        tools=[search],
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        truncation="auto",
        user="ann",
    )
    assert world.upstream.seen[-1].path == "/v1/responses"
    body = sent(world)
    assert (body["tools"], body["truncation"]) == ([search], "auto")
    assert body["reasoning"] == {"effort": "low", "summary": "auto"}
    assert (body["text"], body["safety_identifier"]) == ({"verbosity": "low"}, "ann")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model=CLAUDE, input="Hi", tools=[search])
    assert refused.value.param == "tools.0.type"


def test_a_stream_tells_of_a_thought_and_then_of_words(sdk: openai.OpenAI) -> None:
    found = events_of(sdk, model=MODEL, input="Hi", reasoning={"effort": "low"})
    assert [event.type.removeprefix("response.") for event in found] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    whole = found[-1].response
    assert [item.type for item in whole.output] == ["reasoning", "message"]
    assert (whole.output[0].summary[0].text, whole.output_text) == (THOUGHT, TEXT)
    assert whole.usage.output_tokens_details.reasoning_tokens == 6
    assert found[8].item.to_dict() == whole.output[0].to_dict()
    assert sdk.responses.retrieve(whole.id).output_text == TEXT


@pytest.mark.parametrize("model", [MODEL, CLAUDE, "gemini-3-pro"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_asked_for_and_its_result_read(
    sdk: openai.OpenAI, model: str, stream: bool
) -> None:
    asked: Any = {"model": model, "input": "Weather?", "tools": [LOOK]}
    if stream:
        found = events_of(sdk, **asked)
        kinds = [event.type for event in found]
        assert kinds.count("response.function_call_arguments.done") == 1
        with sdk.responses.stream(**asked) as events:
            made: Any = events.get_final_response()
    else:
        made = sdk.responses.create(**asked)
    [call] = [item for item in checked(made).output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("look", CALL)
    told: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    by_id = sdk.responses.create(
        model=model, previous_response_id=made.id, input=[told], tools=[LOOK]
    )
    output: Any = made.to_dict()["output"]
    items = [{"role": "user", "content": "Weather?"}, *output, told]
    by_hand = sdk.responses.create(model=model, input=items, tools=[LOOK])
    assert (by_id.output_text, by_hand.output_text) == (TEXT, TEXT)
    assert by_id.previous_response_id == made.id
    assert sdk.responses.retrieve(by_id.id).previous_response_id == made.id


def test_a_thought_goes_back_to_whose_it_is(sdk: openai.OpenAI, world: World) -> None:
    made = sdk.responses.create(model=MODEL, input="Hi", reasoning={"effort": "low"})
    output: Any = made.to_dict()["output"]
    items: Any = [{"role": "user", "content": "Hi"}, *output]
    sdk.responses.create(model=MODEL, input=[*items, {"role": "user", "content": "More"}])
    thought = sent(world)["input"][1]
    assert (thought["id"], thought["encrypted_content"]) == ("rs_up", SECRET)
    sdk.responses.create(model=MODEL, previous_response_id=made.id, input="More")
    assert sent(world)["input"][1] == thought


def test_an_answer_that_was_cut_is_incomplete(sdk: openai.OpenAI) -> None:
    cut: Any = {"model": MODEL, "input": "Hi", "max_output_tokens": 16}
    made = checked(sdk.responses.create(**cut))
    assert made.incomplete_details is not None
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert events_of(sdk, **cut)[-1].type == "response.incomplete"


class Count(BaseModel):
    n: int


@pytest.mark.parametrize("model", [MODEL, CLAUDE])
def test_an_answer_is_parsed(sdk: openai.OpenAI, model: str) -> None:
    made = sdk.responses.parse(model=model, input="Three?", text_format=Count)
    assert made.output_parsed == Count(n=3)


def test_what_was_asked_is_listed(sdk: openai.OpenAI) -> None:
    first = sdk.responses.create(model="local/echo", input="one")
    made = sdk.responses.create(model="local/echo", input="two", previous_response_id=first.id)
    items = sdk.responses.input_items.list(made.id, order="asc", limit=2)
    assert items.has_more
    words = [checked(item).to_dict()["content"][0]["text"] for item in items]  # pyright: ignore[reportIndexIssue]
    assert words == ["one", "one", "two"]
    newest = sdk.responses.input_items.list(made.id).data[0].to_dict()
    assert newest["role"] == "user"


def test_tokens_are_counted(sdk: openai.OpenAI) -> None:
    few = checked(sdk.responses.input_tokens.count(model=MODEL, input="Hi"))
    more = sdk.responses.input_tokens.count(model=MODEL, input="Hi", tools=[LOOK])
    assert 0 < few.input_tokens < more.input_tokens


def test_what_the_log_has_not_whole_is_shown_and_not_gone_on_with(sdk: openai.OpenAI) -> None:
    made = sdk.responses.create(model="local/echo", input="Write to ann@example.org")
    assert made.output_text == "Write to ann@example.org"
    kept = sdk.responses.retrieve(made.id).to_dict()
    assert kept["tracemill_redacted"] is True
    assert "[email]" in json.dumps(kept["output"]).lower()
    with pytest.raises(openai.BadRequestError, match="not in the log") as refused:
        sdk.responses.create(model="local/echo", input="more", previous_response_id=made.id)
    assert refused.value.param == "previous_response_id"


def test_what_is_not_there_or_cannot_be_done_is_said(sdk: openai.OpenAI, world: World) -> None:
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve("resp_nothing")
    made = sdk.responses.create(model="local/echo", input="one")
    with pytest.raises(openai.BadRequestError, match="background"):
        sdk.responses.create(model="local/echo", input="one", background=True)
    log = world.server.log
    call = made.id.removeprefix("resp_")
    wanted = [each.position for each in log.read(stream=f"call:{call}")]
    log.erase(wanted, reason="forgotten", figures=True)
    with pytest.raises(openai.NotFoundError, match="erased"):
        sdk.responses.retrieve(made.id)


def test_a_deleted_response_is_given_to_nobody(sdk: openai.OpenAI, world: World) -> None:
    made = sdk.responses.create(model="local/echo", input="one")
    sdk.responses.delete(made.id)
    for again in (
        lambda: sdk.responses.retrieve(made.id),
        lambda: sdk.responses.delete(made.id),
        lambda: sdk.responses.create(model="local/echo", input="two", previous_response_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError):
            again()
    # What was spent stays known.
    call_id = made.id.removeprefix("resp_")
    kept = world.server.log.sql("SELECT status FROM calls WHERE call_id = ?", [call_id])
    assert kept["status"].to_list() == ["finished"]


def test_an_error_within_a_stream_ends_it_as_failed(sdk: openai.OpenAI, world: World) -> None:
    read = threading.Event()

    def pieces() -> Iterator[bytes]:
        item = {"type": "message", "id": "m", "role": "assistant", "content": []}
        begun = {"type": "response.output_item.added", "output_index": 0, "item": item}
        words = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "Hel"}  # fmt: skip
        yield b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in (begun, words))
        assert read.wait(20)
        wrong = {"type": "error", "error": {"code": "server_is_overloaded", "message": "later"}}
        yield f"data: {json.dumps(wrong)}\n\n".encode()

    world.upstream.answer = lambda _: Say(pieces(), 200, {"content-type": "text/event-stream"})
    found: list[Any] = []
    for event in sdk.responses.create(model=MODEL, input="Hi", stream=True):
        found.append(event)
        if event.type == "response.output_text.delta":
            read.set()
    last = found[-1]
    assert last.type == "response.failed"
    EVENT.validate_python(last.to_dict())
    assert "later" in last.response.error.message
    kept = sdk.responses.retrieve(last.response.id)
    assert (kept.status, kept.error is not None) == ("failed", True)
