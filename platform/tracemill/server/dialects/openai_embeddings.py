"""OpenAI's embeddings: vectors as numbers, or as base64 of their bytes."""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.errors import TracemillError
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
ENCODING = "cl100k_base"
"""What token ids are of: OpenAI's embedding models read it, and clients that cut texts into tokens
take it for every model that they do not know."""
Tokens = list[Annotated[int, Field(ge=0, lt=2**31)]]


class Body(Loose):
    """Texts that are to become vectors."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: str | list[str] | Tokens | list[Tokens]
    dimensions: Annotated[int, Field(ge=1, le=100_000)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: Annotated[str, Field(max_length=200)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def embed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Vectors of texts."""
    body = await asked.read(BODY)
    texts = _texts(body.input if isinstance(body.input, list) else [body.input])
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


def _texts(given: Sequence[str | int | list[int]]) -> list[str]:
    if not given:
        raise invalid("input: there is nothing to embed", "input")
    if isinstance(given[0], int):
        given = [cast("list[int]", given)]
    if len(given) > MOST:
        raise invalid(f"input: it takes {MOST:,} texts, not {len(given):,}: send fewer", "input")
    texts = cast("list[str]", given) if isinstance(given[0], str) else _decoded(given)
    for number, text in enumerate(texts):
        if not text.strip():
            raise invalid(f"input.{number}: it has no words: leave it out", "input")
    return texts


def _decoded(given: Sequence[Any]) -> list[str]:
    """Token ids as text, so that they are logged, priced and embedded by any model."""
    from tracemill.corpus.tokens import decoded

    try:
        return decoded(given, ENCODING)
    except TracemillError as error:
        raise invalid(f"input: {error}", "input") from None


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
