"""Spans of OpenTelemetry to calls. OpenTelemetry's own conventions, older and newer, and OpenInference's
become the same events that our client writes.

A span is a call where it is one request to a model: chats, completions, vectors, rankings. Agents,
tools, chains and retrievals are none; spans of theirs are left to those who show traces.
"""

from typing import Any, cast

from tracemill.errors import InputError
from tracemill.events import Happened, LlmCallStarted
from tracemill.messages import Message, Text
from tracemill.prices import Table
from tracemill.telemetry import attributes as known
from tracemill.telemetry import conversation, names, usage
from tracemill.telemetry.attributes import Found, found, listed
from tracemill.telemetry.made import (
    Failure,
    Made,
    events,
    moment,
    span_call_id,
    usd,
)
from tracemill.telemetry.names import label
from tracemill.telemetry.otlp import Json, Span
from tracemill.telemetry.parameters import parameters

_CALLS = {"chat", "text_completion", "generate_content", "embeddings", "rerank"}
_WITHOUT_TEXT = {"embeddings", "rerank"}
_OPENINFERENCE = {"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank"}
_OLDER = {"completion": "text_completion", "embedding": "embeddings"}
_LANGFUSE = {"generation": "chat", "embedding": "embeddings"}
_ROLES_OF_EVENTS = {
    f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")
}
_HEX = frozenset("0123456789abcdef")


def call_events(
    span: Span, table: Table, *, key_id: str | None = None, redact: bool = True
) -> tuple[LlmCallStarted, Happened] | None:
    """The start and the end of the call that a span is; None where it is none.

    Raises `InputError`, `pydantic.ValidationError`: it is one, and not as it should be.
    """
    made = call(span, key_id=key_id)
    if made is None:
        return None
    return cast("tuple[LlmCallStarted, Happened]", events(made, table, redact=redact))


def operation(span: Span) -> str | None:
    """`gen_ai.operation.name` of a span that is a call to a model; None of any other."""
    told = span.attributes
    if named := told.get("gen_ai.operation.name"):
        return str(named) if named in _CALLS else None
    if kind := told.get("openinference.span.kind"):
        return _OPENINFERENCE.get(str(kind).upper())
    if kind := told.get("langfuse.observation.type"):
        return _LANGFUSE.get(str(kind))
    if kind := told.get("llm.request.type"):
        found = _OLDER.get(str(kind), str(kind))
        return found if found in _CALLS else None
    if "gen_ai.request.model" in told and (
        "gen_ai.system" in told or "gen_ai.provider.name" in told
    ):
        return "chat"
    return None


def call(span: Span, *, key_id: str | None = None) -> Made | None:
    """The call that a span is; None where it is none. Raises `InputError`."""
    kind = operation(span)
    if kind is None:
        return None
    _check_ids(span)
    told = span.attributes
    has = found(told)
    about = has.about
    asked_for = label(about.get("request_model") or about.get("response_model"))
    provider = names.provider(about.get("provider"), asked_for or "")
    answer = _answer(span)
    reasons = _finish_reasons(about, answer)
    answered = label(about.get("response_model"))
    own = label(told.get("tracemill.call_id"))
    crashed = told.get("tracemill.status") == "crashed"
    tier = label(about.get("service_tier"))
    return Made(
        call_id=own or span_call_id(span.trace_id, span.span_id),
        source="otlp",
        started_at=moment(span.start_ns),
        ended_at=moment(max(span.end_ns, span.start_ns)),
        operation=kind,
        provider=provider,
        request_model=names.model(asked_for or "unknown", provider),
        response_model=names.model(answered, provider) if answered else None,
        response_id=label(about.get("response_id")),
        request_id=label(told.get("tracemill.request_id")),
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_span_id=span.parent_span_id,
        conversation_id=label(about.get("conversation_id")),
        user_id=label(about.get("user_id")),
        prompt_name=label(about.get("prompt_name")),
        prompt_version=label(about.get("prompt_version")),
        key_id=key_id or label(told.get("tracemill.key_id")),
        actor=label(told.get("tracemill.actor")),
        tags=_tags(span, own=own is not None),
        asked=_asked(span),
        streamed=told.get("gen_ai.request.stream") is True or told.get("llm.is_streaming") is True,
        inputs=_inputs(told) if kind in _WITHOUT_TEXT else None,
        parts=() if kind in _WITHOUT_TEXT else answer.parts,
        refusal=_text(told.get("tracemill.refusal")),
        finish_reasons=tuple([names.finished(each) for each in reasons]),
        raw_finish_reason=label(
            told.get("tracemill.finish_reason.raw") or (reasons[0] if reasons else None)
        ),
        usage=_usage(told, has),
        service_tier=tier[:40] if tier else None,
        attempts=usage.count(told.get("tracemill.attempts", 1), "attempts"),
        latency_ms=_number(told.get("tracemill.latency_ms")),
        first_chunk_ms=_milliseconds(about.get("first_chunk_s")),
        failure=_failure(span, about.get("http_status")),
        cost_usd=usd(about.get("cost_usd")),
        price_snapshot=label(told.get("tracemill.cost.price_snapshot")),
        crashed=label(told.get("tracemill.process")) if crashed else None,
        cached_call_id=label(told.get("tracemill.cached_call_id")),
    )


