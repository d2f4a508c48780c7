"""OpenAI's other routes as `played.py` plays chat completions: responses, embeddings, text completions."""

import base64
import json
import struct
from typing import Any, TypeVar

from openai import BaseModel

from tests.llm.serving import Say, Seen, say, say_events
from tests.server.played import CALL, PIECES, TEXT, play

Json = dict[str, Any]

THOUGHT = "They want a greeting."
SECRET = "gAAAAABsecret"


M = TypeVar("M", bound=BaseModel)


def checked(value: M) -> M:
    """A value of the SDK, once nothing that its class demands is missing in it."""
    type(value).model_validate(value.to_dict())
    return value


def play_openai(seen: Seen) -> Say:
    """What OpenAI says, or another provider of `played.py`."""
    path = seen.path.partition("?")[0]
    if path.endswith("/responses"):
        return responses(seen.json)
    if path.endswith("/embeddings"):
        return embeddings(seen.json)
    if path.endswith("/completions") and "prompt" in seen.json:
        return completions(seen.json)
    return play(seen)


def responses(body: Json) -> Say:
    """A response: a thought where one is asked for, then a call or words."""
    output: list[Json] = []
    if body.get("reasoning"):
        summary = [{"type": "summary_text", "text": THOUGHT}]
        hidden = {"encrypted_content": SECRET}
        output.append({"type": "reasoning", "id": "rs_up", "summary": summary, **hidden})
    if body.get("tools") and "function_call_output" not in json.dumps(body["input"]):
        called = {"call_id": "call_1", "name": "look", "arguments": json.dumps(CALL)}
        output.append({"type": "function_call", "id": "fc_up", "status": "completed", **called})
    else:
        words = '{"n": 3}' if body.get("text", {}).get("format") else TEXT
        content = [{"type": "output_text", "text": words, "annotations": []}]
        about = {"id": "msg_up", "role": "assistant", "status": "completed"}
        output.append({"type": "message", **about, "content": content})
    cut = body.get("max_output_tokens") == 16
    whole = {
        "id": "resp_up",
        "object": "response",
        "model": body["model"],
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": 12,
            "input_tokens_details": {"cached_tokens": 4},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 6},
            "total_tokens": 21,
        },
    }
    return say_events(*_events(whole)) if body.get("stream") else say(whole)


def _events(whole: Json) -> list[Json]:
    events: list[Json] = [{"type": "response.created", "response": {**whole, "output": []}}]
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        match item["type"]:
            case "reasoning":
                begun = {**item, "summary": []}
                kind, pieces = "reasoning_summary_text", [THOUGHT[:5], THOUGHT[5:]]
                place["summary_index"] = 0
            case "function_call":
                begun = {**item, "arguments": ""}
                kind, pieces = (
                    "function_call_arguments",
                    [item["arguments"][:4], item["arguments"][4:]],
                )
            case _:
                begun = {**item, "content": []}
                words = item["content"][0]["text"]
                kind, pieces = "output_text", list(PIECES) if words == TEXT else [words]
                place["content_index"] = 0
        events.append({"type": "response.output_item.added", "output_index": index, "item": begun})
        events += [{"type": f"response.{kind}.delta", **place, "delta": each} for each in pieces]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    return [*events, {"type": f"response.{whole['status']}", "response": whole}]


def embeddings(body: Json) -> Say:
    """A vector for each text: its length, and one."""
    size = body.get("dimensions") or 2

    def vector(text: str) -> Any:
        numbers = [float(len(text)), *[1.0] * (size - 1)]
        if body.get("encoding_format") == "base64":
            return base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
        return numbers

    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [
        {"object": "embedding", "index": at, "embedding": vector(text)}
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return say({"object": "list", "model": body["model"], "data": data, "usage": usage})


def completions(body: Json) -> Say:
    """How a text goes on: with itself."""
    head = {"id": "cmpl-1", "object": "text_completion", "model": body["model"]}
    choice = {"index": 0, "text": f" {body['prompt']}", "finish_reason": "length"}
    usage = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    if body.get("stream"):
        return say_events(
            {**head, "choices": [choice]}, {**head, "choices": [], "usage": usage}, "[DONE]"
        )
    return say({**head, "choices": [choice], "usage": usage})
