"""Messages as other tools keep them, as ours: OpenTelemetry's parts, the shapes of OpenAI, Anthropic and
Gemini, and plain text.

Nothing is lost for want of a name: a part that is not known stays as its JSON text.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic_core import from_json, to_json

from tracemill.messages import (
    Attached,
    Content,
    File,
    Image,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    content_of,
)

Json = dict[str, Any]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "function": "tool",
}


def parsed(value: Any) -> Any:
    """What a text that is JSON says; other values, and text that is not, as they are."""
    if not isinstance(value, str) or not value[:1].strip() or value[0] not in '[{"':
        return value
    try:
        return from_json(value)
    except ValueError:
        return value


def as_text(value: Any) -> str:
    """A value as text: text as it is, anything else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else to_json(value, fallback=str, inf_nan_mode="strings").decode()


def said(role: Role, content: Content) -> Message:
    """A message of what was checked already: a fifth of the time that checking takes again."""
    return Message.model_construct({"role", "content"}, role=role, content=content)


def messages(value: Any) -> tuple[Message, ...]:
    """A conversation: a list of messages, one of them, an object that holds them, or a prompt."""
    value = parsed(value)
    if value is None or value == "" or value == [] or value == {}:
        return ()
    if isinstance(value, dict):
        told = cast(Json, value)
        for name in ("messages", "contents", "input", "prompt"):
            if told.get(name) and "role" not in told:
                return _under_system(told, messages(told[name]))
        return (message(told),)
    if isinstance(value, list):
        items = cast(list[Any], value)
        return tuple(message(item) for item in items)
    return (said("user", as_text(value)),)


def _under_system(told: Json, found: tuple[Message, ...]) -> tuple[Message, ...]:
    system = told.get("system") or told.get("instructions")
    return (said("system", content(system)), *found) if system else found


def message(value: Any) -> Message:
    """One message, of any of the shapes."""
    if not isinstance(value, dict):
        return said("user", as_text(value))
    told = cast(Json, value)
    kind = told.get("type")
    if kind in _ITEMS:
        role: Role = "tool" if kind == "function_call_output" else "assistant"
        return said(role, (_part(told),))
    role = _ROLES.get(str(told.get("role", "user")).lower(), "user")
    return said(role, _content_of_message(told, role))


_ITEMS = ("function_call", "function_call_output", "reasoning")
"""What the Responses API has beside messages."""


def _content_of_message(told: Json, role: Role) -> Content:
    raw = told.get("parts") if told.get("parts") is not None else told.get("content")
    call_id = told.get("tool_call_id") or told.get("id")
    whole = not isinstance(raw, list) or not _has_result(cast(list[Any], raw))
    if role == "tool" and call_id and whole:
        result = ToolResult(id=str(call_id), response=as_text(raw), name=_name(told.get("name")))
        return (result,)
    calls = tuple(map(_openai_call, _list(told.get("tool_calls"))))
    thought = told.get("reasoning_content")
    before = (Reasoning(content=thought),) if isinstance(thought, str) and thought else ()
    refusal = told.get("refusal")
    found = parts(raw) or (parts(refusal) if refusal else ())
    return content_of((*before, *found, *calls))


def _has_result(raw: list[Any]) -> bool:
    results = ("tool_result", "tool_call_response", "tool-result")
    return any(isinstance(each, dict) and cast(Json, each).get("type") in results for each in raw)


def content(value: Any) -> Content:
    """What was said: text, or parts where there is more."""
    return content_of(parts(value))


