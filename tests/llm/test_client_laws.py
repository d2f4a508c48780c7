"""Whatever a server does and whoever stops reading: the log tells what the caller and the server saw.

The network is played by a driver of our own, from scripts that hypothesis writes; sockets are only
used where threads, event loops and connections are what is tested.
"""

import asyncio
import contextlib
import gc
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.llm.serving import Server, say, say_events, serving
from tests.llm.test_client_http import ENDS, STREAM, USAGE, answered, ask, piece
from tracemill import EventLog, Request
from tracemill.errors import CallFailed, LogNotWritable, TracemillError, UsageError
from tracemill.llm import flow
from tracemill.llm.client import Client
from tracemill.llm.flow import Answer, Exchange, Opened, OpenedAsync
from tracemill.llm.guard import Guard
from tracemill.log import presence
from tracemill.messages import Message, Response, ToolCall, ToolResult

ANY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# A network that is played


class Line(NamedTuple):
    """What the server says to one request."""

    status: int
    chunks: tuple[bytes, ...]
    streamed: bool
    breaks: bool
    """The connection breaks after the last chunk, or before the first where there is none."""


class Played:
    """As `Network`; one line of the script for each request, the last for all that follow."""

    def __init__(self, script: list[Line]) -> None:
        self.left = list(script)
        self.requests = 0

    def _next(self) -> tuple[Line, dict[str, str]]:
        self.requests += 1
        line = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if line.breaks and not line.chunks:
            raise CallFailed("connection", "the connection failed", retry=True)
        kind = "text/event-stream" if line.streamed else "application/json"
        return line, {"content-type": kind, "x-request-id": "r1", "retry-after-ms": "0.001"}

    def send(self, exchange: Exchange, key: object) -> Answer:
        line, headers = self._next()
        if line.breaks:
            raise CallFailed("connection", "the connection failed", retry=True)
        return Answer(line.status, headers, b"".join(line.chunks))

    async def asend(self, exchange: Exchange, key: object) -> Answer:
        await asyncio.sleep(0)
        return self.send(exchange, key)

    @contextlib.contextmanager
    def open(self, exchange: Exchange, key: object) -> Iterator[Opened]:
        line, headers = self._next()
        yield Opened(line.status, headers, _read(line))

    @contextlib.asynccontextmanager
    async def aopen(self, exchange: Exchange, key: object):
        line, headers = self._next()

        async def read():
            for chunk in _read(line):
                await asyncio.sleep(0)
                yield chunk

        yield OpenedAsync(line.status, headers, read())

    def close(self) -> None:
        pass


def _read(line: Line) -> Iterator[bytes]:
    yield from line.chunks
    if line.breaks:
        raise CallFailed("connection", "the connection failed", retry=True)


def whole(value: Any, status: int = 200) -> Line:
    return Line(status, (json.dumps(value).encode(),), False, False)


words = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5), max_size=6)
errors = st.builds(
    whole,
    st.sampled_from([{"error": {"message": "no"}}, {}, [], "no", None, {"error": "x" * 5}]),
    st.sampled_from([400, 401, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529, 599]),
)
broken = st.builds(Line, st.just(200), st.just(()), st.booleans(), st.just(True))
garbage = st.builds(
    Line, st.just(200), st.tuples(st.binary(min_size=1, max_size=30)), st.booleans(), st.booleans()
)


@st.composite
def answers(draw: st.DrawFn) -> Line:
    usage = draw(st.integers(0, 10**17))
    return whole(answered("".join(draw(words)), prompt_tokens=usage))


@st.composite
def streams(draw: st.DrawFn) -> Line:
    """Pieces of text, perhaps an end, cut into chunks anywhere, perhaps broken off."""
    events = [json.dumps(piece(text)) for text in draw(words)]
    if draw(st.booleans()):
        events += [json.dumps(piece(finish_reason="stop")), json.dumps(USAGE), "[DONE]"]
    if draw(st.integers(0, 5)) == 0:
        events.insert(draw(st.integers(0, len(events))), '{"error": {"message": "busy"}}')
    data = "".join(f"data: {event}\n\n" for event in events).encode()
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
    bounds = [0, *cuts, len(data)]
    chunks = [data[a:b] for a, b in pairwise(bounds) if b > a]
    return Line(200, tuple(chunks), True, draw(st.booleans()))


