"""Requests of OpenTelemetry, and logs to read them into; what the tests here share."""

import json
from typing import Any

from tracemill.events import LlmCall
from tracemill.log import EventLog
from tracemill.telemetry.otlp import JSON, Span, read

START_NS = 1_790_000_000_000_000_000


def attribute(name: str, value: Any) -> dict[str, Any]:
    return {"key": name, "value": any_value(value)}


def any_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [any_value(each) for each in value]}}
        case _:
            return {"stringValue": value}


def span(number: int = 1, **more: Any) -> dict[str, Any]:
    """A span as JSON has it; `attributes` and `events` may be given as objects."""
    attributes = more.pop("attributes", {})
    events = more.pop("events", [])
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat gpt-5.4-mini",
        "kind": 3,
        "startTimeUnixNano": str(START_NS),
        "endTimeUnixNano": str(START_NS + 1_500_000_000),
        "attributes": [attribute(name, value) for name, value in attributes.items()],
        "events": [
            {"name": name, "timeUnixNano": "1", "attributes": [attribute(*a) for a in told.items()]}
            for name, told in events
        ],
        **more,
    }


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5.4-mini",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 20,
}


def request(*spans: Any, resource: dict[str, Any] | None = None) -> bytes:
    named = [attribute(*each) for each in (resource or {}).items()]
    scope = {"scope": {"name": "tests"}, "spans": list(spans)}
    told = {"resourceSpans": [{"resource": {"attributes": named}, "scopeSpans": [scope]}]}
    return json.dumps(told).encode()


def spans(*told: Any, resource: dict[str, Any] | None = None) -> list[Span]:
    return read(request(*told, resource=resource), JSON)


def of_calls(log: EventLog) -> list[LlmCall]:
    return [one.event for one in log.read() if isinstance(one.event, LlmCall)]
