"""Requests that real clients have sent to OpenAI: each is read, and goes out to it as it came.

Recorded bodies lie beside the repository; without them these tests are skipped, and say so.
"""

import json
import re
from collections.abc import Callable
from typing import Any, cast

import pytest
from pydantic import ValidationError

from tests.llm.recorded import Recorded, name, needs_recordings, needs_specs, recordings
from tests.llm.specs import request_errors
from tracemill.errors import CallFailed, UsageError
from tracemill.llm.exchange import merged
from tracemill.llm.providers import PROVIDERS, adapter
from tracemill.llm.providers.schemas import closed, is_strict
from tracemill.messages import Request
from tracemill.server import trouble
from tracemill.server.dialects import openai_chat_body, openai_completions, openai_embeddings
from tracemill.server.dialects import openai_responses_body as responses_body

Json = dict[str, Any]

# What has no place in our values, by the words in which it is refused.
NOT_SENT = re.compile(
    r"an item of the type '\w+_call'|"
    r"not made in the background|the Responses API is not asked for them|"
    r"additional_tools|model: Field required|input\.\d+(\.|: )"
)


def chats(*endpoints: str) -> list[Recorded]:
    """Those with a body that the provider took."""
    found = recordings("openai", *endpoints)
    return [one for one in found if isinstance(one.request.get("json"), dict) and one.status == 200]


def sent(of: str, given: Json, reader: Callable[[], Json]) -> Json:
    """What goes to the provider; a body that asks for what cannot be sent is skipped with why."""
    provider = PROVIDERS[of]
    try:
        fields = reader()
        user = given.get("safety_identifier") or given.get("user")
        request = Request(model=f"{of}/m", stream=bool(given.get("stream")), user_id=user, **fields)
        wire = adapter(provider).chat(request, given["model"], provider)
    except (trouble.Trouble, ValidationError, CallFailed, UsageError) as error:
        told = trouble.of(error)
        assert told.status == 400
        if not NOT_SENT.search(told.message):
            raise
        pytest.skip(told.message)
    return cast(Json, json.loads(json.dumps(merged(request.extra, cast(Json, wire.body)))))


def form(body: Json) -> Json:
    """What of a body matters, but for the conversation: one form for each way to write the same."""
    made = {key: value for key, value in body.items() if value not in (None, [], False)}
    for old, new in (("max_tokens", "max_completion_tokens"), ("user", "safety_identifier")):
        if old in made:
            made[new] = made.pop(old)
    for each in ("stream_options", "store", "n", "include", "messages", "input", "instructions"):
        made.pop(each, None)
    if made.get("service_tier") == "auto":
        del made["service_tier"]
    tools: list[Json] = []
    for tool in made.pop("tools", ()):
        inner = {**tool, **tool.get("function", {})}
        inner.pop("function", None)
        kept = {key: value for key, value in inner.items() if value not in ("", None, False)}
        if kept["type"] == "function":
            kept.setdefault("parameters", {"type": "object", "properties": {}})
        tools.append(kept)
    shapes = [made.pop("response_format", None), made.get("text", {}).get("format")]
    return {**made, "text": None, "tools": tools, "shape": [shape(each) for each in shapes]}


def shape(given: Json | None) -> Json | None:
    """The schema that is asked for; its name is lost."""
    if given is None or given["type"] == "text":
        return None
    inner = given.get("json_schema", given)
    schema = inner.get("schema", {"type": "object"})
    narrow = closed(schema, all_required=True)
    return narrow if is_strict(narrow) else schema


def turns(messages: list[Json]) -> list[Json]:
    """A conversation of chat completions."""
    made: list[Json] = []
    for turn in messages:
        content = turn.get("content")
        if isinstance(content, list):
            blocks = cast(list[Json], content)
            if all(block["type"] in {"text", "refusal"} for block in blocks):
                content = "".join(block.get("text") or block.get("refusal", "") for block in blocks)
            else:
                content = json.dumps(blocks, sort_keys=True).replace('"detail": "auto", ', "")
        role = {"developer": "system"}.get(turn["role"], turn["role"])
        calls = [{**call, "type": "function"} for call in turn.get("tool_calls") or ()]
        made.append(
            {
                "role": role,
                "content": content or "",
                "calls": [{k: v for k, v in c.items() if k != "index"} for c in calls],
                "of": turn.get("tool_call_id"),
            }
        )
    first = 0
    while first < len(made) - 1 and made[first]["role"] == "system":
        first += 1
    system = "\n\n".join(turn["content"] for turn in made[:first])
    return [{"system": system}, *made[first:]]