scripts = st.lists(st.one_of(errors, broken, garbage, answers(), streams()), min_size=1, max_size=4)


class Done(NamedTuple):
    """What the caller saw."""

    text: str
    response: Response | None
    error: CallFailed | None
    requests: int


def played(log: EventLog, script: list[Line]) -> tuple[Client, Played]:
    client, network = Client(log), Played(script)
    client._network = network  # pyright: ignore
    return client, network


def call(client: Client, network: Played, *, stream: bool, stop: int | None) -> Done:
    """A blocking call; a reader of a stream stops before the piece `stop`."""
    seen: list[str] = []
    response = error = None
    try:
        if not stream:
            response = client.generate(ask())
        else:
            with client.stream(ask()) as pieces:
                for at, delta in enumerate(pieces):
                    seen.append(delta.text)
                    if at == stop:
                        break
                else:
                    response = pieces.response
    except CallFailed as failure:
        error = failure
    return Done("".join(seen), response, error, network.requests)


async def acall(client: Client, network: Played, *, stream: bool, stop: int | None) -> Done:
    """As `call`, without blocking."""
    seen: list[str] = []
    response = error = None
    try:
        if not stream:
            response = await client.agenerate(ask())
        else:
            async with client.astream(ask()) as pieces:
                at = 0
                async for delta in pieces:
                    seen.append(delta.text)
                    if at == stop:
                        break
                    at += 1
                else:
                    response = pieces.response
    except CallFailed as failure:
        error = failure
    return Done("".join(seen), response, error, network.requests)


def check(log: EventLog, after: int, done: Done) -> list[dict[str, Any]]:
    """The laws of one call; returns its events without what differs between two calls."""
    events = [recorded.event.model_dump() for recorded in log.read(after)]
    calls = [event for event in events if event["kind"].startswith("llm.call.")]
    first, *retried, last = calls
    assert first["kind"] == "llm.call.started"
    assert {event["kind"] for event in retried} <= {"llm.call.retried"}
    assert last["kind"] in ENDS
    assert [event["attempt"] for event in retried] == list(range(1, len(retried) + 1))
    assert last["attempts"] == done.requests == len(retried) + 1
    assert all(event["latency_ms"] >= 0 for event in [*retried, last])
    if done.response:
        assert last["kind"] == "llm.call.finished"
        response = done.response.model_dump()
        for name in ("content", "refusal", "usage", "cost_usd", "finish_reasons", "attempts"):
            assert last[name] == response[name], name
        for name in ("call_id", "latency_ms", "response_model", "response_id", "request_id"):
            assert last[name] == response[name], name
    elif last["kind"] == "llm.call.aborted":
        # Nothing that nobody saw is said to have been seen.
        assert last["content"] == done.text
        assert last["usage"]["estimated"] or last["usage"]["raw"]
    else:
        assert done.error
        assert last["kind"] == "llm.call.failed"
        assert done.text == ""
    if done.error:
        assert (last["error_type"], last["error_message"]) == (
            done.error.error_type,
            str(done.error),
        )
        assert done.error.error_type != "internal_error", done.error
        assert done.error.call_id == last["call_id"]
        assert "\n" not in str(done.error)
    differ = {"event_id", "occurred_at", "call_id", "causation_id", "latency_ms"}
    differ |= {"time_to_first_chunk_ms", "wait_ms"}
    return [{name: event[name] for name in event.keys() - differ} for event in events]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdefghij")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setattr(flow.time, "sleep", lambda seconds: None)
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.0)


