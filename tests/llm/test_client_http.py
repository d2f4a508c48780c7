"""Calls over real sockets: whatever the other side does, each ends in exactly one event."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.llm.serving import Say, Seen, Server, say, say_events, serving
from tracemill import EventLog, Request
from tracemill.errors import CallFailed, UsageError
from tracemill.events import BreakerChanged, LlmCallAborted, LlmCallFinished, LlmCallRetried
from tracemill.llm.client import Client
from tracemill.llm.limits import Limits
from tracemill.messages import Delta, Message, Reasoning, Text, Tool

KEY = "sk-test-0123456789abcdefghij"
ENDS = {"llm.call.finished", "llm.call.failed", "llm.call.aborted", "llm.call.cached"}


def answered(text: str = "Paris", **usage: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-5.4-mini-2026-03-17",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, **usage},
    }


def piece(text: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None}
    return {"id": "chatcmpl-1", "model": "gpt-5.4-mini", "choices": [choice | more]}


USAGE = {
    "id": "chatcmpl-1",
    "model": "gpt-5.4-mini",
    "choices": [],
    "usage": {"prompt_tokens": 20, "completion_tokens": 2, "total_tokens": 22},
}
STREAM = (piece("Par"), piece("is"), piece(finish_reason="stop"), USAGE, "[DONE]")
PROBLEM = {"error": {"message": "slow down", "type": "rate_limit", "code": "rate_limit_exceeded"}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


@pytest.fixture
def client(log: EventLog) -> Iterator[Client]:
    client = Client(log)
    yield client
    client.close()


def ask(**more: Any) -> Request:
    return Request.of("Capital of France?", model="openai/gpt-5.4-mini", **more)


def kinds(log: EventLog) -> list[str]:
    return [recorded.event.kind for recorded in log.read()]  # pyright: ignore


def in_turn(*answers: Say | dict[str, Any]):
    """One answer after the other; the last one for ever."""
    left = list(answers)

    def answer(seen: Seen) -> Say:
        now = left.pop(0) if len(left) > 1 else left[0]
        return now if isinstance(now, Say) else say(now)

    return answer


def test_an_answer_with_its_tokens_and_its_price(server: Server, log: EventLog, client: Client):
    server.answer = lambda seen: say(
        answered(prompt_tokens_details={"cached_tokens": 10}), x_request_id="req_7"
    )
    response = client.generate(ask(max_output_tokens=50))
    assert (response.text, response.finish_reasons) == ("Paris", ("stop",))
    assert response.usage.parts[:3] == (10, 10, 0)
    # 10 x 0.75 + 10 x 0.075 + 5 x 4.5 dollars for a million tokens
    assert response.cost_usd == Decimal("0.00003075")
    [seen] = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.json["messages"] == [{"role": "user", "content": "Capital of France?"}]
    [finished] = (r.event for r in log.read(kinds=["llm.call.finished"]))
    assert isinstance(finished, LlmCallFinished)
    assert finished.request_id == "req_7"
    assert kinds(log) == ["llm.call.started", "llm.call.finished"]


def test_a_busy_provider_is_asked_again_when_it_says(server: Server, log: EventLog, client: Client):
    server.answer = in_turn(say(PROBLEM, 429, retry_after_ms="1"), answered())
    response = client.generate(ask())
    assert (response.text, response.attempts) == ("Paris", 2)
    assert kinds(log) == ["llm.call.started", "llm.call.retried", "llm.call.finished"]
    retried = next(r.event for r in log.read(kinds=["llm.call.retried"]))
    assert isinstance(retried, LlmCallRetried)
    assert (retried.attempt, retried.error_type, retried.status) == (1, "rate_limited", 429)
    assert retried.wait_ms == 1


@pytest.mark.parametrize(
    ("said", "error_type"),
    [
        (say(PROBLEM, 400), "invalid_request"),
        (say({"error": {"message": f"bad key {KEY}"}}, 401), "authentication"),
        (say(PROBLEM, 503, x_should_retry="false"), "overloaded"),
        (say(PROBLEM, 529, retry_after_ms="1"), "overloaded"),
        (Say(b"<html>Bad gateway</html>", 502, {"retry-after-ms": "1"}), "server_error"),
        (Say(b'{"choices": [{'), "malformed_response"),
        (Say(b"[1, 2]"), "malformed_response"),
        (Say(b"", 200), "malformed_response"),
        (say({"error": {"message": "filtered", "code": "content_filter"}}), "content_filter"),
    ],
)
def test_every_failure_is_one_end_and_one_sentence(
    server: Server, log: EventLog, client: Client, said: Say, error_type: str
):
    server.answer = lambda seen: said
    with pytest.raises(CallFailed) as caught:
        client.generate(ask())
    assert caught.value.error_type == error_type
    assert caught.value.call_id
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert Counter(kinds(log))["llm.call.failed"] == 1
    assert set(kinds(log)) <= {"llm.call.started", "llm.call.retried", "llm.call.failed"}
    assert log.sql("SELECT error_type FROM calls")["error_type"].to_list() == [error_type]


def test_a_connection_that_breaks_and_a_server_that_is_not_there(
    server: Server, log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
    server.answer = lambda seen: Say(b'{"id"', cut=True)
    with pytest.raises(CallFailed, match="the connection to 127") as caught:
        client.generate(ask())
    assert caught.value.error_type == "connection"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    other = Client(log)
    with pytest.raises(CallFailed, match="the connection to 127"):
        other.generate(ask())
    other.close()
    assert Counter(kinds(log)) == {
        "llm.call.started": 2,
        "llm.call.retried": 4,
        "llm.call.failed": 2,
    }


def test_a_server_that_stays_silent(server: Server, client: Client, log: EventLog):
    import threading

    enough = threading.Event()
    server.answer = lambda seen: say(answered()) if enough.wait(30) else Say()
    try:
        with pytest.raises(CallFailed, match="did not answer within") as caught:
            client.generate(ask(), timeout_s=0.05)
    finally:
        enough.set()
    assert caught.value.error_type == "timeout"
    assert Counter(kinds(log))["llm.call.retried"] == 2


def test_a_stream(server: Server, log: EventLog, client: Client):
    server.answer = lambda seen: say_events(*STREAM)
    with client.stream(ask()) as stream:
        with pytest.raises(UsageError, match="not whole yet"):
            _ = stream.response
        pieces = list(stream)
    assert pieces == [Delta(text="Par"), Delta(text="is")]
    response = stream.response
    assert (response.text, response.usage.output_tokens) == ("Paris", 2)
    assert response.time_to_first_chunk_ms is not None
    assert server.seen[0].json["stream"] is True
    assert kinds(log) == ["llm.call.started", "llm.call.finished"]


@pytest.mark.parametrize(
    ("said", "error_type"),
    [
        (say_events(*STREAM[:1]), "connection"),
        (say_events(*STREAM[:1], cut=True), "connection"),
        (say_events(STREAM[0], {"error": {"message": "busy", "code": 503}}), "overloaded"),
    ],
)
def test_a_stream_that_is_cut_keeps_what_had_arrived(
    server: Server, log: EventLog, client: Client, said: Say, error_type: str
):
    server.answer = lambda seen: said
    stream = client.stream(ask())
    assert next(stream) == Delta(text="Par")
    with pytest.raises(CallFailed) as caught:
        list(stream)
    assert caught.value.partial
    aborted = next(r.event for r in log.read(kinds=["llm.call.aborted"]))
    assert isinstance(aborted, LlmCallAborted)
    assert (aborted.content, aborted.error_type) == ("Par", caught.value.error_type)
    assert aborted.usage.estimated
    assert aborted.usage.input_tokens > 0 < aborted.usage.output_tokens
    assert aborted.cost_usd
    assert kinds(log) == ["llm.call.started", "llm.call.aborted"]
    assert len(server.seen) == 1


def test_a_stream_that_breaks_before_its_first_word_is_asked_for_again(
    server: Server, log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
    server.answer = in_turn(say_events(cut=True), say_events(*STREAM))
    assert "".join(delta.text for delta in client.stream(ask())) == "Paris"
    assert kinds(log) == ["llm.call.started", "llm.call.retried", "llm.call.finished"]


def test_a_reader_that_stops_is_recorded_with_what_it_saw(
    server: Server, log: EventLog, client: Client
):
    server.answer = lambda seen: say_events(*STREAM)
    with client.stream(ask()) as stream:
        next(stream)
    assert log.sql("SELECT status, error_type, answer FROM calls").rows() == [
        ("aborted", "interrupted", "Par")
    ]

    async def cancelled() -> None:
        async with client.astream(ask()) as stream:
            await anext(stream)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert Counter(kinds(log)) == {"llm.call.started": 2, "llm.call.aborted": 2}


def test_a_stream_that_is_dropped_is_closed_elsewhere_whoever_holds_what(
    server: Server, log: EventLog, client: Client
):
    server.answer = lambda seen: say_events(*STREAM)
    stream = client.stream(ask())
    next(stream)
    # A cycle: the garbage collector frees it, here while this thread holds the log's own lock.
    cycle: list[object] = [stream]
    cycle.append(cycle)
    del stream, cycle
    aborted = log.subscribe(kinds=["llm.call.aborted"])
    with log._journal._commits:
        gc.collect()
    event = next(aborted).event
    assert isinstance(event, LlmCallAborted)
    assert (event.content, event.error_type) == ("Par", "interrupted")


def test_the_same_without_blocking(server: Server, log: EventLog, client: Client):
    async def both() -> tuple[str, str]:
        server.answer = in_turn(say(PROBLEM, 429, retry_after_ms="1"), say_events(*STREAM))
        stream = client.astream(ask())
        text = "".join([delta.text async for delta in stream])
        server.answer = lambda seen: say(answered())
        response = await client.agenerate(ask())
        await client.aclose()
        return text + stream.response.text, response.text

    assert asyncio.run(both()) == ("ParisParis", "Paris")
    assert Counter(kinds(log)) == {
        "llm.call.started": 2,
        "llm.call.retried": 1,
        "llm.call.finished": 2,
    }


def test_64_streams_at_once(server: Server, log: EventLog, client: Client):
    server.answer = lambda seen: say_events(*STREAM)

    def whole(_: int) -> str:
        return "".join(delta.text for delta in client.stream(ask()))

    with ThreadPoolExecutor(64) as pool:
        assert set(pool.map(whole, range(64))) == {"Paris"}

    async def together() -> list[str]:
        async def one() -> str:
            return "".join([delta.text async for delta in client.astream(ask())])

        try:
            return await asyncio.gather(*(one() for _ in range(64)))
        finally:
            await client.aclose()

    assert set(asyncio.run(together())) == {"Paris"}
    assert Counter(kinds(log)) == {"llm.call.started": 128, "llm.call.finished": 128}


def test_a_breaker_opens_and_recovers(server: Server, log: EventLog):
    now = [0.0]
    client = Client(log, clock=lambda: now[0])
    server.answer = lambda seen: say(PROBLEM, 500, x_should_retry="false")
    for _ in range(5):
        with pytest.raises(CallFailed, match="slow down"):
            client.generate(ask())
    with pytest.raises(CallFailed) as refused:
        client.generate(ask())
    assert refused.value.error_type == "circuit_open"
    assert len(server.seen) == 5
    server.answer = lambda seen: say(answered())
    now[0] += 60
    assert client.generate(ask()).text == "Paris"
    changes = [r.event for r in log.read(kinds=["llm.breaker.changed"])]
    assert [c.state for c in changes if isinstance(c, BreakerChanged)] == [
        "open",
        "half_open",
        "closed",
    ]
    client.close()


def test_another_model_answers_when_asked_to(server: Server, log: EventLog, client: Client):
    server.answer = lambda seen: say(PROBLEM, 400)
    response = client.generate(ask(), fallback=["openai/gpt-5.4-nano", "local/echo"])
    assert response.text == "Capital of France?"
    rows = log.sql(
        "SELECT request_model, status, fallback_of, call_id FROM calls ORDER BY started_at"
    ).rows()
    assert [row[:2] for row in rows] == [
        ("gpt-5.4-mini", "failed"),
        ("gpt-5.4-nano", "failed"),
        ("echo", "finished"),
    ]
    assert [row[2] for row in rows] == [None, rows[0][3], rows[1][3]]


def test_a_stream_that_has_spoken_is_not_given_to_another_model(
    server: Server, log: EventLog, client: Client
):
    server.answer = lambda seen: say_events(*STREAM[:1])
    with pytest.raises(CallFailed):
        list(client.stream(ask(), fallback=["local/echo"]))
    assert kinds(log) == ["llm.call.started", "llm.call.aborted"]


def test_the_cache_answers_the_second_time_and_knows_what_it_saved(
    server: Server, log: EventLog, client: Client
):
    first = client.generate(ask(), cache="both")
    second = client.generate(ask(), cache="both")
    assert len(server.seen) == 1
    assert (second.text, second.from_cache, second.cost_usd) == ("Paris", True, 0)
    assert second.call_id != first.call_id
    assert log.sql("SELECT status, cost_usd, saved_usd FROM calls ORDER BY started_at").rows() == [
        ("finished", first.cost_usd, None),
        ("cached", None, first.cost_usd),
    ]
    assert "".join(d.text for d in client.stream(ask(), cache="read")) == "Paris"
    client.generate(ask(seed=1), cache="both")
    client.generate(ask(), cache="off")
    assert len(server.seen) == 3


def test_of_equal_calls_at_once_one_is_sent(server: Server, log: EventLog, client: Client):
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: client.generate(ask(), cache="both").text, range(8)))
    assert texts == ["Paris"] * 8
    assert len(server.seen) == 1
    assert Counter(kinds(log))["llm.call.cached"] == 7


def test_failures_and_cut_answers_are_never_cached(server: Server, client: Client):
    cut = answered()
    cut["choices"][0]["finish_reason"] = "length"
    server.answer = in_turn(say(PROBLEM, 400), cut, answered())
    with pytest.raises(CallFailed):
        client.generate(ask(), cache="both")
    assert client.generate(ask(), cache="both").finish_reasons == ("length",)
    assert client.generate(ask(), cache="both").finish_reasons == ("stop",)
    assert client.generate(ask(), cache="both").from_cache
    assert len(server.seen) == 3


def test_a_budget_is_kept_and_remembered(server: Server, log: EventLog):
    server.answer = lambda seen: say(answered(prompt_tokens=1_000_000))
    limits = {"openai": Limits(usd_per_day=Decimal("0.5"))}
    client = Client(log, limits=limits)
    assert client.generate(ask(max_output_tokens=5)).cost_usd == Decimal("0.7500225")
    for each in (client, Client(log, limits=limits)):
        with pytest.raises(CallFailed) as refused:
            each.generate(ask(max_output_tokens=5))
        assert refused.value.error_type == "limit_reached"
    assert len(server.seen) == 1
    assert Counter(kinds(log))["llm.call.failed"] == 2
    client.close()


def test_an_answer_that_breaks_the_schema_is_asked_for_once_more(
    server: Server, log: EventLog, client: Client
):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    server.answer = in_turn(answered('{"town": 1}'), answered('{"city": "Paris"}'))
    response = client.generate(ask(response_schema=schema))
    assert json.loads(response.text) == {"city": "Paris"}
    repair = server.seen[1].json["messages"]
    assert [message["role"] for message in repair] == ["user", "assistant", "user"]
    server.answer = in_turn(answered("no"))
    with pytest.raises(CallFailed, match="does not keep to response_schema"):
        client.generate(ask(response_schema=schema))
    assert len(server.seen) == 4
    actions = log.sql("SELECT payload ->> '$.action' AS a FROM events WHERE kind LIKE '%guard%'")
    assert "repaired" in actions["a"].to_list()


def test_vectors_in_the_order_of_the_texts_and_equal_texts_once(
    server: Server, log: EventLog, client: Client
):
    def answer(seen: Seen) -> Say:
        data = [
            {"object": "embedding", "index": at, "embedding": [float(len(text)), 0.5]}
            for at, text in enumerate(seen.json["input"])
        ]
        usage = {"prompt_tokens": 9, "total_tokens": 9}
        return say({"object": "list", "data": data[::-1], "model": "e", "usage": usage})

    server.answer = answer
    found = client.embed(["aa", "b", "aa"], model="openai/text-embedding-3-small")
    assert found.vectors.tolist() == [[2.0, 0.5], [1.0, 0.5], [2.0, 0.5]]
    assert server.seen[0].json["input"] == ["aa", "b"]
    assert log.sql("SELECT operation, input_tokens, status FROM calls").rows() == [
        ("embeddings", 9, "finished")
    ]
    server.answer = lambda seen: say({"data": [], "model": "e"})
    with pytest.raises(CallFailed, match="vectors"):
        client.embed(["x"], model="openai/text-embedding-3-small")
    for texts in ([], [""], "abc"):
        with pytest.raises(CallFailed, match="texts"):
            client.embed(texts, model="openai/text-embedding-3-small")
    with pytest.raises(CallFailed, match="cannot rank documents"):
        client.rerank("q", ["d"], model="openai/gpt-5.4-mini")


def test_a_key_that_is_missing_or_broken(
    server: Server, log: EventLog, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(CallFailed, match="OPENAI_API_KEY holds characters") as broken:
        client.generate(ask())
    assert KEY not in str(broken.value)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(CallFailed, match="set OPENAI_API_KEY in the environment") as missing:
        client.generate(ask())
    assert missing.value.error_type == "missing_key"
    assert not server.seen
    assert Counter(kinds(log)) == {"llm.call.started": 2, "llm.call.failed": 2}


def test_what_is_no_request_is_refused_and_recorded(log: EventLog, client: Client):
    with pytest.raises(CallFailed, match="takes a Request, not str"):
        client.generate("Capital of France?")  # pyright: ignore[reportArgumentType]
    assert log.sql("SELECT status, error_type FROM calls").rows() == [("failed", "invalid_request")]
    with pytest.raises(UsageError, match="no option temprature"):
        client.generate(ask(), temprature=1)  # pyright: ignore[reportCallIssue]


def test_thoughts_go_back_to_their_own_provider_alone(server: Server, client: Client):
    said = answered("4")
    said["choices"][0]["message"]["reasoning_content"] = "2 and 2"
    server.answer = lambda seen: say(said)
    first = client.generate(ask())
    thought = next((p for p in first.parts if isinstance(p, Reasoning)), None)
    assert thought
    assert thought.provider == "openai"
    foreign = thought.model_copy(update={"provider": "anthropic", "content": "foreign thought"})
    talk = Message(role="assistant", content=(foreign, Text(content="4")))
    question = Message(role="user", content="And 3 and 3?")
    messages = (*ask().messages, first.message, talk, question)
    client.generate(Request(model="openai/gpt-5.4-mini", messages=messages))
    assert b"foreign thought" not in server.seen[-1].body


def test_a_tool_choice_must_name_a_tool():
    tool = Tool(name="weather")
    for choice, tools, says in (
        ("clock", (tool,), "names no tool"),
        ("required", (), "needs tools"),
    ):
        with pytest.raises(UsageError, match=f"tool_choice '{choice}' {says}"):
            ask(tools=tools, tool_choice=choice)
    assert ask(tools=(tool,), tool_choice="weather").tool_choice == "weather"
