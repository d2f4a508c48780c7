"""Chat completions as OpenAI's own SDK drives them, and what it does when something breaks."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.llm.serving import Say, Seen, say
from tests.server.conftest import World
from tests.server.openai_played import checked, play_openai
from tests.server.played import CALL, PIECES, TEXT

HELLO: Any = [{"role": "user", "content": "Say hello."}]
MODEL = "gpt-5.4-mini"
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "The weather.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
PRICE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


@pytest.fixture
def sdk(world: World) -> Iterator[openai.OpenAI]:
    world.upstream.answer = play_openai
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def sent(world: World) -> Any:
    """What the provider got last."""
    return world.upstream.seen[-1].json


def test_an_answer(sdk: openai.OpenAI, world: World) -> None:
    made = sdk.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, user="ann")
    answer = checked(made.parse())
    assert made.headers["x-request-id"]
    assert answer.id == f"chatcmpl-{made.headers['x-tracemill-call-id']}"
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (TEXT, "stop")
    assert answer.usage is not None
    told = answer.usage.to_dict()
    assert {name: told[name] for name in PRICE} == PRICE
    assert sent(world)["safety_identifier"] == "ann"


def test_the_same_in_pieces_with_usage_at_the_end(sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [checked(chunk) for chunk in stream]
    words = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert words == list(PIECES)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.total_tokens) == ([], 15)
    assert len({chunk.id for chunk in chunks}) == 1


def test_without_asking_there_is_no_usage(sdk: openai.OpenAI) -> None:
    chunks = list(sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", [MODEL, "claude-sonnet-5-5", "gemini-3-pro", "cohere/command-a"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_function_is_asked_for_and_its_result_read(
    sdk: openai.OpenAI, model: str, stream: bool
) -> None:
    turns: list[Any] = list(HELLO)
    if stream:
        with sdk.chat.completions.stream(model=model, messages=turns, tools=[LOOK]) as events:
            answer = events.get_final_completion()
    else:
        answer = sdk.chat.completions.create(model=model, messages=turns, tools=[LOOK])
    checked(answer)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("look", CALL)
    turns.append(choice.message.to_dict())
    turns.append({"role": "tool", "tool_call_id": call.id, "content": "Sunny."})
    told = sdk.chat.completions.create(model=model, messages=turns, tools=[LOOK])
    assert told.choices[0].message.content == TEXT


class Count(BaseModel):
    n: int


def test_an_answer_is_parsed(sdk: openai.OpenAI, world: World) -> None:
    world.upstream.answer = lambda _: say(
        {"id": "1", "model": MODEL, "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": '{"n": 3}'}}], "usage": PRICE}
    )  # fmt: skip
    made = sdk.chat.completions.parse(model=MODEL, messages=HELLO, response_format=Count)
    assert made.choices[0].message.parsed == Count(n=3)
    shape = sent(world)["response_format"]["json_schema"]
    assert (shape["strict"], shape["schema"]["required"]) == (True, ["n"])


def test_several_answers_are_several_calls(sdk: openai.OpenAI, world: World) -> None:
    made = checked(sdk.chat.completions.create(model=MODEL, messages=HELLO, n=3))
    assert [(c.index, c.message.content) for c in made.choices] == [(n, TEXT) for n in range(3)]
    assert made.usage is not None
    assert made.usage.total_tokens == 45
    assert len(world.upstream.seen) == 3
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model=MODEL, messages=HELLO, n=2, stream=True)
    assert refused.value.param == "n"


def test_how_likely_a_token_was_is_told(sdk: openai.OpenAI, world: World) -> None:
    top = [
        {"token": "Hi", "logprob": -0.1, "bytes": None},
        {"token": "Ho", "logprob": -2.5, "bytes": None},
    ]
    token = {"token": "Hi", "logprob": -0.1, "bytes": None, "top_logprobs": top}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"},
              "logprobs": {"content": [token]}}  # fmt: skip
    world.upstream.answer = lambda _: say(
        {"id": "1", "model": MODEL, "choices": [choice], "usage": PRICE}
    )
    made = sdk.chat.completions.create(model=MODEL, messages=HELLO, logprobs=True, top_logprobs=2)
    likely = checked(made).choices[0].logprobs
    assert likely is not None
    [first] = likely.content or []
    assert (first.token, first.bytes, [each.logprob for each in first.top_logprobs]) == (
        "Hi", [72, 105], [-0.1, -2.5]
    )  # fmt: skip


def test_fields_that_only_openai_has_go_to_it_and_nowhere_else(
    sdk: openai.OpenAI, world: World
) -> None:
    usual: Any = {"frequency_penalty": 0, "presence_penalty": 0, "store": False, "logit_bias": {}}
    sdk.chat.completions.create(model=MODEL, messages=HELLO, logit_bias={"50256": -100}, **{
        name: value for name, value in usual.items() if name != "logit_bias"
    })  # fmt: skip
    assert sent(world)["logit_bias"] == {"50256": -100}
    assert sdk.chat.completions.create(model="claude-sonnet-5-5", messages=HELLO, **usual)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(
            model="claude-sonnet-5-5", messages=HELLO, logit_bias={"50256": -100}
        )
    assert refused.value.param == "logit_bias"


def test_a_tool_of_openais_own_goes_along(sdk: openai.OpenAI, world: World) -> None:
    grammar: Any = {"type": "custom", "custom": {"name": "patch"}}
    sdk.chat.completions.create(model=MODEL, messages=HELLO, tools=[LOOK, grammar])
    assert sent(world)["tools"] == [LOOK, grammar]
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="claude-sonnet-5-5", messages=HELLO, tools=[grammar])
    assert refused.value.param == "tools.0.type"


# --- What breaks


def failing(status: int, times: int, world: World, **headers: str) -> None:
    """The provider fails so often, then answers. Our own client is not to try again."""
    left = [times]

    def answer(seen: Seen) -> Say:
        if left[0]:
            left[0] -= 1
            return say({"error": {"message": "later", "code": "slow_down"}}, status, **headers)
        return play_openai(seen)

    world.upstream.answer = answer


@pytest.mark.parametrize("status", [429, 529])
def test_an_sdk_tries_once_more_where_that_may_help(world: World, status: int) -> None:
    # More than our own client bears.
    failing(status, 3, world, retry_after_ms="1")
    asked: list[int] = []

    def count(_: object) -> None:
        asked.append(1)

    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=1) as sdk:
        sdk._client.event_hooks["request"].append(count)
        answer = sdk.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == TEXT
    assert (len(asked), len(world.upstream.seen)) == (2, 4)


def test_an_sdk_does_not_try_again_what_stays_wrong(world: World) -> None:
    body = {
        "error": {"message": "no money", "code": "insufficient_quota", "type": "insufficient_quota"}
    }
    world.upstream.answer = lambda _: say(body, 429)
    with (
        openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=2) as sdk,
        pytest.raises(openai.RateLimitError) as refused,
    ):
        sdk.chat.completions.create(model=MODEL, messages=HELLO)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(world.upstream.seen) == 1


def chunk(words: str) -> bytes:
    choice = {"index": 0, "delta": {"content": words}}
    return (
        b"data: " + json.dumps({"id": "1", "model": MODEL, "choices": [choice]}).encode() + b"\n\n"
    )


@pytest.mark.parametrize("cut", [True, False])
def test_a_stream_that_breaks_is_an_error_and_not_an_end(
    sdk: openai.OpenAI, world: World, cut: bool
) -> None:
    read = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield chunk("Hel")
        assert read.wait(20)
        if not cut:
            wrong = {"error": {"message": "overloaded", "code": "server_is_overloaded"}}
            yield b"data: " + json.dumps(wrong).encode() + b"\n\n"

    kind = {"content-type": "text/event-stream"}
    world.upstream.answer = lambda _: Say(pieces(), 200, kind, cut=cut)
    stream = sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert [next(stream).choices[0].delta.content for _ in range(2)] == ["", "Hel"]
    read.set()
    with pytest.raises(openai.APIError):
        list(stream)
    [end] = list(world.server.log.read(kinds=["llm.call.aborted"]))[-1:]
    assert getattr(end.event, "content", "") == "Hel"


def test_a_slow_first_piece_is_waited_for(sdk: openai.OpenAI, world: World) -> None:
    go_on = threading.Event()

    def answer(seen: Seen) -> Say:
        go_on.wait(20)
        return play_openai(seen)

    world.upstream.answer = answer
    timer = threading.Timer(0.3, go_on.set)
    timer.start()
    stream = sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream) == TEXT


async def streams(url: str, count: int) -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as sdk:

        async def one() -> str:
            stream = await sdk.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream])

        return await asyncio.gather(*(one() for _ in range(count)))


def test_fifty_streams_at_once(world: World) -> None:
    world.upstream.answer = play_openai
    assert asyncio.run(streams(world.url, 50)) == [TEXT] * 50
    assert world.server.log.sql("SELECT count(*) AS n FROM calls WHERE status IS NULL").item() == 0