@ANY
@given(script=scripts, stream=st.booleans(), stop=st.none() | st.integers(0, 6))
def test_the_log_tells_what_was_seen_blocking_or_not(
    log: EventLog, script: list[Line], stream: bool, stop: int | None
):
    before = log.position()
    done = call(*played(log, script), stream=stream, stop=stop)
    blocking = check(log, before, done)
    before = log.position()
    adone = asyncio.run(acall(*played(log, script), stream=stream, stop=stop))
    assert check(log, before, adone) == blocking
    assert (adone.text, adone.requests) == (done.text, done.requests)


@pytest.mark.parametrize("stop", range(8))
def test_a_reader_that_stops_at_any_piece(log: EventLog, stop: int):
    events = [
        *(piece(word) for word in ["one", "two", "three", "four", "five", "six"]),
        *STREAM[2:],
    ]
    said = say_events(*events)
    script = [Line(200, tuple(map(bytes, said.body)), True, False)]
    done = call(*played(log, script), stream=True, stop=stop)
    [row] = log.sql("SELECT status, answer, error_type FROM calls").rows()
    if stop < 6:
        assert row == (
            "aborted",
            "".join(["one", "two", "three", "four", "five", "six"][: stop + 1]),
            "interrupted",
        )
    else:
        assert row == ("finished", done.text, None)


def test_every_call_is_one_row(log: EventLog):
    """All that the laws are about, at once, and asked of the view."""
    script = [
        whole({"error": {"message": "busy"}}, 503),
        whole(answered("yes")),
        whole({"error": {"message": "no"}}, 400),
        Line(200, tuple(map(bytes, say_events(*STREAM[:1]).body)), True, True),
    ]
    client, network = played(log, script)
    assert client.generate(ask()).attempts == 2
    with pytest.raises(CallFailed):
        client.generate(ask())
    with pytest.raises(CallFailed):
        list(client.stream(ask()))
    rows = log.sql("SELECT status, attempts, latency_ms >= 0 FROM calls ORDER BY started_at").rows()
    assert rows == [("finished", 2, True), ("failed", 1, True), ("aborted", 1, True)]
    assert network.requests == 4


# Real sockets: threads, event loops, warnings


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(lambda seen: say(answered())) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/v1")
        yield server


def test_32_threads_share_a_client(server: Server, log: EventLog):
    client = Client(log)

    def work(at: int) -> str:
        if at % 3 == 0:
            return client.generate(ask()).text
        if at % 3 == 1:
            return "".join(delta.text for delta in client.stream(ask()))
        return asyncio.run(once())

    async def once() -> str:
        return (await client.agenerate(ask())).text

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(work, range(96))) == {"Paris"}
    client.close()
    gc.collect()
    kinds = Counter(recorded.event.model_dump()["kind"] for recorded in log.read())
    assert kinds == {"llm.call.started": 96, "llm.call.finished": 96}


@pytest.mark.parametrize("stream", [False, True])
def test_calls_that_are_cancelled_at_any_moment_end_once(log: EventLog, stream: bool):
    client, _ = played(log, [whole(answered())])
    before = presence.in_flight()

    async def call(steps: int) -> None:
        task = asyncio.create_task(
            anext(client.astream(ask())) if stream else client.agenerate(ask())  # pyright: ignore
        )
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def all_() -> None:
        for _ in range(3):
            await asyncio.gather(*map(call, range(12)))

    asyncio.run(all_())
    calls = log.sql("SELECT list(kind ORDER BY position) AS kinds FROM events GROUP BY stream")
    found = {tuple(kinds) for kinds in calls["kinds"]}
    assert found <= {("llm.call.started", end) for end in ENDS}
    assert ("llm.call.started", "llm.call.failed") in found
    assert presence.in_flight() == before


