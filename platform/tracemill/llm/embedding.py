"""Texts to vectors and documents to a ranking, by providers: recorded like every other call."""

from collections.abc import Sequence, Sized
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from tracemill.errors import CallFailed
from tracemill.llm import keys
from tracemill.llm.call import Call, Ids
from tracemill.llm.exchange import Line, ask, parsed, traced
from tracemill.llm.flow import Flow
from tracemill.llm.line import Lines, labels
from tracemill.llm.providers import Adapter, Ranked, Reply, Vectors, Wire
from tracemill.messages import Asked, Usage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracemill.log import EventLog

InputKind = Literal["query", "document"]

BATCH_TOKENS = 100_000
"""The most tokens in one request, as counted below: OpenAI takes 300,000, Voyage 120,000."""


_NOBODY = Asked()


class Begun(NamedTuple):
    """What a call needs, whatever it asks for."""

    log: "EventLog"
    lines: Lines
    model: str
    ids: Ids
    timeout_s: float | None
    whose: Asked = _NOBODY
    """On whose behalf."""


class Embedded(NamedTuple):
    """Vectors, with what they took."""

    vectors: "NDArray[np.float32]"
    """Shape (texts, dimensions), in the order of the texts, as the provider gives them."""
    response_model: str
    usage: Usage
    cost_usd: Decimal | None
    call_id: str


class Ranking(NamedTuple):
    """Documents by relevance, with what it took."""

    ranking: tuple[tuple[int, float], ...]
    """Index of the document and its relevance, best first."""
    response_model: str
    usage: Usage
    cost_usd: Decimal | None
    call_id: str


def embed(
    begun: Begun,
    texts: Sequence[str],
    *,
    dimensions: int | None,
    input_kind: InputKind | None,
) -> Flow[Embedded]:
    """One call: as many requests as the provider's limit demands; equal texts are sent once."""
    import numpy as np

    call = _call(begun, "embeddings")
    call.start(inputs=_count(texts))
    found: list[Sequence[float]] = []
    replies: list[Vectors] = []
    try:
        _check(texts, "texts")
        unique = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        call.inputs = list(unique)
        line = begun.lines.to(begun.model, begun.timeout_s)
        batches = _batches(list(unique), _offered(line, "embed", begun.model).EMBED_BATCH)
        for batch in batches:
            wire = line.adapter.embed(
                batch, line.model, line.provider, dimensions=dimensions, input_kind=input_kind
            )
            reply = yield from _asked(begun, call, line, wire, len(batch), batch)
            replies.append(reply)
            found.extend(reply.vectors)
        matrix = np.asarray(found, dtype=np.float32)[[unique[text] for text in texts]]
    except BaseException as error:
        failure = call.fail(error)
        if failure is error:
            raise
        raise failure from error
    response = call.finish(_reply(replies[-1].response_model, _sum(replies)))
    return Embedded(
        matrix, response.response_model, response.usage, response.cost_usd, response.call_id
    )


def rerank(
    begun: Begun, query: str, documents: Sequence[str], *, top_n: int | None
) -> Flow[Ranking]:
    """One call, one request."""
    call = _call(begun, "rerank")
    call.start(inputs=_count(documents))
    try:
        _check(documents, "documents")
        _check([query], "query")
        call.inputs = [query, *documents]
        line = begun.lines.to(begun.model, begun.timeout_s)
        wire = _offered(line, "rerank", begun.model).rerank(
            query, documents, line.model, line.provider, top_n=top_n or len(documents)
        )
        tokens = (sum(map(len, documents)) + len(query)) // 4

        def send(way: Line) -> Flow[Ranked]:
            answer = yield from ask(way, traced(call, way, wire))
            reply = line.adapter.read_ranking(parsed(answer, line), line.provider)
            if any(not 0 <= at < len(documents) for at, _ in reply.ranking):
                raise CallFailed(
                    "malformed_response",
                    f"{line.provider.name} ranked a document that it was not sent",
                )
            return reply

        ranked = yield from begun.lines.repeated(call, line, tokens, send)
    except BaseException as error:
        failure = call.fail(error)
        if failure is error:
            raise
        raise failure from error
    response = call.finish(_reply(ranked.response_model, ranked.usage))
    return Ranking(
        ranked.ranking,
        response.response_model,
        response.usage,
        response.cost_usd,
        response.call_id,
    )


def _asked(
    begun: Begun, call: Call, line: Line, wire: Wire, count: int, batch: Sequence[str]
) -> Flow[Vectors]:
    def send(way: Line) -> Flow[Vectors]:
        answer = yield from ask(way, traced(call, way, wire))
        reply = line.adapter.read_vectors(parsed(answer, line), line.provider)
        if len(reply.vectors) != count:
            raise CallFailed(
                "malformed_response",
                f"{line.provider.name} gave {len(reply.vectors)} vectors for {count} texts",
            )
        if len({len(vector) for vector in reply.vectors}) > 1:
            raise CallFailed(
                "malformed_response", f"{line.provider.name} gave vectors of different lengths"
            )
        return reply

    tokens = sum(map(len, batch)) // 4
    return (yield from begun.lines.repeated(call, line, tokens, send))


def _call(begun: Begun, operation: str) -> Call:
    call = Call(
        begun.log, begun.whose, begun.ids, labels(begun.model)._replace(operation=operation)
    )
    call.secret = keys.of(begun.model)
    return call


def _count(texts: object) -> int | None:
    return len(texts) if isinstance(texts, Sized) else None


def _check(texts: Sequence[object], name: str) -> None:
    if (
        isinstance(texts, str)
        or not _count(texts)
        or not all(isinstance(text, str) for text in texts)
    ):
        raise CallFailed("invalid_request", f"{name} must be a list of at least one string")
    if empty := [at for at, text in enumerate(texts) if not str(text).strip()]:
        raise CallFailed(
            "invalid_request", f"{name}[{empty[0]}] is empty: leave out what has no words"
        )


def _offered(line: Line, what: str, model: str) -> Adapter:
    if not hasattr(line.adapter, what):
        verb = {"embed": "embed texts", "rerank": "rank documents"}[what]
        raise CallFailed("invalid_request", f"{model}: {line.provider.name} cannot {verb}")
    return line.adapter


def _batches(texts: list[str], size: int) -> list[list[str]]:
    """At most so many texts in a request, and no more tokens than providers take."""
    batches: list[list[str]] = []
    room = 0
    for text in texts:
        # As many as tokenizers make of Chinese, more than they make of prose.
        tokens = len(text.encode("utf-8", "surrogatepass")) // 3 + 1
        if not batches or len(batches[-1]) == size or tokens > room:
            batches.append([])
            room = BATCH_TOKENS
        batches[-1].append(text)
        room -= tokens
    return batches


def _reply(model: str, usage: Usage | None) -> Reply:
    return Reply((), "stop", None, model, usage)


def _sum(replies: Sequence[Vectors]) -> Usage | None:
    known = [reply.usage for reply in replies if reply.usage]
    if len(known) < len(replies):
        return None
    if len(known) == 1:
        return known[0]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in known),
        output_tokens=sum(usage.output_tokens for usage in known),
        billed={
            unit: sum(usage.billed.get(unit, 0) for usage in known)
            for unit in {unit for usage in known for unit in usage.billed}
        },
    )
