"""Ask a collection: find passages, let a model answer from them, check what the answer cites.

When nothing fits, that is the answer: `not_found`, not a guess. However a question ends, that is an
event, linked to its model call by `call_id` and `correlation_id`.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tracemill import tokenizer
from tracemill.errors import CallFailed, UsageError
from tracemill.events import RagAnswered, new_id
from tracemill.llm import passages
from tracemill.llm.client import Client
from tracemill.llm.options import Options
from tracemill.llm.providers.local import CONTEXT_TOKENS
from tracemill.messages import Message, Request, Response
from tracemill.retrieval import citations, confidence
from tracemill.retrieval.citations import Citation
from tracemill.retrieval.confidence import Features
from tracemill.retrieval.filters import Where
from tracemill.retrieval.packing import THRESHOLD, Source, ids, pack, passage
from tracemill.retrieval.rerank import CANDIDATES, by_provider
from tracemill.settings import Settings

if TYPE_CHECKING:
    import polars as pl

    from tracemill.log import EventLog
    from tracemill.retrieval.collection import Collection, Mode

PASSAGE_TOKENS = 3_000
"""The most tokens of passages in a prompt. It fits every model; a local one may get fewer."""

NOT_FOUND = "Nothing in the collection answers this."
UNSUPPORTED = "What the model wrote is not in the passages that it cites: do not rely on it."
REFUSED = "The model refused to answer."
EMPTY = "The model's answer was empty."

Outcome = Literal["answered", "not_found", "unsupported", "refused", "empty"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a question."""

    text: str
    """The answer with its citations; else, in a sentence, why there is none."""
    outcome: Outcome
    """`unsupported`: the model wrote an answer of which no citation holds."""
    not_found: bool
    """True when nothing that was found answers the question."""
    sources: tuple[Source, ...] = ()
    """The passages that the model was given, best first."""
    citations: tuple[Citation, ...] = ()
    """What the answer cites, in its order, and whether the passages say so."""
    confidence: float = 0.0
    """The calibrated probability that the answer is right; 0 where there is none."""
    features: Features | None = None
    """What the confidence was made of."""
    problems: tuple[str, ...] = ()
    """What a reader should know before relying on it, in sentences."""
    draft: str | None = None
    """What the model wrote, where that is not the answer."""
    call_id: str | None = None
    """The model call; None when there was no passage to ask it about."""
    degraded: str | None = None
    """Why an older version of the collection was searched; None when it was the last one."""


class _Retrieved(NamedTuple):
    question: str
    collection: "Collection"
    mode: "Mode"
    found: "pl.DataFrame"
    sources: tuple[Source, ...]


class _Asked(NamedTuple):
    """The call that is made, if there are passages."""

    model: str
    call_id: str | None
    about: Options
    whose: Mapping[str, Any]