def _check_ids(span: Span) -> None:
    for name, value, digits in (("trace", span.trace_id, 32), ("span", span.span_id, 16)):
        if len(value) != digits or not _HEX.issuperset(value) or not value.strip("0"):
            raise InputError(f"its {name} id is not {digits} hex digits: {value[:40]!r}")


# What was asked


def _asked(span: Span) -> Json:
    told = span.attributes
    given = {
        known.PARAMETERS[name]: value
        for name, value in told.items()
        if name in known.PARAMETERS and value is not None
    }
    for attribute in ("llm.invocation_parameters", "langfuse.observation.model.parameters"):
        more = conversation.parsed(told.get(attribute))
        if isinstance(more, dict):
            given |= cast(Json, more)
    given.pop("messages", None)
    offered = given.pop("tools", None)
    asked = parameters({n: v for n, v in given.items() if n != "model"})
    asked["messages"] = _messages(span)
    if system := told.get("gen_ai.system_instructions"):
        instructions = conversation.parsed(system)
        asked["system"] = "".join(
            part.content if isinstance(part, Text) else conversation.as_text(part.model_dump())
            for part in conversation.parts(instructions)
        )
    tools = told.get("gen_ai.tool.definitions") or offered or _openinference_tools(told)
    if tools:
        asked["tools"] = conversation.tools(tools)
    return asked


def _openinference_tools(told: Json) -> list[Any]:
    found = listed(told, "llm.tools") or listed(told, "llm.request.functions")
    shapes = [cast(Json, each) for each in found if isinstance(each, dict)]
    return [each.get("tool", {}).get("json_schema", each) for each in shapes]


def _messages(span: Span) -> tuple[Message, ...]:
    told = span.attributes
    if given := told.get("gen_ai.input.messages"):
        return conversation.messages(given)
    for prefix in ("llm.input_messages", "gen_ai.prompt"):
        if found := listed(told, prefix):
            return tuple(_spread_message(each) for each in found)
    if found := _messages_of_events(span):
        return found
    for name in ("langfuse.observation.input", "gen_ai.prompt", "input.value"):
        if given := told.get(name):
            return conversation.messages(given)
    return ()


def _spread_message(told: Any) -> Message:
    """A message whose fields were attributes of their own."""
    fields = _fields(told)
    return (
        conversation.message(fields)
        if fields.get("role")
        else conversation.said("user", conversation.content(fields.get("content")))
    )


def _fields(told: Any) -> Json:
    """OpenInference's message as OpenAI would write it; OpenLLMetry's is so already."""
    if not isinstance(told, dict):
        return {"content": told}
    item = cast(Json, told)
    inner = cast(Json, item.get("message", item))
    fields: Json = {"role": inner.get("role"), "content": conversation.parsed(inner.get("content"))}
    if isinstance(inner.get("contents"), list):
        contents = cast(list[Json], inner["contents"])
        fields["content"] = [_content_part(each.get("message_content", each)) for each in contents]
    elif not isinstance(fields["content"], str | list):
        fields["content"] = inner.get("content")
    for name in ("tool_call_id", "name", "finish_reason"):
        if inner.get(name):
            fields[name] = inner[name]
    if isinstance(inner.get("tool_calls"), list):
        calls = cast(list[Json], inner["tool_calls"])
        fields["tool_calls"] = [each.get("tool_call", each) for each in calls]
    return fields


def _content_part(told: Json) -> Json:
    image = cast(Json, told.get("image") or {})
    url = image.get("url") or cast(Json, image.get("image") or {}).get("url")
    return {"type": "image_url", "image_url": url} if url else told


def _messages_of_events(span: Span) -> tuple[Message, ...]:
    """Messages as span events: conventions until 1.36, or one event with all of them."""
    found: list[Message] = []
    for event in span.events:
        given = event.attributes.get("gen_ai.input.messages")
        given = given or event.attributes.get("gen_ai.prompt")
        if given:
            return conversation.messages(given)
        if role := _ROLES_OF_EVENTS.get(event.name):
            body = {"role": role, **_body(event.attributes)}
            found.append(conversation.message(body))
    return tuple(found)


