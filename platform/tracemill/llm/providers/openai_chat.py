"""OpenAI's chat completions: their answers, streams and errors as our values.

Written for what servers send that speak this language, which is more than OpenAI does: thoughts in
three forms, calls without an index, usage in odd places, errors with status 200.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tracemill.llm.providers import Provider, Reply
from tracemill.llm.providers.fields import count, known, malformed, obj, objects, parsed, text
from tracemill.llm.providers.openai_chat_request import chat
from tracemill.llm.providers.openai_embeddings import EMBED_BATCH, embed, read_vectors
from tracemill.llm.providers.openai_errors import error, failed_within
from tracemill.llm.providers.openai_logprobs import logprobs_of
from tracemill.llm.providers.openai_usage import usage_of
from tracemill.llm.sse import Event
from tracemill.messages import Delta, FinishReason, Json, Part, Reasoning, Text, ToolCall

__all__ = ["EMBED_BATCH", "chat", "embed", "error", "fold", "read", "read_vectors"]

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "model_length": "context_window",
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "content_filter": "content_filter",
    "error": "error",
    "insufficient_system_resource": "error",
}


def read(body: Any, provider: Provider) -> Reply:
    """The answer in a parsed JSON body; of several choices the first.

    Raises `CallFailed`: an error that came with status 200, or `malformed_response`.
    """
    said = known(body, "the answer")
    _check(said)
    if not isinstance(said.get("choices"), list):
        raise malformed("the answer has no list `choices`")
    choice = next(iter(objects(said["choices"])), obj(None))
    _check(choice)
    # Text completions have the text where others have a message.
    message = obj(choice.get("message")) or {"content": choice.get("text")}
    told = objects(obj(choice.get("logprobs")).get("content"))
    return _reply(said, message, text(choice.get("finish_reason")), told)


def _check(said: Json) -> None:
    if said.get("error") or said.get("object") == "error":
        raise failed_within(said)


def _reply(said: Json, message: Json, finish: str, told: list[Json]) -> Reply:
    refusal = text(message.get("refusal")) or None
    words, _ = _spoken(message.get("content"))
    calls = [_called(call, index) for index, call in enumerate(_calls(message))]
    parts: list[Part] = [*_thoughts(message), *([Text(content=words)] if words else []), *calls]
    return Reply(
        parts=tuple(parts),
        finish_reason=_reason(finish, refusal=bool(refusal), called=bool(calls)),
        raw_finish_reason=finish or None,
        response_model=text(said.get("model")),
        usage=usage_of(said.get("usage")) or usage_of(obj(said.get("x_groq")).get("usage")),
        response_id=text(said.get("id")) or None,
        refusal=refusal,
        service_tier=text(said.get("service_tier"))
        or text(obj(said.get("usage")).get("service_tier"))
        or None,
        logprobs=logprobs_of(told),
    )


def _reason(finish: str, *, refusal: bool, called: bool) -> FinishReason:
    """A call that was demanded ends with `stop`, and so does a refusal."""
    reason = _FINISH.get(finish, "other")
    if reason == "stop" and (refusal or called):
        return "refusal" if refusal else "tool_call"
    return reason


def _spoken(content: Any) -> tuple[str, str]:
    """The words of a content and the thoughts in it: Mistral sends a list of both."""
    if not isinstance(content, list):
        return text(content), ""
    blocks = objects(content)
    words = "".join(text(one.get("text")) for one in blocks if one.get("type") == "text")
    thoughts = "".join(_spoken(one.get("thinking"))[0] for one in blocks)
    return words, thoughts


def _thought(message: Json) -> str:
    """What was thought aloud: DeepSeek, Groq and Mistral put it in three places."""
    return (
        _spoken(message.get("content"))[1]
        or text(message.get("reasoning_content"))
        or text(message.get("reasoning"))
    )


def _thoughts(message: Json) -> Iterator[Reasoning]:
    """OpenRouter's details hold the thoughts again, with what proves them to whoever had them."""
    details = [_detail(one) for one in objects(message.get("reasoning_details"))]
    if (thought := _thought(message)) and not any(one.content for one in details):
        yield Reasoning(content=thought)
    yield from details


def _detail(detail: Json) -> Reasoning:
    kept = {name: value for name, value in detail.items() if name not in ("text", "summary")}
    return Reasoning(
        content=text(detail.get("text")) or text(detail.get("summary")),
        id=text(detail.get("id")) or None,
        signature=json.dumps(kept),
        redacted=detail.get("type") == "reasoning.encrypted",
    )


def _calls(message: Json) -> list[Json]:
    calls = objects(message.get("tool_calls"))
    legacy = obj(message.get("function_call"))
    return calls or ([{"function": legacy}] if legacy else [])


