"""OpenAI's Responses API: its answers, streams and errors as our values.

An answer is a list of items; what is neither a message nor a thought nor a call goes as it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tracemill.llm.providers import Provider, Reply
from tracemill.llm.providers.fields import count, known, malformed, obj, objects, parsed, text
from tracemill.llm.providers.openai_errors import error, failed_within
from tracemill.llm.providers.openai_responses_request import chat
from tracemill.llm.sse import Event
from tracemill.messages import (
    Delta,
    FinishReason,
    Json,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = ["chat", "error", "fold", "read"]

_INCOMPLETE: Mapping[str, FinishReason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
# The events that add to an item, and the kind of the item.
_GROWS = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "function_call",
}


def read(body: Any, provider: Provider) -> Reply:
    """The answer in a parsed JSON body.

    Raises `CallFailed`: a response that failed, or `malformed_response`.
    """
    said = known(body, "the response")
    if said.get("error") or said.get("status") == "failed":
        raise failed_within(said)
    if not isinstance(said.get("output"), list):
        raise malformed("the response has no list `output`")
    return _reply(said, objects(said["output"]))


def _reply(said: Json, items: list[Json]) -> Reply:
    parts = tuple(part for item in items for part in _parts(item))
    refusal = "".join(_refusals(items)) or None
    finish, raw = _finish(said, parts, refusal)
    return Reply(
        parts=parts,
        finish_reason=finish,
        raw_finish_reason=raw,
        response_model=text(said.get("model")),
        usage=_usage(said.get("usage")),
        response_id=text(said.get("id")) or None,
        refusal=refusal,
        service_tier=text(said.get("service_tier")) or None,
    )


def _finish(
    said: Json, parts: tuple[Part, ...], refusal: str | None
) -> tuple[FinishReason, str | None]:
    """A response has a status and no reason but for being incomplete; calls and refusals show."""
    status = text(said.get("status"))
    reason = text(obj(said.get("incomplete_details")).get("reason"))
    if status == "incomplete":
        return _INCOMPLETE.get(reason, "other"), f"{status}:{reason}" if reason else status
    if status != "completed":
        return "other", status or None
    if any(isinstance(part, ToolCall) for part in parts):
        return "tool_call", status
    return "refusal" if refusal else "stop", status


def _parts(item: Json) -> Iterator[Part]:
    match item.get("type"):
        case "message":
            for one in objects(item.get("content")):
                if one.get("type") == "output_text" and (words := text(one.get("text"))):
                    cited = tuple(Native(body=each) for each in objects(one.get("annotations")))
                    yield Text(content=words, citations=cited)
        case "function_call":
            yield _called(item, text(item.get("arguments")))
        case "reasoning":
            thought = _texts(item.get("content")) or _texts(item.get("summary"))
            secret = text(item.get("encrypted_content")) or None
            if thought or secret:
                name = text(item.get("id")) or None
                yield Reasoning(content=thought, id=name, signature=secret)
        case str():
            yield Native(body=item)
        case _:
            pass


def _texts(blocks: Any) -> str:
    return "\n\n".join(words for one in objects(blocks) if (words := text(one.get("text"))))


def _refusals(items: list[Json]) -> Iterator[str]:
    for item in items:
        if item.get("type") == "message":
            yield from (text(one.get("refusal")) for one in objects(item.get("content")))


def _called(item: Json, arguments: str) -> ToolCall:
    name = text(item.get("call_id")) or text(item.get("id"))
    return ToolCall(id=name, name=text(item.get("name")), arguments=arguments)


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    said = obj(told)
    read, written = obj(said.get("input_tokens_details")), obj(said.get("output_tokens_details"))
    used = count(said.get("num_server_side_tools_used"))
    return Usage(
        input_tokens=count(said.get("input_tokens")),
        output_tokens=count(said.get("output_tokens")),
        cache_read_input_tokens=count(read.get("cached_tokens")),
        cache_write_input_tokens=count(read.get("cache_write_tokens")),
        reasoning_output_tokens=count(written.get("reasoning_tokens")),
        billed={"num_server_side_tools_used": float(used)} if used else {},
        raw=said,
    )


class _Live:
    """An item that is being written: its words by slot, and how much of it was handed on."""

    def __init__(self, item: Json) -> None:
        self.item, self.slots, self.sent = item, dict[str, list[str]](), list[str]()
        self.closed = False

    def add(self, slot: str, piece: str) -> str:
        """What is to be handed on of a piece: thoughts are paragraphs."""
        if not piece:
            return ""
        first = slot not in self.slots
        self.slots.setdefault(slot, []).append(piece)
        if self.item.get("type") == "reasoning" and first and self.sent:
            piece = f"\n\n{piece}"
        if slot.startswith("refusal"):
            return ""
        self.sent.append(piece)
        return piece

    def whole(self) -> Json:
        """The item as far as it has come."""
        if self.closed:
            return self.item
        words = {slot: "".join(pieces) for slot, pieces in self.slots.items()}
        match self.item.get("type"):
            case "message":
                content = [_spoken(slot, said) for slot, said in words.items()]
                return self.item | {"content": content}
            case "reasoning":
                return self.item | {"summary": [{"text": said} for said in words.values()]}
            case "function_call":
                return self.item | {"arguments": "".join(words.values())}
            case _:
                return self.item

    def rest(self) -> str:
        """What the whole item holds beyond what was handed on."""
        whole, sent = _said(_parts(self.whole())), "".join(self.sent)
        return whole.removeprefix(sent) if whole.startswith(sent) else ""


class Fold:
    """A stream that is being read: its items as they grow, and the response that ends it."""

    def __init__(self) -> None:
        self._response: Json = {}
        self._live: dict[int, _Live] = {}
        self.done = False

    def feed(self, event: Event) -> Iterator[Delta]:
        """What this event adds. Raises `CallFailed` for an error within the stream."""
        if not event.data.strip() or event.data == "[DONE]":
            return
        said = parsed(event.data, "an event of the stream")
        index, kind = count(said.get("output_index")), text(said.get("type"))
        match kind:
            case "response.output_item.added":
                yield from self._open(index, obj(said.get("item")))
            case "response.output_item.done":
                yield from self._close(index, obj(said.get("item")))
            case "response.completed" | "response.incomplete" | "response.cancelled":
                yield from self._end(kind, obj(said.get("response")))
            case "response.failed" | "error":
                # What was written before has its price too.
                self._response |= obj(said.get("response"))
                raise failed_within(obj(said.get("response")) or said)
            case _ if kind in _GROWS:
                yield from self._grow(index, said)
            case "" if "error" in said:
                raise failed_within(said)
            case _:
                self._response |= obj(said.get("response"))

    def reply(self) -> Reply:
        """What has arrived so far."""
        items = objects(self._response.get("output")) if self.done else []
        return _reply(self._response, items or [live.whole() for live in self._in_order()])

    def _in_order(self) -> list[_Live]:
        return [self._live[index] for index in sorted(self._live)]

    def _open(self, index: int, item: Json) -> Iterator[Delta]:
        self._live[index] = _Live(item)
        if item.get("type") == "function_call":
            yield Delta(tool_call=_called(item, ""))

    def _grow(self, index: int, said: Json) -> Iterator[Delta]:
        kind = text(said.get("type"))
        if index not in self._live:
            yield from self._open(index, {"type": _GROWS[kind], "id": said.get("item_id")})
        place = said.get("summary_index" if "summary" in kind else "content_index")
        slot = f"{kind.removeprefix('response.')}:{count(place)}"
        if piece := self._live[index].add(slot, text(said.get("delta"))):
            yield _delta(self._live[index].item, piece)

    def _close(self, index: int, item: Json) -> Iterator[Delta]:
        """The item as the provider has it in the end: only now its reasoning is whole."""
        if index not in self._live:
            yield from self._open(index, item)
        live = self._live[index]
        live.item, live.closed = live.item | item, True
        if rest := live.rest():
            yield _delta(live.item, rest)
        for part in _parts(live.item):
            match part:
                case Reasoning():
                    yield Delta(thought=part)
                case Native():
                    yield Delta(native=part)
                case Text(citations=cited) if cited:
                    yield Delta(cited=cited)
                case _:
                    pass

    def _end(self, kind: str, response: Json) -> Iterator[Delta]:
        self._response |= {"status": kind.removeprefix("response.")} | response
        if not self._live:
            for index, item in enumerate(objects(response.get("output"))):
                yield from self._close(index, item)
        self.done = True


def fold(provider: Provider) -> Fold:
    """A new stream."""
    return Fold()


def _spoken(slot: str, said: str) -> Json:
    if slot.startswith("refusal"):
        return {"type": "refusal", "refusal": said}
    return {"type": "output_text", "text": said}


def _said(parts: Iterable[Part]) -> str:
    """The words of parts, of whichever kind."""
    return "".join(_words(part) for part in parts)


def _words(part: Part) -> str:
    match part:
        case Text() | Reasoning():
            return part.content
        case ToolCall():
            return part.arguments
        case _:
            return ""


def _delta(item: Json, piece: str) -> Delta:
    match item.get("type"):
        case "function_call":
            return Delta(tool_call=_called(item, piece))
        case "reasoning":
            return Delta(reasoning=piece)
        case _:
            return Delta(text=piece)
