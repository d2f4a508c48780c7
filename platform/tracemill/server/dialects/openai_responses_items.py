"""Answers as OpenAI's responses write them: a list of items, whole or as the events that build it."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from tracemill.messages import (
    Asked,
    Delta,
    FinishReason,
    Json,
    Native,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    Usage,
)
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.openai import likely, tier
from tracemill.server.dialects.openai_responses_body import OWN

_REASONS: Mapping[FinishReason, str] = {
    "length": "max_output_tokens",
    "context_window": "max_output_tokens",
    "content_filter": "content_filter",
}


def response(call_id: str, model: str, asked: Asked, previous: str | None = None) -> Json:
    """A response without its end: what was asked for, and nothing said yet."""
    schema = asked.response_schema
    shape = {"type": "json_schema", "name": "answer", "schema": schema} if schema else None
    return {
        "id": f"resp_{call_id}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.system,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": None,
        "metadata": asked.metadata,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": previous,
        "reasoning": {"effort": asked.reasoning_effort, "summary": None},
        "safety_identifier": asked.user_id,
        "service_tier": tier(asked.service_tier),
        "store": True,
        "temperature": asked.temperature,
        "text": {"format": shape or {"type": "text"}},
        "tool_choice": _choice(asked.tool_choice),
        "tools": [_tool(tool) for tool in asked.tools],
        "top_logprobs": asked.logprobs or 0,
        "top_p": asked.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def ending(finish: FinishReason) -> Json:
    """The status of an answer that came, whole or cut."""
    reason = _REASONS.get(finish)
    return {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "completed_at": None if reason else int(time.time()),
    }


def usage(used: Usage) -> Json:
    """Tokens, by this API's names."""
    return {
        "input_tokens": used.input_tokens,
        "input_tokens_details": {
            "cached_tokens": used.cache_read_input_tokens,
            "cache_write_tokens": used.cache_write_input_tokens,
        },
        "output_tokens": used.output_tokens,
        "output_tokens_details": {"reasoning_tokens": used.reasoning_output_tokens},
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def items(
    call_id: str,
    parts: Sequence[Part],
    refusal: str | None,
    finish: FinishReason,
    logprobs: tuple[TokenLogprob, ...] | None = None,
) -> list[Json]:
    """The output of an answer in one piece."""
    building = Building(call_id)
    for part in parts:
        match part:
            case Text():
                deltas = [Delta(text=part.content, cited=part.citations or None)]
            case Native():
                deltas = [Delta(native=part)]
            case Reasoning():
                deltas = [Delta(reasoning=part.content, thought=part)]
            case ToolCall():
                deltas = [Delta(tool_call=part)]
            case _:
                deltas = []
        for delta in deltas:
            for _ in building.add(delta):
                pass
    for _ in building.close(refusal, finish, logprobs):
        pass
    return building.items


class Building:
    """The output as it comes, and the events that tell of it."""

    def __init__(self, call_id: str) -> None:
        self.items: list[Json] = []
        self._call_id = call_id
        self._open: int | None = None
        """The place of the message or thought that is being written."""
        self._calls: dict[str, int] = {}

    def add(self, delta: Delta) -> Iterator[Json]:
        """The events of a piece."""
        if delta.reasoning:
            at = yield from self._thinking()
            self.items[at]["summary"][0]["text"] += delta.reasoning
            yield self._at(
                at, "reasoning_summary_text.delta", summary_index=0, delta=delta.reasoning
            )
        if delta.thought is not None:
            yield from self._signed(delta.thought)
        if delta.text:
            at = yield from self._message("output_text")
            self.items[at]["content"][0]["text"] += delta.text
            yield self._at(at, "output_text.delta", content_index=0, delta=delta.text, logprobs=[])
        if cited := [each.body for each in delta.cited or () if each.provider == OWN]:
            yield from self._cited(cited)
        if delta.native is not None and delta.native.provider == OWN:
            yield from self._whole(delta.native.body)
        if (call := delta.tool_call) is not None:
            yield from self._called(call)

    def close(
        self,
        refusal: str | None,
        finish: FinishReason,
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> Iterator[Json]:
        """The end of what is open. A message that was cut is incomplete."""
        if refusal is not None and not any(item["type"] == "message" for item in self.items):
            at = yield from self._message("refusal")
            self.items[at]["content"][0]["refusal"] = refusal
            yield self._at(at, "refusal.delta", content_index=0, delta=refusal)
        yield from self._end("incomplete" if finish in _REASONS else "completed", logprobs)
        for at in self._calls.values():
            words = self.items[at]["arguments"] = self.items[at]["arguments"] or "{}"
            name = self.items[at]["name"]
            yield self._at(at, "function_call_arguments.done", arguments=words, name=name)
            yield self._done(at)

    def _thinking(self) -> Generator[Json, None, int]:
        if self._open is not None and self.items[self._open]["type"] == "reasoning":
            return self._open
        at = yield from self._begin({"type": "reasoning", "summary": []}, "rs")
        part = {"type": "summary_text", "text": ""}
        self.items[at]["summary"].append(dict(part))
        yield self._at(at, "reasoning_summary_part.added", summary_index=0, part=part)
        return at

    def _signed(self, thought: Reasoning) -> Iterator[Json]:
        """Ends the thought that has come; without words it stands for a hidden one."""
        if self._open is None or self.items[self._open]["type"] != "reasoning":
            yield from self._begin({"type": "reasoning", "summary": []}, "rs")
        at = self._open
        assert at is not None
        self.items[at]["encrypted_content"] = thoughts.seal(thought, OWN) or None
        yield from self._end("completed")

    def _message(self, kind: str) -> Generator[Json, None, int]:
        at = self._open
        if at is not None and self.items[at]["type"] == "message":
            return at
        at = yield from self._begin({"type": "message", "role": "assistant", "content": []}, "msg")
        part: Json = {"type": "refusal", "refusal": ""}
        if kind == "output_text":
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[at]["content"].append(dict(part))
        yield self._at(at, "content_part.added", content_index=0, part=part)
        return at

    def _cited(self, annotations: list[Json]) -> Iterator[Json]:
        """What the words that have come rest on; it ends their message, since its places are counted
        from its beginning."""
        at = yield from self._message("output_text")
        for number, each in enumerate(annotations):
            self.items[at]["content"][0]["annotations"].append(each)
            told = {"content_index": 0, "annotation_index": number, "annotation": each}
            yield self._at(at, "output_text.annotation.added", **told)
        yield from self._end("completed")

    def _whole(self, item: Json) -> Iterator[Json]:
        """An item that only OpenAI has."""
        yield from self._end("completed")
        at = len(self.items)
        self.items.append(item)
        for kind in ("added", "done"):
            yield {"type": f"response.output_item.{kind}", "output_index": at, "item": item}

    def _called(self, call: ToolCall) -> Iterator[Json]:
        """Calls stay open until the end: their pieces may come by turns."""
        if call.id not in self._calls:
            made = {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": ""}
            self._calls[call.id] = yield from self._begin(made, "fc")
            self._open = None
        at = self._calls[call.id]
        if call.arguments:
            self.items[at]["arguments"] += call.arguments
            yield self._at(at, "function_call_arguments.delta", delta=call.arguments)

    def _begin(self, item: Json, prefix: str) -> Generator[Json, None, int]:
        yield from self._end("completed")
        at = len(self.items)
        made = {"id": f"{prefix}_{self._call_id}_{at}", "status": "in_progress", **item}
        self.items.append(made)
        self._open = at
        yield {"type": "response.output_item.added", "output_index": at, "item": _copy(made)}
        return at

    def _end(self, status: str, logprobs: tuple[TokenLogprob, ...] | None = None) -> Iterator[Json]:
        at, self._open = self._open, None
        if at is None:
            return
        item = self.items[at]
        if item["type"] == "reasoning":
            for part in item["summary"]:
                words = {"summary_index": 0, "text": part["text"]}
                yield self._at(at, "reasoning_summary_text.done", **words)
                yield self._at(at, "reasoning_summary_part.done", summary_index=0, part=dict(part))
        else:
            [part] = item["content"]
            part |= {} if part["type"] == "refusal" else {"logprobs": _logprobs(logprobs)}
            told = {k: v for k, v in part.items() if k in {"text", "refusal", "logprobs"}}
            yield self._at(at, f"{part['type']}.done", content_index=0, **told)
            yield self._at(at, "content_part.done", content_index=0, part=dict(part))
        yield self._done(at, status)

    def _done(self, at: int, status: str = "completed") -> Json:
        self.items[at]["status"] = status
        item = _copy(self.items[at])
        return {"type": "response.output_item.done", "output_index": at, "item": item}

    def _at(self, at: int, kind: str, **more: Any) -> Json:
        item_id = self.items[at]["id"]
        return {"type": f"response.{kind}", "item_id": item_id, "output_index": at, **more}


def _copy(item: Json) -> Json:
    """The item as it is now: it goes on."""
    return {
        name: [dict(part) for part in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for name, value in item.items()
    }


def _logprobs(tokens: tuple[TokenLogprob, ...] | None) -> list[Json]:
    return [
        {**likely(each), "top_logprobs": [likely(one) for one in each.top]} for each in tokens or ()
    ]


def _choice(choice: str | None) -> str | Json:
    if choice is None or choice in {"auto", "none", "required"}:
        return choice or "auto"
    return {"type": "function", "name": choice}


def _tool(tool: Tool) -> Json:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or None,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }
