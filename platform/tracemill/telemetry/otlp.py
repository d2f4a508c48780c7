"""OTLP over HTTP, as bytes: requests to spans, and what is answered to them. JSON and protobuf, gzip too.

Source: opentelemetry.io/docs/specs/otlp, version 1.9; opentelemetry-proto 1.9
(trace/v1/trace.proto, collector/trace/v1/trace_service.proto).
"""

import base64
import binascii
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic_core import from_json, to_json

from tracemill.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Json = dict[str, Any]

MAX_BYTES = 32 * 1024 * 1024
"""Of a request, unpacked."""
JSON = "application/json"
PROTOBUF = "application/x-protobuf"
NEEDED = "this needs opentelemetry-proto: pip install 'tracemill[server]'"
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_STATUS_ERROR = 2


class SpanEvent(NamedTuple):
    """Something that happened within a span."""

    name: str
    time_ns: int
    attributes: Json


class Span(NamedTuple):
    """One span; ids as lower-case hex digits, empty where they are none."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    """Since 1970."""
    end_ns: int
    error: bool
    """True where its status is an error."""
    status_message: str
    attributes: Json
    events: tuple[SpanEvent, ...]
    resource: Json
    """Attributes of who made it, such as `service.name`."""
    scope: str
    """The instrumentation that made it."""


def read(body: bytes, content_type: str, encoding: str | None = None) -> list[Span]:
    """The spans of an `ExportTraceServiceRequest`.

    Args:
        content_type: as the header has it.
        encoding: of the header `content-encoding`: gzip, deflate or none.

    Raises `InputError`: it cannot be unpacked or read, or is larger than `MAX_BYTES`; `UsageError`
    where protobuf is not installed. A span in itself is not judged here.
    """
    unpacked = _unpacked(body, encoding)
    if _is_json(content_type):
        return list(_json_spans(unpacked))
    return list(_protobuf_spans(unpacked))


def answer(rejected: int, message: str, content_type: str) -> bytes:
    """An `ExportTraceServiceResponse` in the language of the request: how many spans were refused,
    and why."""
    partial = {"rejectedSpans": str(rejected), "errorMessage": message}
    if _is_json(content_type):
        return to_json({"partialSuccess": partial} if rejected or message else {})
    service = _service()
    told = service.ExportTraceServiceResponse()
    if rejected or message:
        told.partial_success.rejected_spans = rejected
        told.partial_success.error_message = message
    return cast(bytes, told.SerializeToString())


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in {PROTOBUF, "application/protobuf"}:
        return False
    if kind == JSON:
        return True
    raise InputError(f"OTLP is {PROTOBUF} or {JSON}, not {kind[:60] or 'nothing'!r}")


def _unpacked(body: bytes, encoding: str | None) -> bytes:
    kind = (encoding or "").strip().lower()
    if kind in {"", "identity"}:
        unpacked = body
    elif kind in _WINDOWS:
        unpacked = _inflated(body, _WINDOWS[kind])
    else:
        raise InputError(f"the body may be packed with gzip or deflate, not {kind[:40]!r}")
    if len(unpacked) > MAX_BYTES:
        raise InputError(f"the spans take more than {MAX_BYTES // 2**20} MiB: send fewer at a time")
    return unpacked


def _inflated(body: bytes, window: int) -> bytes:
    """Unpacked, but never more than a byte beyond what is allowed."""
    unpacking = zlib.decompressobj(window)
    try:
        unpacked = unpacking.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise InputError(f"the body cannot be unpacked: {error}") from None
    if len(unpacked) <= MAX_BYTES and not unpacking.eof:
        raise InputError("the body cannot be unpacked: it ends too early")
    return unpacked


# JSON


def _json_spans(body: bytes) -> "Iterator[Span]":
    try:
        request = from_json(body)
    except ValueError as error:
        raise InputError(f"the body is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise InputError("the body is not an ExportTraceServiceRequest")
    for resource_spans in _objects(cast(Json, request), "resourceSpans"):
        resource = _attributes(_object(resource_spans.get("resource")).get("attributes"))
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            scope = _string(_object(scope_spans.get("scope")).get("name"))
            for span in _objects(scope_spans, "spans"):
                yield _json_span(span, resource, scope)


def _json_span(told: Json, resource: Json, scope: str) -> Span:
    status = _object(told.get("status"))
    return Span(
        _hex(told.get("traceId")),
        _hex(told.get("spanId")),
        _hex(told.get("parentSpanId")) or None,
        _string(told.get("name")),
        _integer(told.get("startTimeUnixNano")),
        _integer(told.get("endTimeUnixNano")),
        status.get("code") in (_STATUS_ERROR, "STATUS_CODE_ERROR"),
        _string(status.get("message")),
        _attributes(told.get("attributes")),
        tuple(
            SpanEvent(
                _string(event.get("name")),
                _integer(event.get("timeUnixNano")),
                _attributes(event.get("attributes")),
            )
            for event in _objects(told, "events")
        ),
        resource,
        scope,
    )


def _objects(told: Json, name: str) -> list[Json]:
    found = told.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise InputError(f"{name} is not a list")
    items = cast(list[Any], found)
    if not all(isinstance(each, dict) for each in items):
        raise InputError(f"{name} holds something that is no object")
    return items


def _object(value: Any) -> Json:
    return cast(Json, value) if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _integer(value: Any) -> int:
    """64-bit numbers are text in JSON; 0 where it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _hex(value: Any) -> str:
    """An id in hex; in base64, as JSON of protobuf has bytes elsewhere, where somebody sent it so."""
    if not isinstance(value, str):
        return ""
    if len(value) in (12, 24):
        try:
            return base64.b64decode(value, validate=True).hex()
        except (binascii.Error, ValueError):
            return value
    return value.lower()


