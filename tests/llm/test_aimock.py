"""All dialects against a server that others wrote, in its good hours and its bad ones.

Whatever it does, each call ends in exactly one event: that is looked up after every test, and in the
whole log at the end. What aimock itself gets wrong is said where it matters.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import pytest

from tests.llm import aimock_server
from tests.llm.aimock_server import KEY, Aimock
from tracemill import EventLog, Request
from tracemill.errors import CallFailed
from tracemill.events import (
    BreakerChanged,
    LlmCallAborted,
    LlmCallFailed,
    LlmCallFinished,
    LlmCallRetried,
)
from tracemill.llm import batches, providers
from tracemill.llm.client import Client, Options
from tracemill.messages import Message, Reasoning, Response, Tool, ToolResult, text_of

MODELS = {
    "openai": "gpt-5.4-mini",
    "openai-responses": "gpt-5.4-mini",
    "anthropic": "claude-sonnet-4-5",
    "anthropic-2023": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "cohere": "command-a-03-2025",
    "compatible": "some-model",
}
PATHS = {
    "OPENAI": "/v1",
    "ANTHROPIC": "/v1",
    "GEMINI": "/v1beta",
    "COHERE": "",
    "COMPATIBLE": "/v1",
}
T = TypeVar("T")
ENDS = {"llm.call.finished", "llm.call.failed", "llm.call.aborted"}
TOKENS = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "input_tokens": 20,
    "output_tokens": 5,
    "promptTokenCount": 20,
    "candidatesTokenCount": 5,
}
"""By each provider's names: where none are given, aimock counts 0 for most dialects."""
ANSWER = "Paris is the capital of France."
PARIS = {"match": {"userMessage": "capital"}, "response": {"content": ANSWER, "usage": TOKENS}}
WEATHER = Tool(
    name="weather",
    description="The weather in a city",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
)

dialects = pytest.mark.parametrize("dialect", list(MODELS))


@pytest.fixture(scope="session")
def running() -> Iterator[Aimock]:
    try:
        with aimock_server.running() as aimock:
            yield aimock
    except aimock_server.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def aimock(running: Aimock, monkeypatch: pytest.MonkeyPatch) -> Aimock:
    running.reset()
    for name, path in PATHS.items():
        monkeypatch.setenv(f"{name}_BASE_URL", running.url + path)
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
    return running


@pytest.fixture(scope="module")
def log(running: Aimock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventLog]:
    """One for all tests: to open one and to ask it takes longer than most of them."""
    with EventLog(tmp_path_factory.mktemp("aimock") / "log") as log:
        yield log
        calls = every_call_has_ended_once(log, after=0)
        rows = log.sql("SELECT 'call:' || call_id, status, attempts FROM calls").rows()
        assert {stream: f"llm.call.{status}" for stream, status, _ in rows} == calls
        assert log.verify().ok


