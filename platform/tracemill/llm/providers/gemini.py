"""Gemini's generateContent and embeddings (API v1beta): answers, streams and errors as our values.

Every chunk of a stream is a whole response, so one fold reads answers, streams, and arrays of
chunks. Usage is cumulative but may shrink on the way: the last one counts.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count as counter
from typing import Any, cast

from tracemill.errors import CallFailed
from tracemill.llm.providers import Provider, Reply, Vectors, Wire
from tracemill.llm.providers.fields import count, known, malformed, obj, objects, text
from tracemill.llm.providers.gemini_request import NATIVE, chat, invalid, path
from tracemill.llm.sse import Event
from tracemill.llm.trouble import failed
from tracemill.messages import (
    Delta,
    FinishReason,
    Image,
    Json,
    Native,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)

__all__ = ["BESIDE", "EMBED_BATCH", "chat", "embed", "error", "fold", "read", "read_vectors"]

BESIDE = ("citationMetadata", "groundingMetadata", "urlContextMetadata")
"""What Gemini tells of an answer beside its parts."""

EMBED_BATCH = 100

_FINISH: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "PUP_LIMITED_DISABLED": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "error",
    "MALFORMED_RESPONSE": "error",
    "UNEXPECTED_TOOL_CALL": "error",
    "TOO_MANY_TOOL_CALLS": "error",
    "MISSING_THOUGHT_SIGNATURE": "error",
}
_TASKS = {"query": "RETRIEVAL_QUERY", "document": "RETRIEVAL_DOCUMENT"}
# A quota of a day, or of nothing, is not one to wait for.
_NO_MONEY = re.compile(r"PerDay|limit: 0(?![\d.])|spending cap|prepayment credits|enable billing")
_TOO_LONG = re.compile(r"exceeds the maximum number of (input )?tokens")
_NO_MODEL = re.compile(r"^models/.{0,200} is (not found for|no longer available)")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def read(body: Any, provider: Provider) -> Reply:
    """The answer in a parsed body: one response, or the array that a stream without SSE is."""
    fold = Fold()
    for chunk in cast(list[Any], body) if isinstance(body, list) else [body]:
        fold.add(chunk)
    if not fold.answered:
        raise malformed("Gemini's answer has neither `candidates` nor a `blockReason`")
    return fold.reply(whole=True)


def fold(provider: Provider) -> "Fold":
    """A new stream."""
    return Fold()


class Fold:
    """What has arrived of an answer."""

    def __init__(self) -> None:
        self._pieces: list[Part] = []
        self._calls = counter()
        self._usage: Json = {}
        self._finish = self._blocked = self._refusal = ""
        self._model = self._id = ""
        self.answered = False
        """Whether there was a candidate, or the reason why there is none, or at least a count."""

    @property
    def done(self) -> bool:
        """Whether the model has said why it stopped."""
        return bool(self._finish or self._blocked)

    def feed(self, event: Event) -> Iterable[Delta]:
        """What this event adds. Raises `CallFailed` for an error within the stream."""
        if event.data.strip() in ("", "[DONE]"):
            return []
        try:
            chunks = json.loads(event.data)
        except (ValueError, RecursionError):
            raise malformed(f"Gemini sent a chunk that is no JSON: {event.data[:80]!r}") from None
        listed = cast(list[Any], chunks) if isinstance(chunks, list) else [chunks]
        return [delta for chunk in listed for delta in self.add(chunk)]

    def add(self, chunk: Any) -> list[Delta]:
        """What this response adds. Raises `CallFailed` for the error that it may be."""
        response = known(chunk, "Gemini's answer")
        if response.get("error"):
            raise _failed(500, {}, obj(response["error"]))
        self._model = text(response.get("modelVersion")) or self._model
        self._id = text(response.get("responseId")) or self._id
        self._usage = obj(response.get("usageMetadata")) or self._usage
        feedback = obj(response.get("promptFeedback"))
        self._blocked = text(feedback.get("blockReason")) or self._blocked
        self._refusal = text(feedback.get("blockReasonMessage")) or self._refusal
        candidates = objects(response.get("candidates"))
        self.answered = self.answered or bool(candidates or self._blocked or self._usage)
        return self._candidate(candidates[0]) if candidates else []

    def _candidate(self, candidate: Json) -> list[Delta]:
        self._finish = text(candidate.get("finishReason")) or self._finish
        self._refusal = text(candidate.get("finishMessage")) or self._refusal
        parts = objects(obj(candidate.get("content")).get("parts"))
        fresh = [piece for part in parts for piece in self._read(part)]
        fresh += [Native(body={name: candidate[name]}) for name in BESIDE if candidate.get(name)]
        self._pieces += fresh
        return [delta for piece in fresh for delta in _deltas(piece)]

    def _read(self, part: Json) -> Iterable[Part]:
        signature = text(part.get("thoughtSignature")) or None
        words = text(part.get("text"))
        if "functionCall" in part:
            yield self._call(obj(part["functionCall"]), signature)
        elif part.get("thought") is True:
            if words or signature:
                yield Reasoning(content=words, signature=signature)
        elif part.keys() & NATIVE:
            yield Native(body=part)
        else:
            yield from _images(obj(part.get("inlineData")))
            if words:
                yield Text(content=words)
            # A text has no place for a signature: a thought without words keeps it.
            if signature and "text" in part:
                yield Reasoning(signature=signature)

    def _call(self, call: Json, signature: str | None) -> ToolCall:
        made_up = "_".join(filter(None, ("call", self._id, str(next(self._calls)))))
        return ToolCall(
            id=text(call.get("id")) or made_up,
            name=text(call.get("name")),
            arguments=text(json.dumps(obj(call.get("args")), ensure_ascii=False)),
            signature=signature,
        )

    def reply(self, *, whole: bool = False) -> Reply:
        """What has arrived so far; `whole` where nothing more was to come."""
        kind = "content_filter" if self._blocked else _FINISH.get(self._finish, "other")
        if kind in ("stop", "other") and any(isinstance(p, ToolCall) for p in self._pieces):
            kind = "tool_call"
        return Reply(
            parts=tuple(_joined(self._pieces)),
            finish_reason=kind,
            raw_finish_reason=self._blocked or self._finish or None,
            response_model=self._model,
            usage=_usage(self._usage, estimated=not (whole or self.done)),
            response_id=self._id or None,
            refusal=(self._refusal or None) if kind == "content_filter" else None,
            service_tier=text(self._usage.get("serviceTier")) or None,
        )


def _images(blob: Json) -> Iterable[Image]:
    mime, data = text(blob.get("mimeType")), text(blob.get("data"))
    if mime.startswith("image/") and data:
        yield Image(uri=f"data:{mime};base64,{data}", mime_type=mime)


def _deltas(piece: Part) -> Iterable[Delta]:
    match piece:
        case Text():
            yield Delta(text=piece.content)
        case Reasoning():
            yield Delta(reasoning=piece.content, thought=piece if piece.signature else None)
        case ToolCall():
            yield Delta(tool_call=piece)
        case Native():
            yield Delta(native=piece)
        case _:
            return


def _joined(pieces: Iterable[Part]) -> Iterable[Part]:
    """The pieces of one text as one part. A signature ends a thought."""
    runs: list[list[Part]] = []
    for piece in pieces:
        last = runs[-1][-1] if runs else None
        same = isinstance(piece, Text) and isinstance(last, Text)
        open_thought = isinstance(last, Reasoning) and not last.signature
        if same or (open_thought and isinstance(piece, Reasoning)):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    for run in runs:
        words = "".join(p.content for p in run if isinstance(p, Text | Reasoning))
        yield run[-1].model_copy(update={"content": words}) if len(run) > 1 else run[0]


def _usage(told: Json, *, estimated: bool = False) -> Usage | None:
    """Thoughts and tool prompts are counted beside the candidates and the prompt, not in them."""
    if not told:
        return None
    thought = count(told.get("thoughtsTokenCount"))
    written = count(told.get("candidatesTokenCount")) or count(told.get("responseTokenCount"))
    prompt = count(told.get("promptTokenCount")) + count(told.get("toolUsePromptTokenCount"))
    return Usage(
        input_tokens=count(prompt),
        output_tokens=count(written + thought),
        cache_read_input_tokens=min(count(told.get("cachedContentTokenCount")), count(prompt)),
        reasoning_output_tokens=thought,
        input_audio_tokens=_audio(told, "promptTokensDetails", "toolUsePromptTokensDetails"),
        cache_read_audio_tokens=_audio(told, "cacheTokensDetails"),
        output_audio_tokens=_audio(told, "candidatesTokensDetails", "responseTokensDetails"),
        estimated=estimated,
        raw=told,
    )


def _audio(told: Json, *fields: str) -> int:
    details = [detail for field in fields for detail in objects(told.get(field))]
    heard = (count(d.get("tokenCount")) for d in details if d.get("modality") == "AUDIO")
    return count(sum(heard))


def error(status: int, headers: Mapping[str, str], body: bytes) -> CallFailed:
    """What an answer with an error status says; a stream's error lies in an array."""
    words = body.decode("utf-8", "replace")
    try:
        said = json.loads(words)
    except (ValueError, RecursionError):
        return failed(status, headers, _line(words) or f"Gemini answered {status} and no words")
    first = obj(next(iter(objects(said)), said))
    return _failed(status, headers, obj(first.get("error")))