def parts(value: Any) -> tuple[Part, ...]:
    """The parts of a message's content."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (Text(content=value),)
    if isinstance(value, list):
        return tuple(_part(each) for each in cast(list[Any], value))
    return (_part(value),)


def _part(value: Any) -> Part:
    if isinstance(value, str):
        return Text(content=value)
    if not isinstance(value, dict):
        return Text(content=as_text(value))
    told = cast(Json, value)
    kind = told.get("type")
    if kind is None:
        kind = next((name for name in _WITHOUT_TYPE if name in told), None)
    read = _PARTS.get(kind) if isinstance(kind, str) else None
    made = read(told) if read else None
    return made or Text(content=as_text(told))


def _text(told: Json) -> Part | None:
    text = told.get("content") if "content" in told else told.get("text")
    return Text(content=text) if isinstance(text, str) else None


def _reasoning(told: Json) -> Part:
    text = told.get("content") or told.get("thinking") or told.get("text") or ""
    if not text and isinstance(told.get("summary"), list):
        summary = cast(list[Any], told["summary"])
        text = "\n".join(as_text(_dict(each).get("text")) for each in summary)
    return Reasoning(
        content=as_text(text),
        id=_name(told.get("id")),
        signature=_name(told.get("signature") or told.get("data")),
        redacted=bool(told.get("redacted")) or told.get("type") == "redacted_thinking",
        provider=_name(told.get("provider")),
    )


def _call(told: Json) -> Part:
    inner = _dict(told.get("functionCall") or told.get("function")) or told
    arguments = next((inner[n] for n in ("arguments", "input", "args") if n in inner), "")
    names = ("id", "call_id", "tool_call_id", "toolCallId")
    if told.get("type") == "function_call":
        names = ("call_id", "id")
    return ToolCall(
        id=as_text(next((told[name] for name in names if told.get(name)), inner.get("id") or "")),
        name=as_text(inner.get("name") or told.get("toolName")),
        arguments=as_text(arguments),
        signature=_name(told.get("signature")),
    )


def _openai_call(value: Any) -> Part:
    return _call(_dict(value))


def _result(told: Json) -> Part:
    inner = _dict(told.get("functionResponse")) or told
    names = ("response", "result", "output", "content")
    response = next((inner[name] for name in names if name in inner), "")
    if isinstance(response, list):
        response = content(cast(list[Any], response))
    ids = ("id", "tool_use_id", "tool_call_id", "call_id", "toolCallId")
    return ToolResult(
        id=as_text(next((inner[name] for name in ids if inner.get(name)), "")),
        response=response if isinstance(response, str) else as_text(response),
        name=_name(inner.get("name") or inner.get("toolName")),
        is_error=bool(told.get("is_error")),
    )


def _image(told: Json) -> Part | None:
    source = _dict(told.get("source"))
    url = told.get("uri") or told.get("image_url") or source.get("url") or told.get("url")
    if isinstance(url, dict):
        url = cast(Json, url).get("url")
    kind = told.get("mime_type") or source.get("media_type")
    if not url and (data := source.get("data")):
        url = f"data:{kind};base64,{data}"
    if not isinstance(url, str):
        return None
    return _at(url, kind, is_image=told.get("modality", "image") == "image")


def _file(told: Json) -> Part | None:
    inner = _dict(told.get("file") or told.get("input_audio") or told.get("source")) or told
    kind = _name(inner.get("mime_type") or inner.get("media_type"))
    if kind is None and (form := _name(inner.get("format"))):
        kind = f"audio/{form}"
    places = ("uri", "file_data", "file_url", "url", "file_id")
    where = next((inner[each] for each in places if isinstance(inner.get(each), str)), None)
    if where is None and isinstance(data := inner.get("data"), str) and inner.get("type") != "text":
        where = f"data:{kind or ''};base64,{data}"
    called = _name(inner.get("filename") or inner.get("name") or told.get("title"))
    return None if where is None else _at(where, kind, called, is_image=False)


def _blob(told: Json) -> Part | None:
    inner = _dict(told.get("inlineData") or told.get("inline_data")) or told
    kind = inner.get("mime_type") or inner.get("mimeType")
    data = inner.get("content") or inner.get("data")
    if not isinstance(data, str):
        return None
    is_image = told.get("modality", "image") == "image"
    return _at(f"data:{kind};base64,{data}", kind, is_image=is_image)


def _at(uri: str, kind: Any, name: str | None = None, *, is_image: bool) -> Attached:
    """A picture or a file by its address; of one that came whole a digest, as of those that we
    send.

    Args:
        is_image: whether it is taken for a picture where `kind` is not told.
    """
    head, comma, data = uri.partition(",")
    if comma and head[:5].lower() == "data:":
        digest = hashlib.sha256(data.encode(errors="replace")).hexdigest()
        uri = f"{head.partition(';')[0]};sha256={digest}"
    kind = _name(kind)
    if kind.startswith("image/") if kind else is_image:
        return Image(uri=uri, mime_type=kind)
    return File(uri=uri, mime_type=kind, name=name)


_PARTS: Mapping[str, Callable[[Json], Part | None]] = {
    **dict.fromkeys(("text", "input_text", "output_text"), _text),
    **dict.fromkeys(("reasoning", "thinking", "redacted_thinking"), _reasoning),
    **dict.fromkeys(("tool_call", "tool_use", "function", "function_call", "tool-call"), _call),
    **dict.fromkeys(
        ("tool_call_response", "tool_result", "function_call_output", "tool-result"), _result
    ),
    **dict.fromkeys(("uri", "image_url", "input_image", "image"), _image),
    **dict.fromkeys(("file", "input_file", "document", "input_audio"), _file),
    "blob": _blob,
    "functionCall": _call,
    "functionResponse": _result,
    "inlineData": _blob,
    "inline_data": _blob,
    "refusal": lambda told: Text(content=as_text(told.get("refusal"))),
}
_WITHOUT_TYPE = ("text", "functionCall", "functionResponse", "inlineData", "inline_data")


def tools(value: Any) -> tuple[Tool, ...]:
    """Functions that a model might ask for, of the shapes of OpenAI, Anthropic and OpenTelemetry."""
    found: list[Tool] = []
    for each in _list(parsed(value)):
        told = _dict(parsed(each))
        inner = _dict(told.get("function")) or told
        name = inner.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 128:
            continue
        schema = inner.get("parameters") or inner.get("input_schema") or inner.get("inputSchema")
        fields: Json = {"parameters": parsed(schema)} if isinstance(parsed(schema), dict) else {}
        strict = inner.get("strict")
        if isinstance(strict, bool):
            fields["strict"] = strict
        found.append(Tool(name=name, description=as_text(inner.get("description")), **fields))
    return tuple(found)


class Answer:
    """What came back, of any provider's shape of an answer."""

    def __init__(self, value: Any) -> None:
        self.parts: tuple[Part, ...] = ()
        self.reasons: tuple[str, ...] = ()
        value = parsed(value)
        if isinstance(value, list):
            self._take(cast(list[Any], value))
        elif isinstance(value, dict):
            self._of(cast(Json, value))
        elif value is not None:
            self.parts = parts(as_text(value))

    def _of(self, told: Json) -> None:
        if choices := _list(told.get("choices")):
            firsts = [_dict(choice) for choice in choices]
            self._take([first.get("message") or {"content": first.get("text")} for first in firsts])
            self.reasons = tuple(str(f["finish_reason"]) for f in firsts if f.get("finish_reason"))
        elif isinstance(told.get("output"), list):
            self._take(told["output"])
        elif candidates := _list(told.get("candidates")):
            firsts = [_dict(candidate) for candidate in candidates]
            self._take([_dict(first.get("content")) for first in firsts])
            self.reasons = tuple(str(f["finishReason"]) for f in firsts if f.get("finishReason"))
        else:
            self._take([told])
            reason = told.get("stop_reason")
            self.reasons = self.reasons or ((str(reason),) if reason else ())

    def _take(self, items: list[Any]) -> None:
        found: list[Part] = []
        reasons: list[str] = []
        for item in items:
            told = _dict(item)
            if not told.keys() & {"role", "parts", "content", "tool_calls"} and item:
                found.append(_part(item))
            else:
                found.extend(message({"role": "assistant", **told}).parts)
            if reason := told.get("finish_reason"):
                reasons.append(str(reason))
        self.parts, self.reasons = tuple(found), tuple(reasons)


def _dict(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
