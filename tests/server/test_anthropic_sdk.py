"""Anthropic's API as its own SDK drives it, to each provider."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from tests.llm.serving import Say, Seen, say
from tests.server import played
from tests.server.conftest import World
from tests.server.running import running

CLAUDE, GPT, GEM, COMMAND = "claude-sonnet-5-5", "gpt-5.4-mini", "gemini-3.8-flash", "command-a"
EVERY = (CLAUDE, GPT, GEM, COMMAND)
HELLO: list[Any] = [{"role": "user", "content": "Say hello."}]
LOOK: Any = {
    "name": "look",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def sdk(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=0) as client:
        yield client


def ask(sdk: anthropic.Anthropic, model: str = CLAUDE, **more: Any) -> Any:
    given: Any = {"model": model, "max_tokens": 100, "messages": HELLO, **more}
    return sdk.messages.create(**given)


def streamed(sdk: anthropic.Anthropic, model: str = CLAUDE, **more: Any) -> Any:
    given: Any = {"model": model, "max_tokens": 100, "messages": HELLO, **more}
    with sdk.messages.stream(**given) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("model", EVERY)
def test_every_provider_answers(sdk: anthropic.Anthropic, model: str) -> None:
    message = ask(sdk, model)
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hello there.", "citations": None}
    ]
    assert (message.stop_reason, message.role, message.type) == ("end_turn", "assistant", "message")
    assert message._request_id


@pytest.mark.parametrize("model", EVERY)
def test_a_stream_becomes_the_same_message(sdk: anthropic.Anthropic, model: str) -> None:
    whole, pieces = ask(sdk, model), streamed(sdk, model)
    assert pieces.content[0].text == whole.content[0].text
    assert pieces.stop_reason == whole.stop_reason
    assert pieces.usage.input_tokens == whole.usage.input_tokens
    assert pieces.usage.output_tokens == whole.usage.output_tokens > 0


def test_what_the_cache_read_and_wrote_is_counted_beside_the_input(
    sdk: anthropic.Anthropic,
) -> None:
    used = ask(sdk).usage
    assert (used.input_tokens, used.cache_read_input_tokens) == (5, 4)
    assert used.cache_creation_input_tokens == 3
    assert used.cache_creation.to_dict() == {
        "ephemeral_5m_input_tokens": 1,
        "ephemeral_1h_input_tokens": 2,
    }


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", EVERY)
def test_a_function_is_called_and_its_result_is_answered(
    sdk: anthropic.Anthropic, model: str, as_stream: bool
) -> None:
    more: Any = {"tools": [LOOK], "tool_choice": {"type": "any"}}
    send = streamed if as_stream else ask
    first = send(sdk, model, **more)
    [call] = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input, first.stop_reason) == ("look", {"city": "Bern"}, "tool_use")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turns = [
        *HELLO,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    assert send(sdk, model, messages=turns, tools=[LOOK]).content[-1].text == "Hello there."


@anthropic.beta_tool
def look(city: str) -> str:
    """The weather of a city.

    Args:
        city: which.
    """
    return f"rain in {city}"


def run(sdk: anthropic.Anthropic, model: str, words: str) -> Any:
    given: Any = {"max_tokens": 100, "messages": [{"role": "user", "content": words}]}
    return sdk.beta.messages.tool_runner(model=model, tools=[look], **given).until_done()


@pytest.mark.parametrize("words", ["Use look.", "Use look for ann@example.org."])
@pytest.mark.parametrize("model", EVERY)
def test_a_tool_runner_sends_what_is_new_and_the_model_reads_all(
    sdk: anthropic.Anthropic, world: World, model: str, words: str
) -> None:
    message = run(sdk, model, words)
    assert message.content[-1].text == "Hello there."
    last = json.dumps(world.upstream.seen[-1].json)
    # What is personal is not in the log, so that the runner is told to send it again.
    assert all(part in last for part in (words, "Bern", "rain in Bern"))
    assert "thread" not in last


def test_a_conversation_that_is_not_known_is_told_by_its_code(sdk: anthropic.Anthropic) -> None:
    for name in ("msg_1", "msg_01a2072e-bd18-72b8-8213-40b9e110144d"):
        held: Any = {"type": "continue", "previous_message_id": name}
        with pytest.raises(anthropic.NotFoundError) as raised:
            sdk.beta.messages.create(model=CLAUDE, max_tokens=9, messages=HELLO, thread=held)
        body: Any = raised.value.body
        assert body["error"]["details"] == {"error_code": "thread_not_found"}


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
def test_thoughts_come_with_their_signatures_and_go_back_as_they_came(
    sdk: anthropic.Anthropic, world: World, as_stream: bool
) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    more: Any = {"thinking": thinking, "tools": [LOOK], "max_tokens": 4000}
    first = (streamed if as_stream else ask)(sdk, **more)
    kinds = [block.type for block in first.content]
    assert kinds == ["thinking", "redacted_thinking", "tool_use"]
    assert (first.content[0].thinking, first.content[0].signature) == ("Say hello.", "c2lnbmVk")
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}
    turns = [
        *HELLO,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    ask(sdk, messages=turns, **more)
    sent = world.upstream.seen[-1].json
    assert sent["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Say hello.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Bern"}},
    ]
    assert sent["thinking"] == thinking


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
def test_thoughts_of_one_provider_are_not_shown_to_another(
    sdk: anthropic.Anthropic, world: World, as_stream: bool
) -> None:
    more: Any = {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 4000}
    first = (streamed if as_stream else ask)(sdk, GEM, **more)
    assert [block.type for block in first.content] == ["thinking", "text"]
    turns = [*HELLO, {"role": "assistant", "content": first.content}, *HELLO]
    ask(sdk, messages=turns)
    assert "thinking" not in json.dumps(world.upstream.seen[-1].json)


class Number(BaseModel):
    n: int


@pytest.mark.parametrize("model", [CLAUDE, GEM, COMMAND])
def test_an_answer_keeps_to_a_schema(sdk: anthropic.Anthropic, world: World, model: str) -> None:
    given: Any = {"model": model, "max_tokens": 100, "messages": HELLO}
    assert sdk.messages.parse(**given, output_format=Number).parsed_output == Number(n=3)
    assert '"integer"' in json.dumps(world.upstream.seen[-1].json)


def test_what_only_this_api_has_goes_along(sdk: anthropic.Anthropic, world: World) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    ask(
        sdk,
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=[LOOK, search],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        output_config={"effort": "max"},
        metadata={"user_id": "ann"},
        service_tier="standard_only",
        stop_sequences=["END"],
        inference_geo="eu",
        extra_headers={"anthropic-beta": "a-2026-01-01, b-2026-02-02"},
    )
    sent, headers = world.upstream.seen[-1].json, world.upstream.seen[-1].headers
    assert (headers["anthropic-beta"], sent.get("betas")) == ("a-2026-01-01,b-2026-02-02", None)
    assert sent["tools"] == [LOOK, search]
    assert sent["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert (sent["output_config"], sent["inference_geo"]) == ({"effort": "max"}, "eu")
    kept = {"type": "ephemeral", "ttl": "5m"}
    assert sent["system"] == [{"type": "text", "text": "Be brief.", "cache_control": kept}]
    assert sent["stop_sequences"] == ["END"]
    assert (sent["metadata"], sent["service_tier"]) == ({"user_id": "ann"}, "standard_only")
    assert sent["cache_control"] == kept


def test_what_another_provider_cannot_do_is_refused(sdk: anthropic.Anthropic) -> None:
    search: Any = {"type": "web_search_20250305", "name": "web_search"}
    with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
        ask(sdk, GPT, tools=[search])
    with pytest.raises(anthropic.BadRequestError, match="container"):
        ask(sdk, GPT, container="c_1")


def test_pictures_go_along_and_those_of_a_result_stand_beside_it(
    sdk: anthropic.Anthropic, world: World
) -> None:
    data = base64.b64encode(b"png").decode()
    here: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }
    there: Any = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
    result: Any = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "is_error": True,
        "content": [{"type": "text", "text": "broken"}, here],
    }
    turns: Any = [
        {"role": "user", "content": [there, {"type": "text", "text": "What is it?"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}],
        },
        {"role": "user", "content": [result]},
    ]
    ask(sdk, messages=turns, tools=[LOOK])
    sent = world.upstream.seen[-1].json["messages"]
    assert sent[0]["content"][0] == there
    assert sent[2]["content"] == [{**result, "content": "broken"}, here]


def test_tokens_are_counted(sdk: anthropic.Anthropic) -> None:
    short = sdk.messages.count_tokens(model=CLAUDE, messages=HELLO)
    long: Any = [{"role": "user", "content": "Say hello. " * 100}]
    more = sdk.messages.count_tokens(model=CLAUDE, messages=long, system="Be brief.", tools=[LOOK])
    assert 3 <= short.input_tokens <= 20
    assert more.input_tokens > short.input_tokens + 200


def test_models_are_told_in_the_shape_of_whoever_asks(
    sdk: anthropic.Anthropic, world: World
) -> None:
    names = [model.id for model in sdk.models.list(limit=100)]
    assert {"local/extract", "local/echo", "claude-sonnet-4-5"} <= set(names)
    assert len(names) == len(set(names)) > 100
    one = sdk.models.retrieve("local/extract")
    assert (one.type, one.display_name) == ("model", "local/extract")
    with pytest.raises(anthropic.NotFoundError, match="there is no nothing"):
        sdk.models.retrieve("nothing")
    plain = httpx.get(f"{world.url}/v1/models").json()
    assert plain["object"] == "list"
    assert {"id", "object", "created", "owned_by"} == plain["data"][0].keys()


def test_the_newer_version_has_no_sampling_parameters(world: World) -> None:
    body = {"model": CLAUDE, "max_tokens": 9, "messages": HELLO, "temperature": 0.5}

    def post(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{world.url}/v1/messages", json=body, headers=named)

    refused = post(anthropic_version="2026-10-21")
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert "temperature" in refused.json()["error"]["message"]
    assert refused.json()["request_id"] == refused.headers["request-id"]
    for headers in ({"anthropic_version": "2023-06-01"}, {}):
        assert post(**headers).status_code == 200
        sent = world.upstream.seen[-1]
        assert sent.json["temperature"] == 0.5
        assert sent.headers["anthropic-version"] == "2023-06-01"
    assert post(anthropic_version="newest").status_code == 400


def test_errors_are_what_the_sdk_raises_without_us(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="messages") as caught:
        ask(sdk, messages=[])
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": said(caught.value)["message"]},
        "request_id": caught.value.request_id,
    }
    with pytest.raises(anthropic.NotFoundError):
        ask(sdk, "local/nothing")
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        sdk.post("/v1/messages", body={"model": CLAUDE, "messages": HELLO}, cast_to=object)


def said(error: anthropic.APIStatusError) -> dict[str, str]:
    """The error in the body."""
    body: Any = error.body
    return body["error"]


def refusing(status: int, kind: str, times: int, **headers: str) -> Any:
    """A provider that refuses so often, then answers."""
    left = iter(range(times))

    def answer(seen: Seen) -> Say:
        if next(left, None) is None:
            return played.play(seen)
        error = {"type": "error", "error": {"type": kind, "message": "not now"}}
        return say(error, status, **headers)

    return answer


def test_an_overloaded_provider_is_overloaded(sdk: anthropic.Anthropic, world: World) -> None:
    world.upstream.answer = refusing(529, "overloaded_error", 10, x_should_retry="false")
    with pytest.raises(anthropic.InternalServerError) as caught:
        ask(sdk)
    assert caught.value.status_code == 529
    assert said(caught.value)["type"] == "overloaded_error"


def test_the_sdk_tries_again_when_it_is_told_to(world: World) -> None:
    # More refusals than our own client bears.
    world.upstream.answer = refusing(429, "rate_limit_error", 3, retry_after_ms="5")
    with anthropic.Anthropic(base_url=world.url, api_key="none", max_retries=1) as sdk:
        answer = sdk.messages.with_raw_response.create(
            model="claude-haiku-4-5", max_tokens=9, messages=HELLO
        )
    assert answer.retries_taken == 1
    [block] = answer.parse().content
    assert block.to_dict()["text"] == "Hello there."


START: Any = {
    "type": "message_start",
    "message": {"id": "m", "model": "c", "content": [], "usage": {"input_tokens": 1}},
}
BLOCK: Any = {
    "type": "content_block_start",
    "index": 0,
    "content_block": {"type": "text", "text": "Hel"},
}


@pytest.mark.parametrize("cut", [False, True], ids=["told", "cut"])
def test_an_error_within_a_stream_is_raised(
    sdk: anthropic.Anthropic, world: World, cut: bool
) -> None:
    told = {"type": "overloaded_error", "message": "too many"}
    wrong = None if cut else {"type": "error", "error": told}
    read = threading.Event()
    world.upstream.answer = lambda _: played.broken([START, BLOCK], wrong, read)
    texts: list[str] = []

    def follow() -> None:
        with sdk.messages.stream(model=CLAUDE, max_tokens=9, messages=HELLO) as stream:
            for words in stream.text_stream:
                texts.append(words)
                read.set()

    with pytest.raises(anthropic.APIStatusError) as caught:
        follow()
    assert texts == ["Hel"]
    assert said(caught.value)["type"] == ("api_error" if cut else "overloaded_error")


def test_both_ways_to_send_a_key_hold(world: World) -> None:
    body = {"model": "local/echo", "max_tokens": 9, "messages": HELLO}
    for headers in ({"authorization": "Bearer a"}, {"x-api-key": "a"}, {}):
        answer = httpx.post(f"{world.url}/v1/messages", json=body, headers=headers)
        assert answer.json()["content"][0]["text"] == "Say hello."


def test_many_at_once(sdk: anthropic.Anthropic) -> None:
    with ThreadPoolExecutor(16) as pool:
        sent = [f"number {n}" for n in range(32)]

        def echo(words: str) -> str:
            turns: Any = [{"role": "user", "content": words}]
            return streamed(sdk, "local/echo", messages=turns).content[0].text

        assert list(pool.map(echo, sent)) == sent


def test_keys_and_names_of_your_own_hold_here_too(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse"
    (warehouse / "raw").mkdir(parents=True)
    named = "models:\n  small:\n    model: local/echo\n"
    (warehouse / "raw" / "gateway.yaml").write_text(named, encoding="utf-8")
    with running(warehouse) as server:
        _, hidden = server.gateway.keys.create("ann", models=["small"])
        secret = hidden.get_secret_value()
        for given in ({"authorization": f"Bearer {secret}"}, {"x-api-key": secret}):
            with httpx.Client(headers={**given, "anthropic-version": "2023-06-01"}) as http:
                names = http.get(f"{server.url}/v1/models").json()
            assert [model["id"] for model in names["data"]] == ["small"]
        with anthropic.Anthropic(base_url=server.url, api_key=secret) as sdk:
            assert ask(sdk, "small").content[0].text == "Say hello."
            with pytest.raises(anthropic.PermissionDeniedError) as caught:
                ask(sdk, "local/extract")
            assert said(caught.value)["type"] == "permission_error"
        with anthropic.Anthropic(base_url=server.url, api_key="tm-wrong") as sdk:
            for asked in (
                lambda: ask(sdk, "small"),
                sdk.models.list,
                lambda: sdk.models.retrieve("a"),
            ):
                with pytest.raises(anthropic.AuthenticationError) as refused:
                    asked()
                assert said(refused.value)["type"] == "authentication_error"
                assert refused.value.request_id