def _failed(status: int, headers: Mapping[str, str], told: Json) -> CallFailed:
    """The error in a body; its own code counts, since one within a stream has no other."""
    status = code if 400 <= (code := count(told.get("code"))) < 600 else status
    message = _line(text(told.get("message")))
    details = objects(told.get("details"))
    delays = (_DELAY.fullmatch(text(detail.get("retryDelay"))) for detail in details)
    return failed(
        status,
        headers,
        message or f"Gemini answered {status} and no words",
        code=text(told.get("status")) or None,
        error_type=_class(message, details),
        retry_after_s=next((float(delay[1]) for delay in delays if delay), None),
    )


def _class(message: str, details: list[Json]) -> str | None:
    """The class of an error, where its body tells more than the status."""
    reasons = [text(detail.get("reason")) for detail in details]
    quotas = [q for detail in details for q in objects(detail.get("violations"))]
    limits = [message, *(text(quota.get("quotaId")) for quota in quotas)]
    if "API_KEY_INVALID" in reasons:
        return "authentication"
    if "BILLING_DISABLED" in reasons or _NO_MONEY.search(" ".join(limits)):
        return "billing"
    if _NO_MODEL.search(message):
        return "unknown_model"
    return "context_length_exceeded" if _TOO_LONG.search(message) else None


