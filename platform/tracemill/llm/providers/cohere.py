"""Cohere's API v2: answers, streams, vectors, rankings and errors as our values.

It counts twice: `tokens` are what the model read and wrote, which is our usage, and
`billed_units` are what is paid for, which `Usage.billed` keeps.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Ranked, Reply, Vectors
from tracemill.llm.providers.cohere_request import EMBED_BATCH, PLAN, chat, embed, rerank
from tracemill.llm.providers.fields import count, known, malformed, obj, objects, parsed, text
from tracemill.llm.sse import Event
from tracemill.llm.trouble import failed
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

__all__ = [
    "EMBED_BATCH",
    "chat",
    "embed",
    "error",
    "fold",
    "read",
    "read_ranking",
    "read_vectors",
    "rerank",
]

_FINISH: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_call",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_NO_MONEY = re.compile(r"calls? ?(/|per) ?month|monthly|billing|payment", re.IGNORECASE)
_TOO_LONG = re.compile(r"^too many tokens(?!: max tokens)")
_NO_MODEL = re.compile(r"^model '.{0,200}' (was removed|not found)")
# The page of 498 was withdrawn, the code was not: input or output that Cohere blocks.
_BLOCKED = 498


def read(body: Any, provider: Provider) -> Reply:
    """The answer in a parsed JSON body."""
    said = known(body, "Cohere's answer")
    if isinstance(said.get("message"), str) or said.get("error"):
        raise _failed(500, {}, said)
    if not isinstance(said.get("message"), dict):
        raise malformed("Cohere's answer has no `message`")
    message = obj(said["message"])
    fold = Fold()
    fold.start(said)
    fold.add("plan", Reasoning(content=text(message.get("tool_plan")), id=PLAN))
    content = message.get("content")
    for block in [{"text": content}] if isinstance(content, str) else objects(content):
        fold.block(block)
    for number, call in enumerate(objects(message.get("tool_calls"))):
        fold.call(number, call)
    for citation in objects(message.get("citations")):
        fold.cite(citation)
    fold.end(said)
    return fold.reply()


def fold(provider: Provider) -> "Fold":
    """A new stream."""
    return Fold()


class Fold:
    """What has arrived of an answer."""

    def __init__(self) -> None:
        self._runs: dict[str, list[Part]] = {}
        self._id = self._finish = self._refusal = ""
        self._usage: Usage | None = None
        self._cited: list[Native] = []
        self.done = False
        """Whether Cohere has said that the message has ended."""

    def feed(self, event: Event) -> Iterable[Delta]:
        """What this event adds. Raises `CallFailed` for an error within the stream."""
        if event.data.strip() in ("", "[DONE]"):
            return []
        said = parsed(event.data, "Cohere's event")
        if "type" not in said and (isinstance(said.get("message"), str) or said.get("error")):
            raise _failed(500, {}, said)
        delta = obj(said.get("delta"))
        message = obj(delta.get("message"))
        match said.get("type"):
            case "message-start":
                self.start(said)
            case "content-start" | "content-delta":
                return self.block(obj(message.get("content")))
            case "tool-plan-delta":
                return self.add("plan", Reasoning(content=text(message.get("tool_plan")), id=PLAN))
            case "tool-call-start" | "tool-call-delta":
                told = message.get("tool_calls")
                call = next(iter(objects(told)), obj(told))
                return self.call(count(said.get("index")), call)
            case "citation-start":
                told = message.get("citations")
                self.cite(next(iter(objects(told)), obj(told)))
            case "message-end":
                self.end(delta)
                return [Delta(cited=tuple(self._cited))] if self._cited else []
            case _:
                pass
        return []

    def start(self, said: Json) -> None:
        """The answer has a name."""
        self._id = text(said.get("id"))

    def block(self, block: Json) -> list[Delta]:
        """A piece of text or of a thought."""
        return [
            *self.add("thought", Reasoning(content=text(block.get("thinking")))),
            *self.add("text", Text(content=text(block.get("text")))),
        ]

    def call(self, number: int, told: Json) -> list[Delta]:
        """A piece of a call; the first one names it."""
        function = obj(told.get("function"))
        piece = ToolCall(
            id=text(told.get("id")) or f"call_{number}",
            name=text(function.get("name")),
            arguments=text(function.get("arguments")),
        )
        run = self._runs.setdefault(f"call {number}", [])
        run.append(run[0].model_copy(update={"arguments": piece.arguments}) if run else piece)
        return [Delta(tool_call=cast(ToolCall, run[-1]))]

    def add(self, kind: str, piece: Text | Reasoning) -> list[Delta]:
        """A piece of words; it goes to the run before it, where that is of the same kind."""
        if not piece.content:
            return []
        last = next(reversed(self._runs), "")
        run = last if last.startswith(kind) else f"{kind} {len(self._runs)}"
        self._runs.setdefault(run, []).append(piece)
        words = piece.content
        return [Delta(text=words) if isinstance(piece, Text) else Delta(reasoning=words)]

    def cite(self, citation: Json) -> None:
        """What some of the words rest on; their places are counted in the whole text."""
        self._cited.append(Native(body=citation))

    def end(self, said: Json) -> None:
        """Why it stopped, and what it took."""
        self.done = True
        self._finish = text(said.get("finish_reason"))
        self._refusal = text(said.get("error"))
        self._usage = _usage(obj(said.get("usage")))

    def reply(self) -> Reply:
        """What has arrived so far; Cohere does not say which model wrote it."""
        parts = [_whole(pieces) for pieces in self._runs.values()]
        for place, part in enumerate(parts):
            if isinstance(part, Text) and self._cited:
                parts[place] = part.model_copy(update={"citations": tuple(self._cited)})
                break
        return Reply(
            parts=tuple(parts),
            finish_reason=_FINISH.get(self._finish, "other"),
            raw_finish_reason=self._finish or None,
            response_model="",
            usage=self._usage,
            response_id=self._id or None,
            refusal=self._refusal or None,
        )


def _whole(pieces: list[Part]) -> Part:
    """The pieces of one part as that part."""
    match pieces[0]:
        case ToolCall():
            words = "".join(p.arguments for p in pieces if isinstance(p, ToolCall))
            return pieces[0].model_copy(update={"arguments": words})
        case _:
            words = "".join(p.content for p in pieces if isinstance(p, Text | Reasoning))
            return pieces[0].model_copy(update={"content": words})


def _usage(told: Json) -> Usage | None:
    """None where nothing was counted, as after an error. What was billed stands in for tokens."""
    billed = obj(told.get("billed_units"))
    tokens = obj(told.get("tokens")) or billed
    if not tokens:
        return None
    read = count(tokens.get("input_tokens"))
    written = count(tokens.get("output_tokens"))
    cached = count(told.get("cached_tokens")) or count(tokens.get("cached_tokens"))
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cache_read_input_tokens=min(cached, read),
        reasoning_output_tokens=min(count(tokens.get("reasoning_tokens")), written),
        billed={unit: float(n) for unit, n in billed.items() if type(n) in (int, float) and n > 0},
        raw=told,
    )


def read_vectors(body: Any, provider: Provider) -> Vectors:
    """The vectors in a parsed body of v2 or v1: floats, or the whole numbers asked for instead."""
    said = _answer(body)
    told = said.get("embeddings")
    kinds = cast(Json, told) if isinstance(told, dict) else {"float": told}
    rows = next((kinds[kind] for kind in ("float", "int8", "uint8") if kinds.get(kind)), None)
    if not isinstance(rows, list):
        raise malformed("Cohere's answer has no list of `embeddings`")
    try:
        vectors = [[float(v) for v in row] for row in cast(list[Any], rows)]
    except (TypeError, ValueError, OverflowError):
        raise malformed("Cohere sent an embedding that is no list of numbers") from None
    return Vectors(vectors, "", _usage(obj(said.get("meta"))))


def read_ranking(body: Any, provider: Provider) -> Ranked:
    """The ranking in a parsed body of v2 or v1, best first."""
    said = _answer(body)
    if not isinstance(said.get("results"), list):
        raise malformed("Cohere's answer has no list `results`")
    ranking = [(row.get("index"), row.get("relevance_score")) for row in objects(said["results"])]
    for index, score in ranking:
        if type(index) is not int or index < 0 or type(score) not in (int, float):
            raise malformed(f"Cohere ranked the document {index!r} with {score!r}")
    if len({index for index, _ in ranking}) < len(cast(list[Any], said["results"])):
        raise malformed("Cohere ranked a document twice, or what is no document")
    best_first = sorted(cast(list[tuple[int, float]], ranking), key=lambda row: -row[1])
    return Ranked(tuple(best_first), "", _usage(obj(said.get("meta"))))


def _answer(body: Any) -> Json:
    said = known(body, "Cohere's answer")
    if isinstance(said.get("message"), str):
        raise _failed(500, {}, said)
    return said


def error(status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """What an answer with an error status says."""
    try:
        said = parsed(body, "the error")
    except CallFailed:
        said = {"message": body[:2000].decode(errors="replace")}
    return _failed(status, headers, said)


def _failed(status: int, headers: Mapping[str, str], said: Json) -> CallFailed:
    told = said.get("message") or said.get("error") or said.get("detail")
    message = " ".join((text(told) or text(obj(told).get("message"))).split())
    code = text(said.get("error_type")) or None
    return failed(
        status,
        headers,
        message or f"Cohere answered {status} and no words",
        code=code,
        error_type=_class(status, code, message),
        request_id=headers.get("x-debug-trace-id") or text(said.get("id")) or None,
    )


def _class(status: int, code: str | None, message: str) -> str | None:
    """The class of an error, where its body tells more than the status."""
    if status == _BLOCKED:
        return "content_filter"
    if status == 429 and _NO_MONEY.search(message):
        return "billing"
    if code == "TOO_MANY_TOKENS" or _TOO_LONG.search(message):
        return "context_length_exceeded"
    return "unknown_model" if status == 404 and _NO_MODEL.search(message) else None
