"""What other programs tell, with placeholders for personal data and keys, as the log has it of our own
calls. What a provider has signed, and pictures, stay as they are.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tracemill import pii
from tracemill.messages import File, Message, Part, Reasoning, Text, ToolCall, ToolResult


def asked(told: dict[str, Any]) -> dict[str, Any]:
    """Fields of `Asked`."""
    made = dict(told)
    if said := told.get("messages"):
        made["messages"] = tuple(map(message, said))
    if system := told.get("system"):
        made["system"] = text(system)
    for name in ("extra", "response_schema"):
        if value := told.get(name):
            made[name] = pii.redact_value(value)[0]
    return made


@lru_cache(4096)
def identity(name: str | None) -> str | None:
    """A name that is personal becomes a digest that tells it from others."""
    if name is None or not pii.find(name):
        return name
    return f"redacted:{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


@lru_cache(4096)
def tag(value: str) -> str:
    """The value of a tag: a few different ones stand on all calls."""
    return text(value)


def message(given: Message) -> Message:
    """One message; itself where nothing personal is in it."""
    if isinstance(given.content, str):
        clean = text(given.content)
        return given if clean is given.content else given.model_copy(update={"content": clean})
    return given.model_copy(update={"content": tuple(map(part, given.content))})


def part(given: Part) -> Part:
    """One part of a message; itself where nothing personal is in it."""
    match given:
        case Text() | Reasoning():
            return _changed(given, "content", given.content, text)
        case ToolCall():
            return _changed(given, "arguments", given.arguments, lambda t: pii.redact_json(t)[0])
        case ToolResult():
            return _changed(given, "response", given.response, text)
        case File(name=str(name)):
            return _changed(given, "name", name, text)
        case _:
            return given


def _changed(given: Part, name: str, said: str, change: Callable[[str], str]) -> Part:
    clean = change(said)
    return given if clean == said else given.model_copy(update={name: clean})


def text(said: str) -> str:
    """One text."""
    clean = pii.redact(said).text
    return said if clean == said else clean
