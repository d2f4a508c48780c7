"""Calls of the log as spans of OpenTelemetry, with the attributes of the GenAI conventions.

What they have no name for is under `tracemill.`, so that another tracemill reads the same call out of
the span. Messages stay out unless they are asked for, as the conventions want it.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, cast

from pydantic_core import to_json

from tracemill.events import (
    LlmCall,
    LlmCallAborted,
    LlmCallCached,
    LlmCallCrashed,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallStarted,
)
from tracemill.messages import (
    Asked,
    Content,
    File,
    Image,
    Message,
    Native,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    parts_of,
)
from tracemill.telemetry.attributes import TAG
from tracemill.telemetry.conversation import parsed

Json = dict[str, Any]

_CLIENT = 3
_ERROR = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEX = frozenset("0123456789abcdef")

_ASKED = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "reasoning_effort": "gen_ai.request.reasoning.level",
}
_USAGE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_input_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_output_tokens": "gen_ai.usage.reasoning.output_tokens",
    "input_audio_tokens": "gen_ai.usage.audio.input_tokens",
    "output_audio_tokens": "gen_ai.usage.audio.output_tokens",
    "cache_write_1h_input_tokens": "tracemill.usage.cache_write_1h.input_tokens",
    "cache_read_audio_tokens": "tracemill.usage.cache_read.audio.input_tokens",
}
_ALWAYS = {"input_tokens", "output_tokens"}

Ended = LlmCallFinished | LlmCallFailed | LlmCallAborted | LlmCallCrashed | LlmCallCached


def request(spans: Iterable[Any], service: str) -> bytes:
    """An `ExportTraceServiceRequest` with these spans.

    Args:
        spans: messages of protobuf, as `span` makes them.
        service: `service.name` of who made the calls.
    """
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

    made = trace_service_pb2.ExportTraceServiceRequest()
    of_service = made.resource_spans.add()
    _put(of_service.resource.attributes, {"service.name": service})
    of_scope = of_service.scope_spans.add()
    of_scope.scope.name, of_scope.scope.version = "tracemill", version("tracemill")
    of_scope.spans.extend(spans)
    return made.SerializeToString()


def span(began: LlmCallStarted | None, ended: Ended, *, content: bool = False) -> Any:
    """The span of one call, as a message of protobuf.

    Args:
        began: None where the log has no start, as of an answer from the cache.
        content: also what was asked and answered.
    """
    from opentelemetry.proto.trace.v1 import trace_pb2

    trace_id, span_id = ids(began, ended)
    parent = began.parent_span_id if began else None
    start = began.occurred_at if began else _begun(ended)
    make: Any = trace_pb2.Span
    made = make(
        trace_id=bytes.fromhex(trace_id),
        span_id=bytes.fromhex(span_id),
        parent_span_id=bytes.fromhex(parent) if parent and _is_hex(parent, 16) else b"",
        name=f"{ended.operation} {ended.request_model}",
        kind=_CLIENT,
        start_time_unix_nano=_nanoseconds(start),
        end_time_unix_nano=_nanoseconds(max(ended.occurred_at, start)),
    )
    told = _about(ended) | _end(ended)
    if began is not None:
        told |= _began(began)
    if content:
        told |= _content(began, ended)
    if isinstance(ended, LlmCallFailed | LlmCallAborted | LlmCallCrashed):
        made.status.code = _ERROR
        made.status.message = getattr(ended, "error_message", "")
    _put(made.attributes, told)
    return made


def ids(began: LlmCallStarted | None, ended: Ended) -> tuple[str, str]:
    """The ids of the trace and the span: those that the call was told with, else such as follow from
    its own id."""
    own = ended.call_id.replace("-", "")
    trace_id = ended.trace_id if ended.trace_id and _is_hex(ended.trace_id, 32) else own
    span_id = began.span_id if began and began.span_id else None
    return trace_id, span_id if span_id and _is_hex(span_id, 16) else own[16:]


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and _HEX.issuperset(text) and bool(text.strip("0"))


def _begun(ended: Ended) -> datetime:
    return ended.occurred_at - timedelta(milliseconds=getattr(ended, "latency_ms", 0.0))


def _nanoseconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(microseconds=1) * 1000


def _about(ended: LlmCall) -> Json:
    told: Json = {
        "gen_ai.operation.name": ended.operation,
        "gen_ai.provider.name": ended.provider,
        "gen_ai.request.model": ended.request_model,
        "gen_ai.conversation.id": ended.conversation_id,
        "gen_ai.prompt.name": ended.prompt_name,
        "gen_ai.prompt.version": ended.prompt_version,
        "user.id": ended.user_id,
        "tracemill.call_id": ended.call_id,
        "tracemill.status": getattr(ended, "kind", "").rpartition(".")[2],
        "tracemill.key_id": ended.key_id,
        "tracemill.actor": ended.actor,
    }
    return told | {f"{TAG}{name}": value for name, value in ended.metadata.items()}


def _began(began: LlmCallStarted) -> Json:
    told: Json = {name: getattr(began, field) for field, name in _ASKED.items()}
    told["gen_ai.request.stop_sequences"] = list(began.stop) or None
    told["gen_ai.request.stream"] = began.streamed or None
    told["tracemill.inputs"] = began.inputs
    told["gen_ai.output.type"] = "json" if began.response_schema else None
    return told


def _end(ended: Ended) -> Json:
    match ended:
        case LlmCallFinished():
            return _answered(ended) | {
                "gen_ai.response.finish_reasons": list(ended.finish_reasons),
                "tracemill.finish_reason.raw": ended.raw_finish_reason,
            }
        case LlmCallAborted():
            return _answered(ended) | {"error.type": ended.error_type}
        case LlmCallFailed():
            return {
                "error.type": ended.error_type,
                "tracemill.error.code": ended.error_code,
                "http.response.status_code": ended.status,
                "tracemill.request_id": ended.request_id,
                "tracemill.attempts": ended.attempts,
                "tracemill.latency_ms": ended.latency_ms,
            }
        case LlmCallCrashed():
            return {"error.type": "crashed", "tracemill.process": ended.process}
        case LlmCallCached():
            saved = ended.saved_usd
            return {
                "tracemill.cached_call_id": ended.cached_call_id,
                "tracemill.cost.saved_usd": None if saved is None else float(saved),
                "tracemill.latency_ms": ended.latency_ms,
            }


def _answered(ended: LlmCallFinished | LlmCallAborted) -> Json:
    first_ms, cost = ended.time_to_first_chunk_ms, ended.cost_usd
    return _used(ended.usage) | {
        "gen_ai.response.model": ended.response_model,
        "gen_ai.response.id": ended.response_id,
        "gen_ai.response.time_to_first_chunk": None if first_ms is None else first_ms / 1000,
        "tracemill.request_id": ended.request_id,
        "tracemill.service_tier": ended.service_tier,
        "tracemill.attempts": ended.attempts,
        "tracemill.latency_ms": ended.latency_ms,
        "tracemill.cost.usd": None if cost is None else float(cost),
        "tracemill.cost.price_snapshot": ended.price_snapshot,
    }


def _used(usage: Usage) -> Json:
    told: Json = {
        name: getattr(usage, field)
        for field, name in _USAGE.items()
        if getattr(usage, field) or field in _ALWAYS
    }
    if usage.estimated:
        told["tracemill.usage.estimated"] = True
    if usage.billed:
        told["tracemill.usage.billed"] = to_json(usage.billed).decode()
    return told


# Content


def _content(began: LlmCallStarted | None, ended: Ended) -> Json:
    told: Json = {}
    asked: Asked | None = began
    messages = asked.messages if asked else getattr(ended, "messages", ())
    if messages:
        told["gen_ai.input.messages"] = _json([_message(each) for each in messages])
    if asked and asked.system:
        instructions = [{"type": "text", "content": asked.system}]
        told["gen_ai.system_instructions"] = _json(instructions)
    if asked and asked.tools:
        told["gen_ai.tool.definitions"] = _json([_tool(each) for each in asked.tools])
    answer: Content = getattr(ended, "content", "")
    if answer:
        said: Json = {"role": "assistant", "parts": list(map(_part, parts_of(answer)))}
        if isinstance(ended, LlmCallFinished):
            said["finish_reason"] = ended.finish_reasons[0] if ended.finish_reasons else "other"
        told["gen_ai.output.messages"] = _json([said])
    if isinstance(ended, LlmCallFinished):
        told["tracemill.refusal"] = ended.refusal
    return told


def _message(message: Message) -> Json:
    return {"role": message.role, "parts": list(map(_part, message.parts))}


def _part(part: Part) -> Json:
    match part:
        case Text():
            return {"type": "text", "content": part.content}
        case Reasoning() | Image() | File() | Native():
            return part.model_dump(exclude_none=True, exclude_defaults=False)
        case ToolCall():
            return part.model_dump(exclude_none=True) | {"arguments": _arguments(part.arguments)}
        case ToolResult():
            return part.model_dump(exclude_none=True)


def _arguments(text: str) -> Any:
    """An object, as the conventions have it, where that is what the model wrote."""
    told: Any = parsed(text)
    return cast(Json, told) if isinstance(told, dict) else text


def _tool(tool: Tool) -> Json:
    return {"type": "function", **tool.model_dump(exclude_none=True)}


def _json(value: Any) -> str:
    return to_json(value).decode()


# Protobuf


def _put(pairs: Any, told: Mapping[str, Any]) -> None:
    """Add attributes; None is none."""
    for name, value in told.items():
        if value is not None:
            pair = pairs.add()
            pair.key = name
            _set(pair.value, value)


def _set(place: Any, value: Any) -> None:
    match value:
        case bool():
            place.bool_value = value
        case int():
            place.int_value = value
        case float():
            place.double_value = value
        case list():
            place.array_value.SetInParent()
            for each in value:  # pyright: ignore[reportUnknownVariableType]
                _set(place.array_value.values.add(), each)
        case _:
            place.string_value = (
                str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            )
