"""Embeddings that are worked out here: calls in the log like all others, though nothing is sent."""

from collections.abc import Sequence
from typing import Any

from tracemill import tokenizer
from tracemill.errors import CallFailed, UsageError
from tracemill.llm.call import Call, Ids, Labels
from tracemill.llm.embedding import Embedded, InputKind
from tracemill.llm.options import Options
from tracemill.llm.providers import Reply
from tracemill.log import EventLog
from tracemill.messages import Asked, Usage
from tracemill.retrieval import embed as embedders

MODELS = ("local/wordllama", "local/minilm")
"""Those that can be asked for by name."""
_WHOSE = ("key_id", "user_id", "metadata", "conversation_id")


def embed(
    log: EventLog,
    about: dict[str, Any],
    texts: Sequence[str],
    dimensions: int | None,
    kind: InputKind | None,
    options: Options,
) -> Embedded:
    """Vectors of length 1.

    Args:
        about: `model`, and whose call it is, as fields of a request.

    Raises `CallFailed`: no such model, not these dimensions, a text without words.
    """
    name = str(about["model"])
    asked = Asked(**{field: about[field] for field in _WHOSE})
    ids = Ids(**{field: options[field] for field in Ids._fields if field in options})
    call = Call(log, asked, ids, Labels("local", name.partition("/")[2], "embeddings"))
    call.start(inputs=len(texts))
    try:
        call.attempt()
        vectors = _model(name, dimensions, texts).compute(texts, kind or "document")
    except BaseException as error:
        failure = call.fail(error)
        if failure is error:
            raise
        raise failure from error
    usage = Usage(input_tokens=sum(len(ids) for ids in tokenizer.ids(texts)))
    made = call.finish(Reply((), "stop", None, name.partition("/")[2], usage))
    return Embedded(vectors, made.response_model, made.usage, made.cost_usd, made.call_id)


def _model(name: str, dimensions: int | None, texts: Sequence[str]) -> embedders.Model:
    if name not in MODELS:
        raise CallFailed("unknown_model", f"{name} embeds nothing: {' and '.join(MODELS)} do")
    if empty := [at for at, text in enumerate(texts) if not text.strip()]:
        raise CallFailed(
            "invalid_request", f"texts[{empty[0]}] is empty: leave out what has no words"
        )
    try:
        return embedders.model(name, dimensions=dimensions)
    except UsageError as error:
        raise CallFailed("invalid_request", str(error)) from None
