"""Langfuse: traces, observations and scores, as its blob storage export, its page and its API give them.

Sources: langfuse-docs, blob-storage-export-fields.mdx (enriched `observations_v2/`, `scores/`, and the
older `traces/` and `observations/`, 2026); langfuse/langfuse, fern/apis/server/definition/commons.yml
(names with humps); Langfuse 5.0. Observations of type GENERATION and EMBEDDING are calls.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, cast

import apsw
from pydantic_core import from_json, to_json

from tracemill.errors import InputError
from tracemill.telemetry import conversation, names, usage
from tracemill.telemetry.importers.files import Row, rows
from tracemill.telemetry.importers.load import Item, attempted
from tracemill.telemetry.importers.values import (
    Json,
    list_of,
    object_of,
    optional_when,
    score,
    snake,
    tags,
    when,
)
from tracemill.telemetry.made import (
    Failure,
    Judged,
    Made,
    id_of,
    span_call_id,
    usd,
)
from tracemill.telemetry.names import label
from tracemill.telemetry.parameters import parameters
from tracemill.telemetry.spans import tags_of

_OPERATIONS = {"GENERATION": "chat", "EMBEDDING": "embeddings"}
_KINDS = ("trace", "observation", "score")
_EXCEPTION = re.compile(r"(\w*(?:Error|Exception|Timeout))\b")
_SPAN = re.compile(r"[0-9a-f]{16}")
_TRACE = re.compile(r"[0-9a-f]{32}")
_NOT_TAGS = frozenset({"attributes", "resourceAttributes", "scope", "ls_provider"})


def items(sources: Sequence[str]) -> Iterator[Item]:
    """Traces first, for what they say of their observations; judgements last, of which these are."""
    kinds = {source: _kind_of_file(Path(source)) for source in sources}
    with _Traces() as traces:
        for kind in (*_KINDS, None):
            for source in sources:
                if kinds[source] == kind:
                    for row in rows(Path(source)):
                        yield from _items(source, row, traces)


class _Traces:
    """What traces say of their observations, in a temporary file of SQLite's: there may be millions."""

    def __enter__(self) -> Self:
        self._kept = apsw.Connection("")
        self._kept.execute("CREATE TABLE trace(id TEXT PRIMARY KEY, told TEXT) WITHOUT ROWID")
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def keep(self, trace: Json) -> None:
        names_ = ("user_id", "session_id", "tags", "name", "environment")
        told = to_json({name: trace.get(name) for name in names_}).decode()
        self._kept.execute("REPLACE INTO trace VALUES (?, ?)", (str(trace.get("id")), told))

    def of(self, trace_id: Any) -> Json:
        query = "SELECT told FROM trace WHERE id = ?"
        told: Any = self._kept.execute(query, (str(trace_id),)).get
        return from_json(told) if told else {}


def _kind_of_file(path: Path) -> str | None:
    first = next(rows(path), None)
    return _kind(_snaked(first.fields)) if first and first.fields else None


def _kind(fields: Json) -> str | None:
    if "observations" in fields:
        return "trace"
    if "type" in fields and "start_time" in fields:
        return "observation"
    if "value" in fields and fields.keys() & {"data_type", "source", "string_value"}:
        return "score"
    return "trace" if "timestamp" in fields and "id" in fields else None


def _snaked(fields: Json) -> Json:
    return {snake(name): value for name, value in fields.items()}


def _items(source: str, row: Row, traces: _Traces) -> Iterator[Item]:
    if row.fields is None:
        yield Item(source, row.number, None, row.trouble, row.raw)
        return
    fields = _snaked(row.fields)
    match _kind(fields):
        case "trace":
            traces.keep(fields)
            yield Item(source, row.number)
            yield from _within(source, row, fields, traces)
        case "observation":
            trace = traces.of(fields.get("trace_id"))
            yield attempted(source, row.number, row.fields, lambda: _call(fields, trace))
        case "score":
            yield attempted(source, row.number, row.fields, lambda: _judged(fields))
        case _:
            why = "it is neither a trace nor an observation nor a score"
            yield Item(source, row.number, None, why, str(row.fields))


def _within(source: str, row: Row, trace: Json, traces: _Traces) -> Iterator[Item]:
    """Observations and scores that a trace brings along; where it only names them, none."""
    for name in ("observations", "scores"):
        for each in list_of(trace.get(name)):
            if isinstance(each, dict):
                inner: Json = {"trace_id": trace.get("id"), **_snaked(cast(Json, each))}
                yield from _items(source, Row(row.number, inner), traces)


def _call_id(trace_id: Any, observation_id: Any) -> str:
    trace, observation = str(trace_id or ""), str(observation_id)
    if _TRACE.fullmatch(trace) and _SPAN.fullmatch(observation):
        # Langfuse's SDKs since version 3 use OpenTelemetry's ids: the span may come that way too.
        return span_call_id(trace, observation)
    return id_of("langfuse", trace, observation)


