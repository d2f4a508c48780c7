"""What no provider has: questions to a collection, and judgements of answers."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.events import FeedbackGiven
from tracemill.retrieval import answer as answers
from tracemill.retrieval.confidence import Features
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import missing


class Exact(BaseModel):
    """A body of our own API: a name that is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(Exact):
    """A question to a collection."""

    question: Annotated[str, Field(min_length=1, max_length=20_000)]
    collection: Annotated[str, Field(min_length=1, max_length=100)] = "installed"
    k: Annotated[int, Field(ge=1, le=50)] = 5
    model: Annotated[str, Field(min_length=1, max_length=200)] = "local/extract"
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    where: dict[str, Any] | None = None
    rerank: Annotated[str, Field(max_length=200)] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None
    metadata: dict[str, str] | None = None


class Judgement(Exact):
    """What somebody thought of an answer."""

    call_id: Annotated[str, Field(min_length=1, max_length=100)]
    score: Annotated[float, Field(ge=-1, le=1)]
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None


QUESTION: TypeAdapter[Question] = TypeAdapter(Question)
JUDGEMENT: TypeAdapter[Judgement] = TypeAdapter(Judgement)


async def query(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """An answer with its sources, or the word that nothing was found."""
    body = await asked.read(QUESTION)
    going = gateway.going(asked, OPENAI, body.model, user=body.user, metadata=body.metadata)
    whose = gateway.about(going, body.metadata)
    del whose["model"]

    def ask() -> answers.Answer:
        return answers.ask(
            body.question,
            settings=gateway.settings,
            log=gateway.log,
            index=body.collection,
            k=body.k,
            model=going.model,
            where=body.where,
            mode=body.mode,
            rerank=body.rerank,
            whose=whose,
        )

    found = await gateway.within(
        going, [body.question], lambda: asyncio.to_thread(ask), lambda made: made.call_id
    )
    return answer(_told(found), headers={"x-tracemill-call-id": found.call_id or ""})


def _told(found: answers.Answer) -> dict[str, Any]:
    fields = asdict(found)
    if isinstance(found.features, Features):
        fields["features"] = found.features._asdict()
    return fields


async def feedback(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """A judgement, as an event."""
    body = await asked.read(JUDGEMENT)
    # Official SDKs know an answer by the id that it has in their dialect.
    call_id = body.call_id.rpartition("_")[2].removeprefix("chatcmpl-")
    if not await asyncio.to_thread(lambda: any(gateway.log.read(stream=f"call:{call_id}"))):
        raise missing(f"there is no call {body.call_id}")
    key = asked.key
    event = FeedbackGiven(
        call_id=call_id,
        score=body.score,
        comment=body.comment,
        user_id=body.user or asked.label("x-tracemill-user"),
        actor=key.name if key else None,
        correlation_id=asked.request_id,
    )
    await asyncio.to_thread(gateway.log.append, [event])
    return answer({"id": event.event_id, "call_id": call_id, "score": body.score}, 201)


ROUTES = (
    Route(
        "POST", "/v1/rag/query", query, OPENAI, "rag", "Ask a collection of documents.", QUESTION
    ),
    Route("POST", "/v1/feedback", feedback, OPENAI, "feedback", "Judge an answer.", JUDGEMENT),
)
