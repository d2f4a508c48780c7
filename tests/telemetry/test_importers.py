"""Exports of other tools become calls, with their times and costs, once however often they come."""

import csv
import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.telemetry import postgres
from tests.telemetry.made_spans import CHAT, of_calls, span, spans
from tracemill.errors import InputError, UsageError
from tracemill.events import LlmCallCached, LlmCallFailed, LlmCallFinished, LlmCallStarted
from tracemill.log import EventLog
from tracemill.messages import Message, ToolCall, ToolResult
from tracemill.telemetry.importers import Imported, items, load
from tracemill.telemetry.importers.databases import shown
from tracemill.telemetry.importers.files import rows
from tracemill.telemetry.ingest import ingest

TRACE, SPAN = "ab" * 16, "cd" * 8


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "warehouse" / "log") as opened:
        yield opened


def _load(log: EventLog, tool: str, *sources: Path | str) -> Imported:
    return load(log, tool, items(tool, [str(source) for source in sources]))


def _lines(path: Path, *rows_: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows_), encoding="utf-8")
    return path


def _refused(log: EventLog, tool: str) -> list[dict[str, Any]]:
    path = log.folder.with_name("quarantine") / "imports" / f"{tool}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


# Files


def test_every_form_of_a_file_gives_the_same_rows(tmp_path: Path) -> None:
    told = [{"id": "1", "text": "a\nb"}, {"id": "2", "text": "é"}]
    lines = _lines(tmp_path / "a.jsonl", *told)
    (tmp_path / "b.json").write_text(json.dumps(told, indent=2), encoding="utf-8")
    (tmp_path / "c.json").write_text(
        json.dumps({"data": told, "meta": {"page": 1}}), encoding="utf-8"
    )
    (tmp_path / "d.json").write_text("\n".join(json.dumps(each, indent=1) for each in told))
    (tmp_path / "e.json.gz").write_bytes(gzip.compress(json.dumps(told).encode()))
    with (tmp_path / "f.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([["id", "text"], *(each.values() for each in told)])
    pq.write_table(pa.Table.from_pylist(told), tmp_path / "g.parquet")
    for path in [lines, *sorted(set(tmp_path.iterdir()) - {lines})]:
        assert [row.fields for row in rows(path)] == told, path.name


def test_a_large_array_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    told = [{"number": n, "text": "x" * 40_000} for n in range(100)] + [{"text": "y" * 5_000_000}]
    path.write_text(json.dumps(told))
    assert [row.fields for row in rows(path)] == told


def test_bad_lines_are_told_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n\n{"id": \n[1]\n{"id": 2}\n')
    read = list(rows(path))
    assert [(row.number, row.fields) for row in read] == [
        (1, {"id": 1}),
        (3, None),
        (4, None),
        (5, {"id": 2}),
    ]
    assert read[1].trouble.startswith("not JSON")
    (tmp_path / "b.csv").write_text("a,b\n1,2\n3\n")
    assert [row.trouble for row in rows(tmp_path / "b.csv")] == [
        "",
        "it has 1 fields, the header 2",
    ]


def test_a_file_that_is_broken_or_missing_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"id": 1}, {"id": ')
    read = rows(tmp_path / "a.json")
    assert next(read).fields == {"id": 1}
    with pytest.raises(InputError, match="behind row 1 it is not JSON"):
        next(read)
    with pytest.raises(InputError, match="No such file"):
        next(rows(tmp_path / "none.json"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=r"a\.parquet"):
        next(rows(tmp_path / "a.parquet"))


# Langfuse

OBSERVATION = {
    "id": SPAN,
    "trace_id": TRACE,
    "project_id": "p",
    "environment": "production",
    "type": "GENERATION",
    "parent_observation_id": "",
    "start_time": "2026-05-01 10:00:00.250000",
    "end_time": "2026-05-01 10:00:02.250000",
    "completion_start_time": "2026-05-01 10:00:00.750000",
    "name": "answer",
    "metadata": {"feature": "search", "attributes": {"k": "v"}},
    "level": "DEFAULT",
    "status_message": "",
    "input": '[{"role": "user", "content": "2+2?"}]',
    "output": '{"role": "assistant", "content": "4"}',
    "provided_model_name": "gpt-5.4-mini",
    "model_parameters": '{"temperature": 0.5}',
    "usage_details": {"input": 36, "input_cached_tokens": 64, "output": 15, "output_reasoning_tokens": 5, "total": 120},
    "total_cost": 0.00125,
    "prompt_name": "sums",
    "prompt_version": 3,
    "user_id": "u1",
    "session_id": "s1",
    "trace_name": "chat",
    "tags": ["beta", "tier:gold"],
}  # fmt: skip
SCORE = {
    "id": "score-1",
    "timestamp": "2026-05-01 11:00:00.000000",
    "trace_id": TRACE,
    "observation_id": SPAN,
    "name": "accuracy",
    "value": 0.5,
    "source": "API",
    "comment": "well",
    "data_type": "NUMERIC",
    "string_value": None,
}


def _check_langfuse(log: EventLog) -> None:
    began, ended = of_calls(log)
    assert isinstance(began, LlmCallStarted)
    assert isinstance(ended, LlmCallFinished)
    assert began.messages == (Message(role="user", content="2+2?"),)
    assert (began.temperature, began.streamed, began.span_id) == (0.5, True, SPAN)
    assert began.occurred_at.isoformat() == "2026-05-01T10:00:00.250000+00:00"
    assert (ended.provider, ended.request_model, ended.content) == ("openai", "gpt-5.4-mini", "4")
    assert (ended.latency_ms, ended.time_to_first_chunk_ms) == (2000, 500)
    assert (ended.cost_usd, ended.price_snapshot) == (Decimal("0.00125"), "langfuse")
    assert (ended.user_id, ended.conversation_id) == ("u1", "s1")
    assert (ended.prompt_name, ended.prompt_version) == ("sums", "3")
    # Langfuse's buckets do not overlap; ours hold each other.
    assert ended.usage.parts == (36, 64, 0, 0, 15, 5)
    tags = {"trace_name": "chat", "environment": "production", "beta": "true", "tier": "gold"}
    assert ended.metadata == {"feature": "search", **tags}


def test_langfuse_observations_and_scores(tmp_path: Path, log: EventLog) -> None:
    observations = _lines(
        tmp_path / "observations.jsonl", OBSERVATION, {**OBSERVATION, "id": "x", "type": "SPAN"}
    )
    scores = _lines(tmp_path / "scores.jsonl", SCORE)
    first = _load(log, "langfuse", scores, observations)
    assert (first.calls, first.judgements, first.ignored, first.refused) == (1, 1, 1, 0)
    _check_langfuse(log)
    [given] = log.sql("SELECT score, comment, request_model FROM feedback").rows()
    assert given == (0.5, "accuracy: well", "gpt-5.4-mini")
    again = _load(log, "langfuse", observations, scores)
    assert (again.calls, again.judgements, again.known) == (0, 0, 2)


def test_langfuse_as_its_older_export_and_api_have_it(tmp_path: Path, log: EventLog) -> None:
    of_trace = {"user_id", "session_id", "trace_name", "tags"}
    names = {"provided_model_name": "model", "total_cost": "calculatedTotalCost"}

    def camel(name: str) -> str:
        first, *rest = names.get(name, name).split("_")
        return first + "".join(each.title() for each in rest)

    observation = {
        camel(name): value for name, value in OBSERVATION.items() if name not in of_trace
    }
    observation |= {
        "startTime": "2026-05-01T10:00:00.250Z",
        "endTime": "2026-05-01T10:00:02.250Z",
        "completionStartTime": "2026-05-01T12:00:00.750+02:00",
    }
    trace = {
        "id": TRACE,
        "timestamp": "2026-05-01T10:00:00Z",
        "name": "chat",
        "userId": "u1",
        "sessionId": "s1",
        "tags": ["beta", "tier:gold"],
    }
    (tmp_path / "observations.json").write_text(json.dumps({"data": [observation], "meta": {}}))
    (tmp_path / "traces.json").write_text(json.dumps([trace]))
    done = _load(log, "langfuse", tmp_path / "observations.json", tmp_path / "traces.json")
    assert (done.calls, done.ignored, done.refused) == (1, 1, 0)
    _check_langfuse(log)
    # One trace with all that is in it, as its page gives it.
    whole = {
        **trace,
        "observations": [{**observation, "traceId": None, "id": "another"}],
        "scores": [],
    }
    whole["scores"] = [
        {**{camel(n): v for n, v in SCORE.items()}, "observationId": None, "traceId": TRACE}
    ]
    (tmp_path / "trace.json").write_text(json.dumps(whole, indent=1))
    done = _load(log, "langfuse", tmp_path / "trace.json")
    assert (done.calls, done.judgements) == (1, 1)


def test_langfuse_as_csv(tmp_path: Path, log: EventLog) -> None:
    path = tmp_path / "observations.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, OBSERVATION)
        writer.writeheader()
        writer.writerow(
            {n: json.dumps(v) if isinstance(v, dict | list) else v for n, v in OBSERVATION.items()}
        )
    assert _load(log, "langfuse", path).calls == 1
    _check_langfuse(log)


def test_a_span_and_its_observation_are_one_call(tmp_path: Path, log: EventLog) -> None:
    ingest(log, spans(span(attributes=CHAT, traceId=TRACE, spanId=SPAN)))
    done = _load(log, "langfuse", _lines(tmp_path / "o.jsonl", OBSERVATION))
    assert (done.calls, done.known) == (0, 1)


def test_langfuse_rows_that_cannot_be_taken_are_quarantined(tmp_path: Path, log: EventLog) -> None:
    path = _lines(
        tmp_path / "all.jsonl",
        OBSERVATION,
        {**OBSERVATION, "id": "a", "start_time": "yesterday"},
        {**OBSERVATION, "id": "b", "usage_details": {"input": "many"}},
        {**SCORE, "value": 4},
        {**SCORE, "id": "c", "data_type": "CATEGORICAL", "string_value": "purple"},
        {**SCORE, "id": "d", "observation_id": "nobody"},
        {"what": "is this"},
    )
    done = _load(log, "langfuse", path)
    assert (done.calls, done.refused) == (1, 6)
    kept = _refused(log, "langfuse")
    assert sorted((one["row"], one["reason"].partition(":")[0]) for one in kept) == [
        (2, "start_time is no time"),
        (3, "input is no number"),
        (4, "its score is 4, and nothing says on which scale"),
        (5, "it has no score, and 'purple' says neither good nor bad"),
        (6, "the call that it judges is not in the log"),
        (7, "it is neither a trace nor an observation nor a score"),
    ]
    assert all(one["source"] == str(path) for one in kept)
    assert json.loads(kept[0]["raw"])


def test_an_observation_that_failed(tmp_path: Path, log: EventLog) -> None:
    failed = {
        "level": "ERROR",
        "status_message": "RateLimitError: slow",
        "output": "",
        "usage_details": {},
        "total_cost": 0,
    }
    _load(log, "langfuse", _lines(tmp_path / "o.jsonl", {**OBSERVATION, **failed}))
    ended = of_calls(log)[1]
    assert isinstance(ended, LlmCallFailed)
    assert (ended.error_type, ended.error_message) == ("rate_limited", "RateLimitError: slow")


# Phoenix

NESTED = {
    "openinference": {"span": {"kind": "LLM"}},
    "llm": {
        "model_name": "gpt-5.4-mini",
        "provider": "openai",
        "token_count": {"prompt": 100, "completion": 20, "prompt_details": {"cache_read": 64}},
        "input_messages": [{"message": {"role": "user", "content": "2+2?"}}],
        "output_messages": [{"message": {"role": "assistant", "content": "4"}}],
    },
    "session": {"id": "s1"},
}
FLAT = {
    "openinference.span.kind": "LLM",
    "llm.model_name": "gpt-5.4-mini",
    "llm.provider": "openai",
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 20,
    "llm.token_count.prompt_details.cache_read": 64,
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "2+2?",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "4",
    "session.id": "s1",
}
ABOUT = {
    "name": "ChatCompletion",
    "span_kind": "LLM",
    "parent_id": "ef" * 8,
    "start_time": "2026-05-01T10:00:00.250000+00:00",
    "end_time": "2026-05-01T10:00:02.250000+00:00",
    "status_code": "OK",
    "status_message": "",
    "events": [],
}
_PHOENIX = """
CREATE TABLE traces(id INTEGER PRIMARY KEY, project_rowid INTEGER, trace_id TEXT);
CREATE TABLE spans(id INTEGER PRIMARY KEY, trace_rowid INTEGER, span_id TEXT, parent_id TEXT, name TEXT,
  span_kind TEXT, start_time TIMESTAMP, end_time TIMESTAMP, attributes {json}, events {json},
  status_code TEXT, status_message TEXT);
CREATE TABLE span_costs(id INTEGER PRIMARY KEY, span_rowid INTEGER, total_cost FLOAT);
CREATE TABLE span_annotations(id INTEGER PRIMARY KEY, span_rowid INTEGER, name TEXT, label TEXT,
  score FLOAT, explanation TEXT, annotator_kind TEXT, identifier TEXT, user_id INTEGER, created_at TIMESTAMP);
"""


def _phoenix_rows() -> Iterator[str]:
    times = "'2026-05-01 10:00:00.250000', '2026-05-01 10:00:02.250000'"
    given = "'2026-05-01 11:00:00'"
    told = json.dumps(NESTED)
    yield from (
        f"INSERT INTO traces VALUES (1, 1, '{TRACE}')",  # noqa: S608 (rows of ours)
        f"INSERT INTO spans VALUES (1, 1, '{SPAN}', '{'ef' * 8}', 'x', 'LLM', {times}, '{told}', '[]', 'OK', '')",  # noqa: S608
        f"INSERT INTO spans VALUES (2, 1, '{'12' * 8}', NULL, 'x', 'CHAIN', {times}, '{{}}', '[]', 'OK', '')",  # noqa: S608
        "INSERT INTO span_costs VALUES (1, 1, 0.00125)",
        f"INSERT INTO span_annotations VALUES (1, 1, 'helpful', 'yes', 1, 'it was', 'HUMAN', '', NULL, {given})",  # noqa: S608
        f"INSERT INTO span_annotations VALUES (2, 1, 'tone', 'incorrect', NULL, NULL, 'LLM', '', NULL, {given})",  # noqa: S608
    )


def _check_phoenix(log: EventLog, cost: Decimal | None) -> None:
    began, ended = of_calls(log)[:2]
    assert isinstance(began, LlmCallStarted)
    assert isinstance(ended, LlmCallFinished)
    assert began.messages == (Message(role="user", content="2+2?"),)
    assert (began.trace_id, began.span_id, began.parent_span_id) == (TRACE, SPAN, "ef" * 8)
    assert began.occurred_at.isoformat() == "2026-05-01T10:00:00.250000+00:00"
    assert (ended.content, ended.latency_ms, ended.conversation_id) == ("4", 2000, "s1")
    assert ended.usage.parts == (36, 64, 0, 0, 20, 0)
    if cost is not None:
        assert (ended.cost_usd, ended.price_snapshot) == (cost, "phoenix")


def test_phoenix_spans_of_its_api_and_of_a_table(tmp_path: Path, log: EventLog) -> None:
    context = {"trace_id": TRACE, "span_id": SPAN}
    api = _lines(tmp_path / "spans.jsonl", {**ABOUT, "context": context, "attributes": FLAT})
    assert _load(log, "phoenix", api).calls == 1
    _check_phoenix(log, None)
    columns = {
        f"attributes.{name}": value for name, value in FLAT.items() if "messages" not in name
    }
    messages = {
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "2+2?"}],
        "attributes.llm.output_messages": [{"message.role": "assistant", "message.content": "4"}],
    }
    ids = {f"context.{name}": value for name, value in context.items()}
    table = pa.Table.from_pylist(
        [
            {**ABOUT, **ids, **columns, **messages, "attributes.llm.cost.total": float("nan")},
            {**ABOUT, **ids, "context.span_id": "12" * 8, "span_kind": "CHAIN"},
        ]
    )
    pq.write_table(table, tmp_path / "spans.parquet")
    done = _load(log, "phoenix", tmp_path / "spans.parquet")
    assert (done.calls, done.known, done.ignored, done.refused) == (0, 1, 1, 0)
    with EventLog(tmp_path / "other" / "log") as other:
        assert _load(other, "phoenix", tmp_path / "spans.parquet").calls == 1
        _check_phoenix(other, None)


def test_phoenix_database_of_sqlite(tmp_path: Path, log: EventLog) -> None:
    path = tmp_path / "phoenix.db"
    with apsw.Connection(str(path)) as made:
        made.execute(_PHOENIX.format(json="JSON"))
        for statement in _phoenix_rows():
            made.execute(statement)
    made.close()
    done = _load(log, "phoenix", path)
    assert (done.calls, done.judgements, done.ignored, done.refused) == (1, 2, 1, 0)
    _check_phoenix(log, Decimal("0.00125"))
    assert log.sql("SELECT score, comment FROM feedback ORDER BY score").rows() == [
        (-1.0, "tone: incorrect"),
        (1.0, "helpful: yes: it was"),
    ]
    assert _load(log, "phoenix", path).known == 3


# llm

_LLM = """
CREATE TABLE threads(id TEXT PRIMARY KEY, name TEXT, tip_message_hash TEXT);
CREATE TABLE messages(hash TEXT PRIMARY KEY, parent_hash TEXT, role TEXT, provider_metadata TEXT);
CREATE TABLE parts(id INTEGER PRIMARY KEY, message_hash TEXT, position INTEGER, type TEXT, tool_name TEXT,
  text TEXT, payload TEXT);
CREATE TABLE fragments(id INTEGER PRIMARY KEY, hash TEXT, content TEXT);
CREATE TABLE attachments(id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
CREATE TABLE schemas(id TEXT PRIMARY KEY, content TEXT);
CREATE TABLE tools(id INTEGER PRIMARY KEY, hash TEXT, name TEXT, description TEXT, input_schema TEXT);
CREATE TABLE turn_tools(turn_id TEXT, tool_id INTEGER, instance_id INTEGER);
CREATE TABLE turns(id TEXT PRIMARY KEY, thread_id TEXT, parent_message_hash TEXT, tip_message_hash TEXT,
  model TEXT, resolved_model TEXT, options_json TEXT, schema_id TEXT, input_tokens INTEGER,
  output_tokens INTEGER, token_details TEXT, duration_ms INTEGER, datetime_utc TEXT, response_json TEXT);
CREATE TABLE responses(id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, prompt_json TEXT,
  options_json TEXT, response TEXT, response_json TEXT, conversation_id TEXT, duration_ms INTEGER,
  datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER, token_details TEXT, schema_id TEXT,
  resolved_model TEXT, reasoning TEXT);
CREATE TABLE prompt_fragments(response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE system_fragments(response_id TEXT, fragment_id INTEGER, "order" INTEGER);
CREATE TABLE tool_calls(id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT,
  arguments TEXT, tool_call_id TEXT);
CREATE TABLE tool_results(id INTEGER PRIMARY KEY, response_id TEXT, tool_id INTEGER, name TEXT,
  output TEXT, tool_call_id TEXT, exception TEXT);
INSERT INTO fragments VALUES (1, 'f', 'A long page.');
INSERT INTO messages VALUES ('m1', NULL, 'system', NULL), ('m2', 'm1', 'user', NULL),
  ('m3', 'm2', 'assistant', NULL), ('m4', 'm3', 'tool', NULL), ('m5', 'm4', 'assistant', NULL);
INSERT INTO parts(message_hash, position, type, text, payload) VALUES
  ('m1', 0, 'text', 'Be brief.', NULL),
  ('m2', 0, 'text', NULL, '{"text_ref": [{"fragment": 1}, {"literal": " Sum it up."}]}'),
  ('m3', 0, 'tool_call', NULL, '{"name": "upper", "arguments": {"text": "a"}, "tool_call_id": "c1"}'),
  ('m4', 0, 'tool_result', NULL, '{"name": "upper", "output": "A", "tool_call_id": "c1"}'),
  ('m5', 0, 'text', 'It says A.', NULL);
INSERT INTO tools VALUES (1, 'h', 'upper', 'Upper case.', '{"type": "object"}');
INSERT INTO turn_tools VALUES ('t1', 1, NULL);
INSERT INTO turns VALUES ('t1', 'th', 'm2', 'm3', 'gpt-5.4-mini', 'gpt-5.4-mini-2026-03-17',
  '{"temperature": 0.5}', NULL, 100, 20, '{"prompt_tokens_details": {"cached_tokens": 64}}', 2000,
  '2026-05-01T10:00:00.250000+00:00', '{"id": "chatcmpl-1"}');
INSERT INTO turns VALUES ('t2', 'th', 'm4', 'm5', 'gpt-5.4-mini', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
  '2026-05-01T10:00:05+00:00', NULL);
INSERT INTO turns VALUES ('t3', 'th', 'gone', 'gone', 'gpt-5.4-mini', NULL, NULL, NULL, NULL, NULL, NULL,
  NULL, '2026-05-01T10:00:06+00:00', NULL);
INSERT INTO responses VALUES ('r1', 'anthropic/claude-sonnet-4-5', 'Old question', 'Old system', NULL, '{}',
  'Old answer', NULL, 'c0', 1500, '2025-03-01T10:00:00', 10, 4, '{"cache_read_input_tokens": 90}', NULL, NULL, NULL);
INSERT INTO prompt_fragments VALUES ('r1', 1, 0);
"""


def test_llm_logs_of_both_forms(tmp_path: Path, log: EventLog) -> None:
    path = tmp_path / "logs.db"
    made = apsw.Connection(str(path))
    made.execute(_LLM)
    made.close()
    done = _load(log, "llm", path)
    assert (done.calls, done.refused) == (3, 1)
    [refused] = _refused(log, "llm")
    assert (refused["source"], refused["row"]) == (f"{path} turns", 3)
    assert refused["reason"] == "its messages are not in the database"
    first, first_end, second, second_end, older, older_end = of_calls(log)
    assert isinstance(first, LlmCallStarted)
    assert isinstance(first_end, LlmCallFinished)
    system = Message(role="system", content="Be brief.")
    asked = Message(role="user", content="A long page. Sum it up.")
    call = ToolCall(id="c1", name="upper", arguments='{"text":"a"}')
    assert first.messages == (system, asked)
    assert (first.temperature, [tool.name for tool in first.tools]) == (0.5, ["upper"])
    assert (first_end.content, first_end.finish_reasons) == ((call,), ("tool_call",))
    assert (first_end.latency_ms, first_end.response_id) == (2000, "chatcmpl-1")
    assert first_end.usage.parts == (36, 64, 0, 0, 20, 0)
    assert isinstance(second, LlmCallStarted)
    assert isinstance(second_end, LlmCallFinished)
    result = ToolResult(id="c1", response="A", name="upper")
    assert second.messages == (
        *(system, asked),
        Message(role="assistant", content=(call,)),
        Message(role="tool", content=(result,)),
    )
    assert (second_end.content, second_end.cost_usd) == ("It says A.", None)
    assert isinstance(older, LlmCallStarted)
    assert isinstance(older_end, LlmCallFinished)
    assert [message.text for message in older.messages] == [
        "Old system",
        "A long page.\nOld question",
    ]
    assert (older_end.provider, older_end.request_model) == ("anthropic", "claude-sonnet-4-5")
    # Anthropic counts what the cache gave beside the input.
    assert older_end.usage.parts == (10, 90, 0, 0, 4, 0)
    assert _load(log, "llm", path).known == 3


# LiteLLM

SPEND = {
    "request_id": "chatcmpl-1",
    "call_type": "acompletion",
    "api_key": "9f" * 32,
    "spend": 0.00125,
    "total_tokens": 120,
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "startTime": "2026-05-01T10:00:00.250",
    "endTime": "2026-05-01T10:00:02.250",
    "completionStartTime": "2026-05-01T10:00:00.750",
    "model": "openai/gpt-5.4-mini",
    "model_group": "fast",
    "custom_llm_provider": "openai",
    "user": "internal",
    "metadata": {
        "user_api_key_alias": "search-team",
        "additional_usage_values": {"prompt_tokens_details": {"cached_tokens": 64}},
    },
    "cache_hit": "False",
    "request_tags": ["beta", "tier:gold"],
    "team_id": "core",
    "end_user": "u1",
    "messages": [{"role": "user", "content": "2+2?"}],
    "response": {"choices": [{"message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]},
    "session_id": "s1",
    "status": "success",
    "proxy_server_request": {"temperature": 0.5},
}  # fmt: skip
FAILED = {
    **SPEND,
    "request_id": "chatcmpl-2",
    "spend": 0,
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "response": {},
    "status": "failure",
    "metadata": {"error_information": {"error_code": "429", "error_class": "RateLimitError", "error_message": "slow"}},
}  # fmt: skip
CACHED = {**SPEND, "request_id": "chatcmpl-1_cache_hit1777.5", "cache_hit": "True", "spend": 0}


def _check_litellm(log: EventLog) -> None:
    told = {(event.kind, event.call_id): event for event in of_calls(log)}  # pyright: ignore[reportAttributeAccessIssue]
    [began] = [e for e in told.values() if isinstance(e, LlmCallStarted) and e.temperature]
    [ended] = [e for e in told.values() if isinstance(e, LlmCallFinished)]
    [failed] = [e for e in told.values() if isinstance(e, LlmCallFailed)]
    [cached] = [e for e in told.values() if isinstance(e, LlmCallCached)]
    assert began.messages == (Message(role="user", content="2+2?"),)
    assert (ended.provider, ended.request_model, ended.content) == ("openai", "gpt-5.4-mini", "4")
    assert (ended.cost_usd, ended.price_snapshot) == (Decimal("0.00125"), "litellm")
    assert (ended.latency_ms, ended.time_to_first_chunk_ms) == (2000, 500)
    assert ended.usage.parts == (36, 64, 0, 0, 20, 0)
    assert (ended.key_id, ended.user_id, ended.conversation_id) == ("search-team", "u1", "s1")
    assert ended.metadata == {"beta": "true", "tier": "gold", "team": "core", "model_group": "fast"}
    assert (failed.error_type, failed.status, failed.error_message) == ("rate_limited", 429, "slow")
    assert failed.key_id == "9f" * 32
    assert cached.cached_call_id == ended.call_id


def test_litellm_spend_logs_of_files(tmp_path: Path, log: EventLog) -> None:
    lines = _lines(tmp_path / "spend.jsonl", SPEND, CACHED)
    path = tmp_path / "spend.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, SPEND)
        writer.writeheader()
        for row in (SPEND, FAILED):
            writer.writerow(
                {n: json.dumps(v) if isinstance(v, dict | list) else v for n, v in row.items()}
            )
    done = _load(log, "litellm", lines, path)
    assert (done.calls, done.known, done.refused) == (3, 1, 0)
    # A start each, but for the answer from the cache.
    assert len(of_calls(log)) == 5
    [began] = [e for e in of_calls(log) if isinstance(e, LlmCallStarted)][:1]
    assert began.temperature == 0.5


@pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed here")
def test_databases_of_postgresql(tmp_path: Path) -> None:
    from adbc_driver_postgresql import dbapi

    with postgres.served() as address:
        with dbapi.connect(address, autocommit=True) as made, made.cursor() as cursor:
            for statement in (
                *_PHOENIX.format(json="JSONB").split(";"),
                *_phoenix_rows(),
                *_spend_table(),
            ):
                if statement.strip():
                    cursor.execute(statement)
        with EventLog(tmp_path / "a" / "log") as log:
            done = _load(log, "phoenix", address)
            assert (done.calls, done.judgements, done.ignored, done.refused) == (1, 2, 1, 0)
            _check_phoenix(log, Decimal("0.00125"))
        with EventLog(tmp_path / "b" / "log") as log:
            done = _load(log, "litellm", address)
            assert (done.calls, done.refused) == (3, 0)
            assert _load(log, "litellm", address).known == 3
        with pytest.raises(InputError, match="does not exist") as raised:
            next(items("litellm", [address.replace("/postgres", "/nowhere")]))
        assert "unused" not in str(raised.value)


def _spend_table() -> Iterator[str]:
    kinds = {
        "spend": "FLOAT",
        "startTime": "TIMESTAMP(3)",
        "endTime": "TIMESTAMP(3)",
        "completionStartTime": "TIMESTAMP(3)",
    }
    kinds |= {name: "JSONB" for name, value in SPEND.items() if isinstance(value, dict | list)}
    kinds |= {name: "INTEGER" for name in SPEND if name.endswith("tokens")}
    columns = ", ".join(f'"{name}" {kinds.get(name, "TEXT")}' for name in SPEND)
    yield f'CREATE TABLE "LiteLLM_SpendLogs" ({columns})'
    for row in (SPEND, FAILED, CACHED):
        values = ", ".join(
            f"'{json.dumps(v) if isinstance(v, dict | list) else v}'" for v in row.values()
        )
        yield f'INSERT INTO "LiteLLM_SpendLogs" VALUES ({values})'  # noqa: S608 (rows of ours)


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("postgresql://ann:secret@db:5432/x?sslmode=require") == "postgresql://db:5432/x"


@pytest.mark.parametrize(("tool", "sources"), [("mlflow", ["x"]), ("llm", [])])
def test_what_cannot_be_imported_is_told(tool: str, sources: list[str]) -> None:
    with pytest.raises(UsageError):
        items(tool, sources)


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    made = apsw.Connection(str(path))
    made.execute("CREATE TABLE t(x)")
    made.close()
    for tool, why in (("llm", "no log of llm"), ("phoenix", "no database of Phoenix")):
        with pytest.raises(InputError, match=why):
            next(items(tool, [str(path)]))
    with pytest.raises(InputError, match="no database"):
        next(items("llm", [str(_lines(tmp_path / "x.jsonl", {}))]))
