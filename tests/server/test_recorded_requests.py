"""Requests that real clients have sent: each is read, and to the provider whose language it is in it
goes out as it came.

Recorded bodies lie beside the repository; without them these tests are skipped, and say so.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from pydantic import ValidationError

from tests.llm.recorded import Recorded, name, needs_recordings, recordings
from tracemill.llm.exchange import merged
from tracemill.llm.providers import PROVIDERS, adapter
from tracemill.llm.providers.schemas import closed, in_words
from tracemill.messages import Request
from tracemill.server.dialects import anthropic_body, cohere_body, gemini_body
from tracemill.server.dialects.gemini_schema import json_schema
from tracemill.server.trouble import Trouble

pytestmark = needs_recordings
Json = dict[str, Any]

# What has no place in our values, by the words in which it is refused.
NOT_SENT = re.compile(r"a block of the type '(server_tool_use|container_upload|\w+_tool_result)'")


def sent(of: str, recorded: Recorded, fields: Json, model: str) -> Json:
    """What goes to the provider."""
    provider = PROVIDERS[of]
    stream = bool(recorded.request["json"].get("stream")) and "gemini" not in of
    request = Request(model=f"{of}/{model}", stream=stream, **fields)
    wire = adapter(provider).chat(request, model, provider)
    return cast(Json, json.loads(json.dumps(merged(request.extra, cast(Json, wire.body)))))


def chats(provider: str, *endpoints: str) -> list[Recorded]:
    """Those with a body that the provider took."""
    found = recordings(provider, *endpoints)
    return [one for one in found if isinstance(one.request.get("json"), dict) and one.status == 200]


def read(reader: Callable[[], Json]) -> Json:
    """The fields; a body that asks for what cannot be sent is skipped with its reason."""
    try:
        return reader()
    except Trouble as trouble:
        if not NOT_SENT.search(trouble.message):
            raise
        pytest.skip(trouble.message)
    except ValidationError as error:
        pytest.fail(str(error))


def without(value: Any, *names: str) -> Any:
    """JSON without fields of these names, nulls, and empty lists, at any depth."""
    if isinstance(value, dict):
        fields = cast(Json, value).items()
        kept = {k: without(v, *names) for k, v in fields if k not in names and v is not None}
        return {k: v for k, v in kept.items() if v != []}
    if isinstance(value, list):
        return [without(each, *names) for each in cast(list[Any], value)]
    return value


def numbers(value: Any) -> Any:
    """JSON in which 1.0 and 1 are the same."""
    return json.loads(json.dumps(value), parse_float=lambda f: int(float(f)) if float(f) == int(float(f)) else float(f))  # fmt: skip


# --- Anthropic


def anthropic_blocks(content: Any) -> list[Json]:
    blocks: list[Json] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content
    )
    made: list[Json] = []
    for block in blocks:
        inner = block.get("content")
        if block["type"] == "tool_result" and not isinstance(inner, str):
            texts = [each["text"] for each in inner or () if each["type"] == "text"]
            made.append({**block, "content": "\n".join(texts)})
            made += [each for each in inner or () if each["type"] == "image"]
        elif block["type"] != "text" or block["text"].strip():
            made.append(block)
    return sorted(made, key=lambda block: block["type"] != "tool_result")


def anthropic_form(body: Json) -> Json:
    """What of a body matters: one form for each way to write the same."""
    turns: list[Json] = []
    for turn in body["messages"]:
        blocks = anthropic_blocks(turn["content"])
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": turn["role"], "content": blocks})
    system = body.get("system")
    if isinstance(system, list):
        system = "\n\n".join(words["text"] for words in cast(list[Json], system))
    made = {**body, "messages": turns, "system": system or None}
    made = without(made, "cache_control", "citations", "caller")
    for turn in made["messages"]:
        for block in turn["content"]:
            if block.get("is_error") is False:
                del block["is_error"]
    for tool in made.get("tools", ()):
        if tool.get("type") == "custom":
            del tool["type"]
        if tool.get("description") == "":
            del tool["description"]
    if made.get("stream") is False:
        del made["stream"]
    return made


ANTHROPIC = chats("anthropic", "v1.messages")


@pytest.mark.parametrize("recorded", ANTHROPIC, ids=name)
def test_a_request_to_anthropic_goes_out_as_it_came(recorded: Recorded) -> None:
    given = recorded.request["json"]
    fields = read(
        lambda: anthropic_body.asked(
            anthropic_body.BODY.validate_python(given), "2023-06-01", speaks=True
        )
    )
    user = (given.get("metadata") or {}).get("user_id")
    out = sent("anthropic-2023", recorded, {**fields, "user_id": user}, given["model"])
    kept = out.pop("cache_control", None)
    expected = anthropic_form(given)
    if shape := expected.get("output_config", {}).get("format"):
        shape["schema"] = out["output_config"]["format"]["schema"]
    assert anthropic_form(out) == expected
    assert bool(kept) == ('"cache_control"' in json.dumps(given))


# --- Cohere


def cohere_turns(turns: Iterable[Json]) -> list[Json]:
    made: list[Json] = []
    for turn in turns:
        content = turn.get("content")
        if isinstance(content, list):
            blocks = cast(list[Json], content)
            if turn["role"] == "tool":
                told = [each.get("document", {}).get("data", each.get("text")) for each in blocks]
                content = "\n".join(x if isinstance(x, str) else json.dumps(x, ensure_ascii=False) for x in told)  # fmt: skip
            elif all(each["type"] == "text" for each in blocks):
                content = "".join(each["text"] for each in blocks)
        calls = [without(call, "type") for call in turn.get("tool_calls") or ()]
        made.append({**turn, "content": content or None, "tool_calls": calls})
    return without(made, "detail")


def cohere_form(body: Json) -> Json:
    made = {**body, "messages": cohere_turns(body["messages"])}
    made = without(made)
    made.setdefault("stream", False)
    if shape := made.get("response_format"):
        shape["json_schema"] = shape.pop("schema", shape.get("json_schema"))
    return made


COHERE = chats("cohere", "v2.chat")


@pytest.mark.parametrize("recorded", COHERE, ids=name)
def test_a_request_to_cohere_goes_out_as_it_came(recorded: Recorded) -> None:
    given = recorded.request["json"]
    body = cohere_body.BODY.validate_python(given)
    fields = read(lambda: cohere_body.asked(body, speaks=True))
    out = sent("cohere", recorded, fields, given["model"])
    assert cohere_form(out) == cohere_form(given)


# --- Gemini


def camel(value: Any) -> Any:
    """Fields of the API in one case; what users name stays."""
    if isinstance(value, list):
        return [camel(each) for each in cast(list[Any], value)]
    if not isinstance(value, dict):
        return value
    made: Json = {}
    for key, each in cast(Json, value).items():
        known = re.sub(r"_(\w)", lambda found: found[1].upper(), key)
        free = known in {"args", "response", "parameters"} or known.endswith("Schema")
        made[known] = each if free else camel(each)
    return made


def gemini_form(body: Json) -> Json:
    """What of a body matters: one form for each way to write the same."""
    made = camel(body)
    system = made.get("systemInstruction")
    if system:
        parts = [system["parts"]] if isinstance(system["parts"], dict) else system["parts"]
        made["systemInstruction"] = "".join(part["text"] for part in parts) or None
    contents: list[Json] = []
    for content in made["contents"]:
        parts = [part for part in content["parts"] if part.get("text") != "" or len(part) > 1]
        role = "model" if content.get("role") == "model" else "user"
        contents.append({"role": role, "parts": gemini_parts(parts)})
    for tool in made.get("tools", ()):
        for declared in tool.get("functionDeclarations", ()):
            if parameters := declared.pop("parameters", None):
                declared["parametersJsonSchema"] = json_schema(parameters)
            declared.setdefault("parametersJsonSchema", {"type": "object", "properties": {}})
            declared.pop("response", None)
            declared.pop("responseJsonSchema", None)
    plain = [t for t in made.get("tools", ()) if t.keys() == {"functionDeclarations"}]
    if plain and len(plain) == len(made["tools"]):
        declared = [each for tool in plain for each in tool["functionDeclarations"]]
        made["tools"] = [{"functionDeclarations": declared}]
    config = made.get("generationConfig", {})
    if "responseSchema" in config:
        config["responseJsonSchema"] = json_schema(config.pop("responseSchema"))
    if level := config.get("thinkingConfig", {}).get("thinkingLevel"):
        config["thinkingConfig"]["thinkingLevel"] = level.upper()
    made.pop("model", None)
    if not config:
        made.pop("generationConfig", None)
    return numbers(without({**made, "contents": joined(contents)}))


def gemini_parts(parts: list[Json]) -> list[Json]:
    made: list[Json] = []
    for part in parts:
        inner = part.get("functionResponse", {}).pop("parts", None) or []
        for kind in ("functionCall", "functionResponse"):
            if kind in part:
                part[kind].setdefault("args" if kind == "functionCall" else "response", {})
        made += [part, *inner]
    return sorted(made, key=lambda part: "functionResponse" not in part)


def joined(contents: list[Json]) -> list[Json]:
    """Turns of one side in succession as one; it makes no difference to a model."""
    made: list[Json] = []
    for content in contents:
        if made and made[-1]["role"] == content["role"]:
            made[-1]["parts"] += content["parts"]
        elif content["parts"]:
            made.append(content)
    return made


GOOGLE = chats("google", "v1beta.models.generateContent", "v1beta.models.streamGenerateContent")


@pytest.mark.parametrize("recorded", GOOGLE, ids=name)
def test_a_request_to_gemini_goes_out_as_it_came(recorded: Recorded) -> None:
    given = recorded.request["json"]
    fields = read(lambda: gemini_body.asked(gemini_body.BODY.validate_python(given), speaks=True))
    # A name without a version: nothing is added for models that demand signatures.
    out, expected = sent("gemini", recorded, fields, "gemini"), gemini_form(given)
    assert without_ids(gemini_form(out), expected) == expected


def without_ids(out: Json, expected: Json) -> Json:
    """Without the ids of calls that had none: ours have."""
    if '"functionCall": {"id"' in json.dumps(expected):
        return out
    if any("id" in p.get("functionCall", {}) for c in expected["contents"] for p in c["parts"]):
        return out
    for content in out["contents"]:
        for part in content["parts"]:
            for kind in ("functionCall", "functionResponse"):
                part.get(kind, {}).pop("id", None)
    return out


def test_there_are_as_many_of_them_as_were_counted() -> None:
    assert min(len(ANTHROPIC), len(COHERE), len(GOOGLE)) > 40


def test_schemas_are_closed_alike() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    assert in_words(closed(schema), {"minimum"})["additionalProperties"] is False
