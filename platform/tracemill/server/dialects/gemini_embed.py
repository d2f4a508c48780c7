"""Gemini's embeddings: one text, or several in one request."""

from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.llm.embedding import Embedded, InputKind
from tracemill.server.dialects.forms import Camel
from tracemill.server.dialects.gemini import GEMINI
from tracemill.server.dialects.gemini_generate import model_of
from tracemill.server.dialects.gemini_parts import Content, words
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

_KINDS: dict[str, InputKind] = {
    "RETRIEVAL_QUERY": "query",
    "QUESTION_ANSWERING": "query",
    "FACT_VERIFICATION": "query",
    "CODE_RETRIEVAL_QUERY": "query",
    "RETRIEVAL_DOCUMENT": "document",
}


class One(Camel):
    """A text, and what its vector is for."""

    content: Content
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: Annotated[int, Field(ge=1, le=100_000)] | None = None


class Many(Camel):
    """Several of them."""

    requests: Annotated[list[One], Field(min_length=1, max_length=2048)]


ONE: TypeAdapter[One] = TypeAdapter(One)
MANY: TypeAdapter[Many] = TypeAdapter(Many)


async def one(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The vector of a text."""
    vectors, more, headers = await _vectors(gateway, asked, [await asked.read(ONE)])
    return answer({"embedding": vectors[0], **more}, headers=headers)


async def many(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """The vectors of texts, in their order."""
    body = await asked.read(MANY)
    vectors, more, headers = await _vectors(gateway, asked, body.requests)
    return answer({"embeddings": vectors, **more}, headers=headers)


async def _vectors(gateway: Gateway, asked: Incoming, ones: list[One]) -> tuple[Any, Any, Any]:
    forms = {(each.task_type, each.output_dimensionality) for each in ones}
    if len(forms) > 1:
        raise invalid(
            "requests: they differ in taskType or outputDimensionality: send one request for each",
            "requests",
        )
    ((task, dimensions),) = forms
    going = gateway.going(asked, GEMINI, model_of(asked), operation="embeddings")
    texts = [words(each.content) for each in ones]
    kind = _KINDS.get((task or "").upper())
    found: Embedded = await gateway.embed(going, texts, dimensions=dimensions, input_kind=kind)
    vectors = [{"values": row} for row in found.vectors.tolist()]
    used = {"usageMetadata": {"promptTokenCount": found.usage.input_tokens}}
    return vectors, used, gateway.told(going)


ROUTES = tuple(
    route
    for version in ("/v1beta", "/v1")
    for route in (
        Route(
            "POST",
            version + "/models/{model:path}:embedContent",
            one,
            GEMINI,
            "embeddings",
            "The vector of a text.",
            ONE,
        ),
        Route(
            "POST",
            version + "/models/{model:path}:batchEmbedContents",
            many,
            GEMINI,
            "embeddings",
            "The vectors of texts.",
            MANY,
        ),
    )
)