def _line(message: str) -> str:
    return " ".join(message.split())[:2000]


def embed(
    texts: Sequence[str],
    model: str,
    provider: Provider,
    *,
    dimensions: int | None,
    input_kind: str | None,
) -> Wire:
    """The request for vectors: a query is embedded in another way than a document.

    Raises `CallFailed` (`invalid_request`) for another `input_kind`.
    """
    if input_kind not in (None, *_TASKS):
        raise invalid(f"input_kind: Gemini knows {' and '.join(_TASKS)}, not {input_kind!r}")
    same: Json = {"model": path(model)}
    if input_kind:
        same["taskType"] = _TASKS[input_kind]
    if dimensions is not None:
        same["outputDimensionality"] = dimensions
    requests = [same | {"content": {"parts": [{"text": one}]}} for one in texts]
    return Wire(f"/{path(model)}:batchEmbedContents", {"requests": requests})


def read_vectors(body: Any, provider: Provider) -> Vectors:
    """The vectors in a parsed body, in the order of the texts; embedContent answers with one."""
    answer = known(body, "Gemini's answer")
    if answer.get("error"):
        raise _failed(500, {}, obj(answer["error"]))
    rows = [answer["embedding"]] if "embedding" in answer else answer.get("embeddings")
    if not isinstance(rows, list):
        raise malformed("Gemini's answer has no list `embeddings`")
    try:
        vectors = [[float(v) for v in row["values"]] for row in cast(list[Any], rows)]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise malformed("Gemini sent an embedding that is no list of numbers") from None
    return Vectors(vectors, "", _usage(obj(answer.get("usageMetadata"))))