class Since:
    """What a test has added to the log."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.after = log.position()

    def events(self, kind: type[T]) -> list[T]:
        events = (recorded.event for recorded in self.log.read(self.after))
        return [event for event in events if isinstance(event, kind)]

    def retries(self) -> list[tuple[int, str, int | None]]:
        """Attempt, error type, status."""
        return [(r.attempt, r.error_type, r.status) for r in self.events(LlmCallRetried)]


@pytest.fixture
def happened(log: EventLog) -> Iterator[Since]:
    happened = Since(log)
    yield happened
    every_call_has_ended_once(log, after=happened.after)


@pytest.fixture
def client(aimock: Aimock, log: EventLog, happened: Since) -> Iterator[Client]:
    client = Client(log)
    yield client
    client.close()


def every_call_has_ended_once(log: EventLog, *, after: int) -> dict[str, str]:
    """The law. Returns how each call ended, by the name of its stream."""
    calls: dict[str, list[str]] = defaultdict(list)
    for recorded in log.read(after):
        assert KEY not in str(recorded)
        if recorded.stream.startswith("call:"):
            calls[recorded.stream].append(getattr(recorded.event, "kind", ""))
    assert calls
    for kinds in calls.values():
        assert kinds[0] == "llm.call.started"
        assert set(kinds[1:-1]) <= {"llm.call.retried"}
        assert kinds[-1] in ENDS
    return {stream: kinds[-1] for stream, kinds in calls.items()}


# The four ways to make a call


def generated(client: Client, request: Request, **options: Any) -> Response:
    return client.generate(request, **options)


def streamed(client: Client, request: Request, **options: Any) -> Response:
    with client.stream(request, **options) as stream:
        pieces = list(stream)
    assert "".join(piece.text for piece in pieces) == stream.response.text
    return stream.response


def agenerated(client: Client, request: Request, **options: Any) -> Response:
    return asyncio.run(client.agenerate(request, **options))


async def whole(client: Client, request: Request, options: Options) -> Response:
    async with client.astream(request, **options) as stream:
        pieces = [piece async for piece in stream]
    assert "".join(piece.text for piece in pieces) == stream.response.text
    return stream.response


def astreamed(client: Client, request: Request, **options: Any) -> Response:
    return asyncio.run(whole(client, request, Options(**options)))


Way = Callable[..., Response]
WAYS: Sequence[Way] = (generated, streamed, agenerated, astreamed)
ways = pytest.mark.parametrize("way", WAYS)


def ask(dialect: str, prompt: str = "The capital of France?", **more: Any) -> Request:
    return Request.of(prompt, model=f"{dialect}/{MODELS[dialect]}", **more)


# Good hours


@ways
@dialects
def test_an_answer(aimock: Aimock, client: Client, dialect: str, way: Way) -> None:
    aimock.answer(PARIS)
    # The newer of Anthropic's versions knows no sampling.
    temperature = None if dialect == "anthropic" else 0.5
    request = ask(dialect, system="Be brief.", max_output_tokens=50, temperature=temperature)
    response = way(client, request)
    assert (response.text, response.finish_reasons) == (ANSWER, ("stop",))
    assert response.response_model == MODELS[dialect]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (20, 5)
    assert not response.usage.estimated
    assert (response.cost_usd is None) == (dialect == "compatible")
    assert (response.time_to_first_chunk_ms is None) == (way in {generated, agenerated})
    [seen] = aimock.journal()
    told = [(m["role"], m["content"]) for m in seen["body"]["messages"]]
    assert told == [("system", "Be brief."), ("user", "The capital of France?")]
    assert seen["body"].get("temperature") == temperature


@ways
@dialects
def test_a_tool_is_called_and_its_result_understood(
    aimock: Aimock, client: Client, dialect: str, way: Way
) -> None:
    arguments = {"city": "Paris"}
    call = {"name": "weather", "arguments": arguments, "id": "call_1"}
    # Gemini has ids of calls only since its third series.
    result = {"toolResultContains": "18 degrees"}
    aimock.answer(
        {"match": result, "response": {"content": "It is mild."}},
        {"match": {"userMessage": "weather"}, "response": {"toolCalls": [call]}},
    )
    request = ask(dialect, "What is the weather in Paris?", tools=[WEATHER])
    asked = way(client, request)
    # aimock lets Gemini say FUNCTION_CALL where the real one says STOP; ours is the same for both.
    assert asked.finish_reasons == ("tool_call",)
    [wanted] = asked.tool_calls
    assert (wanted.name, wanted.id) == ("weather", "call_1")
    assert wanted.arguments.replace(" ", "") == '{"city":"Paris"}'
    told = ToolResult(id=wanted.id, name="weather", response="18 degrees, no wind")
    turns = (*request.messages, asked.message, Message(role="tool", content=(told,)))
    answer = way(client, request.model_copy(update={"messages": turns}))
    assert (answer.text, answer.finish_reasons) == ("It is mild.", ("stop",))
    assert len(aimock.journal()) == 2


@ways
@pytest.mark.parametrize(
    "dialect", [d for d in MODELS if d != "cohere"]
)  # there it is text for aimock
def test_thoughts_are_no_text(aimock: Aimock, client: Client, dialect: str, way: Way) -> None:
    thought = {"content": ANSWER, "reasoning": "It has but one."}
    aimock.answer({"match": {"userMessage": "capital"}, "response": thought})
    response = way(client, ask(dialect))
    thoughts = [part for part in response.parts if isinstance(part, Reasoning)]
    assert [part.content for part in thoughts] == ["It has but one."]
    assert response.text == ANSWER


@dialects
def test_an_answer_that_keeps_to_a_schema(aimock: Aimock, client: Client, dialect: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    aimock.answer({"match": {"userMessage": "capital"}, "response": {"content": {"city": "Paris"}}})
    assert generated(client, ask(dialect, response_schema=schema)).text == '{"city":"Paris"}'
    assert len(aimock.journal()) == 1


@pytest.mark.parametrize(
    "model", ["openai/text-embedding-3-small", "compatible/e5", "cohere/embed-v4.0"]
)
def test_vectors(aimock: Aimock, client: Client, happened: Since, model: str) -> None:
    aimock.answer({"match": {"inputText": "Seine"}, "response": {"embedding": [0.5, 0.25]}})
    texts = ["the Seine", "a bridge", "the Seine"]
    found = client.embed(texts, model=model, input_kind="document")
    assert found.vectors.tolist() == [[0.5, 0.25]] * 3
    again = asyncio.run(client.aembed(texts, model=model, input_kind="document"))
    assert again.vectors.tolist() == found.vectors.tolist()
    assert [e.operation for e in happened.events(LlmCallFinished)] == ["embeddings"] * 2


def test_what_aimock_lacks_is_a_failed_call(client: Client, happened: Since) -> None:
    # It has embedContent, for one text, where everybody sends batchEmbedContents.
    with pytest.raises(CallFailed) as caught:
        client.embed(["the Seine"], model="gemini/gemini-embedding-001")
    assert (caught.value.error_type, caught.value.status) == ("not_found", 404)
    [failed] = happened.events(LlmCallFailed)
    assert (failed.operation, failed.status, failed.attempts) == ("embeddings", 404, 1)


def test_a_ranking(aimock: Aimock, client: Client) -> None:
    documents = ["Lyon is large.", "Bread.", "Paris is the capital."]
    found = client.rerank("capital of France", documents, model="cohere/rerank-v3.5")
    assert found.ranking == ((2, 0.95), (0, 0.25))
    assert len(aimock.journal()) == 1


def test_a_batch(aimock: Aimock, client: Client, happened: Since) -> None:
    """A file goes up, a batch is made of it, and another file comes down."""
    batch_id = batches.submit(client, [ask("openai"), ask("openai", "The capital of Spain?")])
    states = [batches.poll(client, batch_id).state for _ in range(2)]
    assert states == ["running", "ended"]
    assert batches.collect(client, batch_id) == (2, 0, ())
    calls = happened.events(LlmCallFinished)
    # aimock answers all of a batch in these words, whatever was asked.
    assert [call.content for call in calls] == ["Mock batch completion"] * 2
    assert {seen["response"]["status"] for seen in aimock.journal()} == {200}


# Bad hours


SLOW_DOWN = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}, "status": 429}
OVERLOADED = {"error": {"message": "too many", "type": "overloaded_error"}, "status": 529}
BROKEN: dict[str, tuple[dict[str, Any], str, int | None, int]] = {
    "drop": ({"chaos": {"dropRate": 1}}, "server_error", 500, 3),
    "malformed": ({"chaos": {"malformedRate": 1}}, "malformed_response", 200, 1),
    "disconnect": ({"chaos": {"disconnectRate": 1}}, "connection", None, 3),
    "429": ({"response": SLOW_DOWN | {"retryAfter": 0.001}}, "rate_limited", 429, 3),
    "529": ({"response": OVERLOADED}, "overloaded", 529, 3),
    "400": ({"response": {"error": {"message": "no"}, "status": 400}}, "invalid_request", 400, 1),
}
"""What aimock is told, the class of the error, its status, and how many attempts it is worth."""


@pytest.mark.parametrize("trouble", BROKEN)
@ways
@dialects
def test_trouble_that_stays(
    aimock: Aimock, client: Client, happened: Since, dialect: str, way: Way, trouble: str
) -> None:
    said, error_type, status, attempts = BROKEN[trouble]
    aimock.answer(PARIS | said)
    with pytest.raises(CallFailed) as caught:
        way(client, ask(dialect))
    assert (caught.value.error_type, caught.value.status) == (error_type, status)
    assert "\n" not in str(caught.value)
    [failed] = happened.events(LlmCallFailed)
    assert failed.call_id == caught.value.call_id
    assert (failed.error_type, failed.status, failed.attempts) == (error_type, status, attempts)
    assert happened.retries() == [(at, error_type, status) for at in range(1, attempts)]
    # What the log counts is what the other side saw.
    assert len(aimock.journal()) == attempts


@ways
@dialects
def test_trouble_that_passes(
    aimock: Aimock, client: Client, happened: Since, dialect: str, way: Way
) -> None:
    first = {"match": PARIS["match"] | {"sequenceIndex": 0}}
    second = {"match": PARIS["match"] | {"sequenceIndex": 1}}
    aimock.answer(
        PARIS | first | {"response": SLOW_DOWN | {"retryAfter": 0.002}},
        PARIS | second | {"chaos": {"disconnectRate": 1}},
        PARIS,
    )
    response = way(client, ask(dialect))
    assert (response.text, response.attempts) == (ANSWER, 3)
    assert happened.retries() == [(1, "rate_limited", 429), (2, "connection", None)]
    assert happened.events(LlmCallRetried)[0].wait_ms == 2
    assert len(aimock.journal()) == 3


@ways
@dialects
def test_a_server_that_says_when_to_come_back_is_believed(
    aimock: Aimock,
    client: Client,
    happened: Since,
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
    way: Way,
) -> None:
    """aimock's own switch asks for a second; it also says that the limit is whole in six minutes."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        aimock.calm()

    async def asleep(seconds: float) -> None:
        sleep(seconds)

    monkeypatch.setattr("tracemill.llm.flow.time.sleep", sleep)
    monkeypatch.setattr("tracemill.llm.flow.asyncio.sleep", asleep)
    aimock.answer(PARIS)
    aimock.chaos(rateLimitRate=1)
    assert way(client, ask(dialect)).text == ANSWER
    assert waited[0] == 1
    assert sum(waited) < 2.1
    assert happened.retries() == [(1, "rate_limited", 429)]


