"""A conversation as bytes: the one form in which language models here read, learn and write.

Its marks are bytes that UTF-8 never has, so no text can forge a turn. Only what the assistant said
is learned and scored; the rest is what it said it to.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from tracemill.messages import Message, Text, ToolCall, ToolResult

MARKS: Mapping[str, int] = {
    "system": 0xF8, "user": 0xF9, "assistant": 0xFA, "tool": 0xFB, "developer": 0xF8,
}  # fmt: skip
END = 0xFC
"""After each turn."""
BREAK = 0xFE
"""Between texts that have nothing to do with each other; is never learned."""

Turn = Message | Mapping[str, Any]
Conversation = Sequence[Turn]
"""Messages, or dictionaries with `role` and `content` as OpenAI has them."""


class Rendered(NamedTuple):
    """A conversation as bytes."""

    data: bytes
    spans: tuple[tuple[int, int], ...]
    """From where to where the assistant's turns are, the mark of their end included."""


def rendered(conversation: Conversation) -> Rendered:
    """The bytes of a conversation, and which of them the assistant wrote."""
    data = bytearray()
    spans: list[tuple[int, int]] = []
    for turn in conversation:
        role, text = _said(turn)
        data.append(MARKS[role])
        start = len(data)
        data += text.encode("utf-8", errors="replace")
        data.append(END)
        if role == "assistant" and _is_learned(turn):
            spans.append((start, len(data)))
    return Rendered(bytes(data), tuple(spans))


def _is_learned(turn: Turn) -> bool:
    """OpenAI's `weight` of 0 takes a turn out of what is learned."""
    return isinstance(turn, Message) or turn.get("weight") != 0


def asked(conversation: Conversation) -> bytes:
    """The bytes that an answer follows on."""
    return rendered(conversation).data + bytes([MARKS["assistant"]])


def _said(turn: Turn) -> tuple[str, str]:
    if isinstance(turn, Message):
        return turn.role, "\n".join(filter(None, map(_part, turn.parts)))
    texts = [_content(turn.get("content"))]
    texts += [
        _call(call["function"]["name"], call["function"]["arguments"])
        for call in turn.get("tool_calls") or ()
    ]
    return turn["role"], "\n".join(filter(None, texts))


def _part(part: object) -> str:
    match part:
        case Text(content=text):
            return text
        case ToolCall(name=name, arguments=arguments):
            return _call(name, arguments)
        case ToolResult(response=response):
            return response
        case _:
            return ""


def _content(content: object) -> str:
    """Text, or the text parts of a list of parts."""
    if isinstance(content, str):
        return content
    parts = cast(Sequence[Mapping[str, Any]], content or ())
    return "\n".join(part["text"] for part in parts if part.get("type") == "text")


def _call(name: str, arguments: str) -> str:
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
