"""OpenAI's embeddings: texts as a request, and the vectors of its answer.

Vectors travel as base64, a quarter of the bytes of JSON numbers; both forms are read.
"""

import sys
from array import array
from base64 import b64decode
from collections.abc import Sequence
from math import isfinite
from typing import Any, cast

from tracemill.llm.providers import Provider, Vectors, Wire
from tracemill.llm.providers.fields import known, malformed, objects, text
from tracemill.llm.providers.openai_chat_request import invalid
from tracemill.llm.providers.openai_errors import failed_within
from tracemill.llm.providers.openai_usage import usage_of
from tracemill.messages import Json

EMBED_BATCH = 256
"""The most texts in one request: OpenAI takes 2,048, but no more than 300,000 tokens in all."""


def embed(
    texts: Sequence[str],
    model: str,
    provider: Provider,
    *,
    dimensions: int | None,
    input_kind: str | None,
) -> Wire:
    """The request for vectors; queries and documents are embedded alike."""
    if "" in texts:
        raise invalid(f"texts: number {texts.index('')} is empty: leave it out")
    body: Json = {"model": model, "input": list(texts), "encoding_format": "base64"}
    if dimensions is not None:
        body["dimensions"] = dimensions
    return Wire("/embeddings", body)


def read_vectors(body: Any, provider: Provider) -> Vectors:
    """The vectors in a parsed JSON body, ordered by `index`.

    Raises `CallFailed`: an error that came with status 200, or `malformed_response`.
    """
    said = known(body, "the answer")
    if said.get("error"):
        raise failed_within(said)
    if not isinstance(said.get("data"), list):
        raise malformed("the answer has no list `data`")
    rows = objects(said["data"])
    if any("index" in row for row in rows):
        rows = _ordered(rows)
    vectors = [_vector(row.get("embedding")) for row in rows]
    if len({len(vector) for vector in vectors}) > 1:
        raise malformed("the vectors of the answer differ in length")
    return Vectors(vectors, text(said.get("model")), usage_of(said.get("usage")))


def _ordered(rows: list[Json]) -> list[Json]:
    # Servers that leave out zeros leave out the first index.
    places = {index: row for row in rows if isinstance(index := row.get("index", 0), int)}
    if len(places) != len(rows) or set(places) != set(range(len(rows))):
        told = [row.get("index") for row in rows[:10]]
        raise malformed(f"{len(rows)} vectors are numbered {told}, not each once from 0")
    return [places[index] for index in range(len(rows))]


def _vector(told: Any) -> Sequence[float]:
    try:
        vector = _packed(told) if isinstance(told, str) else array("d", cast(list[float], told))
    except (TypeError, ValueError, OverflowError):
        raise malformed("a vector is neither numbers nor base64 of 32-bit floats") from None
    if not vector or not all(map(isfinite, vector)):
        raise malformed("a vector is empty or holds what is not a number")
    return vector


def _packed(told: str) -> "array[float]":
    vector = array("f")
    vector.frombytes(b64decode(told, validate=True))
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