@ways
@dialects
def test_a_wrong_key(
    aimock: Aimock,
    client: Client,
    happened: Since,
    monkeypatch: pytest.MonkeyPatch,
    dialect: str,
    way: Way,
) -> None:
    monkeypatch.setenv(providers.PROVIDERS[dialect].key_from, f"{KEY}-old")
    aimock.answer(PARIS)
    with pytest.raises(CallFailed, match="Invalid API key") as caught:
        way(client, ask(dialect))
    assert (caught.value.error_type, caught.value.status) == ("authentication", 401)
    assert happened.events(LlmCallFailed)[0].attempts == 1
    assert not aimock.journal()


@pytest.mark.parametrize("way", [generated, astreamed])
@dialects
def test_silence(aimock: Aimock, client: Client, happened: Since, dialect: str, way: Way) -> None:
    aimock.answer(PARIS)
    aimock.chaos(latencyMs=30_000)
    with pytest.raises(CallFailed, match="did not answer within") as caught:
        way(client, ask(dialect), timeout_s=0.02)
    assert caught.value.error_type == "timeout"
    assert happened.retries() == [(1, "timeout", None), (2, "timeout", None)]


@pytest.mark.parametrize("way", [streamed, astreamed])
def test_a_slow_first_byte(aimock: Aimock, client: Client, happened: Since, way: Way) -> None:
    """Too slow at first, then slow but not too slow."""
    slow = PARIS["match"] | {"sequenceIndex": 0}
    aimock.answer(
        PARIS | {"match": slow, "streamingProfile": {"ttft": 30_000}},
        PARIS | {"streamingProfile": {"ttft": 30}},
    )
    response = way(client, ask("openai"), timeout_s=1.5)
    assert (response.text, response.attempts) == (ANSWER, 2)
    assert (response.time_to_first_chunk_ms or 0) >= 1530
    assert happened.retries() == [(1, "timeout", None)]