@pytest.mark.parametrize("closes", [True, False])
def test_event_loops_one_after_the_other(server: Server, log: EventLog, closes: bool):
    client = Client(log)
    streamed = say_events(*STREAM)
    server.answer = lambda seen: streamed if seen.json.get("stream") else say(answered())

    async def three() -> list[str]:
        calls = [client.agenerate(ask()) for _ in range(3)]
        found = [response.text for response in await asyncio.gather(*calls)]
        found.append("".join([delta.text async for delta in client.astream(ask())]))
        left = client.astream(ask())  # begun, and left to the end of the event loop
        await anext(left)
        if closes:
            await left.aclose()
            await client.aclose()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert asyncio.run(three()) == ["Paris"] * 4
            gc.collect()
    assert Counter(log.sql("SELECT status FROM calls")["status"]) == {"finished": 12, "aborted": 3}
    assert client._network is not None  # pyright: ignore[reportPrivateUsage]
    sessions = client._network._async  # pyright: ignore[reportPrivateUsage]
    assert sessions is not None
    assert sessions.holders == {}


def test_a_client_that_was_closed_opens_again(server: Server, log: EventLog):
    client = Client(log)
    for _ in range(2):
        assert client.generate(ask()).text == "Paris"
        client.close()
        client.close()


# Bad input: a sentence, and an event where a call was meant


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": [Message(role="user", content="a\ud800b")]},
        {"system": "a\ud800b\x00"},
        {"stop": ("a\ud800b",)},
        {"metadata": {"a\ud800b": "a\ud800\x00b"}},
        {"user_id": "a\x00b\nc", "conversation_id": "\x1b[0m"},
        {"prompt_name": "a\nb", "prompt_version": "\x00"},
        {"service_tier": "a\nb"},
        {"response_schema": {"type": {1, 2}}},
        {"response_schema": {"type": "object", "x": float("nan")}},
        {"response_schema": {"description": "a\ud800b"}},
        {"tools": [{"name": "f", "parameters": {"x": object()}}]},
        {"tools": [{"name": "f", "parameters": {"x": b"\xff"}}]},
        {"messages": [Message(role="tool", content=(ToolResult(id="a\ud800", response=""),))]},
        {
            "messages": [
                Message(
                    role="assistant",
                    content=(ToolCall(id="\ud800", name="\ud800", arguments="\ud800"),),
                )
            ]
        },
        {"messages": [Message(role="user", content="x" * 20_000_000)]},
        {"model": "openai/" + "x" * 20_000_000},
        {"model": "openai/a\x00b\nc"},
        {"model": "nobody/x"},
        {"model": "openai"},
        {"model": "x" * 20_000_000},
    ],
)
def test_wrong_requests(server: Server, log: EventLog, wrong: dict[str, Any], guarded: bool):
    server.answer = lambda seen: say(answered('{"ok": true}'))
    client = Client(log, guard=Guard() if guarded else None)
    fields: dict[str, Any] = {"model": "openai/gpt-5.4-mini", "messages": ask().messages} | wrong
    error = failure_of(lambda: client.generate(Request(**fields)))
    client.close()
    statuses = log.sql("SELECT status FROM calls")["status"].to_list()
    if isinstance(error, CallFailed):
        assert error.error_type in {"invalid_request", "guard", "unknown_provider"}
        assert ("\n" in str(error), len(str(error)) < 2_000) == (False, True)
        assert statuses == ["failed"]
    elif error:  # no request at all, or too large to be written down
        assert isinstance(error, UsageError)
        assert statuses == []
    else:
        assert statuses == ["finished"]


def failure_of(work: Callable[[], object]) -> Exception | None:
    try:
        work()
    except (CallFailed, UsageError) as error:
        return error
    return None


def test_a_schema_that_has_no_end(log: EventLog):
    client, network = played(log, [whole(answered())])
    cyclic: dict[str, Any] = {"type": "object"}
    cyclic["properties"] = cyclic
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"properties": deep}
    for parameters in (cyclic, deep):
        request = ask(tools=[{"name": "f"}])
        tool = request.tools[0].model_copy(update={"parameters": parameters})
        with pytest.raises(CallFailed, match=r"tools\.f: this is not JSON"):
            client.generate(request.model_copy(update={"tools": (tool,)}))
    assert network.requests == 0
    assert log.sql("SELECT status FROM calls")["status"].to_list() == ["failed"] * 2


