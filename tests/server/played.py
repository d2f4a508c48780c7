"""Four providers as one real server of this machine: each answers in its own language, and asks for a
function where it is offered one and has not been told its result.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

from tests.llm.serving import Say, Seen, say, say_events

Json = dict[str, Any]

TEXT = "Hello there."
PIECES = ("Hello", " there", ".")
CALL = {"city": "Bern"}
SIGNATURE = "c2lnbmVk"


def play(seen: Seen) -> Say:
    """What the provider whose path this is says."""
    path = seen.path.partition("?")[0]
    for end, answer in _ANSWERS.items():
        if path.endswith(end):
            return answer(seen.json)
    return say({"error": {"message": f"nobody plays {path}"}}, 404)


def broken(begun: list[Json], wrong: Json | None, read: threading.Event) -> Say:
    """A stream that has begun, and once that was read is cut, or tells what is wrong."""

    def pieces() -> Iterator[bytes]:
        yield b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in begun)
        assert read.wait(30)
        if wrong is not None:
            yield f"data: {json.dumps(wrong)}\n\n".encode()

    return Say(pieces(), 200, {"content-type": "text/event-stream"}, cut=wrong is None)


def _wants_call(body: Json) -> bool:
    words = json.dumps(body)
    told = any(mark in words for mark in ('"tool_result"', '"functionResponse"', '"role": "tool"'))
    return bool(body.get("tools")) and not told


def anthropic(body: Json) -> Say:
    """A message: a thought where thinking is asked for, then a call or words."""
    content: list[Json] = []
    if body.get("thinking"):
        content.append({"type": "thinking", "thinking": "Say hello.", "signature": SIGNATURE})
        content.append({"type": "redacted_thinking", "data": "aGlkZGVu"})
    if _wants_call(body):
        content.append({"type": "tool_use", "id": "toolu_1", "name": "look", "input": CALL})
    else:
        words = '{"n": 3}' if "format" in body.get("output_config", {}) else TEXT
        content.append({"type": "text", "text": words})
    usage = {
        "input_tokens": 5,
        "cache_read_input_tokens": 4,
        "cache_creation_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 7,
        "service_tier": "standard",
    }
    message: Json = {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": "tool_use" if content[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return say_events(*_anthropic_events(message)) if body.get("stream") else say(message)


def _anthropic_events(message: Json) -> list[Any]:
    start = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 5}}
    events: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(message["content"]):
        empty, deltas = _anthropic_block(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        for delta in deltas:
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": ending, "usage": message["usage"]})
    return [*events, {"type": "message_stop"}]


def _anthropic_block(block: Json) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "text":
            pieces = [block["text"][:5], block["text"][5:]]
            return {**block, "text": ""}, [{"type": "text_delta", "text": p} for p in pieces]
        case "thinking":
            return {**block, "thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "tool_use":
            words = json.dumps(block["input"])
            pieces = [words[:6], words[6:]]
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in pieces
            ]
        case _:
            return block, []


def openai(body: Json) -> Say:
    """A chat completion: a call or words."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps(CALL)},
    }
    wants = _wants_call(body)
    message: Json = {"role": "assistant", "content": None if wants else TEXT}
    if wants:
        message["tool_calls"] = [call]
    finish = "tool_calls" if wants else "stop"
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    head = {"id": "chatcmpl-1", "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return say({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    words = call["function"]["arguments"]
    deltas: list[Json] = [{"content": piece} for piece in PIECES]
    if wants:
        begun = {**call, "function": {"name": "look", "arguments": ""}}
        pieces = [{"function": {"arguments": piece}} for piece in (words[:4], words[4:])]
        deltas = [{"tool_calls": [{"index": 0, **piece}]} for piece in (begun, *pieces)]
    chunks: list[Any] = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return say_events(*chunks, {**head, "choices": [], "usage": usage}, "[DONE]")


def gemini(body: Json) -> Say:
    """A response: a thought where one is asked for, then a call or words."""
    return say(_gemini(body)[0])


def gemini_stream(body: Json) -> Say:
    """The same in pieces."""
    whole, parts = _gemini(body)
    candidate = whole["candidates"][0]
    chunks = [
        {**whole, "candidates": [{"content": {"parts": [part], "role": "model"}, "index": 0}]}
        for part in parts
    ]
    chunks[-1]["candidates"][0]["finishReason"] = candidate["finishReason"]
    return say_events(*chunks)


def _gemini(body: Json) -> tuple[Json, list[Json]]:
    config = body.get("generationConfig", {})
    parts: list[Json] = []
    if config.get("thinkingConfig"):
        parts.append({"text": "Say hello.", "thought": True})
    if _wants_call(body):
        call = {"name": "look", "args": CALL, "id": "fc_1"}
        parts.append({"functionCall": call, "thoughtSignature": SIGNATURE})
    else:
        parts.append({"text": '{"n": 3}' if "responseJsonSchema" in config else TEXT})
    usage = {
        "promptTokenCount": 9,
        "candidatesTokenCount": 3,
        "thoughtsTokenCount": 4,
        "totalTokenCount": 16,
        "cachedContentTokenCount": 2,
    }
    content = {"parts": parts, "role": "model"}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-up"}
    return whole, parts


def gemini_vectors(body: Json) -> Say:
    """A vector for each text: its length, and one."""
    texts = ["".join(part["text"] for part in one["content"]["parts"]) for one in body["requests"]]
    return say({"embeddings": [{"values": [float(len(text)), 1.0]} for text in texts]})


def cohere(body: Json) -> Say:
    """A chat: a plan and a call, or words."""
    wants = _wants_call(body)
    usage = {
        "billed_units": {"input_tokens": 8, "output_tokens": 2},
        "tokens": {"input_tokens": 10, "output_tokens": 3},
    }
    call = {
        "id": "look_1",
        "type": "function",
        "function": {"name": "look", "arguments": json.dumps(CALL)},
    }
    words = '{"n": 3}' if body.get("response_format") else TEXT
    message: Json = {"role": "assistant", "content": [{"type": "text", "text": words}]}
    if wants:
        message = {"role": "assistant", "tool_plan": "I will look.", "tool_calls": [call]}
    finish = "TOOL_CALL" if wants else "COMPLETE"
    if not body.get("stream"):
        return say({"id": "co_1", "finish_reason": finish, "message": message, "usage": usage})

    def piece(kind: str, **message: Any) -> Json:
        return {"type": kind, "index": 0, "delta": {"message": message}}

    events = [piece("content-start", content={"type": "text", "text": ""})]
    events += [piece("content-delta", content={"text": each}) for each in PIECES]
    if wants:
        empty = {**call, "function": {"name": "look", "arguments": ""}}
        whole = {"function": {"arguments": call["function"]["arguments"]}}
        events = [piece("tool-plan-delta", tool_plan="I will look.")]
        events += [piece("tool-call-start", tool_calls=empty)]
        events += [piece("tool-call-delta", tool_calls=whole)]
    end = {"type": "message-end", "delta": {"finish_reason": finish, "usage": usage}}
    return say_events({"type": "message-start", "id": "co_1"}, *events, end, "[DONE]")


def cohere_vectors(body: Json) -> Say:
    """A vector for each text."""
    vectors = [[float(len(text)), -1.0, 0.5, 2.0] for text in body["texts"]]
    units = {"billed_units": {"input_tokens": len(body["texts"])}}
    return say({"id": "e", "embeddings": {"float": vectors}, "meta": units})


def cohere_ranking(body: Json) -> Say:
    """The longest document first."""
    scored = [
        {"index": n, "relevance_score": len(d) / 100} for n, d in enumerate(body["documents"])
    ]
    scored.sort(key=lambda row: -row["relevance_score"])
    units = {"billed_units": {"search_units": 1}}
    return say({"id": "r", "results": scored[: body["top_n"]], "meta": units})


_ANSWERS = {
    "/messages": anthropic,
    "/chat/completions": openai,
    ":generateContent": gemini,
    ":streamGenerateContent": gemini_stream,
    ":batchEmbedContents": gemini_vectors,
    "/v2/chat": cohere,
    "/v2/embed": cohere_vectors,
    "/v2/rerank": cohere_ranking,
}