@pytest.mark.parametrize("way", [streamed, astreamed])
def test_a_stream_that_falls_silent(
    aimock: Aimock, client: Client, happened: Since, way: Way
) -> None:
    timings = {"ttftMs": 0, "interChunkDelaysMs": [0, 0, 30_000], "totalDurationMs": 30_000}
    aimock.answer(PARIS | {"chunkSize": 4, "recordedTimings": timings})
    with pytest.raises(CallFailed, match="did not answer within") as caught:
        way(client, ask("openai"), timeout_s=1.5)
    assert (caught.value.error_type, caught.value.partial) == ("timeout", True)
    [aborted] = happened.events(LlmCallAborted)
    assert (aborted.content, aborted.error_type) == ("Paris is", "timeout")


@pytest.mark.parametrize("way", [streamed, astreamed])
@dialects
def test_a_stream_that_is_cut(
    aimock: Aimock, client: Client, happened: Since, dialect: str, way: Way
) -> None:
    # Responses has up to six events before the first words, the others have at most two.
    cut = {"truncateAfterChunks": 10 if dialect == "openai-responses" else 5}
    # A pause after each event: what is written at once is lost with the connection.
    aimock.answer(PARIS | cut | {"chunkSize": 4, "latency": 1})
    with pytest.raises(CallFailed) as caught:
        way(client, ask(dialect))
    assert caught.value.error_type == "connection"
    assert caught.value.partial
    [aborted] = happened.events(LlmCallAborted)
    arrived = text_of(aborted.content)
    assert 0 < len(arrived) < len(ANSWER)
    assert ANSWER.startswith(arrived)
    assert aborted.usage.output_tokens > 0
    assert aborted.cost_usd != Decimal(0)
    assert len(aimock.journal()) == 1


