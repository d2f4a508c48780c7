"""The parts of Gemini's contents, as ours."""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator

from tracemill.llm.providers.attached import base64_of, kind_of
from tracemill.llm.providers.gemini_request import NATIVE
from tracemill.messages import (
    File,
    Image,
    Json,
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from tracemill.server.dialects import thoughts
from tracemill.server.dialects.forms import Camel, attached, content_of
from tracemill.server.trouble import invalid

OWN = "gcp.gemini"
"""Whose thoughts go as they are."""


class Blob(Camel):
    """Bytes, in base64."""

    mime_type: str
    data: str


class Place(Camel):
    """Where a file is."""

    file_uri: str
    mime_type: str | None = None


class Called(Camel):
    """A function that the model wants to be called."""

    name: str
    args: Json | None = None
    id: str | None = None


class Returned(Camel):
    """What a function gave back."""

    name: str
    response: Json | None = None
    id: str | None = None
    parts: "list[Piece] | None" = None


class Piece(Camel):
    """A part of a content."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: Place | None = None
    function_call: Called | None = None
    function_response: Returned | None = None


def _listed(parts: Any) -> Any:
    """Protocol buffers take one where there may be several."""
    return [parts] if isinstance(parts, dict) else parts  # pyright: ignore[reportUnknownVariableType]


class Content(Camel):
    """A turn of the conversation, or instructions."""

    role: str | None = None
    parts: Annotated[list[Piece] | None, BeforeValidator(_listed)] = None


def words(content: Content | None) -> str:
    """The text of a content."""
    return "\n\n".join(piece.text for piece in (content and content.parts) or () if piece.text)


def conversation(contents: Iterable[Content]) -> tuple[Message, ...]:
    """The messages. Raises `Trouble` (400) for a part that cannot be sent."""
    open_calls: list[ToolCall] = []
    made: list[Message] = []
    for number, content in enumerate(contents):
        where = f"contents.{number}"
        parts: list[Part] = []
        for piece in content.parts or ():
            before = parts[-1] if parts else None
            if piece.thought and isinstance(before, Reasoning) and not before.signature:
                # The next piece of a thought that was streamed; its signature comes last.
                words = before.content + (piece.text or "")
                parts[-1] = thoughts.opened(words, piece.thought_signature, OWN)
            else:
                parts += _parts(piece, where, open_calls, len(made))
        made += _messages(content.role, tuple(parts), where)
    return tuple(made)


def _messages(role: str | None, parts: tuple[Part, ...], where: str) -> Iterator[Message]:
    match role:
        case "model":
            yield Message(role="assistant", content=content_of(parts))
        case "system":
            yield Message(role="system", content=content_of(parts))
        case "user" | "function" | "tool" | None | "":
            results = tuple(part for part in parts if isinstance(part, ToolResult))
            rest = tuple(part for part in parts if not isinstance(part, ToolResult))
            if results:
                yield Message(role="tool", content=results)
            if rest or not results:
                yield Message(role="user", content=content_of(rest))
        case _:
            raise invalid(f"{where}.role: it is user or model, not {role[:40]!r}", f"{where}.role")


def _parts(piece: Piece, where: str, open_calls: list[ToolCall], turn: int) -> Iterator[Part]:
    signature = piece.thought_signature
    if piece.function_call is not None:
        call = _call(piece.function_call, signature, f"{turn}_{len(open_calls)}")
        open_calls.append(call)
        yield call
    elif piece.function_response is not None:
        yield _result(piece.function_response, open_calls)
        for inner in piece.function_response.parts or ():
            yield from _parts(inner, where, open_calls, turn)
    elif piece.thought:
        yield thoughts.opened(piece.text or "", signature, OWN)
    elif piece.text is not None:
        if piece.text:
            yield Text(content=piece.text)
        if signature:
            yield thoughts.opened("", signature, OWN)
    else:
        yield _attached(piece, where)


def _call(called: Called, signature: str | None, number: str) -> ToolCall:
    """A call; where it has no name of its own, one that says where it stands."""
    return ToolCall(
        id=called.id or f"call_{number}",
        name=called.name,
        arguments=json.dumps(called.args or {}, ensure_ascii=False),
        signature=signature,
    )


def _result(returned: Returned, open_calls: list[ToolCall]) -> ToolResult:
    """A result; without an id it is that of the oldest call of this name which has none."""
    fits = (
        call
        for call in open_calls
        if call.name == returned.name and returned.id in {None, "", call.id}
    )
    call = next(fits, None)
    if call is not None:
        open_calls.remove(call)
    told, failed = _told(returned.response or {})
    return ToolResult(
        id=returned.id or (call.id if call else f"call_{returned.name}"),
        response=told,
        name=returned.name,
        is_error=failed,
    )


def _told(response: Json) -> tuple[str, bool]:
    """The words of a result, and whether they say why the function failed."""
    if len(response) == 1:
        ((name, value),) = response.items()
        if name in {"output", "error"} and isinstance(value, str) and not _is_json(value):
            return value, name == "error"
        if name == "error":
            return json.dumps(value, ensure_ascii=False), True
    return json.dumps(response, ensure_ascii=False), False


def _is_json(words: str) -> bool:
    try:
        json.loads(words)
    except (ValueError, RecursionError):
        return False
    return True


def _attached(piece: Piece, where: str) -> Part:
    blob, place = piece.inline_data, piece.file_data
    if blob is not None:
        return attached(f"data:{blob.mime_type};base64,{blob.data}", blob.mime_type)
    if place is not None and (place.mime_type or "image/").startswith("image/"):
        return Image(uri=place.file_uri, mime_type=place.mime_type)
    if place is not None:
        return attached(place.file_uri, place.mime_type)
    if NATIVE & (piece.model_extra or {}).keys():
        return Native(body=piece.model_dump(by_alias=True, exclude_unset=True), provider=OWN)
    named = ", ".join((piece.model_extra or {}).keys()) or "nothing"
    raise invalid(
        f"{where}.parts: a part with {named[:80]} cannot be sent: text, inlineData, fileData, "
        "functionCall and functionResponse can",
        f"{where}.parts",
    )


def written(part: Part) -> list[Json]:
    """A part of an answer, as Gemini's."""
    match part:
        case Text(content=text):
            return [{"text": text}]
        case Reasoning(content=text):
            mark = {"thought": True} if text else {}
            return [{"text": text, **mark, **_signed(thoughts.seal(part, OWN))}]
        case ToolCall():
            call = {"id": part.id, "name": part.name, "args": _arguments(part)}
            return [{"functionCall": call, **_signed(part.signature)}]
        case Image() | File() if (data := base64_of(part)) is not None:
            return [{"inlineData": {"mimeType": kind_of(part), "data": data}}]
        case Native(provider=provider, body=body) if provider == OWN and NATIVE & body.keys():
            return [body]
        case _:
            return []


def signed(thought: Reasoning) -> Json:
    """What ends a thought whose words have been told, or stands for a hidden one."""
    mark = {"thought": True} if thought.content else {}
    return {"text": "", **mark, **_signed(thoughts.seal(thought, OWN))}


def _signed(signature: str | None) -> Json:
    return {"thoughtSignature": signature} if signature else {}


def _arguments(call: ToolCall) -> Any:
    """An object; what was cut in the middle is none, and goes as the text that it is."""
    try:
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return {"arguments": call.arguments}