def _called(call: Json, index: int) -> ToolCall:
    function = obj(call.get("function")) or obj(call.get("custom"))
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, dict | list):
        arguments = json.dumps(arguments)
    return ToolCall(
        id=text(call.get("id")) or f"call_{index}",
        name=text(function.get("name")),
        arguments=text(arguments),
        custom=bool(obj(call.get("custom"))) and not obj(call.get("function")),
    )


class Fold:
    """A stream that is being read: the one message that its pieces make."""

    def __init__(self) -> None:
        self._said: Json = {}
        self._finish = ""
        self._ended = False
        self._words: list[str] = []
        self._thoughts: list[str] = []
        self._refusal: list[str] = []
        self._details: dict[tuple[str, int], Json] = {}
        self._called: list[_Called] = []
        self._logprobs: list[Json] = []

    def feed(self, event: Event) -> Iterator[Delta]:
        """What this event adds. Raises `CallFailed` for an error within the stream."""
        data = event.data.strip()
        if not data or self._ended:
            return
        if data == "[DONE]":
            self._ended = True
            return
        chunk = parsed(data, "a piece of the stream")
        _check(chunk)
        if event.name == "error":
            raise failed_within(chunk)
        self._note(chunk)
        for choice in objects(chunk.get("choices")):
            if not count(choice.get("index")):
                yield from self._grow(choice)

    @property
    def done(self) -> bool:
        """Not every server says `[DONE]`; a finish reason is enough."""
        return self._ended or bool(self._finish)

    def reply(self) -> Reply:
        """What has arrived so far."""
        message: Json = {
            "content": "".join(self._words),
            "reasoning": "".join(self._thoughts),
            "reasoning_details": list(self._details.values()),
            "refusal": "".join(self._refusal),
            "tool_calls": [call.whole() for call in self._called],
        }
        return _reply(self._said, message, self._finish, self._logprobs)

    def _note(self, chunk: Json) -> None:
        """The first id and model, the last usage and tier: usage may come anywhere, or often."""
        for name in ("id", "model"):
            if not self._said.get(name):
                self._said[name] = chunk.get(name)
        for name in ("usage", "x_groq", "service_tier"):
            if chunk.get(name):
                self._said[name] = chunk[name]

    def _grow(self, choice: Json) -> Iterator[Delta]:
        _check(choice)
        self._finish = text(choice.get("finish_reason")) or self._finish
        self._logprobs += objects(obj(choice.get("logprobs")).get("content"))
        piece = obj(choice.get("delta")) or {"content": choice.get("text")}
        words, thought = _spoken(piece.get("content"))[0], _thought(piece)
        self._refusal.append(text(piece.get("refusal")))
        for detail in objects(piece.get("reasoning_details")):
            self._add_detail(detail)
        if words or thought:
            self._words.append(words)
            self._thoughts.append(thought)
            yield Delta(text=words, reasoning=thought)
        for call in _calls(piece):
            yield self._add_call(call)

    def _add_detail(self, detail: Json) -> None:
        key = text(detail.get("type")), count(detail.get("index"))
        known_so_far = self._details.setdefault(key, {})
        for name, value in detail.items():
            if name in ("text", "summary", "data"):
                known_so_far[name] = text(known_so_far.get(name)) + text(value)
            elif value is not None:
                known_so_far[name] = value

    def _add_call(self, call: Json) -> Delta:
        piece = _called(call, len(self._called))
        one = self._growing(call, piece)
        one.pieces.append(piece.arguments)
        if not one.first.name:
            one.first = one.first.model_copy(update={"name": piece.name})
        return Delta(tool_call=one.first.model_copy(update={"arguments": piece.arguments}))

    def _growing(self, call: Json, piece: ToolCall) -> "_Called":
        """The call that a piece belongs to. Mistral sends calls whole and without an index, others
        give each the index 0: an id that comes with a name begins a new one."""
        index = call.get("index")
        same = [one for one in self._called if one.index == index]
        if not same and index is None and not piece.name:
            same = self._called
        if not same or (call.get("id") and piece.name and piece.id != same[-1].first.id):
            self._called.append(_Called(index, piece))
            return self._called[-1]
        return same[-1]


class _Called:
    """A call as it grows."""

    def __init__(self, index: Any, first: ToolCall) -> None:
        self.index, self.first = index, first
        self.pieces: list[str] = []

    def whole(self) -> Json:
        """The call as an answer in one piece has it."""
        function = {"name": self.first.name, "arguments": "".join(self.pieces)}
        return {"id": self.first.id, "custom" if self.first.custom else "function": function}


def fold(provider: Provider) -> Fold:
    """A new stream."""
    return Fold()