def _body(told: Json) -> Json:
    """What a message's event holds, of which lists and objects are JSON texts."""
    return {n: v if n == "content" else conversation.parsed(v) for n, v in told.items()}


def _inputs(told: Json) -> int | None:
    for prefix in ("embedding.embeddings", "reranker.input_documents"):
        if found := listed(told, prefix):
            return len(found)
    given = told.get("tracemill.inputs")
    return usage.count(given, "inputs") if given is not None else None


# What came back


def _answer(span: Span) -> conversation.Answer:
    told = span.attributes
    if given := told.get("gen_ai.output.messages"):
        return conversation.Answer(given)
    for prefix in ("llm.output_messages", "gen_ai.completion"):
        if found := listed(told, prefix):
            return conversation.Answer([_fields(each) for each in found])
    for event in span.events:
        given = event.attributes.get("gen_ai.output.messages")
        given = given or event.attributes.get("gen_ai.completion")
        if given:
            return conversation.Answer(given)
    choices = [_body(e.attributes) for e in span.events if e.name == "gen_ai.choice"]
    if choices:
        return conversation.Answer(
            [{**choice, **cast(Json, choice.get("message") or {})} for choice in choices]
        )
    for name in ("langfuse.observation.output", "gen_ai.completion", "output.value"):
        if given := told.get(name):
            return conversation.Answer(given)
    return conversation.Answer(None)


def _finish_reasons(about: Json, answer: conversation.Answer) -> tuple[str, ...]:
    given = conversation.parsed(about.get("finish_reasons"))
    if isinstance(given, list):
        return tuple(str(each) for each in cast(list[Any], given))
    return (str(given),) if given else answer.reasons


def _usage(told: Json, has: Found) -> usage.Usage | None:
    details = conversation.parsed(told.get("langfuse.observation.usage_details"))
    if isinstance(details, dict):
        return usage.disjoint(cast(Json, details))
    if not has.usage:
        return None
    billed = conversation.parsed(told.get("tracemill.usage.billed"))
    return usage.inclusive(
        has.usage,
        has.raw_usage,
        estimated=told.get("tracemill.usage.estimated") is True,
        billed=billed if isinstance(billed, dict) else {},
    )


def _failure(span: Span, status: Any) -> Failure | None:
    """Why it failed: the convention's attribute, the exception of an event, or the status alone."""
    told = span.attributes
    kind = told.get("error.type")
    if kind is None and not span.error:
        return None
    raising = [e.attributes for e in span.events if "exception.type" in e.attributes]
    raised: Json = raising[0] if raising else {}
    code = int(status) if isinstance(status, int | str) and str(status).isdecimal() else None
    message = span.status_message or _text(raised.get("exception.message")) or "no word of why"
    return Failure(
        names.error(kind or raised.get("exception.type"), code),
        message,
        label(told.get("tracemill.error.code")),
        code,
    )


# Whose


def _tags(span: Span, *, own: bool) -> dict[str, str]:
    told = span.attributes
    tags = {
        name.removeprefix(known.TAG): conversation.as_text(value)
        for name, value in told.items()
        if name.startswith(known.TAG)
    }
    if own:
        return tags
    for name in ("service.name", "deployment.environment.name"):
        if value := span.resource.get(name):
            tags.setdefault(name, conversation.as_text(value))
    metadata = conversation.parsed(told.get("metadata"))
    if isinstance(metadata, dict):
        for name, value in cast(Json, metadata).items():
            tags.setdefault(name, conversation.as_text(value)[:1000])
    labels = conversation.parsed(told.get("tag.tags") or told.get("langfuse.trace.tags"))
    if isinstance(labels, list):
        tags |= tags_of(cast(list[Any], labels))
    return tags


def tags_of(labels: list[Any]) -> dict[str, str]:
    """Labels that other tools put on calls, as tags: `team=core` and `team:core` have a value."""
    made: dict[str, str] = {}
    for each in labels:
        text = conversation.as_text(each)
        for mark in ("=", ":"):
            name, found, value = text.partition(mark)
            if found and name and value:
                made[name] = value
                break
        else:
            made[text] = "true"
    return made


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def _milliseconds(seconds: Any) -> float | None:
    if seconds is None:
        return None
    try:
        return max(0.0, round(float(seconds) * 1000, 6))
    except (TypeError, ValueError):
        return None
