"""Requests and answers with every text in them changed, and nothing else about them.

A tool call's arguments stay JSON; signatures and ids stay as they are; pictures and files become digests.
"""

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from tracemill import pii
from tracemill.llm.providers import Reply
from tracemill.messages import (
    Attached,
    Content,
    File,
    Image,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Request,
    Text,
    ToolCall,
    ToolResult,
)

Change = Callable[[str], str]
_SHORT = 2_000
_LONGEST_TEXT = 64 * 1024
"""Of what only a provider has, in the log."""
_DIGEST = "sha256="


class Redactor:
    """Redacts one text after another and counts what it found."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """The text with placeholders."""
        redacted, counts = pii.redact(text)
        self.counts.update(counts)
        return redacted

    def value(self, value: Any) -> Any:
        """The JSON value with placeholders."""
        redacted, counts = pii.redact_value(value)
        self.counts.update(counts)
        return redacted

    def arguments(self, text: str) -> str:
        """A tool call's arguments with placeholders: JSON, where they were JSON."""
        redacted, counts = pii.redact_json(text)
        self.counts.update(counts)
        return redacted

    def identity(self, name: str | None) -> str | None:
        """A user's or conversation's name: where it is personal, a digest that tells it from others."""
        if name is None or not pii.find(name):
            return name
        self.counts.update(pii.redact(name).counts)
        return f"redacted:{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"

    def part(self, part: Part) -> Part:
        """The part with placeholders; what a provider has signed keeps its signature."""
        match part:
            case Text():
                told: Json = {"content": self.text(part.content)}
                if part.citations:
                    told["citations"] = tuple(map(self.part, part.citations))
                return part.model_copy(update=told)
            case Native():
                return part.model_copy(update={"body": self.value(part.body)})
            case Reasoning():
                return part.model_copy(update={"content": self.text(part.content)})
            case ToolCall():
                return part.model_copy(update={"arguments": self.arguments(part.arguments)})
            case ToolResult():
                return part.model_copy(update={"response": self.text(part.response)})
            case Image() | File():
                told = {} if _is_data(part) else {"uri": self.text(part.uri)}
                if isinstance(part, File) and part.name:
                    told["name"] = self.text(part.name)
                return part.model_copy(update=told) if told else part

    def request(self, request: Request) -> Request:
        """Everything that the log gets of a request."""
        return request.model_copy(
            update={
                "messages": _parts_changed(request, self.part, self.text),
                "system": None if request.system is None else self.text(request.system),
                "tools": tuple(
                    tool.model_copy(
                        update={
                            "description": self.text(tool.description),
                            "parameters": self.value(tool.parameters),
                        }
                    )
                    for tool in request.tools
                ),
                "response_schema": self.value(request.response_schema),
                "metadata": self.value(request.metadata),
                "stop": tuple(map(self.text, request.stop)),
                "user_id": self.identity(request.user_id),
                "conversation_id": self.identity(request.conversation_id),
            }
        )

    def sent(self, request: Request) -> Request:
        """What is sent of a request: its texts, but for what a provider has signed and schemas."""

        def change(part: Part) -> Part:
            signed = isinstance(part, ToolCall) and part.signature is not None
            return part if signed or isinstance(part, Reasoning | Native) else self.part(part)

        return request.model_copy(
            update={
                "messages": _parts_changed(request, change, self.text),
                "system": None if request.system is None else self.text(request.system),
            }
        )

    def reply(self, reply: Reply) -> Reply:
        """Everything that the log gets of an answer."""
        return reply._replace(
            parts=tuple(map(self.part, reply.parts)),
            refusal=None if reply.refusal is None else self.text(reply.refusal),
        )


def spotless(request: Request) -> bool:
    """Whether `Redactor.request` would change nothing; False also where only that can tell."""
    read = [request.system or "", *request.stop]
    names = [request.user_id or "", request.conversation_id or ""]
    values = [request.metadata, request.response_schema]
    for tool in request.tools:
        names.append(tool.description)
        values.append(tool.parameters)
    written = [json.dumps(value, ensure_ascii=False) for value in values if value]
    for message in request.messages:
        for part in _pieces(message):
            match part:
                case Image() | File():
                    # Bytes are not words, and there may be millions of them.
                    read += [] if _is_data(part) else [part.uri]
                    read += [part.name] if isinstance(part, File) and part.name else []
                case ToolCall(arguments=arguments):
                    written.append(arguments)
                case Native(body=body):
                    written.append(json.dumps(body, ensure_ascii=False))
                case Text(content=content, citations=cited) if cited:
                    read.append(content)
                    written += [json.dumps(each.body, ensure_ascii=False) for each in cited]
                case _:
                    read.append(_text(part))
    return (
        # What is escaped in JSON is found only when it is read.
        not any("\\" in text for text in written)
        and all(map(_is_spotless, names + written))
        and not any(map(pii.find, read))
    )


def _is_spotless(text: str) -> bool:
    """For what comes again and again, such as names and tools."""
    return _known_spotless(text) if len(text) <= _SHORT else not pii.find(text)


