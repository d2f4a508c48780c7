"""Cohere's rerank (v2): documents by relevance."""

from typing import Annotated

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.server.dialects.cohere import COHERE
from tracemill.server.dialects.cohere_embed import meta
from tracemill.server.dialects.forms import Loose
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route


class Document(Loose):
    text: str


class Body(Loose):
    """A question, and what may answer it."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | Document], Field(min_length=1, max_length=10_000)]
    top_n: Annotated[int, Field(ge=1)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def rerank(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Documents by relevance, best first."""
    body = await asked.read(BODY)
    going = gateway.going(asked, COHERE, body.model, operation="rerank")
    documents = [each if isinstance(each, str) else each.text for each in body.documents]
    found = await gateway.rerank(going, body.query, documents, body.top_n)
    ranking = found.ranking if body.top_n is None else found.ranking[: body.top_n]
    told = {
        "id": found.call_id,
        "results": [{"index": index, "relevance_score": score} for index, score in ranking],
        "meta": meta(found, {"search_units": 1}),
    }
    return answer(told, headers=gateway.told(going))


ROUTES = (Route("POST", "/v2/rerank", rerank, COHERE, "rerank", "Documents by relevance.", BODY),)
