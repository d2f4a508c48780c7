"""Providers' vectors: in order, of length 1, each text sent once, every call in the log."""

import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.llm import aimock_server
from tests.llm.recorded import Recorded, needs_recordings, recordings
from tests.llm.serving import Say, Seen, Server, say, serving
from tracemill import EventLog
from tracemill.errors import CallFailed, InputError, UsageError
from tracemill.llm import embedding
from tracemill.retrieval.embed import embed, model

NAME = "openai/text-embedding-of-this-test"
OWN = 8


class Provider:
    """Embeds as OpenAI does: its own number of dimensions, or the fewer that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.may_be_told = True
        self.own = OWN

    def __call__(self, seen: Seen) -> Say:
        self.asked.append(seen.json)
        told = seen.json.get("dimensions")
        if told and not self.may_be_told:
            return say({"error": {"message": "this model takes no `dimensions`"}}, 400)
        data = [
            {"object": "embedding", "index": at, "embedding": numbers(text)[: told or self.own]}
            for at, text in enumerate(seen.json["input"])
        ]
        usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
        return say({"object": "list", "data": data[::-1], "model": "e", "usage": usage})

    @property
    def texts(self) -> list[str]:
        return [text for body in self.asked for text in body["input"]]


def numbers(text: str) -> list[float]:
    """A vector of a text's own, not of length 1."""
    return [1.0 + byte for byte in blake2b(text.encode(), digest_size=16).digest()]


