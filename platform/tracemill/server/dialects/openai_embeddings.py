"""OpenAI's embeddings: vectors as numbers, or as base64 of their bytes."""

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.messages import Json
from tracemill.server.dialects.forms import Loose
from tracemill.server.dialects.openai import OPENAI
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2048
"""Texts in one request."""


class Body(Loose):
    """Texts that are to become vectors."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def embed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Vectors of texts."""
    body = await asked.read(BODY)
    texts = _texts(body.input)
    going = gateway.going(asked, OPENAI, body.model, operation="embeddings", user=body.user)
    found = await gateway.embed(going, texts, dimensions=body.dimensions)
    told = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(_written(found.vectors, body.encoding_format))
        ],
        "model": found.response_model,
        "usage": _usage(found.usage.input_tokens),
    }
    return answer(told, headers=gateway.told(going))


def _texts(given: str | list[Any]) -> list[str]:
    texts: list[Any] = [given] if isinstance(given, str) else given
    if not texts:
        raise invalid("input: there is nothing to embed", "input")
    if len(texts) > MOST:
        raise invalid(f"input: it takes {MOST:,} texts, not {len(texts):,}: send fewer", "input")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise invalid(
                "input: tokens are those of one model's vocabulary, which is not known here: "
                "send the text itself",
                "input",
            )
        if not text.strip():
            raise invalid(f"input.{number}: it has no words: leave it out", "input")
    return texts


def _usage(tokens: int) -> Json:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _written(vectors: "NDArray[Any]", form: str | None) -> list[Any]:
    """Numbers, or base64 of little-endian float32."""
    import numpy as np

    if form != "base64":
        return vectors.tolist()
    rows = np.ascontiguousarray(vectors, dtype="<f4")
    return [base64.b64encode(row.tobytes()).decode() for row in rows]


ROUTES = (Route("POST", "/v1/embeddings", embed, OPENAI, "embeddings", "Vectors of texts.", BODY),)
