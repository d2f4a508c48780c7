"""Cohere's embeddings (v2), in each of its forms."""

import base64
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from starlette.responses import Response as HttpResponse

from tracemill.llm.embedding import InputKind
from tracemill.messages import Json
from tracemill.server.dialects.cohere import COHERE
from tracemill.server.dialects.forms import Loose
from tracemill.server.events import answer
from tracemill.server.gateway import Gateway
from tracemill.server.incoming import Incoming
from tracemill.server.routes import Route
from tracemill.server.trouble import invalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Form = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
_USUAL: tuple[Form, ...] = ("float",)
_KINDS: dict[str, InputKind] = {"search_query": "query", "search_document": "document"}


class Piece(Loose):
    type: str
    text: str | None = None


class Input(Loose):
    """A text in parts."""

    content: list[Piece]


class Body(Loose):
    """Texts that are to become vectors."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    texts: Annotated[list[str], Field(max_length=2048)] | None = None
    inputs: Annotated[list[Input], Field(max_length=2048)] | None = None
    images: list[str] | None = None
    input_type: Annotated[str, Field(max_length=40)] | None = None
    embedding_types: list[Form] | None = None
    output_dimension: Annotated[int, Field(ge=1, le=100_000)] | None = None


BODY: TypeAdapter[Body] = TypeAdapter(Body)


async def embed(gateway: Gateway, asked: Incoming) -> HttpResponse:
    """Vectors of texts."""
    body = await asked.read(BODY)
    texts = _texts(body)
    going = gateway.going(asked, COHERE, body.model, operation="embeddings")
    kind = _KINDS.get(body.input_type or "")
    found = await gateway.embed(going, texts, dimensions=body.output_dimension, input_kind=kind)
    forms: list[Form] = list(dict.fromkeys(body.embedding_types or ()))
    told = {
        "id": found.call_id,
        "response_type": "embeddings_by_type",
        "embeddings": {form: written(found.vectors, form) for form in forms or _USUAL},
        "texts": texts,
        "meta": meta(found, {"input_tokens": found.usage.input_tokens}),
    }
    return answer(told, headers=gateway.told(going))


def meta(found: Any, units: Json) -> Json:
    """What it took."""
    return {"api_version": {"version": "2"}, "billed_units": found.usage.billed or units}


def _texts(body: Body) -> list[str]:
    if body.images:
        raise invalid("images: only texts can be embedded", "images")
    texts = list(body.texts or ())
    for number, given in enumerate(body.inputs or ()):
        if any(piece.type != "text" for piece in given.content):
            raise invalid(f"inputs.{number}: only texts can be embedded", f"inputs.{number}")
        texts.append("\n".join(piece.text or "" for piece in given.content))
    if not texts:
        raise invalid("texts: there is nothing to embed", "texts")
    return texts


def written(vectors: "NDArray[np.float32]", form: Form) -> list[Any]:
    """Vectors in one of Cohere's forms.

    Whole numbers are each vector's own 127ths of its largest value, which leaves the angles between
    vectors as they are; bits are the signs, eight to a byte.
    """
    import numpy as np

    match form:
        case "float":
            return vectors.tolist()
        case "base64":
            rows = np.ascontiguousarray(vectors, dtype="<f4")
            return [base64.b64encode(row.tobytes()).decode() for row in rows]
        case "int8" | "uint8":
            largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), np.float32(1e-12))
            whole = np.rint(vectors / largest * 127).astype(np.int16)
            return (whole + (128 if form == "uint8" else 0)).tolist()
        case "binary" | "ubinary":
            packed = np.packbits(vectors > 0, axis=1).astype(np.int16)
            return (packed - (128 if form == "binary" else 0)).tolist()


ROUTES = (Route("POST", "/v2/embed", embed, COHERE, "embeddings", "Vectors of texts.", BODY),)