def unit(texts: list[str], dimensions: int = OWN) -> "np.ndarray[Any, Any]":
    rows = np.array([numbers(text)[:dimensions] for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def server(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(provider) as server:
        for name, path in {"OPENAI": "/v1", "COMPATIBLE": "/v1", "COHERE": ""}.items():
            monkeypatch.setenv(f"{name}_BASE_URL", server.url + path)
            monkeypatch.setenv(f"{name}_API_KEY", "sk-0123456789abcdefghij")
        monkeypatch.setattr("tracemill.llm.retry._FIRST_WAIT_S", 0.001)
        yield server


@pytest.fixture
def log(tmp_path: Path, server: Server) -> Iterator[EventLog]:
    with EventLog(tmp_path / "log") as log:
        yield log


def calls(log: EventLog) -> list[tuple[str, str]]:
    return log.sql("SELECT call_id, status FROM calls ORDER BY call_id").rows()


def test_vectors_in_order_and_each_text_once(provider: Provider, log: EventLog, tmp_path: Path):
    """1,500 texts: five calls of 256 texts and a rest, in two batches that are kept."""
    texts = [f"text {n % 1400}" for n in range(1500)] + [" "]
    few = model(NAME, log=log, dimensions=OWN)
    found = embed(texts, model=few, cache=tmp_path)
    assert np.allclose(found.vectors[:-1], unit(texts[:-1]), atol=2e-3)
    assert not found.vectors[-1].any()
    assert found.computed == 1400
    assert sorted(provider.texts) == sorted(f"text {n}" for n in range(1400))
    assert [body.get("dimensions") for body in provider.asked] == [None] * len(provider.asked)
    assert sorted(found.call_ids) == [call_id for call_id, _ in calls(log)]
    again = embed(texts, model=few, cache=tmp_path)
    assert (again.computed, again.call_ids) == (0, ())
    assert np.array_equal(again.vectors, found.vectors)


def test_a_model_that_is_not_known_is_asked_once_how_long_its_vectors_are(
    provider: Provider, log: EventLog
):
    found = model(NAME, log=log)
    assert (found.dimensions, found.identity) == (OWN, f"{NAME} {OWN}")
    found.compute(["a"])
    found.compute(["b"], "query")
    assert provider.texts == ["dimensions", "a", "b"]


def test_a_model_that_is_known_is_not_asked(provider: Provider, log: EventLog):
    assert model("openai/text-embedding-3-large", log=log).dimensions == 3072
    assert not provider.asked


def test_fewer_dimensions_are_asked_for_only_where_it_gives_more(provider: Provider, log: EventLog):
    found = model(NAME, log=log, dimensions=4).computed(["a", "b"])
    assert np.allclose(found.vectors, unit(["a", "b"], 4))
    assert [body.get("dimensions") for body in provider.asked] == [None, 4]
    assert [*found.call_ids] == [call_id for call_id, _ in calls(log)]
    provider.may_be_told = False
    assert np.allclose(model(NAME, log=log, dimensions=OWN).compute(["a"]), unit(["a"]))
    with pytest.raises(CallFailed, match="takes no `dimensions`"):
        model(NAME, log=log, dimensions=4).compute(["a"])
    with pytest.raises(UsageError, match="vectors of 8 numbers, not of 16"):
        model(NAME, log=log, dimensions=16).compute(["a"])
    with pytest.raises(UsageError, match="vectors of 1536 numbers, not of 2000"):
        model("openai/text-embedding-3-small", log=log, dimensions=2000)


def test_a_model_that_has_changed_is_refused(provider: Provider, log: EventLog):
    before = model(NAME, log=log)
    provider.own = 6
    with pytest.raises(InputError, match=r"shape \(1, 6\) where \(1, 8\)"):
        before.compute(["a"])


def test_a_failure_keeps_what_was_paid_for(
    provider: Provider, server: Server, log: EventLog, tmp_path: Path
):
    texts = [f"text {n}" for n in range(1100)]
    few = model(NAME, log=log, dimensions=OWN)

    def broken(seen: Seen) -> Say:
        answer = provider(seen)
        return (
            say({"error": {"message": "no"}}, 400) if "text 1099" in seen.json["input"] else answer
        )

    server.answer = broken
    with pytest.raises(CallFailed):
        embed(texts, model=few, cache=tmp_path)
    server.answer = provider
    assert embed(texts, model=few, cache=tmp_path).computed == 1100 - 1024


def test_long_texts_are_sent_in_smaller_requests(provider: Provider, log: EventLog):
    texts = [f"{n} " + "word " * 20_000 for n in range(9)]
    model(NAME, log=log, dimensions=OWN).compute(texts)
    assert sorted(provider.texts) == sorted(texts)
    sizes = [sum(map(len, body["input"])) // 3 for body in provider.asked]
    assert max(sizes) <= embedding.BATCH_TOKENS
    assert len(provider.asked) < len(texts)
    # One that alone is more than a request may hold is the provider's to refuse.
    model(NAME, log=log, dimensions=OWN).compute(["x" * 400_000])


def test_vectors_of_zeros_are_refused(server: Server, log: EventLog):
    server.answer = lambda seen: say(
        {"data": [{"index": 0, "embedding": [0.0] * OWN}], "model": "e", "usage": None}
    )
    with pytest.raises(InputError, match="a vector of zeros"):
        model(NAME, log=log, dimensions=OWN).compute(["a"])


def test_cohere_is_told_queries_from_documents(server: Server, log: EventLog, tmp_path: Path):
    asked: list[str] = []

    def answer(seen: Seen) -> Say:
        asked.append(seen.json["input_type"])
        vectors = [[1.0, float(len(asked))] + [0.0] * 1534 for _ in seen.json["texts"]]
        billed = {"meta": {"billed_units": {"input_tokens": 1}}}
        return say({"id": "1", "embeddings": {"float": vectors}, "texts": [], **billed})

    server.answer = answer
    cohere = model("cohere/embed-v4.0", log=log)
    document = embed(["text"], model=cohere, kind="document", cache=tmp_path)
    query = embed(["text"], model=cohere, kind="query", cache=tmp_path)
    assert asked == ["search_document", "search_query"]
    assert not np.allclose(document.vectors, query.vectors)
    assert embed(["text"], model=cohere, kind="query", cache=tmp_path).computed == 0


def test_calls_are_made_side_by_side(server: Server, provider: Provider, log: EventLog):
    waiting: list[float] = []

    def slow(seen: Seen) -> Say:
        waiting.append(time.monotonic())
        deadline = time.monotonic() + 10
        while len(waiting) < 4 and time.monotonic() < deadline:
            time.sleep(0.002)
        return provider(seen)

    few = model(NAME, log=log, dimensions=OWN)
    few.compute(["so that it is known"])
    server.answer = slow
    few.compute([f"text {n}" for n in range(1024)])
    assert max(waiting) - min(waiting) < 5


# What real providers, and a server that others wrote, answer


RECORDED = [
    r
    for r in [*recordings("openai", "v1.embeddings"), *recordings("compat-*", "embeddings")]
    if r.status == 200
    and isinstance(r.request["json"]["input"], (str, list))
    and not isinstance(r.request["json"]["input"][0], int)
]


@needs_recordings
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: r.file)
def test_recorded_vectors_point_where_the_sdk_says(
    recorded: Recorded, server: Server, log: EventLog
):
    said = recorded.request["json"]["input"]
    texts = [said] if isinstance(said, str) else list(dict.fromkeys(said))
    assert recorded.expected
    rows, dimensions = recorded.expected["n"], recorded.expected["dim"]
    if len(texts) != rows:
        pytest.skip(f"{rows} vectors for {len(texts)} different texts")
    known = model("compatible/recorded", log=log, dimensions=dimensions)
    # How many numbers it gives by itself is found out first.
    server.answer = lambda seen: one(dimensions)
    known.compute(["one text"])
    server.answer = lambda seen: Say(recorded.body)
    vectors = embed(texts, model=known).vectors
    first = np.array(recorded.expected["first"])
    assert vectors.shape == (rows, dimensions)
    cosine = vectors[0, :4] @ first / np.linalg.norm(vectors[0, :4]) / np.linalg.norm(first)
    assert cosine > 0.9999


def one(dimensions: int) -> Say:
    return say({"data": [{"index": 0, "embedding": [1.0] * dimensions}], "model": "e"})


@pytest.fixture(scope="module")
def aimock() -> Iterator[aimock_server.Aimock]:
    try:
        with aimock_server.running() as aimock:
            yield aimock
    except aimock_server.Missing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("name", ["openai/e5", "compatible/e5", "cohere/e5"])
def test_vectors_of_aimock(
    aimock: aimock_server.Aimock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    aimock.reset()
    aimock.answer({"match": {"inputText": "Seine"}, "response": {"embedding": [3, 0, 4]}})
    for provider, path in {"OPENAI": "/v1", "COMPATIBLE": "/v1", "COHERE": ""}.items():
        monkeypatch.setenv(f"{provider}_BASE_URL", aimock.url + path)
        monkeypatch.setenv(f"{provider}_API_KEY", aimock_server.KEY)
    with EventLog(tmp_path / "log") as log:
        found = embed(["the Seine"], model=model(name, log=log, dimensions=3), kind="query")
        assert np.allclose(found.vectors, [[0.6, 0, 0.8]], atol=1e-3)
        assert [*found.call_ids] == [call_id for call_id, _ in calls(log)]