def _attributes(value: Any) -> Json:
    if not isinstance(value, list):
        return {}
    made: Json = {}
    for each in cast(list[Any], value):
        pair = _object(each)
        if isinstance(pair.get("key"), str):
            made[pair["key"]] = _json_value(pair.get("value"))
    return made


def _json_value(value: Any) -> Any:
    """What an `AnyValue` holds."""
    for name, held in _object(value).items():
        match name:
            case "stringValue" | "boolValue" | "doubleValue" | "bytesValue":
                return held
            case "intValue":
                return _integer(held)
            case "arrayValue":
                return [_json_value(each) for each in _list(_object(held).get("values"))]
            case "kvlistValue":
                return _attributes(_object(held).get("values"))
            case _:
                continue
    return None


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


# Protobuf


def _service() -> Any:
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError:
        raise UsageError(NEEDED) from None
    return trace_service_pb2


def _protobuf_spans(body: bytes) -> "Iterator[Span]":
    service = _service()
    from google.protobuf.message import DecodeError

    try:
        request: Any = service.ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise InputError(f"the body is not an ExportTraceServiceRequest: {error}") from None
    for resource_spans in request.resource_spans:
        resource = _pairs(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            scope: str = scope_spans.scope.name
            for span in scope_spans.spans:
                yield _protobuf_span(span, resource, scope)


def _protobuf_span(told: Any, resource: Json, scope: str) -> Span:
    return Span(
        told.trace_id.hex(),
        told.span_id.hex(),
        told.parent_span_id.hex() or None,
        told.name,
        told.start_time_unix_nano,
        told.end_time_unix_nano,
        told.status.code == _STATUS_ERROR,
        told.status.message,
        _pairs(told.attributes),
        tuple(SpanEvent(e.name, e.time_unix_nano, _pairs(e.attributes)) for e in told.events),
        resource,
        scope,
    )


def _pairs(pairs: "Iterable[Any]") -> Json:
    made: Json = {}
    for pair in pairs:
        value = pair.value
        kind = value.WhichOneof("value")
        # Most are texts; a look-up by the name takes twice as long.
        made[pair.key] = value.string_value if kind == "string_value" else _held(value, kind)
    return made


def _held(value: Any, kind: str | None) -> Any:
    match kind:
        case None:
            return None
        case "array_value":
            return [_held(each, each.WhichOneof("value")) for each in value.array_value.values]
        case "kvlist_value":
            return _pairs(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            return getattr(value, kind)