def _call(told: Json, trace: Json) -> Made | None:
    operation = _OPERATIONS.get(str(told.get("type")).upper())
    if operation is None:
        return None
    if not told.get("id"):
        raise InputError("it has no id")
    started = when(told.get("start_time"), "start_time")
    ended = optional_when(told.get("end_time"), "end_time") or started
    first = optional_when(told.get("completion_start_time"), "completion_start_time")
    model = label(told.get("provided_model_name") or told.get("model")) or "unknown"
    metadata = object_of(told.get("metadata"))
    provider = names.provider(metadata.get("ls_provider"), model)
    answer = conversation.Answer(told.get("output"))
    given = parameters(object_of(told.get("model_parameters")))
    offered = told.get("tool_definitions")
    return Made(
        call_id=_call_id(told.get("trace_id"), told["id"]),
        source="langfuse",
        started_at=started,
        ended_at=ended,
        operation=operation,
        provider=provider,
        request_model=names.model(model, provider),
        trace_id=label(told.get("trace_id")),
        span_id=label(told.get("id")),
        parent_span_id=label(told.get("parent_observation_id")),
        conversation_id=label(told.get("session_id") or trace.get("session_id")),
        user_id=label(told.get("user_id") or trace.get("user_id")),
        prompt_name=label(told.get("prompt_name")),
        prompt_version=label(told.get("prompt_version")),
        tags=_tags(told, trace, metadata),
        asked={
            **given,
            "messages": conversation.messages(told.get("input")),
            "tools": conversation.tools(_definitions(offered)),
        },
        streamed=first is not None,
        parts=() if operation == "embeddings" else answer.parts,
        finish_reasons=tuple([names.finished(each) for each in answer.reasons]),
        raw_finish_reason=label(answer.reasons[0]) if answer.reasons else None,
        usage=_usage(told),
        first_chunk_ms=max(0.0, (first - started) / timedelta(milliseconds=1)) if first else None,
        failure=_failure(told),
        cost_usd=_cost(told),
    )


def _definitions(offered: Any) -> Any:
    """Tools by their names, or as a list."""
    told = conversation.parsed(offered)
    if not isinstance(told, dict):
        return told
    return [{"name": name, **object_of(each)} for name, each in object_of(told).items()]


def _tags(told: Json, trace: Json, metadata: Json) -> dict[str, str]:
    made = tags(metadata, _NOT_TAGS)
    if name := told.get("trace_name") or trace.get("name"):
        made["trace_name"] = str(name)
    environment = told.get("environment") or trace.get("environment")
    if environment and environment != "default":
        made["environment"] = str(environment)
    return made | tags_of(list_of(told.get("tags") or told.get("trace_tags") or trace.get("tags")))


def _usage(told: Json) -> usage.Usage | None:
    details = object_of(told.get("usage_details"))
    if details:
        return usage.disjoint(details)
    older = object_of(told.get("usage"))
    counts = {name: older[name] for name in ("input", "output", "total") if older.get(name)}
    if not counts:
        pairs = (("input", "prompt_tokens"), ("output", "completion_tokens"))
        counts = {ours: told[theirs] for ours, theirs in pairs if told.get(theirs)}
    return usage.disjoint(counts) if counts else None


def _cost(told: Json) -> Any:
    total = told.get("total_cost") or told.get("calculated_total_cost")
    return usd(total or object_of(told.get("cost_details")).get("total"))


def _failure(told: Json) -> Failure | None:
    if str(told.get("level")).upper() != "ERROR":
        return None
    message = str(told.get("status_message") or "no word of why")
    found = _EXCEPTION.search(message)
    return Failure(names.error(found[1] if found else None), message)


def _judged(told: Json) -> Judged:
    given = told.get("timestamp") or told.get("created_at")
    kind = str(told.get("data_type") or "NUMERIC").upper()
    word = told.get("string_value") if kind in {"CATEGORICAL", "BOOLEAN"} else None
    number = told.get("value") if kind in {"NUMERIC", "BOOLEAN"} else None
    said = (told.get("name"), told.get("string_value") if kind != "NUMERIC" else None)
    remark = ": ".join(str(each) for each in (*said, told.get("comment")) if each)
    observation = told.get("observation_id")
    return Judged(
        feedback_id=id_of("langfuse score", str(told["id"])),
        call_id=_call_id(told.get("trace_id"), observation) if observation else None,
        trace_id=label(told.get("trace_id")),
        score=score(number, word, boolean=kind == "BOOLEAN"),
        comment=remark or None,
        user_id=label(told.get("author_user_id")),
        given_at=when(given, "timestamp"),
    )