@pytest.mark.parametrize(
    "options",
    [
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"timeout_s": "5"},
        {"timeout_s": True},
        {"cache": "sometimes"},
        {"cache": True},
        {"cache_ttl_s": "a day"},
        {"fallback": "local/echo"},
        {"fallback": 5},
        {"fallback": [5]},
        {"guard": 5},
        {"call_id": 5},
        {"call_id": "mine"},
        {"call_id": "a\ud800b"},
        {"actor": 5},
        {"actor": "a\nb"},
        {"actor": "x" * 201},
        {"trace_id": "a\ud800b"},
        {"correlation_id": "\x00"},
        {"causation_id": b"x"},
        {"temprature": 1},
    ],
)
def test_wrong_options(log: EventLog, options: dict[str, Any]):
    client, network = played(log, [whole(answered())])
    [name] = options
    for wrong in (
        lambda: client.generate(ask(), **options),
        lambda: list(client.stream(ask(), **options)),
        lambda: asyncio.run(client.agenerate(ask(), **options)),
        lambda: client.embed(["x"], model="openai/e", **options),
        lambda: client.rerank("q", ["x"], model="cohere/r", **options),
    ):
        with pytest.raises(UsageError, match=name):
            wrong()
    assert (network.requests, log.position()) == (0, 0)


@pytest.mark.parametrize("texts", [None, 5, iter(["a"]), [5], ["a", None], "a", [], [" "], [b"x"]])
def test_wrong_texts(log: EventLog, texts: Any):
    client, network = played(log, [whole({})])
    with pytest.raises(CallFailed, match="texts") as caught:
        client.embed(texts, model="openai/text-embedding-3-small")
    assert caught.value.error_type == "invalid_request"
    with pytest.raises(CallFailed, match=r"documents|query"):
        client.rerank("q", texts, model="cohere/rerank-v4")
    with pytest.raises(CallFailed, match="query"):
        client.rerank("" if texts == "a" else texts, ["d"], model="cohere/rerank-v4")
    assert network.requests == 0
    assert log.sql("SELECT status FROM calls")["status"].to_list() == ["failed"] * 3


@pytest.mark.parametrize("model", [None, 5])
def test_a_model_that_is_no_name(log: EventLog, model: Any):
    client, _ = played(log, [whole({})])
    with pytest.raises(UsageError, match="model"):
        client.embed(["a"], model=model)
    with pytest.raises(UsageError, match="model"):
        client.rerank("q", ["a"], model=model)
    with pytest.raises(UsageError, match="model"):
        client.generate(Request.of("a", model=model))


def test_vectors_of_different_lengths(log: EventLog):
    data = [{"index": at, "embedding": [0.5] * (at + 1)} for at in range(2)]
    client, _ = played(log, [whole({"data": data, "model": "e", "usage": {}})])
    with pytest.raises(CallFailed, match="differ in length") as caught:
        client.embed(["a", "b"], model="openai/text-embedding-3-small")
    assert caught.value.error_type == "malformed_response"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_no_event_can_hold_has_its_end(log: EventLog, stream: bool):
    huge = "x" * 17_000_000
    line = whole(answered(huge))
    if stream:
        line = Line(200, tuple(map(bytes, say_events(piece(huge), *STREAM[2:]).body)), True, False)
    client, network = played(log, [line])
    with pytest.raises(TracemillError, match="characters"):
        call_or_raise(client, stream)
    [row] = log.sql("SELECT status, attempts FROM calls").rows()
    assert row == ("failed", network.requests)


def call_or_raise(client: Client, stream: bool) -> None:
    _ = list(client.stream(ask())) if stream else client.generate(ask())


def test_a_folder_that_cannot_be_written(log: EventLog):
    (log.folder / "live").write_text("in the way")
    client, network = played(log, [whole(answered())])
    with pytest.raises(LogNotWritable, match="live"):
        client.generate(ask())
    assert (network.requests, log.position()) == (0, 0)


def test_one_id_is_one_call(log: EventLog):
    client, network = played(log, [whole(answered())])
    first = client.generate(ask())
    with pytest.raises(UsageError, match="version"):
        client.generate(ask(), call_id=first.call_id)
    assert network.requests == 1
