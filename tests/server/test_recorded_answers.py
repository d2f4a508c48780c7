"""Answers that real providers gave: through the server an SDK sees what it sees without it.

Recorded bodies lie beside the repository; without them these tests are skipped, and say so.
"""

from collections.abc import Iterable
from typing import Any

import anthropic
import cohere
import httpx
import openai
import pytest
from google import genai
from google.genai import types

from tests.llm.recorded import Recorded, name, needs_recordings, recordings
from tests.llm.serving import Say
from tests.server.conftest import World

pytestmark = needs_recordings
Json = dict[str, Any]
HELLO: Any = [{"role": "user", "content": "Say hello."}]


def chosen(provider: str, *endpoints: str) -> list[Recorded]:
    return [one for one in recordings(provider, *endpoints) if one.status == 200 and one.body]


def plays(world: World, recorded: Recorded) -> tuple[str, str]:
    """Where the provider is, and where the server that asks it: both answer with the recording."""
    kind = "text/event-stream" if recorded.is_stream else "application/json"
    world.upstream.answer = lambda seen: Say(recorded.body, 200, {"content-type": kind})
    return world.upstream.url, world.url


def plain(value: Any) -> Any:
    """JSON without nulls, empty lists and what only says that nothing is said."""
    if isinstance(value, dict):
        kept = {each: plain(inner) for each, inner in value.items()}
        return {each: inner for each, inner in kept.items() if inner not in (None, [], {})}
    return [plain(each) for each in value] if isinstance(value, list) else value


def joined(blocks: Iterable[Json]) -> list[Json]:
    """Texts that follow each other and rest on nothing are one."""
    made: list[Json] = []
    for block in blocks:
        before = made[-1] if made else {}
        if block.keys() == before.keys() == {"type", "text"}:
            made[-1] = {**block, "text": before["text"] + block["text"]}
        elif block.get("type") != "text" or block.get("text"):
            made.append(block)
    return made


def anthropics(url: str, stream: bool) -> tuple[list[Json], Any]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as sdk:
        asked: Any = {"model": "claude-sonnet-5-5", "max_tokens": 100, "messages": HELLO}
        if stream:
            with sdk.messages.stream(**asked) as live:
                made = live.get_final_message()
        else:
            made = sdk.messages.create(**asked)
    blocks = [plain(block.to_dict(warnings=False)) for block in made.content]
    for block in blocks:
        if block["type"] == "tool_use":
            block.pop("caller", None)
    return joined(blocks), made.stop_reason


@pytest.mark.parametrize("recorded", chosen("anthropic", "v1.messages"), ids=name)
def test_anthropic(recorded: Recorded, world: World) -> None:
    there, here = (anthropics(url, recorded.is_stream) for url in plays(world, recorded))
    assert here == there


def openais(url: str, stream: bool) -> list[Json]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        asked: Any = {"model": "gpt-5.4-mini", "input": "Say hello."}
        made: Any
        if stream:
            ends = {"response.completed", "response.incomplete", "response.failed"}
            events: Any = sdk.responses.create(**asked, stream=True)
            *_, last = (each for each in events if each.type in ends)
            made = last.response
        else:
            made = sdk.responses.create(**asked)
    return [each for item in made.output if (each := _item(plain(item.to_dict(warnings=False))))]


def _item(item: Json) -> Json | None:
    """What an item says: its id is ours, its thoughts are paragraphs."""
    match item["type"]:
        case "message":
            blocks = [
                {k: v for k, v in each.items() if k != "logprobs"} for each in item["content"]
            ]
            return {"type": "message", "content": joined(blocks)}
        case "function_call":
            return {each: item[each] for each in ("type", "name", "call_id", "arguments")}
        case "reasoning":
            said = item.get("content") or item.get("summary") or []
            words = "\n\n".join(each["text"] for each in said)
            # What proves it is sealed with its id here, and opened when it goes back.
            is_some = words or item.get("encrypted_content")
            return {"type": "reasoning", "words": words} if is_some else None
        case _:
            # OpenAI encrypts anew in the last event of a stream.
            return item | ({"encrypted_content": "..."} if "encrypted_content" in item else {})


@pytest.mark.parametrize("recorded", chosen("openai", "v1.responses"), ids=name)
def test_openais_responses(recorded: Recorded, world: World) -> None:
    there, here = (openais(url, recorded.is_stream) for url in plays(world, recorded))
    assert here == there


