"""Embeddings: recorded vectors are read as the SDK reads them; requests keep to the schema."""

import json
from array import array
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.llm.providers.test_openai_chat_request import schemas
from tests.llm.recorded import Recorded, needs_recordings, needs_specs, recordings
from tracemill.errors import CallFailed
from tracemill.llm.providers import PROVIDERS, Vectors, Wire, openai_chat
from tracemill.messages import Usage

OPENAI = PROVIDERS["openai"]
RECORDED = [
    r
    for r in [*recordings("openai", "v1.embeddings"), *recordings("compat-*", "embeddings")]
    if r.expected and r.status == 200
]


@needs_recordings
def test_both_encodings_are_recorded():
    assert {(r.expected or {})["encoding"] for r in RECORDED} == {"base64", "float"}


@needs_recordings
@pytest.mark.parametrize("recorded", RECORDED, ids=lambda r: r.file)
def test_vectors_are_those_of_the_sdk(recorded: Recorded):
    expected = recorded.expected or {}
    reply = openai_chat.read_vectors(json.loads(recorded.body), OPENAI)
    assert [len(vector) for vector in reply.vectors] == [expected["dim"]] * expected["n"]
    first = list(reply.vectors[0][: len(expected["first"])])
    assert first == pytest.approx(expected["first"], abs=1e-6)
    assert reply.response_model == expected["model"]
    usage = reply.usage or Usage()
    assert (usage.input_tokens, usage.output_tokens) == (expected["usage"]["input"], 0)


def row(vector: object, index: object = 0) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": vector}


def read(*rows: dict[str, Any], **more: object) -> Vectors:
    return openai_chat.read_vectors({"model": "m", "data": list(rows)} | more, OPENAI)


@given(st.permutations(range(5)))
def test_vectors_are_in_the_order_of_the_texts(order: list[int]):
    reply = read(*(row([float(i), 1.0], i) for i in order))
    assert [list(v) for v in reply.vectors] == [[float(i), 1.0] for i in range(5)]


def test_without_an_index_the_order_of_the_answer_counts():
    reply = read({"embedding": [1.0]}, {"embedding": [2.0]})
    assert [list(v) for v in reply.vectors] == [[1.0], [2.0]]
    unnamed_zero = read(row([2.0], 1), {"embedding": [1.0]})
    assert [list(v) for v in unnamed_zero.vectors] == [[1.0], [2.0]]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_base64_gives_the_numbers_back(numbers: list[float]):
    packed = b64encode(array("f", numbers).tobytes()).decode()
    assert [list(v) for v in read(row(packed)).vectors] == [numbers]


@pytest.mark.parametrize(
    "rows",
    [
        [row([1.0]), row([2.0])],
        [row([1.0]), row([2.0], 2)],
        [row([1.0]), {"embedding": [2.0]}],
        [row([1.0], "0")],
        [row([1.0]), row([1.0, 2.0], 1)],
        [row([])],
        [row("AAA=")],
        [row("no base64!")],
        [row(["a"])],
        [row([float("nan")])],
        [row(None)],
        [row({"a": 1})],
    ],
)
def test_vectors_that_are_none_are_malformed(rows: list[dict[str, Any]]):
    with pytest.raises(CallFailed) as caught:
        read(*rows)
    assert caught.value.error_type == "malformed_response"


@pytest.mark.parametrize("body", [None, [], {}, {"data": {"a": 1}}])
def test_what_is_no_answer_is_malformed(body: Any):
    with pytest.raises(CallFailed) as caught:
        openai_chat.read_vectors(body, OPENAI)
    assert caught.value.error_type == "malformed_response"


def test_an_error_with_status_200():
    with pytest.raises(CallFailed, match="Sorry") as caught:
        openai_chat.read_vectors({"error": {"message": "Sorry", "code": 429}}, OPENAI)
    assert (caught.value.error_type, caught.value.retry) == ("rate_limited", True)


@needs_specs
@pytest.mark.parametrize("dimensions", [None, 256])
def test_requests_keep_to_the_schema(dimensions: int | None):
    texts = ["One.", "Two."]
    wire = openai_chat.embed(texts, "m", OPENAI, dimensions=dimensions, input_kind="query")
    body = {"model": "m", "input": texts, "encoding_format": "base64"}
    assert wire == Wire("/embeddings", body | ({"dimensions": 256} if dimensions else {}))
    assert schemas().errors("openai", "CreateEmbeddingRequest", wire.body) == []


def test_an_empty_text_is_named():
    with pytest.raises(CallFailed, match="texts: number 1 is empty: leave it out"):
        openai_chat.embed(["a", ""], "m", OPENAI, dimensions=None, input_kind=None)
