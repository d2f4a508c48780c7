"""Whatever somebody sends, the log stays whole: each span is a call, none, or in the quarantine."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.telemetry.made_spans import CHAT, request, span
from tracemill.errors import InputError
from tracemill.log import EventLog
from tracemill.telemetry import attributes as known
from tracemill.telemetry import conversation
from tracemill.telemetry.importers import items, load
from tracemill.telemetry.ingest import ingest
from tracemill.telemetry.otlp import JSON, read

_NAMES = sorted(
    {name for table in (known.ABOUT, known.USAGE) for names in table.values() for name in names}
    | set(known.PARAMETERS)
    | {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"}
    | {
        "gen_ai.tool.definitions",
        "llm.input_messages.0.message.role",
        "llm.input_messages.0.message",
    }
    | {"llm.tools.0", "llm.tools.0.tool.json_schema", "llm.invocation_parameters", "metadata"}
    | {
        "llm.input_messages.0.message.contents.0",
        "llm.input_messages.0.message.tool_calls.0.tool_call",
    }
    | {"langfuse.observation.usage_details", "tag.tags", "error.type", "tracemill.call_id"}
    | {"tracemill.cached_call_id", "tracemill.attempts", "tracemill.latency_ms", "tracemill.inputs"}
)
_LEAF = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=9)
_WORDS = (
    "role",
    "parts",
    "content",
    "type",
    "text",
    "tool_calls",
    "function",
    "arguments",
    "id",
    "name",
)
_TREE = st.recursive(
    _LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
_VALUE = _LEAF | _TREE.map(json.dumps) | st.lists(st.text(max_size=5), max_size=3)


@given(_TREE)
def test_any_json_can_be_read_as_messages_tools_and_answers(value: Any) -> None:
    conversation.messages(value)
    conversation.tools(value)
    answer = conversation.Answer(value)
    assert all(part.type for part in answer.parts)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    with EventLog(tmp_path_factory.mktemp("strange") / "log") as opened:
        yield opened


@settings(deadline=None)  # the first one makes the log
@given(
    st.lists(st.dictionaries(st.sampled_from(_NAMES), _VALUE, max_size=6), min_size=1, max_size=3),
    st.integers(1, 2**64 - 1),
)
def test_strange_attributes_never_break_an_ingest(
    log: EventLog, told: list[dict[str, Any]], number: int
) -> None:
    sent = [span(number + n, attributes={**CHAT, **each}) for n, each in enumerate(told)]
    spans = read(request(*sent), JSON)
    before = log.position()
    done = ingest(log, spans)
    assert done.accepted + done.rejected == len(told)
    new = list(log.read(before))
    assert len({one.stream for one in new}) == done.calls
    # A start and an end, or the one event of an answer from a cache.
    assert all(log.version(one.stream) <= 2 for one in new)


@given(st.binary(max_size=200), st.sampled_from([JSON, "application/x-protobuf"]))
def test_any_bytes_are_spans_or_refused(body: bytes, kind: str) -> None:
    with suppress(InputError):
        assert isinstance(read(body, kind), list)


_FIELDS = (
    *("id", "type", "start_time", "input", "usage_details", "total_cost", "value", "data_type"),
    *("request_id", "startTime", "prompt_tokens", "metadata", "span_id", "trace_id", "attributes"),
    *("messages", "response"),
)


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(_FIELDS), _TREE, max_size=6), max_size=4))
def test_strange_rows_never_break_an_import(
    log: EventLog, tmp_path_factory: pytest.TempPathFactory, told: list[dict[str, Any]]
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "strange.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in told))
    for tool in ("langfuse", "phoenix", "litellm"):
        done = load(log, tool, items(tool, [str(path)]))
        rows = done.calls + done.judgements + done.known + done.ignored + done.refused
        assert rows >= len(told)