@dialects
def test_a_breaker_opens_and_recovers(
    aimock: Aimock, log: EventLog, happened: Since, dialect: str
) -> None:
    now = [0.0]
    client = Client(log, clock=lambda: now[0])
    broken = {"response": OVERLOADED}
    aimock.answer(*(at | broken for at in _first(5)), PARIS)
    outcomes: list[str] = []
    for _ in range(3):
        with pytest.raises(CallFailed) as caught:
            generated(client, ask(dialect))
        outcomes.append(caught.value.error_type)
    assert outcomes == ["overloaded", "circuit_open", "circuit_open"]
    assert len(aimock.journal()) == 5
    now[0] += 60
    assert astreamed(client, ask(dialect)).text == ANSWER
    states = [change.state for change in happened.events(BreakerChanged)]
    assert states == ["open", "half_open", "closed"]
    client.close()


def _first(count: int) -> list[dict[str, Any]]:
    return [PARIS | {"match": PARIS["match"] | {"sequenceIndex": at}} for at in range(count)]


def test_64_calls_at_once_in_all_kinds_of_weather(
    aimock: Aimock, client: Client, happened: Since
) -> None:
    """Every dialect, plain and streamed, each call with a trouble of its own."""
    kinds: list[tuple[dict[str, Any], str]] = [
        ({}, "finished"),
        ({"chaos": {"latencyMs": 5}}, "finished"),
        ({"chaos": {"malformedRate": 1}}, "malformed_response"),
        ({"chaos": {"disconnectRate": 1}}, "connection"),
        ({"chaos": {"dropRate": 1}}, "server_error"),
        ({"response": SLOW_DOWN | {"retryAfter": 0.001}}, "rate_limited"),
        ({"response": OVERLOADED}, "overloaded"),
        ({"response": {"error": {"message": "no"}, "status": 400}}, "invalid_request"),
    ]
    fixtures: list[dict[str, Any]] = []
    requests: list[Request] = []
    for at in range(64):
        said, _ = kinds[at % 8]
        fixtures.append(PARIS | {"match": {"userMessage": f"call {at:02}."}} | said)
        # A model of its own, so that no breaker opens for another call.
        dialect = list(MODELS)[at % 7]
        requests.append(Request.of(f"call {at:02}.", model=f"{dialect}/model-{at}"))
    aimock.answer(*fixtures)

    async def one(at: int) -> Response:
        if at // 8 % 2:
            return await whole(client, requests[at], Options())
        return await client.agenerate(requests[at])

    async def together() -> list[Response | BaseException]:
        return await asyncio.gather(*(one(at) for at in range(64)), return_exceptions=True)

    outcomes: list[str] = []
    for outcome in asyncio.run(together()):
        assert isinstance(outcome, (Response, CallFailed)), outcome
        outcomes.append("finished" if isinstance(outcome, Response) else outcome.error_type)
    assert outcomes == [kinds[at % 8][1] for at in range(64)]
    failed, finished = happened.events(LlmCallFailed), happened.events(LlmCallFinished)
    assert Counter(call.error_type for call in failed) == Counter(
        outcome for outcome in outcomes if outcome != "finished"
    )
    assert len(finished) == 16
    assert sum(call.attempts for call in [*failed, *finished]) == len(aimock.journal())