CHATS = chats("v1.chat.completions")


@needs_recordings
@pytest.mark.parametrize("recorded", CHATS, ids=name)
def test_a_request_for_a_chat_completion_goes_out_as_it_came(recorded: Recorded) -> None:
    given = recorded.request["json"]

    def read() -> Json:
        body = openai_chat_body.BODY.validate_python(given)
        return openai_chat_body.asked(body, speaks=True)

    out = sent("openai", given, read)
    assert form(out) == form(given)
    assert turns(out["messages"]) == turns(given["messages"])


def items(given: str | list[Json]) -> list[Json]:
    """The input of a response: what is said, called and given back."""
    told = [{"role": "user", "content": given}] if isinstance(given, str) else given
    made: list[Json] = []
    for item in told:
        content = item.get("content")
        if isinstance(content, list):
            blocks = cast(list[Json], content)
            words = all("text" in block or "refusal" in block for block in blocks)
            content = "".join(b.get("text") or b.get("refusal", "") for b in blocks) if words else [
                {k: v for k, v in block.items() if k != "detail"} for block in blocks
            ]  # fmt: skip
        output = item.get("output")
        pictures: list[Json] = []
        if isinstance(output, list):
            pictures = [b for b in cast(list[Json], output) if b["type"] == "input_image"]
            output = "\n".join(block.get("text", "") for block in cast(list[Json], output))
        role = {"developer": "system"}.get(item.get("role", ""), item.get("role"))
        kept = {"role": role, "content": content, "output": output}
        kept |= {key: item.get(key) for key in ("call_id", "name", "arguments")}
        if item.get("type") == "reasoning":
            if not item.get("encrypted_content") and not content:
                continue
            kept: Json = {"id": item.get("id"), "secret": item.get("encrypted_content")}
        kept = {key: value for key, value in kept.items() if value not in (None, "")}
        made += [kept] if kept.keys() != {"role"} else []
        if pictures:
            # They stand beside the result: most providers have them nowhere else.
            made.append(
                {
                    "role": "user",
                    "content": [{k: v for k, v in b.items() if k != "detail"} for b in pictures],
                }
            )
    return made


RESPONSES = chats("v1.responses")


@needs_recordings
@pytest.mark.parametrize("recorded", RESPONSES, ids=name)
def test_a_request_for_a_response_goes_out_as_it_came(recorded: Recorded) -> None:
    given = recorded.request["json"]
    given = {key: value for key, value in given.items() if key != "previous_response_id"}

    def read() -> Json:
        body = responses_body.BODY.validate_python(given)
        return responses_body.asked(body, (), speaks=True)

    out = sent("openai-responses", given, read)
    assert form(out) == form(given)
    assert items(out["input"]) == items(given["input"])


@needs_recordings
@pytest.mark.parametrize("recorded", chats("v1.completions", "v1.embeddings"), ids=name)
def test_other_requests_are_read(recorded: Recorded) -> None:
    given = recorded.request["json"]
    if recorded.endpoint == "v1.embeddings":
        assert openai_embeddings.BODY.validate_python(given).input == given["input"]
    else:
        assert openai_completions.BODY.validate_python(given).prompt == given["prompt"]


def test_there_are_as_many_of_them_as_were_counted() -> None:
    if not CHATS:
        pytest.skip("no recorded provider traffic")
    assert (len(CHATS) > 70, len(RESPONSES) > 60) == (True, True)


@needs_specs
@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "pope", "content": "Hi"}]},
        {"messages": "Hi"},
        {"temperature": 3},
        {"top_p": -1},
        {"n": 0},
        {"top_logprobs": 21},
        {"reasoning_effort": "very"},
        {"response_format": {"type": "yaml"}},
        {"stream": "soon"},
        {"stop": 5},
        {"metadata": {"a": 1}},
        {"model": None},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_openais_schema_refuses_is_refused_here_by_its_field(wrong: Json) -> None:
    body = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Hi"}], **wrong}
    assert request_errors("openai", "CreateChatCompletionRequest", body)
    with pytest.raises(ValidationError) as refused:
        openai_chat_body.BODY.validate_json(json.dumps(body))
    told = trouble.of(refused.value)
    assert told.status == 400
    assert (told.param or "").startswith(next(iter(wrong)))
