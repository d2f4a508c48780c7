"""Gemini's API as its own SDK drives it, to each provider."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.llm.serving import say
from tests.server import played
from tests.server.conftest import World

CLAUDE, GPT, GEM, COMMAND = "claude-sonnet-5-5", "gpt-5.4-mini", "gemini-3.8-flash", "command-a"
EVERY = (CLAUDE, GPT, GEM, COMMAND)
LOOK: Any = {
    "name": "look",
    "description": "The weather of a city.",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
}
HELLO: Any = "Say hello."


def client(world: World, version: str = "v1") -> genai.Client:
    options = types.HttpOptions(base_url=world.url, api_version=version, timeout=30_000)
    return genai.Client(api_key="none", http_options=options)


@pytest.fixture
def sdk(world: World) -> Iterator[genai.Client]:
    with client(world) as made:
        yield made


def ask(sdk: genai.Client, model: str = GEM, contents: Any = HELLO, **config: Any) -> Any:
    return sdk.models.generate_content(model=model, contents=contents, config=config or None)  # pyright: ignore[reportArgumentType]


def streamed(sdk: genai.Client, model: str = GEM, contents: Any = HELLO, **config: Any) -> Any:
    """The chunks, and their parts in one content."""
    chunks = list(
        sdk.models.generate_content_stream(model=model, contents=contents, config=config or None)  # pyright: ignore[reportArgumentType]
    )
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or ()
        for part in (candidate.content.parts if candidate.content else None) or ()
    ]
    return chunks, types.Content(role="model", parts=parts)


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("model", EVERY)
def test_every_provider_answers_whole_and_in_pieces(world: World, model: str, version: str) -> None:
    with client(world, version) as sdk:
        whole = ask(sdk, model)
        chunks, content = streamed(sdk, model)
    assert whole.text == "Hello there."
    assert whole.candidates[0].finish_reason == types.FinishReason.STOP
    assert "".join(part.text for part in content.parts) == "Hello there."
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert whole.usage_metadata.total_token_count > 0


def test_thoughts_are_counted_beside_the_candidates(sdk: genai.Client) -> None:
    used = ask(sdk).usage_metadata
    counts = (used.prompt_token_count, used.candidates_token_count, used.thoughts_token_count)
    assert counts == (9, 3, 4)
    assert (used.total_token_count, used.cached_content_token_count) == (16, 2)


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", EVERY)
def test_a_function_is_called_and_its_result_is_answered(
    sdk: genai.Client, world: World, model: str, as_stream: bool
) -> None:
    config: Any = {
        "tools": [{"function_declarations": [LOOK]}],
        "tool_config": {"function_calling_config": {"mode": "ANY"}},
        "automatic_function_calling": {"disable": True},
    }
    if as_stream:
        _, content = streamed(sdk, model, **config)
    else:
        content = ask(sdk, model, **config).candidates[0].content
    [call] = [part.function_call for part in content.parts if part.function_call]
    assert (call.name, call.args) == ("look", {"city": "Bern"})
    result = types.Part.from_function_response(name="look", response={"result": "rain"})
    asked = types.Content(role="user", parts=[types.Part(text=HELLO)])
    turns = [asked, content, types.Content(role="user", parts=[result])]
    answer = ask(sdk, model, turns, tools=config["tools"])
    assert answer.text == "Hello there."
    if model == GEM:
        sent = world.upstream.seen[-1].json["contents"]
        assert sent[1]["parts"][-1]["thoughtSignature"] == "c2lnbmVk"
        assert sent[2]["parts"][0]["functionResponse"]["response"] == {"result": "rain"}


def test_the_sdk_calls_python_functions_by_itself(sdk: genai.Client) -> None:
    cities: list[str] = []

    def look(city: str) -> str:
        """The weather of a city."""
        cities.append(city)
        return "rain"

    assert ask(sdk, GPT, tools=[look]).text == "Hello there."
    assert cities == ["Bern"]


class Number(BaseModel):
    n: int


@pytest.mark.parametrize("model", [CLAUDE, GEM, COMMAND])
def test_an_answer_keeps_to_a_schema(sdk: genai.Client, world: World, model: str) -> None:
    answer = ask(sdk, model, response_mime_type="application/json", response_schema=Number)
    assert answer.parsed == Number(n=3)
    assert '"integer"' in json.dumps(world.upstream.seen[-1].json)
    schema = Number.model_json_schema()
    answer = ask(sdk, model, response_mime_type="application/json", response_json_schema=schema)
    assert json.loads(answer.text) == {"n": 3}


@pytest.mark.parametrize("as_stream", [False, True], ids=["whole", "stream"])
def test_anothers_thoughts_come_back_to_it_with_their_signature(
    sdk: genai.Client, world: World, as_stream: bool
) -> None:
    config: Any = {"thinking_config": {"thinking_budget": 8192}, "max_output_tokens": 20_000}
    if as_stream:
        _, content = streamed(sdk, "claude-sonnet-4-5", **config)
    else:
        content = ask(sdk, "claude-sonnet-4-5", **config).candidates[0].content
    assert content.parts[0].thought
    turns = [types.Content(role="user", parts=[types.Part(text=HELLO)]), content]
    turns.append(turns[0])
    ask(sdk, "claude-sonnet-4-5", turns)
    assert world.upstream.seen[-1].json["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "Say hello.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "aGlkZGVu"},
    ]
    ask(sdk, GPT, turns)
    assert "aGlkZGVu" not in json.dumps(world.upstream.seen[-1].json)


def test_what_only_this_api_has_goes_along(sdk: genai.Client, world: World) -> None:
    safe: Any = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    ask(
        sdk,
        system_instruction="Be brief.",
        safety_settings=safe,
        presence_penalty=0.5,
        temperature=0.1,
        top_k=4,
        seed=7,
        stop_sequences=["END"],
        thinking_config={"include_thoughts": True, "thinking_budget": 77},
        tools=[{"google_search": {}}],
    )
    sent = world.upstream.seen[-1].json
    assert sent["generationConfig"] == {
        "temperature": 0.1,
        "topK": 4,
        "seed": 7,
        "stopSequences": ["END"],
        "presencePenalty": 0.5,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 77},
    }
    assert (sent["tools"], sent["safetySettings"]) == ([{"googleSearch": {}}], safe)
    assert sent["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    with pytest.raises(errors.ClientError, match="presencePenalty"):
        ask(sdk, GPT, presence_penalty=0.5)
    with pytest.raises(errors.ClientError, match="only functions"):
        ask(sdk, GPT, tools=[{"google_search": {}}])


def test_pictures_go_along(sdk: genai.Client, world: World) -> None:
    here = types.Part.from_bytes(data=b"png", mime_type="image/png")
    there = types.Part.from_uri(file_uri="https://x.test/a.png", mime_type="image/png")
    ask(sdk, CLAUDE, [here, there, "What is it?"])
    blocks = world.upstream.seen[-1].json["messages"][0]["content"]
    data = base64.b64encode(b"png").decode()
    assert [block.get("source") for block in blocks] == [
        {"type": "base64", "media_type": "image/png", "data": data},
        {"type": "url", "url": "https://x.test/a.png"},
        None,
    ]
    with pytest.raises(errors.ClientError, match="audio/mp3"):
        ask(sdk, CLAUDE, [types.Part.from_bytes(data=b"a", mime_type="audio/mp3")])


def test_texts_become_vectors(sdk: genai.Client, world: World) -> None:
    config: Any = {"task_type": "RETRIEVAL_QUERY", "output_dimensionality": 2}
    told = sdk.models.embed_content(
        model="gemini-embedding-001", contents=["a", "bcd"], config=config
    )
    assert [each.values for each in told.embeddings or ()] == [[1.0, 1.0], [3.0, 1.0]]
    sent = world.upstream.seen[-1].json["requests"][0]
    assert (sent["taskType"], sent["outputDimensionality"]) == ("RETRIEVAL_QUERY", 2)
    one = {"content": {"parts": [{"text": "ab"}]}}
    plain = httpx.post(f"{world.url}/v1beta/models/gemini-embedding-001:embedContent", json=one)
    assert plain.json()["embedding"] == {"values": [2.0, 1.0]}


def test_tokens_are_counted_and_models_told(sdk: genai.Client, world: World) -> None:
    short = sdk.models.count_tokens(model=GEM, contents=HELLO).total_tokens or 0
    long = sdk.models.count_tokens(model=GEM, contents=HELLO * 100).total_tokens or 0
    assert 3 <= short <= 20
    assert long > 200
    names = [model.name for model in sdk.models.list(config={"page_size": 100})]
    assert {"models/local/extract", "models/gemini-2.5-flash"} <= set(names)
    assert len(names) == len(set(names)) > 100
    assert sdk.models.get(model="local/echo").name == "models/local/echo"
    with pytest.raises(errors.ClientError) as caught:
        sdk.models.get(model="nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


def test_without_events_a_stream_is_an_array(world: World) -> None:
    body = {"contents": [{"parts": [{"text": "Say hello."}]}]}
    answer = httpx.post(
        f"{world.url}/v1beta/models/local/echo:streamGenerateContent?key=none", json=body
    )
    assert answer.headers["content-type"] == "application/json"
    texts = [
        part["text"]
        for chunk in answer.json()
        for part in chunk["candidates"][0]["content"]["parts"]
    ]
    assert "".join(texts) == "Say hello."


def test_both_spellings_of_names_are_read(world: World) -> None:
    body = {
        "contents": [{"role": "user", "parts": {"text": "Hi."}}],
        "system_instruction": {"parts": {"text": "Be brief."}},
        "generation_config": {"max_output_tokens": 5, "topP": 0.5},
    }
    url = f"{world.url}/v1beta/models/{GEM}:generateContent"
    assert httpx.post(url, json=body).status_code == 200
    sent = world.upstream.seen[-1].json
    assert sent["generationConfig"] == {"maxOutputTokens": 5, "topP": 0.5}
    assert sent["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


def test_errors_have_their_code_and_word(sdk: genai.Client, world: World) -> None:
    with pytest.raises(errors.ClientError) as caught:
        ask(sdk, contents=[types.Content(role="nobody", parts=[types.Part(text="a")])])
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    with pytest.raises(errors.ClientError) as caught:
        ask(sdk, "local/nothing")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    quota = {
        "code": 429,
        "message": "too many",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "500s"}],
    }
    world.upstream.answer = lambda _: say({"error": quota}, 429)
    with pytest.raises(errors.ClientError) as caught:
        ask(sdk, "gemini-2.5-flash")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    details: Any = caught.value.details
    assert details["error"]["details"][0]["retryDelay"] == "500.000s"


@pytest.mark.parametrize("cut", [False, True], ids=["told", "cut"])
def test_an_error_within_a_stream_is_raised(sdk: genai.Client, world: World, cut: bool) -> None:
    content = {"parts": [{"text": "Hel"}], "role": "model"}
    begun: Any = {"candidates": [{"content": content, "index": 0}]}
    wrong: Any = {"error": {"code": 503, "message": "too many", "status": "UNAVAILABLE"}}
    read = threading.Event()
    world.upstream.answer = lambda _: played.broken([begun], None if cut else wrong, read)
    texts: list[str | None] = []

    def follow() -> None:
        for chunk in sdk.models.generate_content_stream(model="gemini-2.5-pro", contents=HELLO):
            texts.append(chunk.text)
            read.set()

    with pytest.raises(errors.APIError) as caught:
        follow()
    assert texts == ["Hel"]
    assert caught.value.code == (502 if cut else 503)


def test_a_blocked_prompt_is_one(sdk: genai.Client, world: World) -> None:
    blocked = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    world.upstream.answer = lambda _: say(blocked)
    answer = ask(sdk, "gemini-2.5-flash-lite")
    assert answer.candidates is None
    assert answer.prompt_feedback.block_reason == types.BlockedReason.PROHIBITED_CONTENT


def test_many_at_once(sdk: genai.Client) -> None:
    sent = [f"number {n}" for n in range(32)]

    def echo(words: str) -> str:
        _, content = streamed(sdk, "local/echo", words)
        return "".join(part.text for part in content.parts)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(echo, sent)) == sent
