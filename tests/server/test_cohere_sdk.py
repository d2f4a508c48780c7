"""Cohere's API as its own SDK drives it, to each provider."""

import base64
import json
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError

from tests.llm.serving import Say, Seen, say
from tests.server import played
from tests.server.conftest import World

CLAUDE, GPT, GEM, COMMAND = "claude-sonnet-5-5", "gpt-5.4-mini", "gemini-3.8-flash", "command-a"
EVERY = (CLAUDE, GPT, GEM, COMMAND)
HELLO: Any = [{"role": "user", "content": "Say hello."}]
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def sdk(world: World) -> Iterator[cohere.ClientV2]:
    with httpx.Client(timeout=30) as http:
        yield cohere.ClientV2(api_key="none", base_url=world.url, httpx_client=http)


def ask(sdk: cohere.ClientV2, model: str = COMMAND, **more: Any) -> Any:
    return sdk.chat(**{"model": model, "messages": HELLO, **more})


def streamed(sdk: cohere.ClientV2, model: str = COMMAND, **more: Any) -> list[Any]:
    return list(sdk.chat_stream(**{"model": model, "messages": HELLO, **more}))


def text(events: list[Any]) -> str:
    pieces = [e.delta.message.content.text for e in events if e.type == "content-delta"]
    return "".join(piece or "" for piece in pieces)


@pytest.mark.parametrize("model", EVERY)
def test_every_provider_answers_whole_and_in_pieces(sdk: cohere.ClientV2, model: str) -> None:
    whole, pieces = ask(sdk, model), streamed(sdk, model)
    assert [(block.type, block.text) for block in whole.message.content] == [
        ("text", "Hello there.")
    ]
    kinds = [event.type for event in pieces]
    assert [kind for kind in kinds if kind != "content-delta"] == [
        *("message-start", "content-start", "content-end", "message-end"),
    ]
    assert text(pieces) == "Hello there."
    assert (whole.finish_reason, pieces[-1].delta.finish_reason) == ("COMPLETE", "COMPLETE")
    assert pieces[-1].delta.usage == whole.usage
    assert whole.usage.tokens.output_tokens > 0


def test_what_is_read_and_what_is_billed_are_told_apart(sdk: cohere.ClientV2) -> None:
    used = ask(sdk).usage
    assert (used.billed_units.input_tokens, used.billed_units.output_tokens) == (8, 2)
    assert (used.tokens.input_tokens, used.tokens.output_tokens) == (10, 3)


@pytest.mark.parametrize("model", EVERY)
def test_a_function_is_called_and_its_result_is_answered(
    sdk: cohere.ClientV2, world: World, model: str
) -> None:
    first = ask(sdk, model, tools=[LOOK], tool_choice="REQUIRED")
    [call] = first.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", {"city": "Bern"})
    assert first.finish_reason == "TOOL_CALL"
    found: Any = [{"type": "document", "document": {"data": {"sky": "rain"}}}]
    turns = [
        *HELLO,
        first.message,
        {"role": "tool", "tool_call_id": call.id, "content": found},
    ]
    assert ask(sdk, model, messages=turns, tools=[LOOK]).message.content[0].text == "Hello there."
    if model == COMMAND:
        sent = world.upstream.seen[-1].json["messages"]
        assert (sent[1]["tool_plan"], sent[2]["content"]) == ("I will look.", '{"sky": "rain"}')


@pytest.mark.parametrize("model", EVERY)
def test_a_function_is_called_in_pieces(sdk: cohere.ClientV2, model: str) -> None:
    events = streamed(sdk, model, tools=[LOOK])
    [begun] = [e.delta.message.tool_calls for e in events if e.type == "tool-call-start"]
    pieces = [
        e.delta.message.tool_calls.function.arguments for e in events if e.type == "tool-call-delta"
    ]
    assert (begun.function.name, json.loads("".join(pieces))) == ("look", {"city": "Bern"})
    assert events[-2].type == "tool-call-end"
    assert events[-1].delta.finish_reason == "TOOL_CALL"
    plans = [e.delta.message.tool_plan for e in events if e.type == "tool-plan-delta"]
    assert plans == (["I will look."] if model == COMMAND else [])


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
def test_thoughts_of_any_provider_are_shown(sdk: cohere.ClientV2, as_stream: bool) -> None:
    more: Any = {"thinking": {"type": "enabled", "token_budget": 2048}, "max_tokens": 9000}
    if as_stream:
        events = streamed(sdk, GEM, **more)
        pieces = [e.delta.message.content for e in events if e.type == "content-delta"]
        assert [(p.thinking, p.text) for p in pieces] == [
            ("Say hello.", None),
            (None, "Hello there."),
        ]
        return
    thought, words = ask(sdk, GEM, **more).message.content
    assert (thought.type, thought.thinking, words.text) == (
        *("thinking", "Say hello."),
        "Hello there.",
    )