@lru_cache(1024)
def _known_spotless(text: str) -> bool:
    return not pii.find(text)


def _pieces(message: Message) -> tuple[str | Part, ...]:
    content = message.content
    return (content,) if isinstance(content, str) else content


def texts(request: Request) -> list[str]:
    """All that is read of a request, pictures and files apart."""
    found = [request.system or ""]
    found += [_text(part) for message in request.messages for part in _pieces(message)]
    found += [f"{tool.description}{json.dumps(tool.parameters)}" for tool in request.tools]
    return [*found, json.dumps(request.response_schema) if request.response_schema else ""]


def said(message: Message) -> str:
    """All that is read of a message, part after part."""
    return "\n".join(filter(None, map(_text, message.parts)))


def untrusted(request: Request) -> list[str]:
    """What came from users and from functions."""
    return [
        _text(part)
        for message in request.messages
        if message.role in {"user", "tool"}
        for part in _pieces(message)
    ]


def changed(request: Request, change: Change) -> Request:
    """The request with every text that is sent changed, but for what the provider has signed."""

    def change_part(part: Part) -> Part:
        match part:
            case Text():
                return part.model_copy(update={"content": change(part.content)})
            case ToolResult():
                return part.model_copy(update={"response": change(part.response)})
            case _:
                return part

    return request.model_copy(
        update={
            "messages": _parts_changed(request, change_part, change),
            "system": None if request.system is None else change(request.system),
        }
    )


def data_uris_by_digest(request: Request) -> Request:
    """The request with `data:image/png;sha256=<hex>` for every picture and file that it carries in
    full.

    The digest is of its bytes. Other references stay.
    """
    if all(isinstance(message.content, str) for message in request.messages):
        return request
    messages = _parts_changed(request, _by_digest, lambda text: text)
    if all(a is b for a, b in zip(_all(messages), _all(request.messages), strict=True)):
        return request
    return request.model_copy(update={"messages": messages})


def _all(messages: Iterable[Message]) -> Iterator[str | Part]:
    return (part for message in messages for part in _pieces(message))


def answer_by_digest(reply: Reply) -> Reply:
    """The answer with digests in place of pictures and files, as `data_uris_by_digest`, and of what
    is longest of what only its provider has, such as a picture that it made."""
    parts = tuple(map(_by_digest, reply.parts))
    return reply if parts == reply.parts else reply._replace(parts=parts)


def is_digest(part: Part) -> bool:
    """Whether the log has a digest in place of the part, or of something in it."""
    match part:
        case Image() | File():
            return ";sha256=" in part.uri[:100]
        case Native():
            return any(text.startswith(_DIGEST) for text in _texts_within(part.body))
        case _:
            return False


def _texts_within(value: Any) -> Iterator[str]:
    """Every text that is a value in JSON."""
    match value:
        case str():
            yield value
        case dict():
            for each in cast(Json, value).values():
                yield from _texts_within(each)
        case list():
            for each in cast(list[Any], value):
                yield from _texts_within(each)
        case _:
            pass


def _shortened(value: Any) -> Any:
    match value:
        case str() if len(value) > _LONGEST_TEXT:
            return _DIGEST + hashlib.sha256(value.encode(errors="replace")).hexdigest()
        case dict():
            return {name: _shortened(each) for name, each in cast(Json, value).items()}
        case list():
            return [_shortened(each) for each in cast(list[Any], value)]
        case _:
            return value


def _by_digest(part: Part) -> Part:
    if isinstance(part, Native):
        is_long = any(len(text) > _LONGEST_TEXT for text in _texts_within(part.body))
        return part.model_copy(update={"body": _shortened(part.body)}) if is_long else part
    if not isinstance(part, Attached) or not _is_data(part):
        return part
    head, comma, data = part.uri.partition(",")
    if not comma:
        return part
    kind = head[5:].partition(";")[0] or part.mime_type or ""
    digest = hashlib.sha256(_bytes(head, data)).hexdigest()
    return part.model_copy(update={"uri": f"data:{kind};sha256={digest}"})


def _bytes(head: str, data: str) -> bytes:
    if head.lower().endswith(";base64"):
        try:
            return base64.b64decode(data)
        except (binascii.Error, ValueError):
            return data.encode()
    return unquote_to_bytes(data)


def _is_data(part: str | Part) -> bool:
    return isinstance(part, Attached) and part.uri[:5].lower() == "data:"


def _text(part: str | Part) -> str:
    if isinstance(part, str):
        return part
    match part:
        case Text() | Reasoning():
            return part.content
        case ToolCall():
            return part.arguments
        case ToolResult():
            return part.response
        case Image() | File() | Native():
            return ""


def _parts_changed(
    request: Request, change: Callable[[Part], Part], change_text: Change
) -> tuple[Message, ...]:
    def content(given: Content) -> Content:
        return change_text(given) if isinstance(given, str) else tuple(map(change, given))

    return tuple(
        message.model_copy(update={"content": content(message.content)})
        for message in request.messages
    )