def completions(url: str, stream: bool) -> list[Json]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as sdk:
        asked: Any = {"model": "gpt-5.4-mini", "messages": HELLO}
        if not stream:
            made = sdk.chat.completions.create(**asked)
            return [_choice(plain(each.to_dict(warnings=False))) for each in made.choices[:1]]
        try:
            with sdk.chat.completions.stream(**asked) as live:
                made = live.get_final_completion()
        except openai.LengthFinishReasonError:
            return [{"finish": "length"}]
        return [_choice(plain(each.to_dict(warnings=False))) for each in made.choices[:1]]


def _choice(choice: Json) -> Json:
    message = choice["message"]
    calls = [call.get("function") or call["custom"] for call in message.get("tool_calls", ())]
    for call in calls:
        call.pop("parsed_arguments", None)
    told = {each: message.get(each) for each in ("content", "refusal", "annotations")}
    return {**told, "calls": calls, "finish": choice["finish_reason"]}


# A function that is asked for in the words of 2023 is a tool call here.
CHATS = [
    each
    for each in chosen("openai", "v1.chat.completions")
    if b'"finish_reason": "function_call"' not in each.body
]


@pytest.mark.parametrize("recorded", CHATS, ids=name)
def test_openais_chat(recorded: Recorded, world: World) -> None:
    there, here = (completions(url, recorded.is_stream) for url in plays(world, recorded))
    assert here == there


def geminis(url: str, stream: bool) -> tuple[list[Json], Json]:
    options = types.HttpOptions(base_url=url)
    asked: Any = {"model": "gemini-3-pro", "contents": "Say hello."}
    with genai.Client(api_key="none", http_options=options) as sdk:
        models = sdk.models
        whole = (
            models.generate_content_stream(**asked)
            if stream
            else [models.generate_content(**asked)]
        )
        candidates = [each.candidates[0] for each in whole if each.candidates]
    parts: list[Json] = []
    beside: Json = {}
    for candidate in candidates:
        told = plain(candidate.model_dump(mode="json", exclude_none=True))
        for part in told.get("content", {}).get("parts", ()):
            part.get("function_call", {}).pop("id", None)
            before = parts[-1] if parts else {}
            if "text" in before and "text" in part and before.get("thought") == part.get("thought"):
                parts[-1] = {**before, **part, "text": before["text"] + part["text"]}
            elif part.keys() != {"text"} or part["text"]:
                parts.append(part)
        names = ("grounding_metadata", "url_context_metadata", "citation_metadata")
        beside |= {each: told[each] for each in names if told.get(each)}
    return parts, beside


def coheres(url: str, stream: bool, tools: Any) -> tuple[list[Json], Any]:
    with httpx.Client(timeout=30) as http:
        sdk = cohere.ClientV2(api_key="none", base_url=url, httpx_client=http)
        asked: Any = {"model": "command-a", "messages": HELLO, "tools": tools}
        if not stream:
            message = plain(sdk.chat(**asked).message.dict())
            return message.get("content", []), message.get("citations", [])
        told = [plain(each.dict()) for each in sdk.chat_stream(**asked)]
    blocks: list[Json] = []
    cited: list[Json] = []
    for each in told:
        message = each.get("delta", {}).get("message", {})
        match each["type"]:
            case "content-start":
                blocks.append({"type": message["content"]["type"], "text": ""})
            case "content-delta":
                content = message.get("content", {})
                blocks[-1]["text"] += content.get("text") or content.get("thinking") or ""
            case "citation-start":
                cited.append(message["citations"])
            case _:
                pass
    return [block for block in blocks if block["text"]], cited


@pytest.mark.parametrize("recorded", chosen("cohere", "v2.chat"), ids=name)
def test_cohere(recorded: Recorded, world: World) -> None:
    look: Any = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    tools: Any = [{"type": "function", "function": look}] if b"tool-plan" in recorded.body else None
    there, here = (coheres(url, recorded.is_stream, tools) for url in plays(world, recorded))
    assert here == there


# An array, as a stream without events is, the SDK does not read.
GEMINI = [
    *chosen("google", "v1beta.models.generateContent"),
    *(each for each in chosen("google", "v1beta.models.streamGenerateContent") if each.is_stream),
]


@pytest.mark.parametrize("recorded", GEMINI, ids=name)
def test_gemini(recorded: Recorded, world: World) -> None:
    there, here = (geminis(url, recorded.is_stream) for url in plays(world, recorded))
    assert here == there