@pytest.mark.parametrize("model", [CLAUDE, GEM, COMMAND])
def test_an_answer_keeps_to_a_schema(sdk: cohere.ClientV2, world: World, model: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shape = cohere.JsonObjectResponseFormatV2(json_schema=schema)
    answer = ask(sdk, model, response_format=shape)
    assert json.loads(answer.message.content[0].text) == {"n": 3}
    assert '"integer"' in json.dumps(world.upstream.seen[-1].json)


def test_what_only_this_api_has_goes_along(sdk: cohere.ClientV2, world: World) -> None:
    ask(
        sdk,
        documents=["It rains."],
        safety_mode="OFF",
        frequency_penalty=0.5,
        k=5,
        p=0.5,
        seed=3,
        temperature=0.1,
        stop_sequences=["END"],
        thinking={"type": "enabled", "token_budget": 77},
        strict_tools=True,
        tools=[LOOK],
    )
    sent = world.upstream.seen[-1].json
    assert (sent["documents"], sent["safety_mode"]) == (["It rains."], "OFF")
    assert (sent["frequency_penalty"], sent["k"], sent["p"], sent["seed"]) == (0.5, 5, 0.5, 3)
    assert sent["thinking"] == {"type": "enabled", "token_budget": 77}
    assert (sent["strict_tools"], sent["stop_sequences"]) == (True, ["END"])
    with pytest.raises(cohere.BadRequestError, match="documents"):
        ask(sdk, GPT, documents=["It rains."])


def test_texts_become_vectors_of_every_kind(sdk: cohere.ClientV2, world: World) -> None:
    kinds: Any = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    told = sdk.embed(
        model="embed-v4.0", texts=["a", "bc"], input_type="search_query", embedding_types=kinds
    )
    made = told.embeddings
    assert made.float_ == [[1.0, -1.0, 0.5, 2.0], [2.0, -1.0, 0.5, 2.0]]
    assert made.int8 == [[64, -64, 32, 127], [127, -64, 32, 127]]
    assert made.uint8 == [[192, 64, 160, 255], [255, 64, 160, 255]]
    assert (made.ubinary, made.binary) == ([[0b10110000]] * 2, [[0b10110000 - 128]] * 2)
    assert [struct.unpack("<4f", base64.b64decode(row)) for row in made.base64 or ()] == [
        (1.0, -1.0, 0.5, 2.0),
        (2.0, -1.0, 0.5, 2.0),
    ]
    assert told.texts == ["a", "bc"]
    assert world.upstream.seen[-1].json["input_type"] == "search_query"
    usual = sdk.embed(model="gemini-embedding-001", texts=["abc"], input_type="search_document")
    assert usual.embeddings.float_ == [[3.0, 1.0]]


def test_documents_are_ranked(sdk: cohere.ClientV2) -> None:
    told = sdk.rerank(
        model="rerank-v3.5", query="rain", documents=["a", "it rains today", "abc"], top_n=2
    )
    assert [(row.index, row.relevance_score) for row in told.results] == [(1, 0.14), (2, 0.03)]
    with pytest.raises(cohere.BadRequestError):
        sdk.rerank(model="rerank-v3.5", query="rain", documents=[])


def test_errors_are_what_the_sdk_raises_without_us(sdk: cohere.ClientV2, world: World) -> None:
    with pytest.raises(cohere.BadRequestError) as caught:
        ask(sdk, messages=[])
    assert "messages" in caught.value.body["message"]
    with pytest.raises(cohere.NotFoundError, match="local has no model"):
        ask(sdk, "local/nothing")
    world.upstream.answer = lambda _: say({"message": "please wait"}, 529, x_should_retry="false")
    with pytest.raises(ApiError) as failed:
        ask(sdk, "claude-opus-5-5", request_options={"max_retries": 0})
    assert failed.value.status_code == 529


def test_the_sdk_tries_again_when_it_is_told_to(sdk: cohere.ClientV2, world: World) -> None:
    # More refusals than our own client bears.
    left = iter(range(3))

    def refusing(seen: Seen) -> Say:
        if next(left, None) is None:
            return played.play(seen)
        return say({"message": "trial limit"}, 429, retry_after_ms="5")

    world.upstream.answer = refusing
    answer = ask(sdk, "command-r-08-2024", request_options={"max_retries": 1})
    assert answer.message.content[0].text == "Hello there."
    assert len(world.upstream.seen) == 4


@pytest.mark.parametrize("cut", [False, True], ids=["told", "cut"])
def test_an_error_within_a_stream_ends_it_with_its_words(
    sdk: cohere.ClientV2, world: World, cut: bool
) -> None:
    begun: Any = {"type": "message-start", "id": "1"}
    content: Any = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hel"}}}}  # fmt: skip
    wrong = None if cut else {"message": "too many"}
    read = threading.Event()
    world.upstream.answer = lambda _: played.broken([begun, content], wrong, read)
    events: list[Any] = []
    for each in sdk.chat_stream(model="command-r7b-12-2024", messages=HELLO):
        events.append(each)
        if each.type == "content-delta":
            read.set()
    end = events[-1]
    assert text(events) == "Hel"
    assert (end.type, end.delta.finish_reason) == ("message-end", "ERROR")
    assert end.delta.error if cut else "too many" in end.delta.error


def test_many_at_once(sdk: cohere.ClientV2) -> None:
    sent = [f"number {n}" for n in range(32)]

    def echo(words: str) -> str:
        return text(streamed(sdk, "local/echo", messages=[{"role": "user", "content": words}]))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(echo, sent)) == sent