def ask(
    question: str,
    *,
    settings: Settings,
    log: "EventLog",
    index: "str | Collection" = "installed",
    k: int = 5,
    model: str = "local/extract",
    where: Where | None = None,
    mode: "Mode" = "hybrid",
    rerank: str | None = None,
    threshold: float = THRESHOLD,
    passage_tokens: int = PASSAGE_TOKENS,
    actor: str | None = None,
    whose: Mapping[str, Any] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Answer:
    """Answer a question from a collection, with sources.

    Args:
        index: a collection's name, or one that is already open (faster for many questions).
        k: how many chunks are looked for.
        where: only chunks for which this holds (`retrieval/filters.py`).
        mode: how they are looked for: `hybrid`, `dense` or `lexical`.
        rerank: a provider's model that puts the best of them in order, as `cohere/rerank-v3.5`.
        threshold: what a chunk must hold of the question to be shown to the model, from 0 to 1.
        passage_tokens: the most tokens of passages in the prompt.
        actor: who asks, as on every event.
        whose: fields of `Request` that say on whose behalf: `user_id`, `key_id`, `metadata` ...
        on_text: is called with each piece of the answer as it arrives.

    Raises `UsageError` for a blank question or a filter that cannot be, `InputError` when the
    collection is missing or damaged, and `CallFailed` when the model fails for another reason than
    that it found nothing.
    """
    if not question.strip() or k < 1:
        raise UsageError(f"cannot look for {k} passages on {question!r}: ask for at least one")
    clock = time.perf_counter()
    collection = _opened(index, settings, log)
    about: Options = {"actor": actor, "correlation_id": new_id()}
    found = collection.search(question, max(k, CANDIDATES if rerank else k), where=where, mode=mode)
    if rerank:
        with closing(Client(log, settings)) as client:
            found = by_provider(client, rerank, question, found, k, **about)
    room = _room(model, question, passage_tokens)
    sources = pack(question, found, threshold=threshold, tokens=room)
    retrieved = _Retrieved(question, collection, mode, found, sources)
    call_id = new_id() if sources else None
    answer = None
    try:
        asked = _Asked(model, call_id, about, whose or {})
        answer = _answer(retrieved, settings, log, asked, on_text)
        return answer
    finally:
        # Also where the model failed or the caller went: the question was put.
        log.append([_event(retrieved, answer, call_id, about, clock)])


def prompt(question: str, sources: tuple[Source, ...]) -> tuple[Message, ...]:
    """The messages that put a question and its passages to a model."""
    return (
        Message(role="system", content=passages.INSTRUCTIONS),
        Message(role="user", content=passages.write(question, list(map(passage, sources)))),
    )


def _opened(index: "str | Collection", settings: Settings, log: "EventLog") -> "Collection":
    from tracemill.retrieval.collection import open_collection

    if not isinstance(index, str):
        return index
    return open_collection(settings.indexes, index, log=log, cache=settings.cache)


def _room(model: str, question: str, most: int) -> int:
    """Tokens for passages: of other models nobody says how much they read, but it is far more."""
    if not model.startswith("local/"):
        return most
    empty = sum(tokenizer.count(message.text) for message in prompt(question, ()))
    return max(min(most, CONTEXT_TOKENS - empty - 8), 1)


def _answer(
    retrieved: _Retrieved,
    settings: Settings,
    log: "EventLog",
    asked: _Asked,
    on_text: Callable[[str], None] | None,
) -> Answer:
    degraded, call_id = retrieved.collection.degraded, asked.call_id
    if call_id is None:
        return Answer(text=NOT_FOUND, outcome="not_found", not_found=True, degraded=degraded)
    base = Answer(
        text=NOT_FOUND,
        outcome="not_found",
        not_found=True,
        sources=retrieved.sources,
        call_id=call_id,
        degraded=degraded,
    )
    messages = prompt(retrieved.question, retrieved.sources)
    request = Request(model=asked.model, messages=messages, **asked.whose)
    try:
        with closing(Client(log, settings)) as client:
            response = _response(client, request, asked.about | {"call_id": call_id}, on_text)
    except CallFailed as failure:
        if failure.error_type != "no_answer":
            raise
        return base
    if response.refusal or response.finish_reasons[-1:] in (("refusal",), ("content_filter",)):
        why = (response.refusal or f"it stopped with {response.raw_finish_reason}",)
        return replace(base, text=REFUSED, outcome="refused", not_found=False, problems=why)
    text = response.text.strip()
    if not text:
        return replace(base, text=EMPTY, outcome="empty", not_found=False)
    if passages.found_nothing(text):
        return base
    return _checked(retrieved, settings, replace(base, text=text), response)


def _response(
    client: Client, request: Request, options: Options, on_text: Callable[[str], None] | None
) -> Response:
    if on_text is None:
        return client.generate(request, **options)
    held = ""
    with client.stream(request, **options) as stream:
        for delta in stream:
            held += delta.text or ""
            # "Nothing found." is no answer and is not shown as one.
            if held and not passages.may_find_nothing(held):
                on_text(held)
                held = ""
    if held and not passages.found_nothing(held):
        on_text(held)
    return stream.response


def _checked(
    retrieved: _Retrieved, settings: Settings, written: Answer, response: Response
) -> Answer:
    """The answer with its citations checked and its confidence."""
    checked = tuple(citations.check(written.text, written.sources))
    numbers = {each.number for each in checked}
    supporting = {each.number for each in checked if each.supported}
    sources = tuple(
        replace(s, cited=s.number in numbers, supported=s.number in supporting)
        for s in written.sources
    )
    problems = _problems(written, checked, response)
    answer = replace(written, sources=sources, citations=checked, problems=problems)
    if not supporting:
        return replace(
            answer, text=UNSUPPORTED, outcome="unsupported", not_found=True, draft=written.text
        )
    features = _features(retrieved, answer)
    collection = retrieved.collection
    calibration = confidence.calibration(settings, collection.name, collection.model)
    return replace(
        answer,
        outcome="answered",
        not_found=False,
        features=features,
        confidence=calibration.probability(features),
    )


def _features(retrieved: _Retrieved, answer: Answer) -> Features:
    """What speaks for the answer: see `retrieval/confidence.py`."""
    counted = len(answer.citations) + len(citations.unknown(answer.text, answer.sources))
    return confidence.features(
        retrieved.question,
        retrieved.found,
        answer.text,
        cited=ids(source for source in answer.sources if source.cited),
        supported=sum(each.supported for each in answer.citations) / counted,
    )


def _problems(
    written: Answer, checked: tuple[Citation, ...], response: Response
) -> tuple[str, ...]:
    """What a reader should know."""
    unknown = citations.unknown(written.text, written.sources)
    unsupported = sorted({each.number for each in checked if not each.supported})
    uncited = citations.uncited(written.text)
    flagged = {source.number: source.flagged for source in written.sources if source.flagged}
    found: list[str] = []
    if unknown:
        found.append(f"it cites {_listed(unknown)}, which no source is")
    if unsupported:
        found.append(f"{_listed(unsupported)} does not say what is cited from it")
    if uncited:
        found.append(f"{uncited} of its sentences {'cites' if uncited == 1 else 'cite'} nothing")
    found += [
        f"[{number}] reads like instructions to a model ({', '.join(signs)})"
        for number, signs in flagged.items()
    ]
    if response.finish_reasons[-1:] in (("length",), ("context_window",)):
        found.append("it was cut at the limit of tokens")
    return tuple(found)


def _listed(numbers: list[int]) -> str:
    return "".join(f"[{number}]" for number in numbers)


def _event(
    retrieved: _Retrieved,
    answer: Answer | None,
    call_id: str | None,
    about: Options,
    clock: float,
) -> RagAnswered:
    """The question as the log has it; without an answer where the call failed or was stopped."""
    sources = answer.sources if answer else retrieved.sources
    return RagAnswered(
        index=retrieved.collection.name,
        index_digest=retrieved.collection.digest,
        question=retrieved.question,
        call_id=call_id,
        chunk_ids=tuple(retrieved.found["chunk_id"]),
        scores=tuple(retrieved.found["score"]),
        cited_chunk_ids=ids(source for source in sources if source.supported),
        flagged_chunk_ids=ids(source for source in sources if source.flagged),
        mode=retrieved.mode,
        confidence=answer.confidence if answer else None,
        not_found=answer.not_found if answer else False,
        latency_ms=(time.perf_counter() - clock) * 1000,
        actor=about.get("actor"),
        correlation_id=about.get("correlation_id"),
    )
