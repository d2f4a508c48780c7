"""LiteLLM's proxy: the table LiteLLM_SpendLogs, exported as JSON, JSON lines or CSV, or in its PostgreSQL.

Sources: litellm 1.106.2, litellm/proxy/schema.prisma (model LiteLLM_SpendLogs) and
litellm/proxy/spend_tracking/spend_tracking_utils.py (what is in `metadata`). Every row is a call: each
may have cost something. `spend` is kept as the cost.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from tracemill.errors import InputError
from tracemill.telemetry import conversation, names, usage
from tracemill.telemetry.importers import databases
from tracemill.telemetry.importers.files import rows
from tracemill.telemetry.importers.load import Item, attempted
from tracemill.telemetry.importers.values import Json, list_of, object_of, optional_when, when
from tracemill.telemetry.made import Failure, Made, id_of, usd
from tracemill.telemetry.names import label
from tracemill.telemetry.parameters import parameters
from tracemill.telemetry.spans import tags_of

_QUERY = 'SELECT to_jsonb(r)::text FROM "LiteLLM_SpendLogs" AS r ORDER BY "startTime", request_id'
_OPERATIONS = {
    "completion": "chat",
    "responses": "chat",
    "anthropic_messages": "chat",
    "text_completion": "text_completion",
    "generate_content": "generate_content",
    "embedding": "embeddings",
    "rerank": "rerank",
}
_WITHOUT_TEXT = {"embeddings", "rerank"}
_PARAMETERS = frozenset(
    {"temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop"}
    | {"reasoning_effort", "tool_choice", "frequency_penalty", "presence_penalty", "n"}
)


def items(sources: Sequence[str]) -> Iterator[Item]:
    """The rows of each source."""
    for source in sources:
        if databases.is_postgres(source):
            told = enumerate(databases.postgres(source, _QUERY), 1)
            where = f"{databases.shown(source)} LiteLLM_SpendLogs"
            for number, fields in told:
                yield attempted(where, number, fields, lambda f=fields: _call(f))
        else:
            for row in rows(Path(source)):
                if row.fields is None:
                    yield Item(source, row.number, None, row.trouble, row.raw)
                else:
                    fields = row.fields
                    yield attempted(source, row.number, fields, lambda f=fields: _call(f))


def _call(told: Json) -> Made:
    request_id = label(told.get("request_id"))
    if request_id is None:
        raise InputError("it has no request_id")
    started = when(told.get("startTime"), "startTime")
    ended = optional_when(told.get("endTime"), "endTime") or started
    first = optional_when(told.get("completionStartTime"), "completionStartTime")
    metadata = object_of(told.get("metadata"))
    asked_for = object_of(told.get("proxy_server_request"))
    asked_for = object_of(asked_for.get("body")) or asked_for
    model = label(told.get("model")) or label(told.get("model_group")) or "unknown"
    provider = names.provider(told.get("custom_llm_provider"), model)
    operation = _operation(told.get("call_type"))
    answer = conversation.Answer(
        None if operation in _WITHOUT_TEXT else _json(told.get("response"))
    )
    streamed = first is not None and first < ended
    return Made(
        call_id=id_of("litellm", request_id),
        source="litellm",
        started_at=started,
        ended_at=ended,
        operation=operation,
        provider=provider,
        request_model=names.model(model, provider),
        response_id=request_id,
        trace_id=label(told.get("session_id")),
        conversation_id=label(told.get("session_id")),
        user_id=label(told.get("end_user")) or label(told.get("user")),
        key_id=_key(told, metadata),
        tags=_tags(told, metadata),
        asked=_asked(told, asked_for),
        streamed=streamed,
        parts=answer.parts,
        finish_reasons=tuple([names.finished(each) for each in answer.reasons]),
        raw_finish_reason=label(answer.reasons[0]) if answer.reasons else None,
        usage=_usage(told, metadata),
        first_chunk_ms=(first - started) / timedelta(milliseconds=1)
        if streamed and first and first >= started
        else None,
        failure=_failure(told, metadata),
        cost_usd=usd(told.get("spend")),
        cached_call_id=_cached(told, request_id),
    )


def _operation(call_type: Any) -> str:
    """`acompletion` and `completion` are chats; what has no name in the conventions keeps its own."""
    name = str(call_type or "completion")
    short = name.removeprefix("a") if name.removeprefix("a") in _OPERATIONS else name
    return _OPERATIONS.get(short) or label(short) or "chat"


def _json(value: Any) -> Any:
    """What a column of JSON says; `{}` is what there is where nothing was kept."""
    return conversation.parsed(value) or None


def _asked(told: Json, request: Json) -> Json:
    said = _json(told.get("messages")) or request.get("messages") or request.get("input")
    given = {name: value for name, value in request.items() if name in _PARAMETERS}
    messages = conversation.messages(said)
    if system := request.get("system"):
        messages = (conversation.said("system", conversation.content(system)), *messages)
    return {
        **parameters(given),
        "messages": messages,
        "tools": conversation.tools(request.get("tools")),
    }


def _key(told: Json, metadata: Json) -> str | None:
    """The key by its name, else by the digest that LiteLLM keeps of it; never itself."""
    key = label(metadata.get("user_api_key_alias")) or label(told.get("api_key"))
    return None if key is None or key.startswith("sk-") else key


def _tags(told: Json, metadata: Json) -> dict[str, str]:
    made = tags_of(list_of(told.get("request_tags")))
    team = metadata.get("user_api_key_team_alias") or told.get("team_id")
    for name, value in (
        ("team", team),
        ("organization", told.get("organization_id")),
        ("agent", told.get("agent_id")),
        ("model_group", told.get("model_group")),
    ):
        if value:
            made.setdefault(name, str(value))
    return made


def _usage(told: Json, metadata: Json) -> usage.Usage | None:
    read, wrote = told.get("prompt_tokens"), told.get("completion_tokens")
    if not usage.count(read) and not usage.count(wrote):
        return None
    more = object_of(metadata.get("usage_object")) | object_of(
        metadata.get("additional_usage_values")
    )
    of_read = object_of(more.get("prompt_tokens_details"))
    of_wrote = object_of(more.get("completion_tokens_details"))
    counts = {
        "input_tokens": read,
        "output_tokens": wrote,
        "cache_read_input_tokens": more.get("cache_read_input_tokens")
        or of_read.get("cached_tokens"),
        "cache_write_input_tokens": more.get("cache_creation_input_tokens")
        or of_read.get("cache_creation_tokens"),
        "reasoning_output_tokens": of_wrote.get("reasoning_tokens"),
        "input_audio_tokens": of_read.get("audio_tokens"),
        "output_audio_tokens": of_wrote.get("audio_tokens"),
    }
    raw = {"prompt_tokens": read, "completion_tokens": wrote, **more}
    return usage.inclusive(counts, raw)


def _failure(told: Json, metadata: Json) -> Failure | None:
    if (told.get("status") or metadata.get("status")) != "failure":
        return None
    error = object_of(metadata.get("error_information"))
    code = str(error.get("error_code") or "")
    status = int(code) if code.isdecimal() and 100 <= int(code) <= 599 else None
    message = str(error.get("error_message") or "no word of why")
    return Failure(names.error(error.get("error_class"), status), message, label(code), status)


def _cached(told: Json, request_id: str) -> str | None:
    """The call whose answer the cache gave again: LiteLLM puts a mark behind its id."""
    if str(told.get("cache_hit")).lower() != "true":
        return None
    return id_of("litellm", request_id.partition("_cache_hit")[0])
